"""Train a dual encoder with CLIP's own loss: ``python -m pacl.pretrain --config FILE``.

``model.class_path`` says which: `pacl.training.pretrain_clip.CLIPTrainer`, a small CLIP from random weights (the
default), or `pacl.training.pretrain_dual.DualTrainer`, projection heads on two pretrained towers. The result
is a folder that ``--model local-dir:FOLDER`` names, here and in `pacl.train`.

Any data module will do that yields batches ``{"images": uint8 [B, 3, H, W], "texts": T captions, each once}``, with
``"positives"`` (bool [B, T]) unless text i is image i's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from pacl.cli.lightning import parse
from pacl.cli.messages import run_verb
from pacl.files import make_folder
from pacl.training.contrastive import ContrastiveModule
from pacl.training.pretrain_clip import CLIPTrainer
from pacl.training.pretrain_dual import DualTrainer  # noqa: F401  (known to the command by its name alone)

DEFAULT_CONFIG = "configs/scenes_clip.yaml"


class Export(L.Callback):
    """Writes the model as it is now, every so many steps and at the end.

    Args:
        folder: Where to; what is there is replaced.
        every: Steps between two writings; 0 writes at the end only.
    """

    def __init__(self, folder: str = "runs/clip", every: int = 250) -> None:
        self.folder, self.every = folder, every

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        make_folder(self.folder, "export.folder")

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        if self.every and trainer.global_step % self.every == 0:
            self.on_train_end(trainer, module)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, ContrastiveModule)
        if trainer.is_global_zero:
            module.save(self.folder)


class PretrainCLI(LightningCLI):
    """Trainer from the command line and YAML; model and data module are named by their classes."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves torch's choice")
        parser.add_lightning_class_args(Export, "export")
        # A configuration without a class_path is one of a CLIP from random weights.
        parser.set_defaults({"model": {"class_path": f"{CLIPTrainer.__module__}.{CLIPTrainer.__name__}"}})
        for words in ("vocabulary", "contrast"):  # (a model without such a parameter gets none)
            parser.link_arguments(f"data.{words}", f"model.init_args.{words}", apply_on="instantiate")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, export."""
    cli = parse(
        lambda **settings: PretrainCLI(ContrastiveModule, L.LightningDataModule, subclass_mode_model=True, **settings),
        "pretrain",
        __doc__,
        sys.argv[1:] if argv is None else argv,
        DEFAULT_CONFIG,
    )
    if cli.config.threads:
        torch.set_num_threads(cli.config.threads)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    return 0


if __name__ == "__main__":
    run_verb("pacl pretrain", main)
