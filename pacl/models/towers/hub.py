"""Fast failure of access to the Hugging Face hub without a network; its client would retry for half a minute."""

from __future__ import annotations

import base64
import functools
import http.client
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlparse

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
    """Whether the hub's host accepts connections, through the proxy if there is one.

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
    host, port = url.hostname or "", url.port or (80 if url.scheme == "http" else 443)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
        return
    through = urlparse(proxy if "://" in proxy else f"http://{proxy}")
    place = (through.hostname or "", through.port or (1080 if through.scheme.startswith("socks") else 80))
    if through.scheme != "http" or url.scheme != "https":
        socket.create_connection(place, timeout=CONNECT_SECONDS).close()
        return
    connection = http.client.HTTPConnection(*place, timeout=CONNECT_SECONDS)
    headers = {}
    if through.username is not None:
        user = f"{unquote(through.username)}:{unquote(through.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    connection.set_tunnel(host, port, headers)
    try:
        connection.connect()  # the proxy must answer, too
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Within this context transformers loads weights without showing progress."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for a message of one line; its type if that is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
