"""The curve of a training, as an image in the folder of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pytorch_lightning import Callback, LightningModule, Trainer

from pacl.images import save_image
from pacl.results.fonts import BACKGROUND, MUTED, OVERSAMPLING, typeface
from pacl.results.kinds import CURVE
from pacl.results.legend import LINE
from pacl.results.palette import palette

WIDTH, HEIGHT, EM = 760, 360, 13  # pixels
LEFT, RIGHT, TOP, BOTTOM = 56, 56, 44, 40  # margins
GRID = 4  # parts of an axis, at most of that of the steps

Series = list[tuple[int, float]]
"""Values at steps."""


class TrainingCurve(Callback):
    """Draws loss and validation recall to ``training.png`` after each validation and at the end.

    The values are kept in the checkpoint: the curve of a resumed run begins at the first step.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / CURVE
        self.loss: Series = []
        self.recall: Series = []

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss, "recall": self.recall}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loss, self.recall = ([(s, v) for s, v in state_dict[name]] for name in ("loss", "recall"))

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        every: int = vars(trainer)["log_every_n_steps"]
        if every and "loss" in trainer.callback_metrics and trainer.global_step % every == 0:
            self.loss.append((trainer.global_step, float(trainer.callback_metrics["loss"])))

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        recall = getattr(module, "last_recall", None)
        if recall is not None and not (self.recall and self.recall[-1][0] == trainer.global_step):
            self.recall.append((trainer.global_step, recall))
        if not trainer.sanity_checking:
            self._save(trainer, module)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._save(trainer, module)

    def _save(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.is_global_zero and (self.loss or self.recall):
            chance = getattr(module, "chance", {}).get("val_recall")
            save_image(self.path, draw_curve(self.loss, self.recall, chance))


def step_ticks(last: int) -> list[int]:
    """Steps at equal distances from 0 to at most ``last``, in at most `GRID` parts."""
    return list(range(0, last + 1, -(-last // GRID)))


def draw_curve(loss: Series, recall: Series, chance: float | None = None) -> np.ndarray:
    """Loss (left axis) and recall in [0, 1] (right axis, from 0) against steps, RGB uint8 [H, W, 3].

    Args:
        loss: of training batches.
        recall: of validations; may be empty.
        chance: recall of a random order, drawn as a line of its own.
    """
    scale = OVERSAMPLING
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), BACKGROUND)
    draw, font = ImageDraw.Draw(image), typeface([])(EM * scale)
    left, right, top, bottom = LEFT * scale, (WIDTH - RIGHT) * scale, TOP * scale, (HEIGHT - BOTTOM) * scale
    last = max([step for step, _ in (*loss, *recall)], default=0) or 1

    def place(part: float, low: float, high: float) -> float:  # pixels from the top
        return bottom - (bottom - top) * (part - low) / (high - low)

    for i in range(GRID + 1):
        y = place(i, 0, GRID)
        draw.line((left, y, right, y), fill=LINE, width=scale)
    for tick in step_ticks(last):
        x = left + (right - left) * tick / last
        draw.text((x, bottom + 8 * scale), f"{tick:,}", fill=MUTED, font=font, anchor="ma")
    draw.text(((left + right) / 2, HEIGHT * scale), "step", fill=MUTED, font=font, anchor="md")

    values = [value for _, value in loss]
    axes = [("loss", loss, min(values, default=0.0), max(values, default=1.0), left, "rm", "ls")]
    if recall:
        axes.append(("recall", recall, 0.0, max(value for _, value in recall), right, "lm", "rs"))
    for (name, series, low, high, side, anchor, corner), colour in zip(axes, palette(2)[1:].tolist(), strict=False):
        high = high if high > low else low + 1
        for i in range(GRID + 1):
            value, gap = low + (high - low) * i / GRID, 8 * scale if side == right else -8 * scale
            draw.text((side + gap, place(i, 0, GRID)), f"{value:.3g}", fill=tuple(colour), font=font, anchor=anchor)
        points = [(left + (right - left) * step / last, place(value, low, high)) for step, value in series]
        if len(points) > 1:
            draw.line(points, fill=tuple(colour), width=2 * scale, joint="curve")
        for x, y in points if len(points) < 50 else ():
            draw.ellipse((x - 3 * scale, y - 3 * scale, x + 3 * scale, y + 3 * scale), fill=tuple(colour))
        if series:
            text = f"{name}: {series[0][1]:.3g} at step {series[0][0]:,}, {series[-1][1]:.3g} at step {series[-1][0]:,}"
            text += f", {chance:.3g} by chance" if name == "recall" and chance is not None else ""
            draw.text((side, top - 14 * scale), text, fill=tuple(colour), font=font, anchor=corner)
        if name == "recall" and chance is not None and chance <= high:
            y = place(chance, low, high)
            for x in range(left, right, 12 * scale):
                draw.line((x, y, x + 6 * scale, y), fill=tuple(colour), width=scale)
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
