"""Trainings that keep the batches that they get."""

from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule, Trainer

from pacl.data.token_stamp import Stamp

COUNT = 14
TEMPLATES = {"nouns": True, "templates": "photo"}


class Module(LightningModule):
    """Keeps the batches that it gets; its frozen tokens are the mean colours of four patches."""

    image_size = 8

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        tower = SimpleNamespace(
            quick_gelu=False, architecture="", layers=(), preprocessing={"mean": [0.5], "std": [0.5]}
        )
        clip = {"image_name": "none", "image_checksum": lambda: "0" * 16, "layers": ()}
        clip |= {"patch": 4, "width": 3, "image": tower}
        clip |= {"vocabulary": None, "text": SimpleNamespace(familiar=None, pieces=lambda word: None)}
        self.pacl = SimpleNamespace(clip=SimpleNamespace(**clip, mean=(0.5,) * 3, std=(0.5,) * 3))
        self.encoded = 0
        self.seen, self.validated = [], []

    def frozen_tokens(self, images):
        self.encoded += len(images)
        return F.avg_pool2d(images.float(), 4).flatten(2).transpose(1, 2)  # [B, 4, 3]

    def token_stamp(self, size, crop, source, dtype):
        return Stamp.of(self.pacl.clip, "value", size, crop, source, dtype)

    def training_step(self, batch, _):
        self.seen.append(batch)
        return self.weight * 0

    def validation_step(self, batch, _):
        self.validated.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(data, epochs=1, seed=0):
    """Train, and return what the module got."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(max_epochs=epochs, accelerator="cpu", use_distributed_sampler=False, **quiet)
    torch.manual_seed(seed)
    module = Module()
    trainer.fit(module, data)
    return module


def stub(data, seed=0):
    """As much of a trainer as the loaders ask for."""
    torch.manual_seed(seed)
    strategy = SimpleNamespace(
        broadcast=lambda value: value, barrier=lambda: None, is_global_zero=True, root_device="cpu"
    )
    data.trainer = SimpleNamespace(
        strategy=strategy, lightning_module=Module(), global_rank=0, world_size=1, current_epoch=0, training=True
    )
    return data


def captions(batches):
    return [text for batch in batches for text in batch["texts"]]


def numbers(batch):
    """Which images are in a batch, by their grey."""
    grey = batch["tokens"][:, 0, 0] if "tokens" in batch else batch["images"][:, 0, 0, 0]
    return (grey / 10).int().tolist()
