"""The `pacl` command: ``pacl VERB ...`` is ``python -m pacl.VERB ...``.

A verb's module is imported only when it is called, so ``pacl --help`` needs neither torch nor Lightning.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from pacl.cli.messages import EXIT_USER_ERROR, run_verb

VERBS = {
    "segment": "segment pictures by words",
    "data": "read captioned pictures before training on them: what is there, what is broken",
    "train": "train the patch embedder on pictures and captions",
    "pretrain": "train a dual encoder: a small CLIP, or projection heads on two towers",
    "calibrate": "calibrate a head on photos without captions, for better single prompts",
    "distill": "make a text tower of fixed token vectors from a sentence encoder",
}

HELP = """usage: {prog} VERB ...

{verbs}

`{prog} VERB --help` tells about one of them."""


def main(argv: Sequence[str] | None = None) -> None:
    """Hand the words after the verb to its module's ``main(argv)``; exit codes are the verb's own."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["-V"], ["--version"]):
        print(f"pacl {installed_version()}")
        raise SystemExit(0)
    dispatch(words, VERBS, "pacl", " `pacl --version` prints the version.")


def dispatch(words: Sequence[str], verbs: Mapping[str, str], package: str, more: str = "") -> None:
    """Hand the words after the first to the ``main(argv)`` of the module of that name in ``package``.

    Args:
        words: the command's words.
        verbs: verb -> what it does.
        package: where their modules are; with spaces for dots it is what the command is called.
        more: further help.
    """
    prog = package.replace(".", " ")
    if not words or words[0] in ("-h", "--help", "help"):
        text = HELP.format(prog=prog, verbs="\n".join(f"  {verb:<10} {what}" for verb, what in verbs.items()))
        print(text + more, file=sys.stdout if words else sys.stderr)
        raise SystemExit(0 if words else EXIT_USER_ERROR)
    verb, rest = words[0], words[1:]
    if verb not in verbs:
        close = difflib.get_close_matches(verb, verbs, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(verbs)}"
        print(f"{prog}: error: {verb!r} is not a verb; {hint}", file=sys.stderr)
        raise SystemExit(EXIT_USER_ERROR)
    run_verb(f"{prog} {verb}", lambda: importlib.import_module(f"{package}.{verb}").main(rest))


def installed_version() -> str:
    """The version of the installed package, or "(not installed)" for a plain checkout."""
    try:
        return version("pacl")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    main()
