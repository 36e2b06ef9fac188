"""What can be done with data before training: ``python -m pacl.data VERB ...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pacl.cli.dispatch import dispatch

VERBS = {"check": "read a data source and tell what is in it, and what is wrong with it"}


def main(argv: Sequence[str] | None = None) -> None:
    """Hand the words after the verb to its module's ``main(argv)``; exit codes are the verb's own."""
    dispatch(list(sys.argv[1:] if argv is None else argv), VERBS, "pacl data", "pacl.cli.data_{verb}")


if __name__ == "__main__":
    main()
