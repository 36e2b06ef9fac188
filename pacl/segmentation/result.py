"""`Segmentation`: the labels of one image, and what can be drawn and written of them."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from pacl.errors import ArgumentError, UserError, check_count, did_you_mean
from pacl.files import file_stamp, make_folder
from pacl.images import pixel_checksum
from pacl.models.precision import inference
from pacl.printing import printable
from pacl.results import coco
from pacl.results.formats import DEFAULT_FORMATS, check_formats
from pacl.results.kinds import SEGMENTED, check_kind
from pacl.results.names import Names, check_name
from pacl.results.overlay import heat_map, overlay, paint_labels, score_limits
from pacl.results.records import read_record
from pacl.results.replacing import check_free, check_replaceable
from pacl.results.result import score_maps
from pacl.results.same_image import NameTaken, PlaceTaken
from pacl.results.sharing import check_same_labels
from pacl.results.supervision import to_detections
from pacl.results.writer import Writer
from pacl.segmentation.encode import AnyImage, as_array
from pacl.segmentation.patch_maps import PatchMaps
from pacl.segmentation.scoring import Evidence
from pacl.segmentation.settings import SegmenterSettings

if TYPE_CHECKING:
    from supervision import Detections

LOOKED_AT = 10  # records, at each call of `save`
NOTEBOOK_SIDE = 900  # long side, in pixels, of the image that a notebook shows


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The labels of one image.

    A label is asked for by its name or by its id, the number that stands in `index`: 0 is the background, 1 the first
    label. The lists `labels`, `prompts`, `shares`, `scores` and `boxes` have an entry for each label and none for the
    background, so that id i belongs to their entry i - 1.

    Nothing here holds the model. Maps are computed when they are asked for, at each call.
    """

    labels: list[str]
    """Names, C of them; `labels[i]` has id i + 1."""
    prompts: list[tuple[str, ...]]
    """The prompts of each label."""
    index: np.ndarray = field(repr=False)
    """[H, W], uint8 (uint16 above 255 labels), read-only: 0 is background, i + 1 is `labels[i]`."""
    shares: list[float]
    """Share of the image's pixels that each label won, in [0, 1]; the rest is background."""
    scores: list[float]
    """Mean probability of each label over the pixels it won, in [0, 1]; 0 where it won none."""
    background: str
    """The background rule, with `auto` resolved."""
    settings: SegmenterSettings = field(repr=False)
    """The settings, with those that were left to the model resolved."""
    model: dict[str, Any] = field(repr=False)
    """What describes the model in records: the `name` that it was loaded by, if any, its backbone `clip`, its `dense`
    variant, whether it is `trained`, and a checksum of its `weights` and its configuration."""
    evidence: Evidence = field(repr=False)
    """The cosines and settings that the labels follow from."""
    source: AnyImage | None = field(default=None, repr=False)
    """The image as it was given: a path is read again for drawing, others are kept, not copied."""
    contents: dict[str, Any] = field(default_factory=dict, repr=False)
    """What settings that are files or folders held: `template_texts` of a file of templates, a checksum
    `sam_weights`; and of a frame of a video the `step` and the `smooth` that its labels follow from."""
    path: str | None = field(default=None, repr=False)
    """Absolute path of the file of the image: ``source`` may be relative to another folder by now."""
    stamp: tuple[int, int] | None = field(default=None, repr=False)
    """Of the file of a path, see `pacl.files.file_stamp`: one that has changed since is not drawn on."""

    def __post_init__(self) -> None:
        index = self.index.view()  # what masks, boxes and files are made from, later, too
        index.flags.writeable = False
        object.__setattr__(self, "index", index)

    @property
    def cosines(self) -> PatchMaps:
        """Cosines of the patches with the N prompts, values [T, N, h, w]."""
        return self.evidence.cosines

    @cached_property
    def boxes(self) -> list[list[int] | None]:
        """What encloses all pixels of each label: [x, y, width, height] in pixels; None for a label without pixels."""
        return [coco.box(rle) for rle in coco.rles(self.index, len(self.labels))]

    # --- Labels and maps ------------------------------------------------------------------------------------------

    def id_of(self, label: str | int) -> int:
        """The id of a label in `index`.

        Args:
            label: a name in `labels`, or an id from 0 (the background) to C.

        Raises:
            ArgumentError: ``label``: there is no such name or id.
        """
        if isinstance(label, str):
            if label not in self.labels:
                only = f"there are only {', '.join(map(repr, self.labels))}"
                raise ArgumentError("label", repr(label), did_you_mean(label, self.labels) or only)
            return self.labels.index(label) + 1
        try:
            number = None if isinstance(label, bool) else operator.index(label)
        except TypeError:
            number = None
        if number is None:
            raise ArgumentError("label", repr(label), f"must be a name or an id, not {type(label).__name__}")
        if not 0 <= number <= len(self.labels):
            raise ArgumentError("label", number, f"ids are 0 (background) to {len(self.labels)}")
        return number

    def mask(self, label: str | int) -> np.ndarray:
        """The pixels of a label, bool [H, W]: those where `index` is its id.

        Args:
            label: a name or an id; 0 is the background.

        Raises:
            ArgumentError: ``label``: there is no such name or id.
        """
        return self.index == self.id_of(label)

    def score_map(self, label: str | int) -> np.ndarray:
        """Cosine of every pixel with a label, the highest of its prompts: float32 [H, W] in [-1, 1].

        Args:
            label: a name or an id from 1.

        Raises:
            ArgumentError: ``label``: there is no such name or id.
        """
        wanted = self._id_of_label(label)
        prompts = [n for n, i in enumerate(self.evidence.query.ids) if i == wanted]
        maps = replace(self.cosines, values=self.cosines.values[:, prompts])  # [T, N of the label, h, w]
        with inference():
            rows = [band.amax(0).cpu() for _, _, band in maps.bands()]  # [rows, W] each
        return torch.cat(rows).numpy()

    def probability_map(self, label: str | int) -> np.ndarray:
        """Probability of a label at every pixel, float32 [H, W] in [0, 1]; see `probabilities`.

        Args:
            label: a name or an id from 1.

        Raises:
            ArgumentError: ``label``: there is no such name or id.
        """
        return self._probabilities([self._id_of_label(label)])[0]

    @property
    def probabilities(self) -> np.ndarray:
        """Probability of every label at every pixel, float32 [C, H, W] in [0, 1].

        This is what the labels were decided by: after refinement, and with 0 for labels that `min_area` dropped. The
        sum over the labels is below 1 where a background competes or where labels have synonyms. It takes 4 C H W
        bytes and is computed at each access; `probability_map` gives that of one label.
        """
        return self._probabilities(range(1, len(self.labels) + 1))

    def _probabilities(self, ids: Sequence[int]) -> np.ndarray:
        found = np.zeros((len(ids), *self.index.shape), np.float32)
        with inference():
            maps = self.evidence.probabilities()
            channel = {i: k for k, i in enumerate(maps.query.classes)}
            for start, stop, band, _ in maps.bands():
                for row, i in enumerate(ids):
                    if i in channel:  # labels that did not compete have 0
                        found[row, start:stop] = band[channel[i]].cpu().numpy()
        return found

    def _id_of_label(self, label: str | int) -> int:
        number = self.id_of(label)
        if number == 0:
            raise ArgumentError("label", 0, "the background has no map; labels have ids from 1")
        return number

    # --- Drawn and written ----------------------------------------------------------------------------------------

    def overlay(
        self, image: AnyImage | None = None, *, opacity: float = 0.5, legend: bool = True, long_side: int = 2000
    ) -> Image.Image:
        """Draw the labels on the image.

        Args:
            image: what to draw on, of the same height and width; None is the image that was segmented.
            opacity: opacity of the fill, 0 to 1.
            legend: whether a legend with the shares of the labels is added below or beside.
            long_side: larger images are scaled down to it, in pixels; small ones are enlarged to 800 or to it.

        Returns:
            An RGB image; `numpy.asarray` makes it an array.

        Raises:
            ArgumentError: ``image``: it is not known, not an image, of another size, or a file that has changed since
                it was segmented; ``opacity`` is not 0 to 1; ``long_side`` is below 1.
        """
        if not isinstance(opacity, Real) or not 0 <= opacity <= 1:
            raise ArgumentError("opacity", opacity, "must be from 0 (the image alone) to 1 (the colours alone)")
        pixels, long_side = self._pixels(image), check_count("long_side", long_side)
        if legend:
            return Image.fromarray(overlay(pixels, self.index, self.labels, opacity=opacity, long_side=long_side))
        return Image.fromarray(paint_labels(pixels, self.index, opacity=opacity, long_side=long_side))

    def heatmap(
        self, label: str | int, image: AnyImage | None = None, *, limits: tuple[float, float] | None = None
    ) -> Image.Image:
        """Draw the cosines of one label as colours over the image.

        Args:
            label: a name or an id from 1.
            image: as for `overlay`.
            limits: cosines at the ends of the colours, the lower first; None is the lowest and the highest of all
                labels, so that the heat maps of one result can be compared.

        Returns:
            An RGB image with a colour bar.

        Raises:
            ArgumentError: ``label`` or ``image``, as for `mask` and `overlay`; ``limits`` are not two rising numbers.
        """
        ends = self.score_limits if limits is None else _check_limits(limits)
        pixels, number = self._pixels(image), self._id_of_label(label)
        scores, name = self.score_map(number), self.labels[number - 1]
        return Image.fromarray(heat_map(pixels, scores, name, limits=ends))

    @cached_property
    def score_limits(self) -> tuple[float, float]:
        """The lowest and the highest cosine of all labels with the pixels of the image."""
        return score_limits(score_maps(self))

    def save(
        self,
        folder: str | Path,
        name: str | None = None,
        *,
        formats: str | Sequence[str] = DEFAULT_FORMATS,
        image: AnyImage | None = None,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Write the results as `pacl segment` does.

        Args:
            folder: made if it is missing.
            name: name of the files, without a suffix, with `/` between folders; files of this name are replaced: those
                of another image, other prompts or settings are deleted, in whatever format, with its entries in data
                sets. None is the name of the image's file, or `image` without one. Where the folder holds another
                image's results of that name, its suffix and a number follow (`a`, `a_jpg`, `a_jpg-2`; `image`,
                `image-2`); the same image replaces its own, also `garden/a` of a run on the folder above.
            formats: some of `pacl.results.formats.FORMATS`. With coco, cvat, yolo and mmseg, all results that are saved
                to the folder with the same labels are one data set.
            image: as for `overlay`.
            overwrite: if the folder is refused, delete all results in it instead. Folders below it that were
                given to another `save` or command keep theirs.

        Returns:
            The record, as in the JSON file: shares, scores and boxes of the labels, the settings, and under `files` the
            paths of its files, also those that were written before in other formats.

        Raises:
            ArgumentError: ``folder`` cannot be written to, holds a model, an export or a job of `bulk`, has results
                of other labels, a data set of ``formats`` with other images by another model or other weights, or a
                file in the place of one of the results that was not written here, or was changed since;
                ``name`` leads out of it, is no name of a file or has results of a video; ``formats`` has an unknown
                name, or ``image`` does not fit.
        """
        chosen, pixels = check_formats(formats), self._pixels(image)
        given_name = None if name is None else check_name(name)
        given = self.source if image is None else image
        path = Path(given) if isinstance(given, (str, Path)) else None
        if path and image is None and self.path and os.path.abspath(path) != self.path:
            path = Path(self.path)  # the relative path now leads elsewhere
        checksum = None if path else pixel_checksum(pixels)
        out = make_folder(folder, "folder")
        check_kind(out, SEGMENTED, "folder")
        while True:
            place = (path or Path(given_name or "image")).name
            name, place = (given_name, place) if given_name else Names(out).add(path or checksum or "", Path(place))
            check_free(out, [name], "folder")
            check_replaceable(out, [name], chosen, self.labels, "folder")
            writer = self._writer(out, chosen, {name: place}, overwrite=overwrite)
            if given_name and not writer.overwrite and read_record(out / f"{name}.jsonl") is not None:
                raise ArgumentError("name", name, f"has results of a video there ({name}.jsonl); choose another name")
            with suppress(NameTaken, PlaceTaken):  # by another process since: then the next one is
                source = path or Path(name)
                record = writer.write(name, source, pixels, self, place, pixels=checksum, replace=bool(given_name))
                for kind, file in writer.finish().items():
                    record["files"].setdefault(kind, []).append(str(file))
                return record

    def _writer(self, out: Path, formats: Sequence[str], images: dict[str, str], *, overwrite: bool) -> Writer:
        """A writer for these images that has started; if the folder is refused, one that replaces all that is there.

        Raises:
            ArgumentError: the folder is refused, and ``overwrite`` is not set or does not help.
        """

        def started(*, overwrite: bool) -> Writer:
            writer = Writer(out, formats, dict(self.model), overwrite, "folder")
            writer.start(self.labels, images, background=self.background != "none")
            return writer

        try:
            check_same_labels(out, self.labels, "folder", LOOKED_AT)
            return started(overwrite=False)
        except ArgumentError:
            if not overwrite:
                raise
            return started(overwrite=True)

    def to_coco(
        self, file_name: str | None = None, *, image_id: int = 1, first_id: int = 1, masks: coco.Masks = "rle"
    ) -> dict[str, list[dict[str, Any]]]:
        """The labels in COCO's format for instances, see `pacl.results.coco.dataset`.

        Args:
            file_name: name of the image in the result; None is the name of the image's file, or `image`.
            image_id: id of the image.
            first_id: id of its first annotation.
            masks: `rle`, exact run lengths, or `polygons`.

        Returns:
            `images`, `annotations` and `categories`, JSON-serialisable.

        Raises:
            ArgumentError: ``masks`` is neither, or an id is no whole number from 0.
        """
        image_id, first_id = check_count("image_id", image_id, 0), check_count("first_id", first_id, 0)
        known = Path(self.source).name if isinstance(self.source, (str, Path)) else "image"
        name = printable(file_name or known)
        return coco.dataset(self.index, self.labels, name, image_id=image_id, first_id=first_id, masks=masks)

    def to_supervision(self) -> Detections:
        """The labels as `supervision.Detections`, for its annotators, metrics and exporters.

        Returns:
            A detection for each label that has pixels: `mask` bool [N, H, W], `xyxy` float32 [N, 4] in pixels,
            `confidence` float32 [N] (of `scores`), `class_id` int [N], which counts `labels` from 0, and the names in
            `data["class_name"]`.

        Raises:
            UserError: supervision is not installed.
        """
        return to_detections(self)

    def _pixels(self, image: AnyImage | None) -> np.ndarray:
        """RGB uint8 [H, W, 3] to draw on."""
        given = (self.path or self.source) if image is None else image
        if given is None:
            raise ArgumentError("image", "None", "the embedding does not hold the image; give it to draw on")
        if image is None and self._is_another_file():
            reason = f"{given} is not the file that was segmented, or has changed; give the image to draw on"
            raise ArgumentError("image", "None", reason)
        pixels = as_array(given)
        if pixels.shape[:2] != self.index.shape:
            reason = f"must be that of the labels, {self.index.shape}"
            raise ArgumentError("image", f"of height and width {pixels.shape[:2]}", reason)
        return pixels

    def _is_another_file(self) -> bool:
        """Whether another file is at the path of the image; of none at all, reading it tells what is wrong."""
        return self.path is not None and self.stamp is not None and file_stamp(self.path) not in (self.stamp, None)

    def _repr_png_(self) -> bytes | None:
        """The overlay, which a notebook shows; None if there is no image, so that the notebook shows the text."""
        buffer = BytesIO()
        try:
            self.overlay(long_side=NOTEBOOK_SIDE).save(buffer, format="PNG")
        except UserError:
            return None
        return buffer.getvalue()


def _check_limits(limits: Any) -> tuple[float, float]:
    try:
        low, high = map(float, limits)
    except (TypeError, ValueError):
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise ArgumentError("limits", repr(limits), "must be two numbers, the lower first, such as (0, 0.3)")
    return low, high
