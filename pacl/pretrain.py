"""Train a dual encoder with CLIP's loss.

  python -m pacl.pretrain --config configs/flickr8k_clip.yaml    # a small CLIP from random weights
  python -m pacl.pretrain --config configs/flickr8k_dual.yaml    # projection heads on two pretrained towers

The settings that most runs need:
  --config FILE                  a YAML file with settings; without it: drawn scenes (configs/scenes_clip.yaml)
  --model CLASS                  CLIPModule (the default) or DualEncoderModule
  --data.pairs FILE              your captions: a table with the columns image,caption (or --data.train in YAML)
  --trainer.max_steps N          length of the training; or --trainer.max_epochs N
  --export.folder FOLDER         the model, which the other commands load as --model local-dir:FOLDER

All settings can be in YAML and are flags, too. --print_config prints their values, --model.help CLASS explains those
of a class, and all others follow. A data module must yield the batches of
`pacl.training.contrastive.ContrastiveModule`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.cli import LightningArgumentParser

from pacl.cli.lightning import SettingsCLI, as_list, parse, plain_warnings
from pacl.cli.messages import run_verb
from pacl.training.contrastive import ContrastiveModule, Export
from pacl.training.pretrain_clip import CLIPModule
from pacl.training.pretrain_dual import DualEncoderModule  # noqa: F401  (--model DualEncoderModule finds it)
from pacl.training.run_folder import RunFolder

RESULTS = ("*.json", "*.safetensors")
"""Files of a model, which another model would replace."""

DEFAULT_CONFIG = "configs/scenes_clip.yaml"


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
        advice = "choose another folder, or replace the model with --overwrite"
        folder = self.config.export.folder
        self.folder = RunFolder(folder, RESULTS, "export.folder", self.config.overwrite, False, advice)
        with self.folder.claim():  # checked before the towers are loaded, which takes long
            pass

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        own = as_list(self.config_init.trainer.callbacks)
        return super().instantiate_trainer(callbacks=[self.folder, *own], **kwargs)

    def kept(self) -> str:
        """How much of the training is saved, in words for the end of an error."""
        return f"{self.folder.path} holds the model of an earlier step" if self.folder.found() else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, train and export the model."""
    prog = "pacl pretrain"
    with plain_warnings(prog):
        cli = parse(
            lambda **more: PretrainCLI(ContrastiveModule, L.LightningDataModule, subclass_mode_model=True, **more),
            prog,
            __doc__,
            sys.argv[1:] if argv is None else argv,
            DEFAULT_CONFIG,
        )
        if cli.config.threads:
            torch.set_num_threads(cli.config.threads)
        with cli.folder.claim():
            cli.fit(cli.kept)
    return 0


if __name__ == "__main__":
    run_verb("pacl pretrain", main)
