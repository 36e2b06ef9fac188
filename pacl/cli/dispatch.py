"""Commands with verbs: ``pacl VERB ...`` and ``pacl data VERB ...``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from pacl.cli.messages import EXIT_USER_ERROR, run_verb
from pacl.errors import did_you_mean

HELP = """usage: {prog} VERB ...

{verbs}

`{prog} VERB --help` tells about one of them."""


def dispatch(words: Sequence[str], verbs: Mapping[str, str], prog: str, module: str, more: str = "") -> None:
    """Run the ``main(argv)`` of the module of a verb, with the words after it.

    The module is imported only when its verb is called, so ``--help`` needs neither torch nor Lightning.

    Args:
        words: the command's words.
        verbs: verb -> what it does.
        prog: what the command is called.
        module: name of a verb's module, with ``{verb}`` in it.
        more: further help.
    """
    if not words or words[0] in ("-h", "--help", "help"):
        text = HELP.format(prog=prog, verbs="\n".join(f"  {verb:<10} {what}" for verb, what in verbs.items()))
        print(text + more, file=sys.stdout if words else sys.stderr)
        raise SystemExit(0 if words else EXIT_USER_ERROR)
    verb, rest = words[0], words[1:]
    if verb not in verbs:
        hint = did_you_mean(verb, verbs) or f"choose from {', '.join(verbs)}"
        print(f"{prog}: error: {verb!r} is not a verb; {hint}", file=sys.stderr)
        raise SystemExit(EXIT_USER_ERROR)
    if rest in (["-V"], ["--version"]):
        print(f"pacl {installed_version()}")
        raise SystemExit(0)
    run_verb(f"{prog} {verb}", lambda: importlib.import_module(module.format(verb=verb)).main(rest))


def installed_version() -> str:
    """The version of the installed package, or "(not installed)" for a plain checkout."""
    try:
        return version("pacl")
    except PackageNotFoundError:
        return "(not installed)"
