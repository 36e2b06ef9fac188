"""Train the patch embedder on captioned pictures: ``python -m pacl.train [--config FILE] [--SETTING VALUE ...]``.

Without ``--config`` it trains on the procedural scenes, on the bundled CLIP (``configs/scenes.yaml``). Every setting
stands in the YAML and on the command line; ``--help`` lists them and ``--print_config`` shows those of a run.
Results go to ``--out``: the head (``config.json``, ``model.safetensors``: give the folder to ``--model``), logs and
checkpoints.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentError
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from pacl.data.batches import CaptionData
from pacl.errors import UserError, run_verb
from pacl.training import PACLModule

DEFAULT_CONFIG = "configs/scenes.yaml"

# Lightning warns of what is meant here: frozen towers in eval mode, resuming into the same folder, few batches.
MEANT = (
    ".*args parameter is intended to run from within Python",
    ".*in eval mode at the start of training",
    ".*exists and is not empty",
    ".*dirpath has changed",
    ".*smaller than the logging interval",
    ".*isinstance.treespec, LeafSpec",
)


def find_config(name: str) -> Path:
    """A configuration file by its path, or by its place in the configs that travel with the package.

    Raises:
        UserError: there is no such file; the message names those there are.
    """
    if Path(name).is_file():
        return Path(name)
    package = Path(__file__).resolve().parent
    folders = [package / "configs", package.parent / "configs"]  # of a wheel, of a clone
    relative = Path(name).relative_to("configs") if Path(name).parts[:1] == ("configs",) else Path(name)
    for folder in folders:
        if (folder / relative).is_file():
            return folder / relative
    known = sorted({f"configs/{path.name}" for folder in folders for path in folder.glob("*.yaml")})
    raise UserError(f"--config {name}: no such file; there are {', '.join(known) or 'no configs installed'}")


def with_config(argv: Sequence[str]) -> list[str]:
    """The arguments with every ``--config`` found, and with the default one in front if there is none."""
    arguments, found = list(argv), False
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in ("--config", "-c"):
            found = True
            if equals:
                arguments[i] = f"{flag}={find_config(value)}"
            elif i + 1 < len(arguments):
                arguments[i + 1] = str(find_config(arguments[i + 1]))
    return arguments if found else ["--config", str(find_config(DEFAULT_CONFIG)), *arguments]


def make_folder(out: str) -> Path:
    """Make the output folder and see that files can be written to it.

    Raises:
        UserError: it cannot be made or written to.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--out {out}: cannot write there ({error.strerror}); choose another folder") from None
    return folder


class TrainCLI(LightningCLI):
    """Lightning's command line, with everything that a run writes in one folder."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=str, default="runs/train", help="folder for the head, logs and checkpoints")
        parser.add_argument(
            "--ckpt_path", type=str | None, default=None, help="checkpoint to go on from; last: the newest in --out"
        )

    def before_instantiate_classes(self) -> None:
        self.folder = make_folder(self.config.out)

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        settings = self.config_init.trainer
        if settings.logger is None or settings.logger is True:
            loggers: list[Logger] = [CSVLogger(self.folder, name="logs")]
            with contextlib.suppress(ModuleNotFoundError):  # without TensorBoard the CSV holds the same figures
                loggers.append(TensorBoardLogger(self.folder, name="logs", version=loggers[0].version))
            kwargs["logger"] = loggers
        callbacks = settings.callbacks or []
        if not any(isinstance(callback, ModelCheckpoint) for callback in callbacks):
            checkpoints = ModelCheckpoint(
                self.folder / "checkpoints", every_n_train_steps=200, save_last=True, enable_version_counter=False
            )
            kwargs["callbacks"] = [*callbacks, checkpoints]
        kwargs.setdefault("default_root_dir", str(self.folder))
        return super().instantiate_trainer(**kwargs)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, save the head."""
    arguments = with_config(sys.argv[1:] if argv is None else argv)

    for message in MEANT:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(lambda line: "Tip:" not in line.getMessage())
    try:
        cli = TrainCLI(
            PACLModule,
            CaptionData,
            subclass_mode_data=True,
            run=False,
            args=arguments,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={
                "prog": "pacl train",
                "description": (__doc__ or "").partition("\n\n")[0],
                "exit_on_error": False,
            },
            save_config_kwargs={"overwrite": True},
        )
    except ArgumentError as error:
        raise UserError(error) from None

    checkpoint = cli.config.ckpt_path
    if checkpoint == "last":
        checkpoint = str(cli.folder / "checkpoints" / "last.ckpt")
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise UserError(f"--ckpt_path {cli.config.ckpt_path}: there is no {checkpoint}; leave it out to start anew")
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=checkpoint, weights_only=True)
    if cli.trainer.is_global_zero:
        cli.model.pacl.config.trained = True
        cli.model.pacl.save_pretrained(cli.folder)
        print(f"The head is in {cli.folder}: python -m pacl.segment --model {cli.folder} PICTURE PROMPT...")
    return 0


if __name__ == "__main__":
    run_verb("train", main)
