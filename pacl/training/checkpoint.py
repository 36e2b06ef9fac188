"""Checkpoints of a training: the latest, also when a signal ends it, and the best; written atomically."""

from __future__ import annotations

import io
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from pacl.distributed import sum_over_ranks
from pacl.files import atomic_write
from pacl.processes import ENDING


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes every checkpoint aside, in the same folder, and renames it: there is never half a file of that name.

    (Lightning writes to the folder for temporary files first, and then copies.)
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            UserError: it cannot be written, such as on a full disk; an older one is kept.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)  # to memory: on a full disk torch's own writer raises unclear errors
        with atomic_write(path) as aside:
            aside.write_bytes(content.getbuffer())


class Interrupted(Exception):
    """A signal has stopped the training, after its checkpoint was saved.

    Attributes:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class LatestCheckpoint(Callback):
    """Saves the latest checkpoint atomically, every ``every`` steps and at the end of the training.

    A run that is killed between the last step of an epoch and the end of its validation resumes with the next epoch.

    Within `handle_signals`, the `ENDING` signals finish the step, save the checkpoint and raise `Interrupted`, on all
    processes. A second Ctrl-C does not wait for the step.

    Args:
        path: of the checkpoint.
        every: steps between two saves.
        check: called before each save; if it raises an error, the older checkpoint is kept.

    Attributes:
        saved: step of the run's own checkpoint at ``path``; None if it has none there.
    """

    signals = ENDING

    def __init__(self, path: Path, every: int, check: Callable[[], None]) -> None:
        self.path, self.every, self.check = path, every, check
        self.received = self._process = 0
        self.training = False
        self.saved: int | None = None

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Install the signal handlers. Signals before the first step end the run at once: there is nothing to save.

        Signals that are ignored stay ignored, as under nohup.
        """
        self._process = os.getpid()
        handled = [number for number in self.signals if signal.getsignal(number) is not signal.SIG_IGN]
        former = {number: signal.signal(number, self._receive) for number in handled}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.training = True
        if self._process == os.getpid():
            # Lightning's own handler ends the process at the end of an epoch, with exit code 0 and no checkpoint.
            signal.signal(signal.SIGTERM, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # in a worker of the data loader: left to the training process
            return
        if not self.training or (self.received and number == signal.SIGINT):
            raise Interrupted(number)
        self.received = number

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["trainer"] = trainer_settings(trainer)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        # A signal can reach the processes in different steps: all stop in the first step in which one has received it.
        received = int(sum_over_ranks(torch.tensor(self.received, device=trainer.strategy.root_device)))
        if received or trainer.global_step % self.every == 0:
            self.save(trainer)
        if received:
            raise Interrupted(self.received or signal.SIGTERM)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.global_step:
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save the checkpoint.

        Raises:
            UserError: the check failed, or the checkpoint cannot be written.
        """
        self.check()
        trainer.save_checkpoint(self.path, weights_only=False)
        self.saved = trainer.global_step


def trainer_settings(trainer: Trainer) -> dict[str, Any]:
    """The settings of a trainer that decide its weights, besides the number of steps."""
    algorithm = trainer.gradient_clip_algorithm
    return {
        "precision": str(trainer.precision),
        "gradient_clip_val": trainer.gradient_clip_val,
        "gradient_clip_algorithm": None if algorithm is None else str(algorithm.value),
    }


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint of the best validation recall, ``best.ckpt``.

    A resumed run begins with the file and the score that `take` is given. Lightning's own state is not used: it holds
    absolute paths, and is forgotten where a folder was moved or copied; of a killed run it is older than the file.

    Args:
        folder: of the checkpoints.
    """

    monitors = "val_recall"
    name = "best.ckpt"

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            Path(self.name).stem,
            self.monitors,
            mode="max",
            enable_version_counter=False,
            save_on_train_epoch_end=False,
        )

    @classmethod
    def score(cls, checkpoint: Mapping[str, Any]) -> float | None:
        """The score of the weights of such a checkpoint; None if it was not measured."""
        return checkpoint.get("last_figures", {}).get(cls.monitors)

    def take(self, path: Path, score: float) -> None:
        """Use a file until a validation is better."""
        self.best_model_path = self.kth_best_model_path = str(path)
        self.best_model_score = self.kth_value = torch.tensor(score)
        self.best_k_models = {str(path): self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Leave what `take` was given."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Copy the file of a run that goes on in another folder, where it is found when that is resumed."""
        super().on_train_start(trainer, module)
        own, best = Path(str(self.dirpath), self.name), Path(self.best_model_path)
        if self.best_model_path and best.parent != own.parent:
            if trainer.is_global_zero:
                with atomic_write(own) as aside:
                    shutil.copyfile(best, aside)
            self.take(own, float(self.best_model_score or 0))
