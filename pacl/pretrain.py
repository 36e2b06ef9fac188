"""Train a dual encoder with CLIP's loss: ``python -m pacl.pretrain --config FILE``.

``model.class_path`` selects the model: `pacl.training.pretrain_clip.CLIPModule`, a small CLIP from random weights (the
default), or `pacl.training.pretrain_dual.DualEncoderModule`, projection heads on two pretrained towers. The result is a
folder that the other commands load as ``--model local-dir:FOLDER``.

The data module must yield batches as `pacl.training.contrastive.ContrastiveModule` takes them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytorch_lightning as L
import torch
from pytorch_lightning.cli import LightningArgumentParser

from pacl.cli.lightning import SettingsCLI, parse
from pacl.cli.messages import run_verb
from pacl.training.contrastive import ContrastiveModule, Export
from pacl.training.pretrain_clip import CLIPModule
from pacl.training.pretrain_dual import DualEncoderModule  # noqa: F401  (--model DualEncoderModule finds it)

DEFAULT_CONFIG = "configs/scenes_clip.yaml"


class PretrainCLI(SettingsCLI):
    """The command line of a pretraining."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's default")
        parser.add_lightning_class_args(Export, "export")
        parser.set_defaults({"model": {"class_path": f"{CLIPModule.__module__}.{CLIPModule.__name__}"}})
        for name in ("vocabulary", "contrast"):  # ignored by models without such a parameter
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, train and export the model."""
    cli = parse(
        lambda **settings: PretrainCLI(ContrastiveModule, L.LightningDataModule, subclass_mode_model=True, **settings),
        "pacl pretrain",
        __doc__,
        sys.argv[1:] if argv is None else argv,
        DEFAULT_CONFIG,
    )
    if cli.config.threads:
        torch.set_num_threads(cli.config.threads)
    with cli.errors_name_flags():
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    return 0


if __name__ == "__main__":
    run_verb("pacl pretrain", main)
