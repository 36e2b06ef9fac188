"""Callbacks that segment during a training: mIoU on a data set with masks, and drawings of the segmentation.

Both work on rank 0 alone and do not change the training: they compute no gradients, use no global random numbers and
restore the mode of every module.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from pacl.data.masks import MaskFolder
from pacl.distributed import on_first_process
from pacl.errors import ArgumentError, UserError
from pacl.images import open_image, resize, save_image
from pacl.metrics.segmentation_metric import SegmentationScores
from pacl.models.model import PACL
from pacl.prompts import check_labels, parse_prompt
from pacl.results.contact_sheet import Row, Tile, contact_sheet
from pacl.results.overlay import fit, label_legend, paint_labels, paint_scores, score_limits
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings

BATCH = 8
"""Images that are segmented at a time; those of one size pass the tower together."""

MAX_SIDE = 1024
"""Long side, in pixels, to which larger images of the grid are resized first."""

MAX_HEAT_MAPS = 4
"""Heat maps are drawn for at most this many labels."""


class AfterValidations(Callback):
    """Works after the first validation of a run, also of a resumed one, and after every n-th from there.

    Args:
        every_n_validations: n.
    """

    def __init__(self, every_n_validations: int) -> None:
        self.every_n_validations, self._validations = every_n_validations, 0

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if self.every_n_validations < 1:
            raise ArgumentError("every_n_validations", self.every_n_validations, "must be at least 1")
        self._validations = 0

    def is_due(self, trainer: Trainer) -> bool:
        """Count a validation, and say whether to work after it; not after that before the first step."""
        if trainer.sanity_checking:
            return False
        self._validations += 1
        return (self._validations - 1) % self.every_n_validations == 0


class SegmentationValidator(AfterValidations):
    """Segments a folder of images with masks after validation; logs all scores of the metric, in [0, 1].

    Every pixel gets its best class; a "background" line in the names file is a class like any other. The metric is
    `pacl.metrics.segmentation_metric.SegmentationScores` (``miou``, ``pixel_accuracy`` ...), at the size of the masks.
    `ModelCheckpoint` and `EarlyStopping` can monitor ``miou``; after other validations it keeps its last value,
    of the step in `measured_at`. The scores before the first step, the baseline of training, go to the loggers only.

    Args:
        data: the images and masks.
        templates: sentence templates averaged around each class name: none, photo, paper, imagenet, or a file.
        size: short side in pixels to which images are resized; null is the model's own.
        every_n_validations: 2 measures after every other validation, from the first of the run.

    Attributes:
        measured_at: the step after which each score was last measured.
    """

    def __init__(
        self, data: MaskFolder, templates: str = "none", size: int | None = None, every_n_validations: int = 1
    ) -> None:
        super().__init__(every_n_validations)
        self.data, self.templates, self.size = data, templates, size
        self.measured_at: dict[str, int] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Raise errors in the settings before the training data are read."""
        super().setup(trainer, module, stage)
        if trainer.is_global_zero:
            self._segmenter(_model(module))
            if len(self.data.labels) < 2:
                raise UserError(f"{self.data.names} has one class; SegmentationValidator needs at least two")
            check_labels(self.data.labels)
            _ = self.data.files

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.global_step == 0:
            scores = on_first_process(lambda: self.score(_model(module)))
            for logger in trainer.loggers:
                logger.log_metrics(scores, step=0)

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.is_due(trainer):
            return
        # All ranks get the scores, and take the same decisions about checkpoints and stopping.
        scores = on_first_process(lambda: self.score(_model(module)))
        module.log_dict(scores, prog_bar=True)
        self.measured_at = dict.fromkeys(scores, trainer.global_step)

    def score(self, model: PACL) -> dict[str, float]:
        """The scores over the whole folder."""
        scores = SegmentationScores(len(self.data.labels), sync_on_compute=False)  # measured on rank 0 alone
        items = iter(self.data)
        with _inference(model):
            segmenter = self._segmenter(model)
            while batch := list(islice(items, BATCH)):
                found = segmenter.predict_batch([item.image() for item in batch], self.data.labels)
                for item, segmentation in zip(batch, found, strict=True):
                    classes = segmentation.index.astype(np.int64) - 1  # [H, W]; there is no background, 0
                    scores.update(torch.from_numpy(classes), torch.from_numpy(item.mask))
        return scores.compute()

    def _segmenter(self, model: PACL) -> Segmenter:
        return Segmenter(model, SegmenterSettings(size=self.size, templates=self.templates, background="none"))


class ImageGrid(AfterValidations):
    """Draws images with the masks of some prompts: before the first step, after validation and at the end.

    Each row shows the image, the masks of all prompts over it, up to four heat maps of the cosines with a common scale,
    and a legend. The files are ``grid-STEP.png``; TensorBoard loggers get them too.

    Args:
        images: image files.
        prompts: prompts as ``python -m pacl.segment`` takes them; a single one competes with the words that the model
            has for that purpose.
        folder: output folder; null is ``grids`` in the folder of the run.
        every_n_validations: 2 draws after every other validation, from the first of the run.
        size: short side in pixels to which images are resized for the model; null is the model's own.
        cell: long side in pixels of the drawn images.
    """

    def __init__(
        self,
        images: list[str],
        prompts: list[str],
        folder: str | None = None,
        every_n_validations: int = 1,
        size: int | None = None,
        cell: int = 320,
    ) -> None:
        super().__init__(every_n_validations)
        self.images, self.prompts, self.folder = images, prompts, folder
        self.size, self.cell = size, cell
        self._drawn = -1  # step of the last grid

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Raise errors in the settings before the training data are read."""
        super().setup(trainer, module, stage)
        if self.cell < 64:
            raise ArgumentError("cell", self.cell, "must be at least 64 pixels")
        for name in ("images", "prompts"):
            if not getattr(self, name):
                raise ArgumentError(name, "[]", "ImageGrid needs at least one")
        if trainer.is_global_zero:
            self._segmenter(_model(module))
            for prompt in self.prompts:
                parse_prompt(prompt)
            for path in self.images:
                open_image(path)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._show(trainer, module)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.is_due(trainer):
            self._show(trainer, module)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._show(trainer, module)

    def draw(self, model: PACL) -> np.ndarray:
        """The grid of a model, RGB uint8 [H, W, 3]."""
        rows = []
        with _inference(model):
            segmenter = self._segmenter(model)
            for path in self.images:
                image = _shrink(open_image(path), MAX_SIDE)
                segmenter.set_image(image)
                found = segmenter.predict(self.prompts)
                labels = paint_labels(image, found.index, long_side=self.cell)
                tiles = [Tile(fit(image, self.cell), Path(path).name), Tile(labels, "all prompts")]
                if len(found.labels) <= MAX_HEAT_MAPS:
                    maps = [found.score_map(label) for label in found.labels]
                    low, high = limits = score_limits(maps)
                    for label, scores in zip(found.labels, maps, strict=True):
                        heat_map = paint_scores(image, scores, limits, long_side=self.cell)
                        tiles.append(Tile(heat_map, f"{label}, cosine {low:.3g} to {high:.3g}"))
                rows.append(Row(tiles, legend=label_legend(found.index, found.labels)))
        return contact_sheet(rows)

    def _show(self, trainer: Trainer, module: LightningModule) -> None:
        step = trainer.global_step
        if not trainer.is_global_zero or step == self._drawn:
            return
        self._drawn = step
        grid = self.draw(_model(module))
        save_image(Path(self.folder or Path(trainer.default_root_dir, "grids"), f"grid-{step}.png"), grid)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("grid", grid, step, dataformats="HWC")

    def _segmenter(self, model: PACL) -> Segmenter:
        return Segmenter(model, SegmenterSettings(size=self.size))


def _model(module: LightningModule) -> PACL:
    return cast(PACL, module.pacl)


@contextmanager
def _inference(model: PACL) -> Iterator[None]:
    """Eval mode without gradients; restores the mode of every module."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    """Resize an image [H, W, 3] to that long side if it is larger."""
    scale = min(1.0, side / max(image.shape[:2]))
    return resize(image, (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))))
