"""What validation shows beside its figures: how well the head segments by now, and pictures of it.

Both callbacks work on rank zero alone and leave training as they found it, to the bit: no gradient, no global random
number, every part of the model in the mode it was in.
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
from pacl.errors import UserError
from pacl.images import open_image, resize, save_image
from pacl.metrics.metric import SegmentationScores
from pacl.models.model import PACL
from pacl.prompts import check_labels, parse_prompt
from pacl.results.contact_sheet import Row, Tile, contact_sheet
from pacl.results.overlay import fit, label_legend, paint_labels, paint_scores, score_limits
from pacl.segmentation.segmenter import Segmenter, SegmenterSettings

BATCH = 8
"""Pictures that are segmented at a time; those of one size go through the tower together."""

READ_SIDE = 1024
"""Long side, in pixels, that pictures of the grid are shrunk to before all else: they are drawn smaller still."""

MOST_HEAT_MAPS = 4


class SegmentationScore(Callback):
    """Segments a folder of pictures with masks at the end of validation; logs ``miou`` and ``pixel_accuracy``.

    All classes of the names file compete and every pixel goes to its best one; a "background" line is a class like any
    other. The metric is `pacl.metrics.segmentation.scores`, at the masks' own size. `ModelCheckpoint` and
    `EarlyStopping` can monitor ``miou``; between the epochs that are scored it keeps its last value. The scores before
    the first step go to the loggers only, as the baseline of the training.

    Args:
        data: the pictures and masks.
        templates: sentence templates averaged around each class name: none, photo, paper, imagenet, or a file.
        size: short side in pixels that pictures are resized to; null is the model's own.
        every_n_epochs: score the first of every so many epochs.
    """

    def __init__(
        self, data: MaskFolder, templates: str = "none", size: int | None = None, every_n_epochs: int = 1
    ) -> None:
        self.data, self.templates, self.size, self.every_n_epochs = data, templates, size, every_n_epochs

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Find mistakes before the training data are read."""
        _check_every(self)
        if trainer.is_global_zero:
            self._segmenter(_model(module))
            if len(self.data.labels) < 2:
                raise UserError(
                    f"{self.data.names} has one class: nothing competes with it; SegmentationScore needs two"
                )
            check_labels(self.data.labels)
            _ = self.data.files

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.is_global_zero and trainer.global_step == 0:
            scores = self.score(_model(module))
            for logger in trainer.loggers:
                logger.log_metrics(scores, step=0)

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.current_epoch % self.every_n_epochs:
            return
        # The other ranks add nothing to Lightning's own sum at the end of the epoch: so every rank knows the value,
        # and all of them decide alike about checkpoints and stopping.
        scores = self.score(_model(module)) if trainer.is_global_zero else {"miou": 0.0, "pixel_accuracy": 0.0}
        module.log_dict(scores, prog_bar=True, sync_dist=True, reduce_fx="sum")

    def score(self, model: PACL) -> dict[str, float]:
        """Segment the whole folder: ``miou`` and ``pixel_accuracy``, in [0, 1]."""
        scores = SegmentationScores(len(self.data.labels), sync_on_compute=False)  # the other ranks do not measure
        items = iter(self.data)
        with _looking(model):
            segmenter = self._segmenter(model)
            while batch := list(islice(items, BATCH)):
                found = segmenter.predict_batch([item.picture() for item in batch], self.data.labels)
                for item, segmentation in zip(batch, found, strict=True):
                    classes = segmentation.index.astype(np.int64) - 1  # [H, W]; 0, the background, has no pixels
                    scores.update(torch.from_numpy(classes), torch.from_numpy(item.mask))
        figures = scores.compute()
        return {"miou": figures["miou"], "pixel_accuracy": figures["pixel_accuracy"]}

    def _segmenter(self, model: PACL) -> Segmenter:
        return Segmenter(model, SegmenterSettings(size=self.size, templates=self.templates, background="none"))


class PictureGrid(Callback):
    """Draws a few pictures with the masks of a few prompts: before training, after validation and at the end.

    Each row shows the image, all prompts drawn over it and, of up to four prompts, a heat map of each one's cosines on
    a common scale, above a legend. The files are ``grid-STEP.png``; a TensorBoard log gets them too.

    Args:
        pictures: picture files.
        prompts: texts that compete for the pixels, as on the command line of ``pacl.segment``; one alone competes with
            the words that the model carries.
        folder: where the files go; null is ``pictures`` in the run's folder.
        every_n_epochs: draw after the first of every so many epochs.
        size: short side in pixels that pictures are resized to for the model; null is the model's own.
        cell: long side in pixels that an image is drawn at.
    """

    def __init__(
        self,
        pictures: list[str],
        prompts: list[str],
        folder: str | None = None,
        every_n_epochs: int = 1,
        size: int | None = None,
        cell: int = 320,
    ) -> None:
        self.pictures, self.prompts, self.folder = pictures, prompts, folder
        self.every_n_epochs, self.size, self.cell = every_n_epochs, size, cell
        self._drawn = -1  # the last step there is a grid of

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Find mistakes before the training data are read."""
        _check_every(self)
        if self.cell < 64:
            raise UserError(f"PictureGrid.cell {self.cell}: nothing can be seen at that size; use 64 or more")
        if not self.pictures or not self.prompts:
            raise UserError("PictureGrid: name at least one of pictures and one of prompts, or leave it out")
        if trainer.is_global_zero:
            self._segmenter(_model(module))
            for prompt in self.prompts:
                parse_prompt(prompt)
            for path in self.pictures:
                open_image(path)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._show(trainer, module)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.sanity_checking and trainer.current_epoch % self.every_n_epochs == 0:
            self._show(trainer, module)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._show(trainer, module)

    def draw(self, model: PACL) -> np.ndarray:
        """The grid of the model as it is, RGB uint8 [H, W, 3]."""
        rows = []
        with _looking(model):
            segmenter = self._segmenter(model)
            for path in self.pictures:
                picture = _at_most(open_image(path), READ_SIDE)
                segmenter.set_image(picture)
                found = segmenter.predict(self.prompts)
                labels = paint_labels(picture, found.index, long_side=self.cell)
                tiles = [Tile(fit(picture, self.cell), Path(path).name), Tile(labels, "all prompts")]
                if len(found.labels) <= MOST_HEAT_MAPS:
                    maps = [found.score_map(i) for i in range(len(found.labels))]
                    low, high = limits = score_limits(maps)
                    for label, scores in zip(found.labels, maps, strict=True):
                        heat_map = paint_scores(picture, scores, limits, long_side=self.cell)
                        tiles.append(Tile(heat_map, f"{label}, cosine {low:.3g} to {high:.3g}"))
                rows.append(Row(tiles, legend=label_legend(found.index, found.labels)))
        return contact_sheet(rows)

    def _show(self, trainer: Trainer, module: LightningModule) -> None:
        step = trainer.global_step
        if not trainer.is_global_zero or step == self._drawn:
            return
        self._drawn = step
        grid = self.draw(_model(module))
        save_image(Path(self.folder or Path(trainer.default_root_dir, "pictures"), f"grid-{step}.png"), grid)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("pictures", grid, step, dataformats="HWC")

    def _segmenter(self, model: PACL) -> Segmenter:
        return Segmenter(model, SegmenterSettings(size=self.size))


def _model(module: LightningModule) -> PACL:
    return cast(PACL, module.pacl)


@contextmanager
def _looking(model: PACL) -> Iterator[None]:
    """Eval mode and no gradients; afterwards every part is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def _check_every(callback: SegmentationScore | PictureGrid) -> None:
    if callback.every_n_epochs < 1:
        raise UserError(f"{type(callback).__name__}.every_n_epochs {callback.every_n_epochs}: use 1 or more")


# --- The grid ---------------------------------------------------------------------------------------------------


def _at_most(picture: np.ndarray, side: int) -> np.ndarray:
    """[H, W, 3] -> the same, or scaled down to that long side."""
    scale = min(1.0, side / max(picture.shape[:2]))
    return resize(picture, (max(1, round(picture.shape[0] * scale)), max(1, round(picture.shape[1] * scale))))
