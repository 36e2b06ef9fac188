"""The newest checkpoint: written every so many steps, at the end, and when SIGTERM or Ctrl-C ends the training."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from pacl.distributed import sum_over_ranks
from pacl.errors import UserError


class Interrupted(Exception):
    """The training was stopped from outside, after its checkpoint was written.

    Attributes:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class KeepLast(Callback):
    """Keeps one checkpoint up to date. It is replaced as a whole: whatever happens, there is a whole one.

    A run killed between an epoch's last step and the end of its validation goes on with the next epoch.

    After a signal the step is finished, the checkpoint written and `Interrupted` raised, on every process. A second
    Ctrl-C does not wait. The run happens while it is `listening`.

    Args:
        path: the checkpoint.
        every: steps between two writings.
        check: raises an error when the state is not worth keeping, so that what is there stays.
    """

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, path: Path, every: int, check: Callable[[], None]) -> None:
        self.path, self.every, self.check = path, every, check
        self.received = self._process = 0
        self.training = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals. Before the first step there is nothing to save: they end the run at once."""
        self._process = os.getpid()
        former = {number: signal.signal(number, self._receive) for number in self.signals}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.training = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker's copy: the training process decides
            return
        if not self.training or (self.received and number == signal.SIGINT):
            raise Interrupted(number)
        self.received = number

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        # A launcher's signal reaches the processes in different steps: all stop in the first one that any knows of.
        received = int(sum_over_ranks(torch.tensor(self.received, device=trainer.strategy.root_device)))
        if received or trainer.global_step % self.every == 0:
            self.save(trainer)
        if received:
            raise Interrupted(self.received or signal.SIGTERM)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.global_step:
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint.

        Raises:
            UserError: the disk is full, or the folder is gone.
        """
        self.check()
        try:
            trainer.save_checkpoint(self.path, weights_only=False)
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror or error}); what it held before is whole: make room "
                "and go on with --ckpt_path last"
            ) from error
