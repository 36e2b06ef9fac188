"""What ``python -m pacl.train`` does with its words: builds model, data and trainer, trains, and writes the head."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from pacl.cli.lightning import parse
from pacl.data.caption_data import CaptionData
from pacl.errors import UserError
from pacl.files import make_folder
from pacl.models.model import PACL
from pacl.models.vocabulary import trained_words
from pacl.training.card import Run, write_card
from pacl.training.checkpoint import Interrupted, KeepLast
from pacl.training.module import PACLModule

DEFAULT_CONFIG = "configs/scenes.yaml"


NEEDED = {"state_dict", "optimizer_states", "hyper_parameters", "global_step", "pytorch-lightning_version"}


class TrainCLI(LightningCLI):
    """Lightning's command line, with everything that a run writes in one folder."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=str, default="runs/train", help="folder for the head, logs and checkpoints")
        parser.add_argument(
            "--ckpt_path", type=str | None, default=None, help="checkpoint to go on from; last: the newest in --out"
        )
        parser.add_argument(
            "--save_every", type=int, default=200, help="steps between two checkpoints: what a killed run can lose"
        )
        parser.add_argument(
            "--head",
            type=Literal["last", "best"],
            default="last",
            help="weights that are saved in the end: the last ones, or those of the best validation",
        )

    def before_instantiate_classes(self) -> None:
        self.folder = make_folder(self.config.out)
        if self.config.save_every < 1:
            raise UserError(f"--save_every {self.config.save_every}: 1 step or more")

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        settings = self.config_init.trainer
        if settings.logger is None or settings.logger is True:
            loggers: list[Logger] = [CSVLogger(self.folder, name="logs")]
            with contextlib.suppress(ModuleNotFoundError):  # without TensorBoard the CSV holds the same figures
                loggers.append(TensorBoardLogger(self.folder, name="logs", version=loggers[0].version))
            kwargs["logger"] = loggers
        checkpoints = self.folder / "checkpoints"
        self.last = KeepLast(checkpoints / "last.ckpt", self.config.save_every, self.model.check_finite)
        self.best = ModelCheckpoint(
            checkpoints, "best", "val_recall", mode="max", enable_version_counter=False, save_on_train_epoch_end=False
        )
        # Without validation pairs nothing is ever the best, and the callback would ask for the figure in vain.
        best = [self.best] if self.datamodule.validates else []
        own = settings.callbacks or []
        callbacks = [*(own if isinstance(own, list) else [own]), self.last, *best]
        kwargs["callbacks"] = callbacks
        kwargs.setdefault("default_root_dir", str(self.folder))
        kwargs["enable_checkpointing"] = any(isinstance(each, Checkpoint) for each in callbacks)
        if self.datamodule.validates:
            kwargs["num_sanity_val_steps"] = -1  # the figures before the first step
        kwargs["use_distributed_sampler"] = False  # the data's own sampler divides every batch
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError) as error:  # what Lightning says of its own settings
            raise UserError(f"--trainer: {str(error).strip().splitlines()[0]}") from None


def check_checkpoint(path: str) -> int:
    """The steps of one of Lightning's checkpoints; a `UserError` if the file is none."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or not found.keys() >= NEEDED:
            raise ValueError("no training state in it")
        return int(found["global_step"])
    except Exception as error:  # torch answers broken files with many kinds
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"--ckpt_path {path}: not a checkpoint, or damaged ({reason[0][:80]}); leave it out to start anew"
        ) from None


def run(argv: Sequence[str], doc: str | None, module: type[PACLModule] = PACLModule, verb: str = "train") -> int:
    """Parse, train, save the head; the exit code."""
    cli = parse(lambda **settings: TrainCLI(module, CaptionData, **settings), verb, doc, argv, DEFAULT_CONFIG)
    check_settings(cli)
    torch.set_float32_matmul_precision("high")  # TF32 where a GPU has it
    checkpoint = cli.config.ckpt_path
    if checkpoint == "last":
        checkpoint = str(cli.last.path)
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise UserError(f"--ckpt_path {cli.config.ckpt_path}: there is no {checkpoint}; leave it out to start anew")
    started, steps = time.perf_counter(), 0
    if checkpoint is not None:
        steps = check_checkpoint(checkpoint)
    try:
        with cli.last.listening():
            cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=checkpoint, weights_only=True)
    except Interrupted as stop:
        advice = (
            "go on with the same command and --ckpt_path last" if cli.last.path.is_file() else "nothing was trained"
        )
        print(f"Stopped by {stop}; {advice}", file=sys.stderr)
        return 128 + stop.signum
    except OSError as error:  # logs and the like; files that are read have messages of their own
        raise UserError(f"{error.filename or f'--out {cli.folder}'}: {error.strerror or error}") from error
    if cli.trainer.global_step == 0:
        raise UserError("--trainer.max_steps: nothing was trained, so no head is written; take 1 step or more")
    if cli.trainer.global_step == steps:
        raise UserError(f"--ckpt_path: that run has all its {steps} steps; raise --trainer.max_steps or max_epochs")
    cli.datamodule.check_skipped("see the warnings", at_the_end=True)
    if cli.trainer.is_global_zero:
        cli.model.check_finite()
        save_head(cli, time.perf_counter() - started)
        logs = "".join(f"; what it learned: {logger.log_dir}" for logger in cli.trainer.loggers[:1])
        print(f"The head is in {cli.folder}: python -m pacl.segment --model {cli.folder} PICTURE PROMPT...{logs}")
    return 0


def check_settings(cli: TrainCLI) -> None:
    """Raise a `UserError` for settings of Lightning's that this training has no use for."""
    trainer = cli.trainer
    if trainer.accumulate_grad_batches != 1:
        raise UserError(
            f"--trainer.accumulate_grad_batches {trainer.accumulate_grad_batches}: small batches are "
            "not the loss of a large one; use --model.images_at_once with a large --data.batch_size"
        )
    if str(trainer.precision).endswith("-true") and trainer.precision != "32-true":
        raise UserError(f"--trainer.precision {trainer.precision}: use 32-true, bf16-mixed or 16-mixed")
    for name, least in (("patches", 1), ("images_at_once", 1), ("hidden", 1), ("warmup", 0), ("lr", 0)):
        value = cli.model.hparams[name]
        if value is not None and value < least:
            raise UserError(f"--model.{name} {value}: {least} or more")
    for callback in vars(trainer)["callbacks"]:
        monitor = str(getattr(callback, "monitor", None))
        if monitor.startswith("val_") and not cli.datamodule.validates:
            raise UserError(f"{type(callback).__name__}: nothing measures {monitor}; set --data.hold_out or --data.val")
    if cli.config.head == "best" and not cli.datamodule.validates:
        raise UserError("--head best: nothing is validated; set --data.hold_out or --data.val, or use --head last")


def save_head(cli: TrainCLI, seconds: float) -> None:
    """Write the head with its card into the run's folder."""
    model: PACL = cli.model.pacl
    run = describe(cli, seconds)
    if cli.config.head == "best":
        best = torch.load(cli.best.best_model_path, map_location="cpu", weights_only=True)
        cli.model.load_state_dict(best["state_dict"], strict=False)
        score = float(cli.best.best_model_score or 0)
        run = dataclasses.replace(run, figures={"val_recall": score}, kept=f"those after step {best['global_step']:,}")
    model.config.trained = True
    model.config.size = cli.datamodule.image_size()
    if model.clip.text.familiar is not None:
        model.config.vocabulary = trained_words(cli.datamodule.count_nouns(), model.clip, model.config.start)
    model.save_pretrained(cli.folder, card=write_card(model.config, run))


def describe(cli: TrainCLI, seconds: float) -> Run:
    """The facts of a finished run."""
    settings = {name: cli.model.hparams[name] for name in ("lr", "weight_decay", "warmup", "patches")}
    settings |= {name: getattr(cli.datamodule, name) for name in ("batch_size", "nouns", "templates")}
    device = cli.model.device
    return Run(
        data=cli.datamodule.summary(),
        settings={**settings, "seed": cli.config.seed_everything},
        figures={name: float(value) for name, value in sorted(cli.trainer.callback_metrics.items())},
        steps=cli.trainer.global_step,
        images=cli.datamodule.seen,
        skipped=cli.datamodule.skipped,
        seconds=seconds,
        device=f"{cli.trainer.world_size} x "
        + (torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"),
        resumed=cli.config.ckpt_path is not None,
        before=cli.model.before,
    )
