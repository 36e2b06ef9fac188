"""A Lightning callback that kills its own process, as a power cut would."""

from __future__ import annotations

import os
import signal
from typing import Any

from pytorch_lightning import Callback


class Killer(Callback):
    """Kills at a step of the run.

    Args:
        step: number of finished steps.
        moment: "before" a batch, "after" its step, or while a checkpoint is "saved".
        number: the signal.
    """

    def __init__(self, step: int, moment: str = "before", number: int = signal.SIGKILL) -> None:
        self.step, self.moment, self.number = step, moment, number

    def _kill(self, trainer: Any, moment: str) -> None:
        if moment == self.moment and trainer.global_step == self.step:
            self.step = -1  # once
            os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        self._kill(trainer, "before")

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self._kill(trainer, "after")

    def on_save_checkpoint(self, trainer: Any, *_: Any) -> None:
        self._kill(trainer, "saved")


class Stopper(Callback):
    """Ends the run at a step, as Lightning itself ends one."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.should_stop = True
