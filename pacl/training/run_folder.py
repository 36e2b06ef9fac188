"""The folder that a training writes to: it belongs to one run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from pacl.errors import ArgumentError
from pacl.files import make_folder
from pacl.locks import lock
from pacl.processes import is_first_process
from pacl.results.kinds import check_kind, find_results
from pacl.training.run_files import check_unused, results_of

LOCK = ".lock"


class RunFolder(Callback):
    """A folder of results, which is never mixed with the results of another run.

    As a callback it deletes the results of an earlier run when the first step begins, if they are to be replaced.
    In a training on several processes only the first one checks and locks the folder.

    Args:
        path: the folder; it is made.
        kind: of the model that the run trains, a key of `pacl.results.kinds.MODEL_FILES`: its files must not be
            lost, or mixed with those of another kind.
        argument: the caller's name for the folder, in errors.
        overwrite: replace the results of another run.
        resume: the folder's own run goes on: its results are kept, and are no reason to stop.
        advice: what to do instead, in the error.

    Attributes:
        logs: folder of the logs of this run alone, in ``path``; None if it has none.
        started: whether it has trained.

    Raises:
        ArgumentError: the folder cannot be made or written to.
    """

    def __init__(self, path: str | Path, kind: str, argument: str, overwrite: bool, resume: bool, advice: str) -> None:
        self.made = [place for place in (Path(path), *Path(path).parents) if not place.exists()]  # innermost first
        self.started = False
        self.path, self.kind = make_folder(path, argument), kind
        self.argument, self.overwrite, self.resume, self.advice = argument, overwrite, resume, advice
        self.logs: Path | None = None

    def remove_logs(self) -> None:
        """Delete the logs of a run that did not train: they have settings and no figures."""
        if self.logs is not None and not self.started and is_first_process():
            shutil.rmtree(self.logs, ignore_errors=True)
            with suppress(OSError):  # logs of other runs are in it
                self.logs.parent.rmdir()

    def found(self) -> list[Path]:
        """The results that are in the folder."""
        return find_results(self.path, results_of(self.kind))

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the folder's lock. It ends with the process, however that ends.

        At the end, logs without figures are deleted, and the folder if this run made it for nothing, as where a mistake
        ended the command before the first step: still under the lock, since later the folder may be another run's.

        Raises:
            ArgumentError: another process holds the lock, or the folder holds results of another run, or a model of
                another kind.
        """
        if not is_first_process():
            yield
            return
        with lock(self.path / LOCK, "start no second training there") as is_ours:
            if not is_ours:
                reason = "another training writes there now; choose another folder"
                raise ArgumentError(self.argument, self.path, reason)
            check_kind(self.path, self.kind, self.argument)
            if not (self.overwrite or self.resume):
                check_unused(self.path, results_of(self.kind), self.argument, self.advice)
            try:
                yield
            finally:
                self.remove_logs()
                if self.made and not self.started and not self.found():
                    shutil.rmtree(self.path, ignore_errors=True)
                    with suppress(OSError):  # others are using it by now
                        for parent in self.made[1:]:
                            parent.rmdir()

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Delete what is replaced; not earlier, so that a mistake in the settings loses nothing."""
        self.started = True
        if trainer.is_global_zero and not self.resume:
            for path in self.found():
                path.unlink()
