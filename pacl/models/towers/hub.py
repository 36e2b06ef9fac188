"""Fast failure of access to the Hugging Face hub without a network; its client would retry for half a minute."""

from __future__ import annotations

import functools
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlparse

from huggingface_hub import constants

CONNECT_SECONDS = 3.0  # timeout of a connection
RETRY_SECONDS = 60.0  # after a failed connection, the hub counts as unreachable for this time

_failures: list[float] = []  # `time.monotonic()` of the last failed connection; empty if none failed


@contextmanager
def fail_fast(local: bool = False) -> Iterator[None]:
    """Within this context the hub's client reads only its cache if the hub cannot be reached.

    Args:
        local: read only the cache, without testing the connection.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or local or not reachable()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def reachable() -> bool:
    """Whether the hub accepts connections; with a proxy it is assumed to.

    A success is remembered for the process, a failure for `RETRY_SECONDS`.
    """
    if _failures and time.monotonic() - _failures[0] < RETRY_SECONDS:
        return False
    try:
        _connect()
    except OSError:
        _failures[:] = [time.monotonic()]
        return False
    return True


@functools.cache  # (which remembers no exceptions)
def _connect() -> None:
    url = urlparse(constants.ENDPOINT)
    if not urllib.request.getproxies().keys() & {url.scheme, "all"}:
        socket.create_connection((url.hostname, url.port or 443), timeout=CONNECT_SECONDS).close()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for a message of one line; its type if that is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
