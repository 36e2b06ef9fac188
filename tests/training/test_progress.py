"""What is shown where standard error is no terminal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pacl.training.progress import TrainingProgress

METRICS = {"loss": 4.0, "val_recall": 0.25, "v_num": 3}


def make(metrics: dict[str, Any], **state: Any) -> tuple[TrainingProgress, Any, Any]:
    trainer: Any = SimpleNamespace(
        estimated_stepping_batches=60, global_step=0, is_global_zero=True, sanity_checking=False, **state
    )
    module: Any = SimpleNamespace(last_recall=0.125, chance={"val_recall": 0.5})
    progress = TrainingProgress()
    progress.get_metrics = lambda *_: metrics  # type: ignore[method-assign]
    progress.setup(trainer, module, "fit")
    return progress, trainer, module


def test_a_log_gets_plain_lines_with_the_recall_of_chance(capsys: pytest.CaptureFixture[str]) -> None:
    progress, trainer, module = make(METRICS)
    progress.on_sanity_check_end(trainer, module)
    progress.on_train_start(trainer, module)
    trainer.global_step = 10
    progress.on_train_batch_end(trainer, module)  # nothing yet: a minute has not passed
    progress.on_validation_end(trainer, module)
    progress.on_train_end(trainer, module)
    out, err = capsys.readouterr()
    first, validation, end = err.splitlines()
    assert out == ""
    assert "0.125" in first
    assert "chance 0.500" in first
    assert "10 of 60" in validation
    assert "0.250 (chance 0.500)" in validation
    assert "loss 4.000" in end
    assert "v_num" not in err


def test_without_validation_a_log_gets_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    progress, trainer, module = make({"loss": 4.0})
    now = [100.0]
    monkeypatch.setattr("pacl.training.progress.time.monotonic", lambda: now[0])
    progress.on_train_start(trainer, module)
    for step in range(1, 10):
        now[0] += 20
        trainer.global_step = step
        progress.on_train_batch_end(trainer, module)
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_figures_that_a_callback_measured_at_an_earlier_step_are_not_shown_again() -> None:
    _, trainer, module = make({}, callbacks=[SimpleNamespace(measured_at={"miou": 10}), SimpleNamespace()])
    trainer.progress_bar_metrics = {"loss": 4.0, "miou": 0.5}
    trainer.loggers = []
    for step, shown in ((10, {"loss", "miou"}), (20, {"loss"})):
        trainer.global_step = step
        assert TrainingProgress().get_metrics(trainer, module).keys() == shown


def test_other_processes_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    progress, trainer, module = make(METRICS)
    trainer.is_global_zero = False
    progress.setup(trainer, module, "fit")
    progress.on_validation_end(trainer, module)
    assert capsys.readouterr().err == ""
