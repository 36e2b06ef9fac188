"""What a training shows while it runs: one line on a terminal, and plain lines in a log file."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

REFRESH = 0.5
"""Seconds between updates of the line on a terminal."""

LINE_EVERY = 60.0
"""Seconds after which a log file gets a line, if no validation has written one."""


def steps_of_figures(trainer: Trainer) -> dict[str, int]:
    """The step after which callbacks measured their figures, by name; Lightning keeps these until the next ones."""
    callbacks = getattr(trainer, "callbacks", ())
    return {name: step for each in callbacks for name, step in getattr(each, "measured_at", {}).items()}


class TrainingProgress(ProgressBar):
    """Shows step, loss and validation on standard error; every recall stands beside that of chance."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.enabled = True
        self._bar: Progress | None = None
        self._shown = 0.0  # time of the last update

    def disable(self) -> None:
        """Lightning calls it where nothing is to be shown."""
        self.enabled = False

    def enable(self) -> None:
        """The reverse of `disable`."""
        self.enabled = True

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        super().setup(trainer, module, stage)
        self.enabled = self.enabled and trainer.is_global_zero

    def get_metrics(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        """Lightning's figures, without those of earlier steps."""
        steps, now = steps_of_figures(trainer), trainer.global_step
        metrics = super().get_metrics(trainer, module)
        return {name: value for name, value in metrics.items() if steps.get(name, now) == now}

    def on_sanity_check_end(self, trainer: Trainer, module: LightningModule) -> None:
        recall = getattr(module, "last_recall", None)
        if recall is not None:
            start = "before the first step" if not trainer.global_step else f"at step {trainer.global_step:,}"
            self._say(f"{start}: {self._figures(module, {'val_recall': recall})}")

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._shown = time.monotonic()
        if self.enabled and self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("left"))
            self._bar = Progress(*columns, console=self.console, transient=True)
            steps = trainer.estimated_stepping_batches
            total = steps if math.isfinite(steps) else None
            self._bar.add_task(self._step(trainer), total=total, completed=trainer.global_step)
            self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        now = time.monotonic()
        if self._bar is not None and now - self._shown >= REFRESH:
            text = f"{self._step(trainer)}  {self._figures(module, self._training(trainer, module))}"
            self._bar.update(self._bar.task_ids[0], completed=trainer.global_step, description=text)
        elif self._bar is None and now - self._shown >= LINE_EVERY:
            self._line(trainer, module, self._training(trainer, module))
        else:
            return
        self._shown = now

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._line(trainer, module, self.get_metrics(trainer, module))
            self._shown = time.monotonic()

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._stop()
        self._line(trainer, module, self._training(trainer, module), "trained: ")

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def print(self, *values: Any, **options: Any) -> None:
        """Print above the line."""
        self._say(" ".join(map(str, values)))

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _say(self, text: str) -> None:
        if self.enabled:
            self.console.print(text, markup=False)
            sys.stderr.flush()

    def _line(self, trainer: Trainer, module: LightningModule, metrics: dict[str, Any], start: str = "") -> None:
        self._say(f"{start}{self._step(trainer)}: {self._figures(module, metrics)}")

    def _training(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        metrics = self.get_metrics(trainer, module)
        return {name: value for name, value in metrics.items() if not name.startswith("val_")}

    @staticmethod
    def _step(trainer: Trainer) -> str:
        total = trainer.estimated_stepping_batches
        return f"step {trainer.global_step:,}" + (f" of {int(total):,}" if math.isfinite(total) else "")

    @staticmethod
    def _figures(module: LightningModule, metrics: dict[str, Any]) -> str:
        chance: dict[str, float] = getattr(module, "chance", {})
        return ", ".join(
            f"{name} {value:.3f}" + (f" (chance {chance[name]:.3f})" if name in chance else "")
            for name, value in metrics.items()
            if isinstance(value, float)
        )
