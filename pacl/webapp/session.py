"""Images that visitors of the page dropped, each encoded once, and their segmentation by words.

Nothing here knows the web framework. A visitor's session is a key; the page calls `Sessions.answer` whenever an input
changes, and this module decides what has to be computed again:

    another image or stride   the image is encoded      (a second, or more)
    other words or sliders    the words are compared    (hundredths of a second; tenths with refinement)
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pacl.cli.messages import memory_advice
from pacl.errors import ArgumentError, UserError
from pacl.files import split_lines
from pacl.images import decode_image
from pacl.printing import counted
from pacl.prompts import Label, parse_prompt
from pacl.segmentation.background import parse_background
from pacl.segmentation.encode import EncodedImage
from pacl.segmentation.image_doubts import other_prior, swallowed, unlike_drawn_scenes
from pacl.segmentation.result import Segmentation
from pacl.segmentation.segmenter import Segmenter, as_settings
from pacl.segmentation.settings import SegmenterSettings

if TYPE_CHECKING:
    from pacl.models.model import PACL


@dataclass(frozen=True)
class Limits:
    """What the page accepts and keeps, for all visitors together unless it says otherwise."""

    upload_bytes: int = 20 * 2**20
    """Of one image file; the page states it in MB of 2**20 bytes, as gradio does."""
    pixels: int = 16_000_000
    """Of one image, decoded."""
    labels: int = 50
    """Of one question."""
    characters: int = 2_000
    """Of the words of one question."""
    kept_bytes: int = 1_000_000_000
    """Of the images in memory with their encodings; the ones not used for the longest time are forgotten."""
    kept_images: int = 32
    """In memory; one for each session."""
    kept_seconds: int = 3_600
    """After this time without use an image and its files are deleted."""
    waiting: int = 16
    """Requests that wait while one is computed; further ones are refused."""


@dataclass(frozen=True)
class Choice:
    """The settings that a visitor changes."""

    threshold: float
    """Probability below which a pixel is background, in [0, 1); 0 is off."""
    prior: float
    refine: int
    stride: int


@dataclass(eq=False)
class KeptImage:
    """The image of a session."""

    path: Path
    """Of the uploaded file, by which another upload is told from this one."""
    pixels: np.ndarray
    """RGB, uint8 [H, W, 3]."""
    notes: list[str]
    """What reading it warned of."""
    encoded: dict[int, EncodedImage] = field(default_factory=dict)
    """By stride."""
    found: Segmentation | None = None
    """The last answer."""
    used: float = 0.0
    """Time of the last use, in seconds."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory: pixels, label ids, patch vectors and guides."""
        tensors = [each.patches.values for each in self.encoded.values()]
        tensors += [each.guide for each in self.encoded.values() if each.guide is not None]
        own = self.pixels.nbytes + (self.found.index.nbytes if self.found else 0)
        return own + sum(tensor.nbytes for tensor in tensors)


class ImageStore:
    """The images of all sessions, by key: at most so many, of so many bytes, for so long.

    Where one limit is passed, those not used for the longest time are forgotten, but never the one put last.

    Args:
        max_bytes: sum of `KeptImage.nbytes`.
        max_images: number of images.
        max_age: seconds without use.
        clock: the time in seconds.
    """

    def __init__(
        self, max_bytes: int, max_images: int, max_age: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_bytes, self.max_images, self.max_age, self.clock = max_bytes, max_images, max_age, clock
        self._images: OrderedDict[str, KeptImage] = OrderedDict()  # used last: at the end
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._images)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(image.nbytes for image in self._images.values())

    def get(self, key: str) -> KeptImage | None:
        """The image of a session; None if there is none, or it was forgotten."""
        with self._lock:
            self._forget_old()
            image = self._images.get(key)
            if image is not None:
                self._use(key, image)
            return image

    def put(self, key: str, image: KeptImage) -> None:
        """Keep an image, in place of the session's earlier one; also after it has grown."""
        with self._lock:
            self._use(key, image)
            self._forget_old()
            while len(self._images) > 1 and (len(self._images) > self.max_images or self.nbytes > self.max_bytes):
                self._images.popitem(last=False)

    def drop(self, key: str) -> None:
        """Forget the image of a session, if there is one."""
        with self._lock:
            self._images.pop(key, None)

    def _use(self, key: str, image: KeptImage) -> None:
        image.used = self.clock()
        self._images[key] = image
        self._images.move_to_end(key)

    def _forget_old(self) -> None:
        oldest = self.clock() - self.max_age
        for key in [key for key, image in self._images.items() if image.used < oldest]:
            del self._images[key]


@dataclass(frozen=True)
class Answer:
    """What the page shows for its inputs."""

    pixels: np.ndarray
    """The image, RGB uint8 [H, W, 3]."""
    found: Segmentation | None
    """None without words."""
    notes: list[str]
    """Warnings, a line each."""


class Sessions:
    """Answers to the visitors of the page, one at a time.

    Args:
        model: the model.
        settings: those that the page does not show, and the starting values of those that it does.
        name: the model's name, for records.
        limits: what is accepted and kept.
    """

    def __init__(
        self,
        model: PACL | str | Path,
        settings: SegmenterSettings | None = None,
        *,
        name: str = "model",
        limits: Limits | None = None,
    ) -> None:
        self.name, self.limits = name, limits or Limits()
        settings = as_settings(settings)
        if settings.sam is not None:
            raise ArgumentError("refine", settings.refine, "the page refines by a number of steps; use pacl segment")
        segmenter = Segmenter(model, settings)
        self.model, self.settings = segmenter.model, segmenter.resolved_settings()
        self.background, self.vocabulary = segmenter.background, segmenter.vocabulary
        self.store = ImageStore(self.limits.kept_bytes, self.limits.kept_images, self.limits.kept_seconds)
        self.strides = supported_strides(self.model, self.settings)
        self._lock = threading.Lock()  # the model's, and that of the warnings, which are caught for all threads

    def first_choice(self) -> Choice:
        """The values that the page starts with."""
        threshold = self.background.limit if self.background.kind == "threshold" else 0.0
        stride = self.settings.stride or self.model.clip.patch
        return Choice(threshold, self.settings.prior or 0.0, self.settings.refine_steps, stride)

    def answer(self, key: str, path: str | Path, words: str, choice: Choice) -> Answer:
        """Segment the image of a file; what the session has computed already is not computed again.

        Args:
            key: of the session.
            path: of the uploaded file.
            words: a label a line, or several with commas between them, each as for `pacl.prompts.parse_prompt`;
                without any the image is encoded only.
            choice: the settings.

        Raises:
            UserError: the image or the words cannot be used, in one line.
        """
        with self._lock, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            last = self.store.get(key)
            if last is not None:
                last.found = None  # also where this question fails: the answer to another one is none to it
            with memory_advice("this image", "a smaller image, or a larger stride"):
                labels = parse_words(words, self.limits)
                image = self._encoded(key, Path(path), choice)
                notes = list(image.notes)
                if labels:
                    segmenter, ineffective = self._segmenter(choice, sum(len(label.prompts) for label in labels))
                    segmenter.image = image.encoded[choice.stride]
                    image.found = segmenter.predict(labels)
                    notes += ineffective
                    shares = dict(zip(image.found.labels, image.found.shares, strict=True))
                    if what := swallowed(shares, choice.prior):
                        advice = other_prior(choice.prior, "a prior of")
                        notes.append(f"{what}: if all words are in the image, try {advice}")
                self.store.put(key, image)
        notes += [str(each.message) for each in caught]
        return Answer(image.pixels, image.found, list(dict.fromkeys(notes)))

    def last(self, key: str, path: str | Path | None = None) -> Segmentation | None:
        """The session's last answer; None if there is none, it was forgotten, or it is not about the file of a path."""
        image = self.store.get(key)
        return image.found if image and path in (None, str(image.path), image.path) else None

    def close(self, key: str) -> None:
        """Forget a session."""
        self.store.drop(key)

    def _encoded(self, key: str, path: Path, choice: Choice) -> KeptImage:
        """The image of the session, encoded at the stride of the choice."""
        image = self.store.get(key)
        if image is None or image.path != path:
            self.store.drop(key)
            image = self._read(path)
        if choice.stride not in image.encoded:
            # With refinement, so that what it needs is there when it is switched on.
            settings = replace(self.settings, stride=choice.stride, refine=max(1, self.settings.refine_steps))
            segmenter = Segmenter(self.model, settings)
            segmenter.set_image(image.pixels)
            assert segmenter.image is not None
            image.encoded[choice.stride] = segmenter.image
            self.store.put(key, image)
        return image

    def _read(self, path: Path) -> KeptImage:
        """Decode an uploaded file; messages name it without its folder, which is nobody's business."""
        try:
            size = path.stat().st_size
            if size > self.limits.upload_bytes:
                mb, limit = size / 2**20, self.limits.upload_bytes / 2**20
                raise UserError(f"{path.name} is too large: {mb:.1f} MB, the limit is {limit:.3g} MB")
            data = path.read_bytes()
        except OSError:
            raise UserError(f"{path.name} is no longer kept: drop it again") from None
        if not data:
            raise UserError(f"{path.name} is empty (0 bytes)")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            pixels = decode_image(data, path.name, self.limits.pixels)
        notes = [str(each.message) for each in caught if issubclass(each.category, UserWarning)]
        if self.name == "bundled" and (unlike := unlike_drawn_scenes(self.model, pixels, path.name)):
            notes.append(unlike)
        return KeptImage(path, pixels, notes)

    def _segmenter(self, choice: Choice, prompts: int) -> tuple[Segmenter, list[str]]:
        """The segmenter of a choice, and a note where the threshold cannot have an effect."""
        notes, settings, patch = [], self.settings, self.model.clip.patch
        kept = "auto" if self.background.kind == "threshold" else settings.background
        if choice.threshold:
            rule = parse_background(f"threshold:{choice.threshold:g}")
            try:
                kept = str(rule.resolve(prompts, prompts))
            except ArgumentError:  # it can never hold
                notes.append(
                    f"threshold {rule.limit:g} has no effect: the best of {counted(prompts, 'prompt')} always has a "
                    f"probability of at least {1 / prompts:.2f}"
                )
        settings = replace(
            settings,
            background=kept,
            prior=choice.prior,
            refine=choice.refine,
            stride=None if choice.stride == patch and settings.stride != patch else choice.stride,  # as `pacl segment`
            dilations=settings.dilations if choice.refine else None,
        )
        segmenter = Segmenter(self.model, settings)
        segmenter.vocabulary = self.vocabulary  # which has embedded its words, if any prompt was compared with them
        return segmenter, notes


def parse_words(text: str, limits: Limits) -> list[Label]:
    """The labels of a text: one a line, or several with commas between them.

    Raises:
        UserError: a label makes no sense, or the text passes a limit.
    """
    if len(text) > limits.characters:
        raise UserError(f"{len(text)} characters are too many: at most {limits.characters} are read")
    words = [word for line in split_lines(text) for word in line.split(",") if word.strip()]
    if len(words) > limits.labels:
        raise UserError(f"{len(words)} labels are too many: at most {limits.labels} are shown")
    return [parse_prompt(word) for word in words]


def supported_strides(model: PACL, settings: SegmenterSettings) -> tuple[int, ...]:
    """The strides that the page offers, the coarsest first: the patch, its half, its quarter, and that of the settings.

    An image tower whose stride is fixed has only that one.

    Raises:
        ArgumentError: the settings have another stride than a fixed one.
    """
    patch = model.clip.patch
    model.clip.image.check_stride(settings.stride)
    if model.clip.image.fixed_stride:
        return (patch,)
    wanted = {patch, settings.stride or patch, *(patch // part for part in (2, 4) if patch % part == 0)}
    return tuple(sorted(wanted, reverse=True))
