"""Heads trained for a comparison, by the very path of ``python -m pacl.train``, but for what it writes."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from pytorch_lightning import Trainer, seed_everything

from pacl.data.caption_data import CaptionData
from pacl.models.backbone import Backbone
from pacl.models.model import PACL
from pacl.training.module import PACLModule


def train_head(clip: Backbone, model: dict[str, Any], data: CaptionData, trainer: dict[str, Any], seed: int) -> PACL:
    """Train one head.

    Args:
        clip: the frozen CLIP; its texts are read once for all heads.
        model: arguments of `PACLModule`.
        data: what to train on. It keeps the frozen tokens of its pictures, so give it again for the same dense variant.
        trainer: ``max_steps`` or ``max_epochs``, and other arguments of Lightning's trainer.
        seed: of weights, order and captions.
    """

    class OnThisCLIP(PACLModule):
        load_backbone = staticmethod(lambda name, layers: clip)

    seed_everything(seed, verbose=False)
    data.seed = None  # that of this run
    module = OnThisCLIP(**model)
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "use_distributed_sampler")
    settings = {"max_epochs": -1, "accelerator": "cpu", "devices": 1, **dict.fromkeys(quiet, False), **trainer}
    Trainer(**settings, limit_val_batches=0).fit(module, data)
    return module.pacl


def quiet_lightning() -> None:
    """Two dozen trainings in a row: their banners and hints would bury the table."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
