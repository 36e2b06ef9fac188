"""Whether the hub can be reached."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from pacl.models.towers import hub


def test_a_failure_is_remembered_for_a_minute_and_a_success_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    now, attempts, online = 1000.0, 0, False

    class Connection:
        def __init__(self, *_: object, **__: object) -> None:
            nonlocal attempts
            attempts += 1
            if not online:
                raise OSError

        def close(self) -> None: ...

    monkeypatch.setattr("socket.create_connection", Connection)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr(hub, "_failures", [])
    hub._connect.cache_clear()
    try:
        assert not hub.reachable()
        online, now = True, now + hub.RETRY_SECONDS - 1
        assert not hub.reachable()
        assert attempts == 1
        now += 2
        assert hub.reachable()
        online, now = False, now + 1000
        assert hub.reachable()
        assert attempts == 2
    finally:
        hub._connect.cache_clear()


@pytest.mark.parametrize(
    ("answer", "online"),
    [(b"HTTP/1.1 200 OK\r\n\r\n", True), (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", False), (b"", False)],
)
def test_a_proxy_must_answer(monkeypatch: pytest.MonkeyPatch, answer: bytes, online: bool) -> None:
    """One that accepts connections and then says nothing costs seconds, not the client's minute of retries."""
    seen = b""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            nonlocal seen
            client, _ = server.accept()
            with client:
                seen = client.recv(4096)
                client.sendall(answer)
                if not answer:
                    over.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        place = f"http://me:secret@127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": place})
        monkeypatch.setattr("urllib.request.proxy_bypass", lambda host: False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
        monkeypatch.setattr(hub, "CONNECT_SECONDS", 0.5)
        monkeypatch.setattr(hub, "_failures", [])
        hub._connect.cache_clear()
        try:
            start = time.monotonic()
            assert hub.reachable() is online
            assert time.monotonic() - start < 5
        finally:
            hub._connect.cache_clear()
            over.set()
            thread.join()
    assert seen.startswith(b"CONNECT hub.invalid:443 ")
    assert b"Proxy-Authorization: Basic bWU6c2VjcmV0" in seen
