"""What commands say on standard error, and how they end: a mistake is one line and exit code 2, never a traceback."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from textwrap import shorten
from typing import NoReturn

from pacl.errors import ArgumentError, UserError, is_out_of_memory
from pacl.files import is_out_of_space
from pacl.printing import escaped

LONGEST = 6000
"""Characters of a message; a path alone may have 4096."""
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141  # as a shell reports a program that SIGPIPE ended


def say(prog: str, message: object) -> None:
    """Print ``PROG: MESSAGE`` as one line on standard error."""
    print(f"{prog}: {one_line(message)}", file=sys.stderr)


def one_line(message: object) -> str:
    """A message, or an error with its arguments as flags, in one line; a very long one without its middle."""
    said = message.with_flags() if isinstance(message, UserError) else str(message)
    text = " ".join((f"--{said}" if isinstance(message, ArgumentError) else said).split())
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return escaped(text)


def fail(prog: str, error: object) -> NoReturn:
    """Print ``PROG: error: ERROR`` as one line on standard error and exit with code 2."""
    say(prog, f"error: {one_line(error)}")
    raise SystemExit(EXIT_USER_ERROR)


def run_verb(prog: str, main: Callable[[], int | None]) -> NoReturn:
    """Run a command's ``main``; a `UserError` and memory that ran out are one line, Ctrl-C exits with code 130.

    Warnings are a line each. Letters that the encoding of the output does not have are written as escapes. A standard
    stream that the caller has closed leads nowhere: Python would print what is for standard error on standard output,
    and give the number of the stream to the next file that is opened.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open to the end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with plain_warnings(prog):
            code = main()
        with printing():
            sys.stdout.flush()
    except UserError as error:
        fail(prog, error)
    except KeyboardInterrupt:
        say(prog, "interrupted")
        raise SystemExit(EXIT_INTERRUPTED) from None
    except Exception as error:
        if is_out_of_memory(error):
            reason = shorten(str(error), 120, placeholder=" ...") or type(error).__name__
            fail(prog, f"out of memory ({reason}); raise the limit, or use less at once")
        if isinstance(error, BrokenPipeError):
            _silence()
            raise SystemExit(EXIT_PIPE_CLOSED) from None
        if isinstance(error, OSError) and is_out_of_space(error):
            _silence()
            fail(prog, f"{error.filename or 'the output'}: cannot be written ({error.strerror})")
        raise
    raise SystemExit(code or 0)


def need_output() -> None:
    """Refuse a standard output that the caller has closed, in commands whose results go there.

    Raises:
        UserError: it is closed.
    """
    if sys.stdout is None or getattr(sys.stdout, "name", None) == os.devnull:  # see `run_verb`
        raise UserError("standard output is closed, and the results go there; give it a file or a program that reads")


def prints_utf8() -> bool:
    """Whether standard output has all letters."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"


@contextmanager
def printing() -> Iterator[None]:
    """Around what prints results: a standard output that cannot be written ends the command.

    Raises:
        UserError: the disk behind it is full, for example.
        SystemExit: its reader has closed it, as `head` does; the exit code is 141 and nothing is said.
    """
    try:
        yield
    except OSError as error:
        _silence()
        if isinstance(error, BrokenPipeError):
            raise SystemExit(EXIT_PIPE_CLOSED) from None
        raise UserError(f"standard output cannot be written ({error.strerror or error})") from None


def _silence() -> None:
    """Keep the last flush of a standard output silent that cannot be written."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def plain_warnings(prog: str) -> Iterator[None]:
    """Show each warning as ``PROG: warning: MESSAGE``, without the file and line that raised it."""
    former = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"{prog}: warning: {one_line(message)}\n"
    try:
        yield
    finally:
        warnings.formatwarning = former


@contextmanager
def shown_warnings(prog: str, *categories: type[Warning]) -> Iterator[None]:
    """Print warnings as ``PROG: warning: MESSAGE`` lines at once, those of ``categories`` each time, others once.

    Warnings for developers, such as `DeprecationWarning`, keep to Python's own filters.
    """

    def show(message: Warning | str, *_: object, **__: object) -> None:
        say(prog, f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        for category in categories:
            warnings.simplefilter("always", category)
        yield


@contextmanager
def memory_advice(where: str, advice: str) -> Iterator[None]:
    """Turn running out of memory into one line: where, and what to try.

    Raises:
        UserError: it ran out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"{where}: out of memory; try {advice}") from None
