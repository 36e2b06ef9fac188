"""Reach the model hub, or fail at once: its client alone retries for half a minute when there is no network."""

from __future__ import annotations

import functools
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlparse

from huggingface_hub import constants

CONNECT_SECONDS = 3.0


@contextmanager
def fail_fast(local: bool = False) -> Iterator[None]:
    """Within this context the hub's client reads only its cache when the hub cannot be reached.

    Args:
        local: nothing needs the hub: it is not even asked whether it is there.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or local or not reachable()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@functools.cache
def reachable() -> bool:
    """Whether the hub's host takes connections; asked once a process. Behind a proxy it is taken to be."""
    url = urlparse(constants.ENDPOINT)
    if urllib.request.getproxies().keys() & {url.scheme, "all"}:
        return True
    try:
        socket.create_connection((url.hostname, url.port or 443), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for a message of one line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
