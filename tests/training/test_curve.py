from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from pacl.results.kinds import CURVE
from pacl.results.palette import palette
from pacl.training.curve import GRID, TrainingCurve, draw_curve, step_ticks


def rows_of(image: np.ndarray, colour: np.ndarray, x: slice) -> np.ndarray:
    """Rows of the pixels of that colour in some columns."""
    close = np.abs(image[:, x].astype(int) - colour).max(-1) < 40
    return np.nonzero(close.any(1))[0]


def test_the_curves_fall_and_rise_as_the_values_do() -> None:
    steps = [1, 50, 100]
    image = draw_curve(list(zip(steps, [5.0, 4.0, 3.0], strict=True)), list(zip(steps, [0.1, 0.2, 0.4], strict=True)))
    loss, recall = palette(2)[1:].astype(int)
    inside = slice(42, -42)  # rows between the titles and the steps
    first, last = slice(70, 120), slice(-120, -70)
    assert rows_of(image[inside], loss, first).mean() < rows_of(image[inside], loss, last).mean()
    assert rows_of(image[inside], recall, first).mean() > rows_of(image[inside], recall, last).mean()


def test_the_steps_of_the_axis_are_whole_and_at_equal_distances() -> None:
    assert step_ticks(10) == [0, 3, 6, 9]
    assert step_ticks(60) == [0, 15, 30, 45, 60]
    for last in range(1, 200):
        ticks = step_ticks(last)
        assert len(set(np.diff(ticks))) == 1
        assert len(ticks) <= GRID + 1
        assert last - ticks[-1] < ticks[1]


def test_chance_is_a_line_and_single_values_can_be_drawn() -> None:
    values = [(0, 0.2), (10, 0.4)]
    assert not np.array_equal(draw_curve([], values), draw_curve([], values, chance=0.1))
    assert draw_curve([(1, 2.0)], []).shape == draw_curve([], values).shape


def test_the_curve_of_a_resumed_run_begins_at_the_first_step(tmp_path: Path) -> None:
    module: Any = SimpleNamespace(last_recall=0.1, chance={"val_recall": 0.05})
    trainer: Any = SimpleNamespace(global_step=0, is_global_zero=True, sanity_checking=True, log_every_n_steps=2)
    first = TrainingCurve(tmp_path)
    first.on_validation_end(trainer, module)
    trainer.sanity_checking = False
    for step in (1, 2, 3, 4):
        trainer.global_step, trainer.callback_metrics = step, {"loss": 5 - step}
        first.on_train_batch_end(trainer, module)
    second = TrainingCurve(tmp_path)
    second.load_state_dict(first.state_dict())
    trainer.sanity_checking = True
    second.on_validation_end(trainer, module)
    trainer.sanity_checking = False
    second.on_train_end(trainer, module)
    assert second.loss == [(2, 3.0), (4, 1.0)]
    assert second.recall == [(0, 0.1), (4, 0.1)]
    assert Image.open(tmp_path / CURVE).size[0] > 300
