"""Time and memory of `Segmenter` beside the bare forward pass of its image tower, and the labels of fp32 and bf16."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

import pacl
from eval.segmentation.registry import BENCHMARKS
from eval.speed.measure import Options, Row, Way, compare, free
from pacl.cli.batches import segment_files
from pacl.cli.inputs import ImageFile
from pacl.errors import UserError
from pacl.images import open_image
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.models.precision import Precision, tower_autocast
from pacl.prompts import Label, read_classes
from pacl.results.formats import DEFAULT_FORMATS
from pacl.results.writer import Writer
from pacl.segmentation.query import EncodedQuery
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from pacl.segmentation.windows import plan_layout

DEMO = Path(pacl.__file__).parent / "photos" / "demo.jpg"
COLOURS = ("red", "green", "blue", "white", "black")
LISTS = {20: "voc20", 150: "ade150", 171: "coco_stuff"}  # number of classes -> where their names come from
COUNTS = (20, 171, 847)
LARGE = (4000, 6000)  # height and width
LARGE_CLASSES = 150


def rows(options: Options) -> Iterator[Row]:
    """All models: one image, a batch, a folder, windows, both precisions' labels; with the first, a large image."""
    for i, name in enumerate(options.models):
        model = load_model(name, device=options.device)
        yield from one_image(model, name, options)
        yield from batch(model, name, options)
        yield from folder(model, name, options)
        yield from windows(model, name, options)
        if "bf16" in options.precisions and "fp32" in options.precisions:
            yield agreement(model, name, options)
        if i == 0 and not options.quick:
            yield from large_image(model, name, options)
        del model
        free(options.device)


def one_image(model: PACL, name: str, options: Options) -> list[Row]:
    """`Segmenter.set_image`, and with `Segmenter.predict`, for `COUNTS` of classes."""
    side = 64 if options.quick else 448
    image, ways = photo(side, side), []
    exact: dict[str, Way] = {}
    for precision in options.precisions:
        segmenter = segmenter_of(model, precision, size=side)
        tower = Way("tower", tower_of(segmenter, 1, side), precision, exact.get("tower"))
        head = Way("tower and head", tower_of(segmenter, 1, side, head=True), precision, limit=tower)
        own = [tower, head, Way("set_image", lambda s=segmenter: s.set_image(image), precision, limit=tower)]  # type: ignore[misc]
        for count in COUNTS:
            run = label(segmenter, image, query(segmenter, count))
            own.append(Way(f"set_image + predict, {count} classes", run, precision, limit=tower))
        own = [replace(way, reference=exact.get(way.method)) for way in own[1:]]
        ways += [tower, *own]
        exact = exact or {way.method: way for way in [tower, *own]}
    return compare("segment", f"{name}, one image, {side} px", ways, options)


def batch(model: PACL, name: str, options: Options) -> list[Row]:
    """`Segmenter.predict_batch` beside one image after another."""
    count, side = (2, 64) if options.quick else (8, 224)
    images, ways = [photo(side, side)] * count, []
    for precision in options.precisions:
        segmenter = segmenter_of(model, precision, size=side, window_batch=count)
        encoded = query(segmenter, 20)
        tower = Way("tower", tower_of(segmenter, count, side), precision, items=count)

        def singly(segmenter: Segmenter = segmenter, encoded: EncodedQuery = encoded) -> None:
            for image in images:
                label(segmenter, image, encoded)()

        def together(segmenter: Segmenter = segmenter, encoded: EncodedQuery = encoded) -> None:
            segmenter.predict_batch(images, encoded)

        one = Way("one after another", singly, precision, limit=tower, items=count)
        ways += [tower, one, Way("predict_batch", together, precision, one, tower, count)]
    return compare("segment", f"{name}, {count} images, {side} px, 20 classes", ways, options)


def folder(model: PACL, name: str, options: Options) -> list[Row]:
    """From image files to files of results, as ``pacl segment`` does it, in the last of the precisions."""
    count, side = (4, 64) if options.quick else (512 if options.device.type == "cuda" else 16, 448)
    precision = options.precisions[-1]
    segmenter = segmenter_of(model, precision, size=side)
    encoded = query(segmenter, 20)
    tower = Way("tower", tower_of(segmenter, count, side), precision, items=count)
    with TemporaryDirectory() as place:
        files = [ImageFile(Path(place, f"{i}.jpg"), str(i)) for i in range(count)]
        for file in files:
            Image.fromarray(photo(side, side)).save(file.path, quality=90)

        def run(formats: Sequence[str]) -> None:
            with TemporaryDirectory() as out:
                writer = Writer(Path(out), formats, segmenter.about_model)
                writer.start([label.name for label in encoded.query.labels], {file.name: "" for file in files})
                for _, outcome in segment_files(files, encoded, segmenter, writer):
                    if isinstance(outcome, UserError):
                        raise outcome
                writer.finish()

        ways = [
            Way(f"files: {', '.join(formats)}", partial(run, formats), precision, limit=tower, items=count)
            for formats in (("mask",), DEFAULT_FORMATS)
        ]
        return compare("segment", f"{name}, a folder of {count} images, {side} px, 20 classes", [tower, *ways], options)


def windows(model: PACL, name: str, options: Options) -> list[Row]:
    """Sliding windows that go through the tower together, beside one after another."""
    side = 96 if options.quick else 448
    precision = options.precisions[0]
    settings = {"size": side, "window": side // 2, "window_step": side // 4, "scales": (1.0,)}
    single, together = (segmenter_of(model, precision, window_batch=n, **settings) for n in (1, 8))
    image, encoded = photo(side, side), query(single, 20)
    tower = Way("tower", tower_of(together, 1, side), precision)
    one = Way("one window after another", label(single, image, encoded), precision, limit=tower)
    ways = [tower, one, Way("windows in batches of 8", label(together, image, encoded), precision, one, tower)]
    return compare("segment", f"{name}, windows of {side // 2} in {side} px, 20 classes", ways, options)


def large_image(model: PACL, name: str, options: Options) -> list[Row]:
    """Time and peak memory of a photo of 24 million pixels with 150 classes, once."""
    segmenter = segmenter_of(model, options.precisions[0])
    encoded = query(segmenter, LARGE_CLASSES)
    way = Way("set_image + predict", label(segmenter, photo(*LARGE), encoded), options.precisions[0], items=1)
    case = f"{name}, one image of {LARGE[1]} x {LARGE[0]}, {LARGE_CLASSES} classes"
    return compare("segment", case, [way], options, once=True)


def agreement(model: PACL, name: str, options: Options) -> Row:
    """The share of pixels that have the same label in fp32 and in bf16, over all photos and in the worst of them."""
    side = 64 if options.quick else None
    exact, rounded = (segmenter_of(model, precision, size=side) for precision in ("fp32", "bf16"))
    encoded, shares = query(exact, 20), []
    for path in options.photos or [DEMO]:
        image = open_image(path)
        ids = [label(segmenter, image, encoded)().index for segmenter in (exact, rounded)]
        shares.append(float((ids[0] == ids[1]).mean()))
    figures = {"equal_labels": float(np.mean(shares)), "equal_labels_of_the_worst": min(shares)}
    return Row("segment", f"{name}, labels of {len(shares)} photos", "equal in bf16 and fp32", "bf16", figures=figures)


def segmenter_of(model: PACL, precision: Precision, **settings: object) -> Segmenter:
    """A segmenter without background rule."""
    return Segmenter(model, SegmenterSettings(precision=precision, background="none", **settings))  # type: ignore[arg-type]


def names(count: int) -> list[Label]:
    """As many classes as asked for, of a benchmark's list where one is as long, else the first of COCO-Stuff.

    Beyond these, the same names with a colour before them.
    """
    found = read_classes(BENCHMARKS[LISTS.get(count, "coco_stuff")].names_file())
    more = [Label(name, (name,)) for colour in COLOURS for label in found for name in [f"{colour} {label.name}"]]
    return [*found, *more][:count]


def query(segmenter: Segmenter, count: int) -> EncodedQuery:
    """Encoded texts: the text tower's time is not that of an image."""
    return segmenter.encode_query(names(count))


def label(segmenter: Segmenter, image: np.ndarray, encoded: EncodedQuery) -> Callable[[], pacl.Segmentation]:
    """A call that encodes and labels one image."""

    def run() -> pacl.Segmentation:
        segmenter.set_image(image)
        return segmenter.predict(encoded)

    return run


def tower_of(segmenter: Segmenter, count: int, side: int, head: bool = False) -> Callable[[], None]:
    """A call of the bare image tower on what the segmenter sends through it for ``count`` square images.

    With ``head``, the patch vectors of its tokens follow, which some heads smooth by the similarities of all patches.
    """
    model, settings = segmenter.model, segmenter.resolved_settings()
    batches: list[torch.Tensor] = []
    for scale in settings.scales or ():
        layout = plan_layout(
            (side, side), round((settings.size or side) * scale), patch=model.clip.patch, stride=model.clip.patch,
            window=settings.window, step=settings.window_step, aligned=True,
        )  # fmt: skip
        crops = torch.rand(count * len(layout.corners), 3, *layout.window, device=model.device)
        batches += model.clip.normalize(crops).split(settings.window_batch)

    @torch.inference_mode()
    def run() -> None:
        with tower_autocast(settings.precision, model.clip):
            for crops in batches:
                tokens, _ = model.clip.patch_tokens(crops, model.config.dense)
                if head:
                    model.patch_vectors(tokens.float())

    return run


def photo(height: int, width: int) -> np.ndarray:
    """The demo photo at another size, uint8 [height, width, 3]."""
    return np.asarray(Image.fromarray(open_image(DEMO)).resize((width, height), Image.Resampling.BICUBIC))


def photos_of(paths: Sequence[str]) -> list[Path]:
    """The image files among files and folders.

    Raises:
        UserError: there is none, or a path is missing.
    """
    from pacl.cli.inputs import find_images

    return [file.path for file in find_images(paths, Path("out")).files] if paths else []
