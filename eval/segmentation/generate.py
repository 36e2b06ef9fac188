"""Draw a data set in a benchmark's own layout, to try the commands on without the data.

    python -m eval.segmentation.generate voc21 --data /tmp/drawn --count 20
    python -m eval.segmentation.generate coco_stuff --data /tmp/drawn --count 5000 --size 375x500
    python -m eval.segmentation.generate context60 --data /tmp/drawn --raw

Every picture is divided into cells; each is of one class, painted in that class's colour plus noise, and its mask says
so. Lines of pixels without a label run between the cells. --raw writes the labels as they are published, for
`eval.segmentation.prepare` to convert. The same seed draws the same pictures, and a run that was stopped goes on
where it was.

ROOT has to be empty, or drawn by this command: no file that is there is ever written over.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from eval.common.arguments import new_parser
from eval.segmentation import label_maps
from eval.segmentation.benchmark import Benchmark
from eval.segmentation.layout import FileLayout, make_writable_folder
from eval.segmentation.registry import BENCHMARKS
from pacl.cli.messages import run_verb
from pacl.errors import UserError
from pacl.files import written_whole

RECORD = "drawn.json"
"""In ROOT: what was drawn there, with which settings."""

CELLS = (6, 16)
"""Fewest and most cells of a picture."""

NOISE = 24
"""Largest amount added to a colour; colours leave room for it."""


@dataclass(frozen=True)
class Style:
    """What a data set's files look like, beside their places.

    Attributes:
        name: of the pictures, for a number; ADE20K's have a short form of the split in it.
        values: the label values, as published, that cells get; each is as likely.
        void: the published value of pixels without a label.
        size: height and width of the pictures.
        palette: whether masks as published have a palette.
    """

    name: str
    values: tuple[int, ...]
    void: int
    size: tuple[int, int] = (375, 500)
    palette: bool = False


_COCO_VALUES = tuple(value for value in range(label_maps.COCO_VALUES) if value not in label_maps.COCO_UNUSED)
STYLES = {
    "VOC2012": Style("2012_{number:06d}", tuple(range(21)), 255, palette=True),
    # 1 and 459 are two of the 400 labels that are background to the benchmark.
    "VOC2010": Style("2010_{number:06d}", (*label_maps.CONTEXT_IDS.values(), 1, 459), 0, palette=True),
    "coco": Style("{number:012d}", _COCO_VALUES, 255),
    "ADEChallengeData2016": Style("ADE_{short}_{number:08d}", tuple(range(1, 151)), 0),
    # 1 and 29 (ego vehicle, caravan) are not scored.
    "cityscapes": Style(
        "drawn/drawn_{number:06d}_000019", (*label_maps.CITYSCAPES_IDS.values(), 1, 29), 0, size=(512, 1024)
    ),
    "CamVid": Style("drawn_{number:05d}", tuple(range(11)), 11, size=(360, 480)),
}
"""By the name of the data set's folder: benchmarks that share it share their pictures."""

COLOURS = np.random.default_rng(0).integers(0, 256 - NOISE, (label_maps.CONTEXT_VALUES, 3), dtype=np.uint8)
"""RGB of every label value."""


def plain_style(benchmark: Benchmark) -> Style:
    """How a benchmark without a style of its own is drawn."""
    values = tuple(range(benchmark.offset, benchmark.offset + (benchmark.classes or 2)))
    return Style("drawn_{number:06d}", values, benchmark.ignore[0] if benchmark.ignore else values[0])


def was_drawn(images: str | Path) -> bool:
    """Whether a folder of pictures lies where this command drew."""
    return any((folder / RECORD).is_file() for folder in Path(images).resolve().parents)


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.segmentation.generate", __doc__)
    parser.add_argument("benchmark", metavar="BENCHMARK", help=", ".join(BENCHMARKS))
    parser.add_argument("--data", metavar="ROOT", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--count", type=int, default=20, metavar="N", help="number of pictures (default: 20)")
    parser.add_argument("--split", help="default: the one that is usually measured, such as val")
    parser.add_argument("--size", metavar="HxW", help="height and width of the pictures (default: as in the data set)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the drawing (default: 0)")
    parser.add_argument("--raw", action="store_true", help="labels as they are published, before conversion")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the pictures that are not there yet."""
    from rich.console import Console
    from rich.progress import track

    args = build_parser().parse_args(argv)
    if args.benchmark not in BENCHMARKS:
        raise UserError(f"no benchmark {args.benchmark}: choose from {', '.join(BENCHMARKS)}")
    benchmark = BENCHMARKS[args.benchmark]
    split = args.split or benchmark.split
    if split not in benchmark.full:
        raise UserError(f"--split {split}: {benchmark.name} has {', '.join(benchmark.full)}")
    if args.raw and benchmark.label_map is None:
        raise UserError(f"--raw: {benchmark.name} is scored with its labels as they are published")
    if args.count < 1:
        raise UserError(f"--count {args.count}: draw 1 or more")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: use 0 or more")
    base = args.data / benchmark.layout.bases[0]
    style = STYLES.get(base.name) or plain_style(benchmark)
    size = parse_size(args.size) if args.size else style.size
    images = base / benchmark.layout.images[0].replace("{split}", split)
    claim(args.data, images, f"{base.name} {split}", {"count": args.count, "size": list(size), "seed": args.seed})

    short = {"validation": "val", "training": "train"}.get(split, split)
    # Splits that share a folder of pictures have names of their own.
    first = 1 + (100_000 * list(benchmark.full).index(split) if benchmark.layout.only else 0)
    names = [style.name.format(number=number, short=short) for number in range(first, first + args.count)]
    write_lists(benchmark.layout, base, split, names, args.raw)
    drawing = track(
        list(enumerate(names)), "Drawing", console=Console(stderr=True), transient=True, disable=args.count < 2
    )
    for number, name in drawing:
        rng = np.random.default_rng([args.seed, zlib.crc32(split.encode()), number])
        write_pair(benchmark, base, split, name, *draw(style, size, rng), raw=args.raw)
    form = ", labels as published" if args.raw else ""
    print(f"{args.count:,} pictures of {benchmark.title} in {base}{form}; measure them with --data {args.data}")
    return 0


def parse_size(text: str) -> tuple[int, int]:
    """ "375x500" as height and width.

    Raises:
        UserError: It is none, or too small for cells.
    """
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) >= 8 and int(width) >= 8):
        raise UserError(f"--size {text}: write height and width of 8 or more, such as 375x500")
    return int(height), int(width)


def claim(root: Path, images: Path, key: str, settings: dict[str, object]) -> None:
    """Note what is drawn in ``root``, unless something else is there.

    Args:
        root: ``--data``.
        images: Folder of the pictures to draw.
        key: The data set and split.
        settings: What decides how they are drawn.

    Raises:
        UserError: It holds files that were not drawn, or the same split drawn otherwise.
    """
    make_writable_folder(root, "data")
    record = root / RECORD
    drawn: dict[str, object] = {}
    if record.is_file():
        try:
            drawn = dict(json.loads(record.read_text()))
        except (OSError, ValueError, TypeError):
            raise UserError(f"{record} cannot be read: choose an empty --data") from None
    elif any(root.iterdir()):
        raise UserError(f"--data {root}: holds files that were not drawn here; choose an empty folder")
    known = {drawing.partition(" ")[0] for drawing in drawn}  # splits may share a folder of pictures
    if key.partition(" ")[0] not in known and images.is_dir():
        raise UserError(f"--data {root}: {key} holds files that were not drawn here; choose an empty folder")
    if drawn.setdefault(key, settings) != settings:
        before = ", ".join(f"{name} {value}" for name, value in dict(drawn[key]).items())  # type: ignore[call-overload]
        raise UserError(f"--data {root}: {key} was drawn there otherwise ({before}); choose an empty folder")
    with written_whole(record) as aside:
        aside.write_text(json.dumps(drawn, indent=2) + "\n")


def draw(style: Style, size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One picture, RGB uint8 [H, W, 3], and its label values as published, uint16 [H, W]."""
    import cv2

    height, width = size
    cells = int(rng.integers(*CELLS))
    field = np.ones(size, np.uint8)
    field[rng.integers(0, height, cells), rng.integers(0, width, cells)] = 0
    # Each pixel belongs to the nearest of the zeros, numbered from 1: a Voronoi diagram.
    nearest = cv2.distanceTransformWithLabels(field, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]  # [H, W]
    values = rng.choice(style.values, cells).astype(np.uint16)[nearest - 1]  # [H, W]
    picture = COLOURS[values] + rng.integers(0, NOISE, (*size, 3), dtype=np.uint8)
    values[:, 1:][nearest[:, 1:] != nearest[:, :-1]] = style.void
    values[1:][nearest[1:] != nearest[:-1]] = style.void
    return picture, values


def write_lists(layout: FileLayout, base: Path, split: str, names: Sequence[str], raw: bool) -> None:
    """The list of the split's pictures; Pascal Context as published has VOC's own, and one of its labels."""
    if layout.only:
        only = base / layout.only[-1 if raw else 0].replace("{split}", split)
        write_new(only, "".join(f"{name}\n" for name in names).encode())
    if raw and layout.raw_ending == ".mat":
        known = {number: name for name, number in label_maps.CONTEXT_IDS.items()}
        lines = (f"{i}: {known.get(i, f'label {i}')}\n" for i in range(1, label_maps.CONTEXT_VALUES))
        write_new(base / "labels.txt", "".join(lines).encode())


def write_pair(
    benchmark: Benchmark, base: Path, split: str, name: str, picture: np.ndarray, values: np.ndarray, *, raw: bool
) -> None:
    """Write a picture and its labels, as published or as they are scored, where they belong."""
    layout, style = benchmark.layout, STYLES[base.name]

    def path(folder: str, ending: str) -> Path:
        return base / folder.replace("{split}", split) / (name + ending)

    image = path(layout.images[0], layout.image_ending or ".jpg")
    if not image.exists():
        with written_whole(image) as aside:
            Image.fromarray(picture).save(aside, quality=95)  # PNG takes no notice
    file = path(layout.raw[0], layout.raw_ending) if raw else path(layout.masks[0], layout.mask_ending)
    if file.exists():
        return
    if file.suffix == ".mat":
        from scipy.io import savemat

        with written_whole(file) as aside:
            savemat(str(aside), {"LabelMap": values}, do_compression=True)
        return
    if benchmark.label_map is not None and not raw:
        values = label_maps.relabel(values, benchmark.label_map, file)
    mask = Image.fromarray(values.astype(np.uint8))
    if style.palette:
        mask.putpalette(np.resize(COLOURS, (256, 3)).tobytes())
    with written_whole(file) as aside:
        mask.save(aside)


def write_new(path: Path, content: bytes) -> None:
    """Write a file, unless it is there."""
    if not path.exists():
        with written_whole(path) as aside:
            aside.write_bytes(content)


if __name__ == "__main__":
    run_verb("eval.segmentation.generate", main)
