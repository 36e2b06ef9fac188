"""Progress on a terminal, in a log, and where standard error is closed."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from pacl.cli import progress
from pacl.cli.progress import DRAW_EVERY, LINE_EVERY, ProgressMeter, tracked


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still unless a test changes it."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end() -> None:
    terminal, lines = Terminal(), list[str]()
    console = Console(file=terminal, force_terminal=True, width=100)
    with ProgressMeter("[b]photos", 40, line=lines.append, console=console) as meter:
        meter.update(0)
        meter.update(10)
        meter.console.print("between")
    shown = terminal.getvalue()
    assert "[b]photos" in shown
    assert "10/40" in shown
    assert shown.endswith("\x1b[2K")
    assert lines == []


def test_a_bar_is_drawn_some_times_a_second_and_at_the_end(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, drawn = Terminal(), list[int]()
    console = Console(file=terminal, force_terminal=True, width=100)
    draw = ProgressMeter._draw

    def noted(meter: ProgressMeter) -> None:
        drawn.append(meter._done)
        draw(meter)

    monkeypatch.setattr(ProgressMeter, "_draw", noted)
    with ProgressMeter("photos", console=console) as meter:
        for done in range(1, 1001):
            meter.update(done)
            clock[0] += DRAW_EVERY / 100
        assert len(drawn) in (10, 11)
        meter.update(1001, title="more")  # at once
        assert drawn[-1] == 1001
        meter.update(1002)
        meter.update(1003, total=1003)  # the last one, too
        assert drawn[-1] == 1003
        meter.update(1004, total=2000)
    assert drawn[-1] == 1004
    assert "1004/2000" in terminal.getvalue()


def test_an_update_does_not_ask_for_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[int]()
    monkeypatch.setattr(Console, "is_terminal", property(lambda _: asked.append(1)))
    assert list(tracked(range(100), "photos")) == list(range(100))
    assert len(asked) < 10  # rich itself asks a few times when it is set up


def test_a_log_gets_a_line_now_and_then(clock: list[float]) -> None:
    lines = list[str]()
    for _ in tracked(range(4_000), "photos", line=lines.append):
        clock[0] += LINE_EVERY / 320
    assert len(lines) == 12
    assert lines[3] == "photos (1,281 of 4,000, 85 s left)"


def test_a_new_title_and_total_are_shown(clock: list[float]) -> None:
    lines = list[str]()
    with ProgressMeter("a", line=lines.append) as meter:
        for done, total in ((1, None), (2, None), (3, 5)):
            meter.update(done, total, f"part {done}")
            clock[0] += LINE_EVERY
    assert lines == ["part 2 (2)", "part 3 (3 of 5, 20 s left)"]


def test_commands_without_a_line_keep_a_log_empty(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in tracked(range(9), "photos"):
        clock[0] += LINE_EVERY
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "absent"])
def test_a_standard_error_that_is_closed_gets_nothing(closed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream if closed else None)
    assert list(tracked(iter("abc"), "letters")) == ["a", "b", "c"]


def test_work_that_is_left_halfway_leaves_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    items = tracked(range(3), "halves")
    next(iter(items))
    items.close()  # type: ignore[attr-defined]
    assert "\x1b[?25h" in terminal.getvalue()  # the cursor is back
