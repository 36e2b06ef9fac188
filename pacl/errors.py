"""Mistakes a user can make end in one line and exit code 2, never in a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

EXIT_USER_ERROR = 2


class UserError(ValueError):
    """Something the user can mend: a flag, a file, a name.

    The message is one line that says what is wrong, where (the flag or the file, with the value got) and
    what would work. Programming errors are never wrapped in it: they keep their traceback.
    """


class UnfamiliarWords(UserWarning):
    """Prompts are far from all words that a head was trained on, see `pacl.models.vocabulary`."""


def fail(verb: str, message: object) -> NoReturn:
    """Print ``pacl VERB: error: MESSAGE`` as one line on standard error and exit with code 2."""
    line = " ".join(str(message).split())
    print(f"pacl {verb}: error: {line}", file=sys.stderr)
    raise SystemExit(EXIT_USER_ERROR)


def run_verb(verb: str, main: Callable[[], int | None]) -> NoReturn:
    """Run a command's ``main`` and turn a `UserError` into one line; Ctrl-C exits with code 130."""
    try:
        code = main()
    except UserError as error:
        fail(verb, error)
    except KeyboardInterrupt:
        print(f"pacl {verb}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    raise SystemExit(code or 0)
