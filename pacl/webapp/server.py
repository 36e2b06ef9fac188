"""The server of the page: a folder of its own for files, a free port, and a clean end."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacl.errors import ArgumentError, UserError

if TYPE_CHECKING:
    from pacl.webapp.page import Page

# Environment variables by which gradio would share, open or read more than the flags say.
OVERRIDING = ("GRADIO_SHARE", "GRADIO_ALLOWED_PATHS", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_ROOT_PATH")


def check_gradio() -> None:
    """Refuse to start without gradio, before a model is loaded.

    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UserError('the web page needs gradio: pip install "pacl[app]"')


def free_port(host: str, port: int) -> int:
    """Check that a server can listen there.

    Args:
        host: name or address of this machine.
        port: 1 to 65535, or 0 for any free one.

    Returns:
        The port.

    Raises:
        ArgumentError: ``host`` or ``port`` do not work.
    """
    if not 0 <= port <= 65535:
        raise ArgumentError("port", port, "must be from 1 to 65535, or 0 for any free one")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            if os.name == "posix":  # a port that a closed server has just left is free
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
            return int(listener.getsockname()[1])
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise ArgumentError("port", port, f"is in use on {host}; choose another, or 0 for any free one") from None
        if isinstance(error, PermissionError):
            raise ArgumentError("port", port, "needs more rights; choose one above 1023") from None
        reason = getattr(error, "strerror", None) or "no such name"
        raise ArgumentError("host", host, f"is no address of this machine ({reason}); try 127.0.0.1") from None


@contextmanager
def folder_of_its_own() -> Iterator[Path]:
    """A temporary folder that only this user can read, for uploads and results; it is deleted at the end.

    gradio reads its environment when it is imported and when a page is built, both of which must be in the block.
    """
    folder = Path(tempfile.mkdtemp(prefix="pacl-app-")).resolve()
    before = {name: os.environ.pop(name, None) for name in (*OVERRIDING, "GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE")}
    before["GRADIO_ANALYTICS_ENABLED"] = os.environ.get("GRADIO_ANALYTICS_ENABLED")
    os.environ |= {
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_EXAMPLES_CACHE": str(folder / "examples"),
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    try:
        yield folder
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


def serve(page: Page, host: str, port: int, share: bool, ready: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        page: the page.
        host: name or address to listen on.
        port: a free one, see `free_port`.
        share: whether gradio's tunnel makes it public.
        ready: called with the address, once.

    Raises:
        UserError: the server or the tunnel cannot be started.
        KeyboardInterrupt: Ctrl-C.
    """
    try:
        _, local, public = _launched(page, host, port, share)
        if share and not public:
            raise UserError("no tunnel could be made to share the page; is there a network?")
        ready(str(public or local))
        _wait()
    finally:
        page.close(verbose=False)


def _launched(page: Page, host: str, port: int, share: bool) -> tuple[Any, Any, Any]:
    try:
        return page.launch(
            server_name=host, server_port=port, share=share, inbrowser=False, quiet=True, prevent_thread_lock=True
        )
    except OSError as error:  # taken since it was checked, or by a server on another address
        raise ArgumentError("port", port, f"cannot be used on {host} ({error}); choose another") from None
    except ValueError as error:  # a proxy between this machine and itself
        raise UserError(f"the page cannot be reached at {host}:{port}; set NO_PROXY=localhost,127.0.0.1") from error


def _wait() -> None:
    """Block until the process is stopped."""
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())
    while not end.wait(0.5):
        pass
