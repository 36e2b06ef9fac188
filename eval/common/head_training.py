"""What experiments that train heads share: training, mean and standard deviation over seeds, result files."""

from __future__ import annotations

import json
import logging
import statistics
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer, seed_everything

from pacl.cli.progress import tracked
from pacl.data.caption_data import CaptionData
from pacl.files import atomic_write
from pacl.models.backbone import Backbone
from pacl.models.model import PACL
from pacl.training.module import PACLModule


def train_head(clip: Backbone, model: dict[str, Any], data: CaptionData, trainer: dict[str, Any], seed: int) -> PACL:
    """Train a head as ``python -m pacl.train`` does, without writing files. Seeds the global random generators.

    Args:
        clip: the frozen CLIP. Its cached text embeddings are reused by the next training.
        model: arguments of `PACLModule`.
        data: the training data. It caches the frozen tokens of one dense variant, so pass the same object for all
            trainings on that variant.
        trainer: ``max_steps`` or ``max_epochs``, and other arguments of Lightning's trainer.
        seed: seed of the initial weights, the order of images and the choice of captions.

    Returns:
        The trained head, on the CPU.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """

    class OnThisCLIP(PACLModule):
        load_backbone = staticmethod(lambda name, layers: clip)

    seed_everything(seed, verbose=False)
    data.seed = None  # use the seed of this run
    data.tracked = tracked
    module = OnThisCLIP(**model)
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "use_distributed_sampler")
    settings = {"max_epochs": -1, "accelerator": "cpu", "devices": 1, **dict.fromkeys(off, False), **trainer}
    with _quiet_lightning():
        lightning = Trainer(**settings, limit_val_batches=0)
        try:
            lightning.fit(module, data)
        except SystemExit:
            if lightning.interrupted:  # Lightning makes an exit with code 1 of Ctrl-C
                raise KeyboardInterrupt from None
            raise
    return module.pacl


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's messages and warnings, which every training would repeat."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            yield
    finally:
        logger.setLevel(level)


def mean_and_std(values: Sequence[float]) -> str:
    """Mean and standard deviation, such as "71.2 ± 0.4"; one value alone is returned without ±, no value as ""."""
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def write_report(folder: Path, name: str, result: dict[str, Any], page: str = "") -> None:
    """Write ``result`` to ``NAME.json`` in the folder and, unless it is empty, the Markdown ``page`` to ``NAME.md``."""
    texts = {".json": json.dumps(result, indent=2) + "\n", **({".md": page} if page else {})}
    for suffix, text in texts.items():
        with atomic_write(folder / f"{name}{suffix}") as aside:
            aside.write_text(text, encoding="utf-8")
