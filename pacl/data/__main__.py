"""Commands for training data: ``python -m pacl.data VERB ...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pacl.cli.dispatch import dispatch

VERBS = {"check": "read a data source: statistics and problems"}


def main(argv: Sequence[str] | None = None) -> None:
    """Call the ``main(argv)`` of the verb's module with the remaining arguments."""
    dispatch(list(sys.argv[1:] if argv is None else argv), VERBS, "pacl data", "pacl.cli.data_{verb}")


if __name__ == "__main__":
    main()
