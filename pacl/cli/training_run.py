"""What `pacl train` does: builds model, data and trainer of a head, trains, and writes the head.

What it shares with `pacl pretrain` is in `pacl.cli.training_parser`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from pacl.cli.configs import TRAIN_CONFIG
from pacl.cli.messages import printing, say
from pacl.cli.resuming import TRAIN_OUT, advice_for, check_checkpoint_exists, checkpoint_path
from pacl.cli.training_parser import SettingsCLI, as_list, parse, training_warnings
from pacl.data.caption_data import CaptionData
from pacl.errors import ArgumentError, UserError
from pacl.models.card import TrainingRun
from pacl.models.config import CONFIG, is_head
from pacl.models.head import HeadConfig
from pacl.models.model import PACL
from pacl.models.vocabulary import trained_words
from pacl.printing import counted, escaped
from pacl.processes import is_first_process
from pacl.results.kinds import CHECKPOINTS
from pacl.training.checkpoint import BestCheckpoint, Interrupted, LatestCheckpoint, trainer_settings
from pacl.training.curve import TrainingCurve
from pacl.training.module import PACLModule
from pacl.training.progress import steps_of_figures
from pacl.training.run_files import check_card, resumes
from pacl.training.run_folder import RunFolder

VALIDATIONS = 10
"""Validations in a run of a number of steps, unless its settings state an interval."""

FILLED = {"state_dict", "optimizer_states", "objective", "loops"}
CHECKPOINT_KEYS = {*FILLED, "global_step", "pytorch-lightning_version"}
"""What a checkpoint holds; of `FILLED`, each has something in it."""


class TrainCLI(SettingsCLI):
    """The command line of a training, which writes all its files to one folder."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=str, default=TRAIN_OUT, help="folder for the head, logs and checkpoints")
        parser.add_argument(
            "--ckpt_path", type=str | None, default=None, help="checkpoint to resume from; last: the latest in --out"
        )
        parser.add_argument(
            "--overwrite", action="store_true", help="replace the results of another run that are in --out"
        )
        parser.add_argument(
            "--save_every",
            type=int,
            default=200,
            help="steps between checkpoints: a killed run loses at most these",
        )
        parser.add_argument(
            "--head",
            type=Literal["last", "best"],
            default="last",
            help="weights that are saved at the end: the last, or those with the best validation recall",
        )

    def before_instantiate_classes(self) -> None:
        folder = Path(self.config.out)
        self.checkpoint = checkpoint_path(folder, self.config.ckpt_path)
        resume = resumes(folder, self.checkpoint)
        self.claim(RunFolder(folder, "head", "out", self.config.overwrite, resume, advice_for(folder)))
        if is_first_process():
            check_card(folder, "out")
        if self.config.save_every < 1:
            raise ArgumentError("save_every", self.config.save_every, "must be at least 1")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings, folder = self.config_init.trainer, self.folder.path
        if settings.logger is None or settings.logger is True:
            loggers: list[Logger] = [CSVLogger(folder, name="logs")]
            self.folder.logs = Path(str(loggers[0].log_dir))
            with contextlib.suppress(ModuleNotFoundError):  # the CSV holds the same values
                loggers.append(TensorBoardLogger(folder, name="logs", version=loggers[0].version))
            kwargs["logger"] = loggers
        checkpoints = folder / CHECKPOINTS
        self.last = LatestCheckpoint(checkpoints / "last.ckpt", self.config.save_every, self.model.check_finite)
        self.best = BestCheckpoint(checkpoints)
        # Without validation the callback would raise an error: its figure is missing.
        best = [self.best] if self.datamodule.validates else []
        callbacks = [self.folder, *as_list(settings.callbacks), TrainingCurve(folder), self.last, *best]
        kwargs["callbacks"] = callbacks
        kwargs.setdefault("default_root_dir", str(folder))
        kwargs["enable_checkpointing"] = any(isinstance(each, Checkpoint) for each in callbacks)
        if self.datamodule.validates:
            kwargs["num_sanity_val_steps"] = -1  # validate before the first step
        kwargs |= validation_interval(settings)
        return super().instantiate_trainer(**kwargs)

    @property
    def memory_advice(self) -> str:  # type: ignore[override]
        """The settings of this run that could be changed to save memory, in words for an error."""
        settings, batch = self.model.hparams, self.datamodule.batch_size
        at_once = settings["images_at_once"] or batch
        advice = []
        if at_once > 8:
            smaller = min(256, at_once // 2)
            advice.append(f"--model.images_at_once {smaller} (the loss stays that of the whole batch)")
        if settings["patches"] is None:
            advice.append("--model.patches 49")
        return ", ".join([*advice, "a smaller --data.batch_size"]) + f" than {batch}"

    def kept(self) -> str:
        """How much of the training is saved, in words for the end of an error."""
        if self.last.saved is None:
            return ""
        return f"the training up to step {self.last.saved:,} is kept: resume with the same command and --ckpt_path last"


def validation_interval(settings: Any) -> dict[str, Any]:
    """Settings of the trainer for `VALIDATIONS` in a run of a given number of steps, where it states no interval.

    Lightning's default, once an epoch, would validate a few hundred images after every step. An interval in steps
    counts those of all epochs: Lightning refuses one that is longer than an epoch, which may have a single step.
    """
    if settings.check_val_every_n_epoch != 1:
        return {}
    if settings.val_check_interval is not None:
        return {"check_val_every_n_epoch": None} if type(settings.val_check_interval) is int else {}
    if settings.max_steps < 1:
        return {}
    return {"val_check_interval": max(1, settings.max_steps // VALIDATIONS), "check_val_every_n_epoch": None}


def read_checkpoint(path: str | Path, advice: str = "leave it out to start from the beginning") -> dict[str, Any]:
    """Read a Lightning checkpoint.

    Args:
        path: of the checkpoint.
        advice: what to do about a damaged one, in the error.

    Raises:
        ArgumentError: the file is no checkpoint, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not compare checksums
            if (broken := archive.testzip()) is not None:
                raise ValueError(f"the checksum of {broken} differs")
        found = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or not found.keys() >= CHECKPOINT_KEYS or not all(found[x] for x in FILLED):
            raise ValueError("no training state in it")
        return found
    except Exception as error:  # torch raises many types
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ArgumentError("ckpt_path", path, f"not a checkpoint, or damaged ({reason[0][:80]}); {advice}") from None


def check_seed(cli: TrainCLI, found: dict[str, Any]) -> None:
    """Refuse another seed than that of the run of a checkpoint.

    Raises:
        ArgumentError: it differs.
    """
    given = cli.config.seed_everything
    before = found.get(type(cli.datamodule).__qualname__, {}).get("seed")
    if isinstance(given, int) and not isinstance(given, bool) and before is not None and before != given:
        reason = f"the run of the checkpoint has {before}; resume it with the same"
        raise ArgumentError("seed_everything", given, reason)


def check_same_trainer(cli: TrainCLI, found: dict[str, Any]) -> None:
    """Refuse other settings of the trainer than those of the run of a checkpoint; older ones do not state them.

    Raises:
        ArgumentError: one differs.
    """
    own, saved = trainer_settings(cli.trainer), found.get("trainer", {})
    for name, before in saved.items():
        if own.get(name) != before:
            reason = f"the run of the checkpoint has {'null' if before is None else before}; resume it with the same"
            raise ArgumentError(f"trainer.{name}", "null" if own.get(name) is None else own[name], reason)


def take_best(cli: TrainCLI, checkpoint: str) -> None:
    """Begin a resumed run with the best checkpoint of its folder; in a new folder, with the one beside ``checkpoint``.

    Raises:
        ArgumentError: it is damaged.
    """
    folder = Path(str(cli.best.dirpath)) if cli.folder.resume else Path(checkpoint).resolve().parent
    path = folder / cli.best.name
    if path.is_file():
        score = cli.best.score(read_checkpoint(path, "delete it to go on without it"))
        if score is not None:
            cli.best.take(path, score)


def run(argv: Sequence[str], doc: str | None, module: type[PACLModule] = PACLModule, prog: str = "pacl train") -> int:
    """Parse the arguments, train and save the head.

    Args:
        argv: the arguments.
        doc: docstring of the command.
        module: class of the training module.
        prog: name of the command.

    Returns:
        The exit code.
    """
    with training_warnings(prog), contextlib.ExitStack() as held:
        cli = parse(lambda **settings: TrainCLI(held, module, CaptionData, **settings), prog, doc, argv, TRAIN_CONFIG)
        check_settings(cli)
        return train(cli, prog)


def train(cli: TrainCLI, prog: str) -> int:
    """Train and save the head; the exit code."""
    torch.set_float32_matmul_precision("high")  # TF32 on GPUs that have it
    checkpoint, folder = cli.checkpoint, cli.folder.path
    check_checkpoint_exists(checkpoint, cli.config.ckpt_path)
    started, steps = time.perf_counter(), 0
    if checkpoint is not None:
        found = read_checkpoint(checkpoint)
        check_seed(cli, found)
        check_same_trainer(cli, found)
        take_best(cli, checkpoint)
        steps = int(found["global_step"])
        cli.last.saved = steps if cli.last.path.is_file() and cli.folder.resume else None
        if cli.folder.resume and cli.trainer.is_global_zero and is_calibrated(folder):
            advice = f"at the end, calibrate it again: pacl calibrate {folder} PHOTOS"
            say(prog, f"note: the head in {folder} is calibrated, that of the resumed run will not be; {advice}")
    with cli.errors_name_flags():
        if (extent := cli.datamodule.extent()) and cli.trainer.is_global_zero:
            say(prog, extent)
    try:
        with cli.last.handle_signals():
            cli.fit(cli.kept, ckpt_path=checkpoint, weights_only=True)
    except Interrupted as stop:
        say(prog, f"stopped by {stop}; {cli.kept() or 'nothing is kept: it had not trained yet'}")
        return 128 + stop.signum
    if cli.trainer.global_step == 0:
        raise ArgumentError("trainer.max_steps", 0, "nothing was trained and no head is written; train at least 1 step")
    if cli.trainer.global_step == steps:
        best = cli.best.best_model_path if cli.config.head == "best" else None
        if (folder / CONFIG).is_file() and not best:
            advice = "raise --trainer.max_steps or --trainer.max_epochs"
            advice += ", or save its best weights with --head best" if cli.best.best_model_path else ""
            raise ArgumentError("ckpt_path", cli.config.ckpt_path, f"all {steps} steps of that run are done; {advice}")
        say(prog, f"all {steps} steps are done: the head is that of {best or checkpoint}")
    cli.datamodule.check_skipped("see the warnings", at_the_end=True)
    if not cli.folder.started:  # Lightning begins no training without a step
        cli.folder.remove_logs()
        # The other run's files are replaced all the same.
        for callback in (cli.folder, *([cli.best] if cli.datamodule.validates else [])):
            callback.on_train_start(cli.trainer, cli.model)
    if cli.trainer.is_global_zero:
        cli.model.check_finite()
        if cli.config.head == "best" and not cli.best.best_model_path:
            say(prog, f"no validation has left a {cli.best.name}: the head has the last weights")
        try:
            save_head(cli, time.perf_counter() - started)
        except UserError as error:  # such as a full disk
            raise UserError("; ".join(filter(None, [str(error), cli.kept()]))) from error
        if cli.config.head == "last" and (better := better_before(cli)):
            say(prog, f"note: {better}; the same command with --ckpt_path last --head best saves those weights")
        if nothing := learned_nothing(cli):
            say(prog, f"note: {nothing}: check that the captions are of their images, or train longer")
        if unmeasured := cli.datamodule.unmeasured:
            held = counted(unmeasured, "held-out image")
            advice = "the figures are of the others; pacl data check lists the reasons"
            say(prog, f"note: {held} could not be used: {advice}")
        at = cli.model.validated_at
        # No interval would have met the end of a run that was stopped, by hand or by --trainer.max_time.
        planned = cli.trainer.global_step > steps and not cli.trainer.should_stop
        if planned and cli.config.head == "last" and cli.datamodule.validates and at < cli.trainer.global_step:
            last = f"the last validation was after step {at:,}" if at else "no validation was after the first step"
            advice = "a --trainer.val_check_interval that divides the steps measures the last one, too"
            say(prog, f"note: {last}; {advice}")
        loggers = cli.trainer.loggers[:1] if cli.trainer.global_step > steps else []
        logs = "".join(f"; logs: {logger.log_dir}" for logger in loggers)
        with printing():
            print(escaped(f"The head is in {folder}: python -m pacl.segment --model {folder} IMAGE PROMPT...{logs}"))
    return 0


def is_calibrated(folder: Path) -> bool:
    """Whether a folder holds a head that `pacl.calibrate` measured."""
    try:
        return is_head(folder / CONFIG) and HeadConfig.read(folder / CONFIG).calibrated
    except UserError:  # a damaged file, which the run replaces
        return False


def better_before(cli: TrainCLI) -> str | None:
    """The best validation of a run whose last one was worse, in words; else None."""
    name, path = cli.best.monitors, Path(cli.best.best_model_path or "none")
    last, best = cli.trainer.callback_metrics.get(name), float(cli.best.best_model_score or 0)
    if last is None or not path.is_file() or best <= float(last):
        return None
    return f"{name} was {best:.3f} after step {read_checkpoint(path)['global_step']:,}, and is {float(last):.3f} now"


def learned_nothing(cli: TrainCLI) -> str | None:
    """The best validation of a run that is no better than a random order, in words; else None."""
    name, best = cli.best.monitors, cli.best.best_model_score
    chance = cli.model.chance.get(name)
    if best is None or chance is None or float(best) > chance:
        return None
    return f"{name} was {float(best):.3f} at best, and a random order has {chance:.3f}"


def check_settings(cli: TrainCLI) -> None:
    """Raise an `ArgumentError` for settings that do not work together."""
    trainer = cli.trainer
    if str(trainer.precision).endswith("-true") and trainer.precision != "32-true":
        raise ArgumentError("trainer.precision", trainer.precision, "use 32-true, bf16-mixed or 16-mixed")
    cli.check_whole_batches("--model.images_at_once with a large --data.batch_size")
    settings = cli.config_init.trainer
    if (limit := settings.limit_train_batches) is not None:  # also 1, a batch, which may have come to be 1.0, all
        advice = "a resumed run would not go on where it was; use --trainer.max_steps, and --trainer.val_check_interval"
        raise ArgumentError("trainer.limit_train_batches", limit, advice)
    if every := settings.reload_dataloaders_every_n_epochs:
        advice = "each epoch would have the batches and captions of the first; use 0"
        raise ArgumentError("trainer.reload_dataloaders_every_n_epochs", every, advice)
    for callback in vars(trainer)["callbacks"]:
        monitor = str(getattr(callback, "monitor", None))
        if monitor.startswith("val_") and not cli.datamodule.validates:
            advice = "without validation it is not measured: set --data.hold_out or --data.val"
            raise ArgumentError(f"trainer.callbacks.{type(callback).__name__}.monitor", monitor, advice)
    if cli.config.head == "best" and not cli.datamodule.validates:
        raise ArgumentError("head", "best", "needs validation: set --data.hold_out or --data.val, or use --head last")


def save_head(cli: TrainCLI, seconds: float) -> None:
    """Write the head and its model card to the folder of the run."""
    model: PACL = cli.model.pacl
    run = describe(cli, seconds)
    if cli.config.head == "best" and cli.best.best_model_path:
        best = read_checkpoint(cli.best.best_model_path)
        cli.model.load_state_dict(best["state_dict"], strict=False)
        # Of a run that was killed it may be later than the last checkpoint, from which the rest is.
        place = best.get(type(cli.datamodule).__qualname__, {})
        run = dataclasses.replace(
            run,
            figures={cli.best.monitors: float(cli.best.best_model_score or 0)},
            measured_at={},
            weights=f"those of the best validation, after step {best['global_step']:,}",
            steps=max(run.steps, best["global_step"]),
            images=max(run.images, place.get("seen", 0)),
            skipped=max(run.skipped, place.get("skipped", 0)),
        )
    model.config.trained = True
    if model.clip.text.familiar is not None:
        model.config.vocabulary = trained_words(cli.datamodule.count_nouns(), model.clip, model.config.start)
    model.save_pretrained(cli.folder.path, card=model.write_card(run))


def describe(cli: TrainCLI, seconds: float) -> TrainingRun:
    """Facts about a finished training, for the model card."""
    settings = {name: cli.model.hparams[name] for name in ("lr", "weight_decay", "patches")}
    settings["warmup"] = cli.model.warmup
    settings |= {name: getattr(cli.datamodule, name) for name in ("batch_size", "nouns", "templates")}
    settings |= {name: value for name, value in trainer_settings(cli.trainer).items() if value is not None}
    settings |= {f"cut.{name}": value for name, value in cli.datamodule.cut.acting().items()}
    device = cli.model.device
    validated = cli.model.last_figures if cli.model.validated_at else {}  # before the first step it is no trained head
    figures = validated | {name: float(value) for name, value in cli.trainer.callback_metrics.items()}
    held = {
        "are also in training": cli.datamodule.copies,
        "are copies of others of them": cli.datamodule.twice,
        "could not be used, the figures are of the others": cli.datamodule.unmeasured,
    }
    return TrainingRun(
        data=[*cli.datamodule.summary(), *(f"{count:,} of these {what}" for what, count in held.items() if count)],
        settings={**settings, "seed": cli.datamodule.seed},  # that of the checkpoint where the run was resumed
        figures=dict(sorted(figures.items())),
        steps=cli.trainer.global_step,
        measured_at=dict.fromkeys(cli.model.last_figures, cli.model.validated_at) | steps_of_figures(cli.trainer),
        images=cli.datamodule.seen,
        skipped=cli.datamodule.skipped,
        seconds=seconds,
        device=f"{cli.trainer.world_size} x "
        + (torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"),
        resumed=cli.config.ckpt_path is not None,
        start_recall=cli.model.start_recall,
        chance=cli.model.chance,
        vocabulary=sorted(cli.model.pacl.clip.vocabulary or ()),
    )
