"""What commands say on standard error, and how they end: a mistake is one line and exit code 2, never a traceback."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from pacl.errors import ArgumentError, UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def say(prog: str, message: object) -> None:
    """Print ``PROG: MESSAGE`` as one line on standard error."""
    print(f"{prog}: {one_line(message)}", file=sys.stderr)


def one_line(message: object) -> str:
    """A message, or an error with its argument as a flag, in one line."""
    text = f"--{message}" if isinstance(message, ArgumentError) else str(message)
    return " ".join(text.split())


def fail(prog: str, error: object) -> NoReturn:
    """Print ``PROG: error: ERROR`` as one line on standard error and exit with code 2."""
    say(prog, f"error: {one_line(error)}")
    raise SystemExit(EXIT_USER_ERROR)


def run_verb(prog: str, main: Callable[[], int | None]) -> NoReturn:
    """Run a command's ``main`` and turn a `UserError` into one line; Ctrl-C exits with code 130."""
    try:
        code = main()
    except UserError as error:
        fail(prog, error)
    except KeyboardInterrupt:
        say(prog, "interrupted")
        raise SystemExit(EXIT_INTERRUPTED) from None
    raise SystemExit(code or 0)


@contextmanager
def shown_warnings(prog: str, *categories: type[Warning]) -> Iterator[None]:
    """Print the warnings of these categories as ``PROG: warning: MESSAGE`` lines; others are shown as usual."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            for category in categories:
                warnings.simplefilter("always", category)
            yield
    finally:
        for warning in caught:
            if issubclass(warning.category, categories):
                say(prog, f"warning: {warning.message}")
            else:
                warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno, None, None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in any of the ways in which torch, OpenCV and numpy say so."""
    import torch

    said = any(words in str(error) for words in ("allocate memory", "Insufficient memory"))  # `cv2.error` among them
    return not isinstance(error, UserError) and (said or isinstance(error, (MemoryError, torch.OutOfMemoryError)))


@contextmanager
def memory_advice(where: str, advice: str) -> Iterator[None]:
    """Turn running out of memory into one line: where, and what to try.

    Raises:
        UserError: It ran out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"{where}: out of memory; try {advice}") from None
