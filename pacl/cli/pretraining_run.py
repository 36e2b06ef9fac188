"""What `pacl pretrain` does: builds model, data and trainer of a dual encoder, trains, and exports it.

What it shares with `pacl train` is in `pacl.cli.training_parser`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.cli import LightningArgumentParser

from pacl.cli.configs import PRETRAIN_CONFIG
from pacl.cli.resuming import DUAL_ENCODER_ADVICE
from pacl.cli.training_parser import SettingsCLI, as_list, parse, training_warnings
from pacl.training.contrastive import ContrastiveModule, Export
from pacl.training.pretrain_clip import CLIPModule
from pacl.training.pretrain_dual import DualEncoderModule  # noqa: F401  (--model DualEncoderModule finds it)
from pacl.training.run_folder import RunFolder


class PretrainCLI(SettingsCLI):
    """The command line of a pretraining."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's default")
        parser.add_argument("--overwrite", action="store_true", help="replace the model that is in --export.folder")
        parser.add_lightning_class_args(Export, "export")
        parser.set_defaults({"model": {"class_path": f"{CLIPModule.__module__}.{CLIPModule.__name__}"}})
        for name in ("vocabulary", "contrast"):  # ignored by models without such a parameter
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        folder, overwrite = self.config.export.folder, self.config.overwrite
        self.claim(RunFolder(folder, "pretrained model", "export.folder", overwrite, False, DUAL_ENCODER_ADVICE))

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        own = as_list(self.config_init.trainer.callbacks)
        return super().instantiate_trainer(callbacks=[self.folder, *own], **kwargs)

    def kept(self) -> str:
        """How much of the training is saved, in words for the end of an error."""
        return f"{self.folder.path} holds the model of an earlier step" if self.folder.found() else ""


def run(argv: Sequence[str], doc: str | None) -> int:
    """Parse the arguments, train and export the model.

    Args:
        argv: the arguments.
        doc: docstring of the command.

    Returns:
        The exit code.
    """
    prog = "pacl pretrain"
    with training_warnings(prog), ExitStack() as held:
        cli = parse(
            lambda **more: PretrainCLI(
                held, ContrastiveModule, L.LightningDataModule, subclass_mode_model=True, **more
            ),
            prog,
            doc,
            argv,
            PRETRAIN_CONFIG,
        )
        if cli.config.threads:
            torch.set_num_threads(cli.config.threads)
        cli.check_whole_batches("a larger --data.batch_size")
        cli.fit(cli.kept)
    return 0
