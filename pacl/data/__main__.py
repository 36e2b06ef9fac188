"""What can be done with data before training: ``python -m pacl.data VERB ...``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from pacl.errors import EXIT_USER_ERROR, fail, run_verb

VERBS = {"check": "read a data source and tell what is in it, and what is wrong with it"}

HELP = """usage: pacl data VERB ...

{verbs}

`pacl data VERB --help` tells about one of them."""


def main(argv: Sequence[str] | None = None) -> None:
    """Hand the words after the verb to its module's ``main(argv)``; exit codes are the verb's own."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        text = HELP.format(verbs="\n".join(f"  {verb:<10} {what}" for verb, what in VERBS.items()))
        print(text, file=sys.stdout if words else sys.stderr)
        raise SystemExit(0 if words else EXIT_USER_ERROR)
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        fail("data", f"{verb!r} is not a verb; choose from {', '.join(VERBS)}")
    run_verb(f"data {verb}", lambda: importlib.import_module(f"pacl.data.{verb}").main(rest))


if __name__ == "__main__":
    main()
