"""Whether the hub can be reached."""

from __future__ import annotations

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
