"""Lightning's command line as `pacl train` and `pacl pretrain` share it: parsing, errors in one line.

The errors are worded in `pacl.cli.setting_errors` (of the parser) and `pacl.cli.trainer_errors` (of the trainer).
"""

from __future__ import annotations

import argparse
import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import jsonargparse
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import GradientAccumulationScheduler as Accumulation
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException

from pacl.cli.configs import CONFIG_FLAGS, with_config
from pacl.cli.messages import plain_warnings, say
from pacl.cli.progress import tracked
from pacl.cli.setting_errors import describe_mistake
from pacl.cli.trainer_errors import check_trainer, explain_failure, trainer_error
from pacl.data.caption_data import CaptionData
from pacl.errors import ArgumentError, UserError
from pacl.training.checkpoint import AtomicCheckpointIO
from pacl.training.progress import TrainingProgress
from pacl.training.run_folder import RunFolder

CLI = TypeVar("CLI", bound="SettingsCLI")

CLASS_FLAGS = (*CONFIG_FLAGS, "--model", "--data")
"""Flags whose value says of which classes the settings are."""

# Lightning warns of what is intended here: frozen towers in eval mode, resuming into the same folder, few batches.
EXPECTED_WARNINGS = (
    ".*args parameter is intended to run from within Python",
    ".*in eval mode at the start of training",
    ".*exists and is not empty",
    ".*dirpath has changed",
    ".*smaller than the logging interval",
    ".*isinstance.treespec, LeafSpec",
    ".*your dataloader is not resumable",  # the state of the data module holds the position
    ".*across ranks is zero",
    ".*recommended to use .self.log.*sync_dist",  # the logged values are the same on all processes
)


class HelpFormatter(argparse.RawDescriptionHelpFormatter, jsonargparse.DefaultHelpFormatter):
    """Shows the description as it is written."""


class SettingsCLI(LightningCLI):
    """Lightning's command line, with mistakes in one line that names the flag, and quiet output.

    Args:
        held: what the command holds until its end.
        *args: of `LightningCLI`.
        **settings: of `LightningCLI`.
    """

    memory_advice = "a smaller --data.batch_size"
    """What to change to save memory, in words for an error."""

    folder: RunFolder
    """The folder of the results."""

    def __init__(self, held: ExitStack, *args: Any, **settings: Any) -> None:
        self.held = held
        super().__init__(*args, **settings)

    def claim(self, folder: RunFolder) -> None:
        """Hold the folder of the results until the command ends; before the model is loaded, which takes long."""
        self.folder = folder
        self.held.enter_context(folder.claim())

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            super().parse_arguments(parser, args)
        except jsonargparse.ArgumentError as error:
            raise UserError(describe_mistake(str(error), known_settings(parser, args))) from None
        seed = self.config.seed_everything
        if not isinstance(seed, bool) and seed is not None and not 0 <= seed < 2**32:
            raise ArgumentError("seed_everything", seed, "must be from 0 to 4294967295")

    def instantiate_classes(self) -> None:
        with self.errors_name_flags():
            super().instantiate_classes()
        if isinstance(self.datamodule, CaptionData):
            self.datamodule.tracked = partial(tracked, line=rank_zero_only(partial(say, self.parser.prog)))
        check_trainer(self.trainer, self.config_init.trainer)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings = self.config_init.trainer
        callbacks = as_list(kwargs.get("callbacks", settings.callbacks))
        if settings.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(TrainingProgress())
        plugins = as_list(settings.plugins)
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(AtomicCheckpointIO())
        kwargs |= {"callbacks": callbacks, "plugins": plugins}
        kwargs["enable_model_summary"] = bool(settings.enable_model_summary)  # Lightning's default is a table
        try:
            return super().instantiate_trainer(**kwargs)
        except UserError:
            raise
        except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
            raise trainer_error(settings, error) from error

    def check_whole_batches(self, instead: str) -> None:
        """Refuse settings of the trainer that divide a batch, or promise fewer batches or images than are used.

        Args:
            instead: what to use for large batches, in words for an error.

        Raises:
            ArgumentError: one of them is set.
        """
        settings, fewer = self.config_init.trainer, "hold out as many images as are to be measured: --data.hold_out"
        validates = getattr(self.datamodule, "validates", True)
        schedules = (each.scheduling for each in vars(self.trainer)["callbacks"] if isinstance(each, Accumulation))
        accumulated = max([settings.accumulate_grad_batches, *(n for each in schedules for n in each.values())])
        if accumulated != 1:
            reason = f"the mean loss of small batches is not the loss of a large one; use {instead}"
            raise ArgumentError("trainer.accumulate_grad_batches", accumulated, reason)
        if settings.fast_dev_run:
            advice = "it writes no logs and measures a part of the held-out images; use --trainer.max_steps 1"
            raise ArgumentError("trainer.fast_dev_run", settings.fast_dev_run, advice)
        if settings.overfit_batches:
            reason = "the batches would not be the same ones; train on a source of few images"
            raise ArgumentError("trainer.overfit_batches", settings.overfit_batches, reason)
        limit = settings.limit_val_batches
        if validates and limit is not None and (type(limit) is int or limit != 1):  # 1 is a batch, 1.0 all
            raise ArgumentError("trainer.limit_val_batches", limit, fewer)

    def fit(self, kept: Callable[[], str], **arguments: Any) -> None:
        """Train. What ends the training is one line, with what is kept of it.

        Args:
            kept: what is kept now, and how to use it; may be empty.
            **arguments: of `Trainer.fit`.

        Raises:
            UserError: the training failed.
        """
        try:
            with self.errors_name_flags():
                self.trainer.fit(self.model, self.datamodule, **arguments)
        except SIGTERMException as stop:  # its exit code is 0
            raise SystemExit(128 + signal.SIGTERM) from stop
        except Exception as error:
            unwritten = isinstance(error, UserError) and isinstance(error.__cause__, OSError)
            folder = f"--{self.folder.argument} {self.folder.path}"
            reason = str(error) if unwritten else explain_failure(error, folder, self.memory_advice)
            if reason is None or (isinstance(error, UserError) and not unwritten):
                raise
            raise UserError("; ".join(filter(None, [reason, kept()]))) from error

    @contextmanager
    def errors_name_flags(self) -> Iterator[None]:
        """Turn the argument of an `ArgumentError` into its flag: "batch_size" into "data.batch_size".

        So are arguments that an error about ``data.pairs`` advises to set; sources of a list have them as keys.
        """
        try:
            yield
        except ArgumentError as error:
            callbacks = self.config.get("trainer.callbacks") or []
            groups = [(group, self.config.get(group)) for group in ("model", "data")]
            groups += [
                ("trainer.callbacks", each) for each in (callbacks if isinstance(callbacks, list) else [callbacks])
            ]
            owners: list[str] = []
            for group, settings in groups:
                settings = (settings or {}).get("init_args", settings or {})
                # The loaders call a name "model"; here it is the value of model.backbone, model.image ...
                names = [error.argument] if error.argument in settings else []
                names += list(settings.keys()) if error.argument == group else []
                for name in names:
                    if str(settings[name]) == str(error.value):
                        raise ArgumentError(f"{group}.{name}", error.value, error.reason) from None
                if error.argument in settings:
                    owners.append(group)
            if len(owners) == 1:  # the value was changed before it was refused, as an empty name to None
                raise ArgumentError(f"{owners[0]}.{error.argument}", error.value, error.reason) from None
            raise
        except UserError as error:
            data = self.config.get("data") or {}
            data = data.get("init_args", data)
            if error.advised and data.get("pairs") and not data.get("train") and set(error.advised) <= set(data.keys()):
                raise UserError(error.with_flags("--data.")) from error
            error.advised = ()
            raise


def as_list(value: Any) -> list[Any]:
    """A setting that may be None, a value or a list of them, as a new list."""
    return [] if value is None else [*value] if isinstance(value, (list, tuple)) else [value]


def known_settings(parser: LightningArgumentParser, argv: Sequence[str]) -> list[str]:
    """All settings of a command, those of the classes in configuration files and flags too: "trainer.max_steps"."""
    names = {option.lstrip("-") for action in parser._actions for option in action.option_strings}
    chosen = [f"{flag}={value}" for flag, value in pairwise(argv) if flag in CLASS_FLAGS]
    chosen += [argument for argument in argv if argument.partition("=")[0] in CLASS_FLAGS and "=" in argument]
    for end in range(len(chosen), -1, -1):  # the last ones may be wrong
        with suppress(jsonargparse.ArgumentError):
            names |= {name.replace(".init_args.", ".") for name in parser.parse_args(chosen[:end]).keys()}  # noqa: SIM118
            break
    return sorted(name for name in names if not name.endswith((".help", "+")))


@contextmanager
def training_warnings(prog: str) -> Iterator[None]:
    """`plain_warnings` without `EXPECTED_WARNINGS`."""
    with plain_warnings(prog), warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield


def parse(build: Callable[..., CLI], prog: str, doc: str | None, argv: Sequence[str], default: str) -> CLI:
    """Parse the arguments of a command and build its model, data and trainer, without running it.

    Args:
        build: makes the `SettingsCLI` from keyword arguments.
        prog: name of the command.
        doc: docstring of the command, the description in ``--help``.
        argv: the arguments.
        default: configuration to use without ``--config``.

    Raises:
        UserError: a mistake in the arguments or in the YAML.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):  # "GPU available: False", "Seed set to 0"
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return build(
            subclass_mode_data=True,
            run=False,
            args=with_config(argv, default),
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={
                "prog": prog,
                "description": (doc or "").strip(),
                "usage": f"{prog} [--config FILE] [--SETTING VALUE ...]",
                "formatter_class": HelpFormatter,
                "exit_on_error": False,
                "allow_abbrev": False,  # of "trainer.max_step" nobody knows whether max_steps is meant
            },
            save_config_kwargs={"overwrite": True},
        )
    except (jsonargparse.ArgumentError, UnicodeDecodeError) as error:
        raise UserError(error) from None
    except ModuleNotFoundError as error:  # of a logger or callback
        raise UserError(f"{error}; pip install {error.name}" if error.name else error) from None
