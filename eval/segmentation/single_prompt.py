"""One prompt alone: is the object found where it is, and nothing where it is not?

    python -m eval.segmentation.single_prompt voc21 --data ROOT [--model photos] [--names dog cat] \\
        [--backgrounds peak:0.6 contrast]
    python -m eval.segmentation.single_prompt [--model bundled] [--split val] [--scenes 100] [--margins 0 0.05 0.1]

On a benchmark, every class name is asked for alone in every image; pixels of a background class belong to no name. For
each background rule and name it prints the IoU in images that show the object, the share of them that reach 0.5, and
the share of the other images in which the name gets less than 2 % of the pixels.

On drawn scenes each prompt, such as "a red fish", competes with the contrast words of the model. For every margin by
which these must be ahead (`contrast_margin` of a head) it prints the IoU of objects that are in the scene, the share of
them that reach 0.5, and the share of pixels that an absent object gets.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from rich.console import Console

from eval.common.command import add_model, add_overwrite, check_least, load, new_parser
from eval.common.figures import check_figures, figures_arguments, save_figures
from eval.common.tables import terminal_table
from eval.segmentation.arguments import OF_DATA, add_data, find_benchmark, input_files
from eval.segmentation.label_check import inspect
from eval.segmentation.registry import BENCHMARKS, CUSTOM
from pacl.cli.messages import need_output, run_verb, say
from pacl.cli.parser import check_unused
from pacl.cli.progress import tracked
from pacl.data.masks import IGNORED, MaskFolder
from pacl.errors import ArgumentError, UserError
from pacl.models.model import PACL
from pacl.models.precision import Precision
from pacl.printing import counted
from pacl.scenes.captions import OBJECT_NAMES
from pacl.scenes.drawing import scene
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings

MODULE = "eval.segmentation.single_prompt"
SHOWN = 0.01
"""Smallest share of an image's pixels that counts as showing an object."""

ABSENT = 0.02
"""Largest share of the pixels that a name may get in an image without the object."""


OF_PHOTOS = ("names", "limit", "backgrounds", "out", "overwrite")
OF_SCENES = ("scenes", "margins")
"""Flags that act on one kind of images only."""

NAMED = 10
"""Names in a message."""


@dataclasses.dataclass
class Found:
    """Results of one name under one background rule: IoU in each image that shows it, share of pixels in each other."""

    name: str
    background: str
    ious: list[float] = dataclasses.field(default_factory=list)
    shares: list[float] = dataclasses.field(default_factory=list)

    @property
    def reached(self) -> float:
        """Share of the photos that show it where the IoU is at least 0.5; NaN without such photos."""
        return float(np.mean([iou >= 0.5 for iou in self.ious])) if self.ious else float("nan")

    @property
    def kept_out(self) -> float:
        """Share of the other photos where it gets less than `ABSENT`; NaN without such photos."""
        return float(np.mean([share < ABSENT for share in self.shares])) if self.shares else float("nan")


def measure_photos(
    model: PACL, folder: MaskFolder, names: Sequence[int], settings: Sequence[SegmenterSettings]
) -> list[Found]:
    """Segment every image by each class name alone; an image is encoded once for all classes and rules.

    Args:
        model: the model.
        folder: the benchmark; pixels without a class are left out.
        names: the classes, as indices of the folder's labels; the first prompt of each class is used. Classes that
            share it are one object.
        settings: they differ in the background rule alone.
    """
    segmenters = [Segmenter(model, each) for each in settings]
    asked: dict[str, list[int]] = {}  # prompt -> its classes
    for c in names:
        asked.setdefault(folder.labels[c].prompts[0], []).append(c)
    found = {(name, s): Found(name, str(segmenters[s].background)) for s in range(len(settings)) for name in asked}
    for i in tracked(range(len(folder)), "photos"):
        item = folder[i]
        segmenters[0].set_image(item.image())
        known = item.mask != IGNORED
        for s, segmenter in enumerate(segmenters):
            segmenter.image = segmenters[0].image
            for name, classes in asked.items():
                truth = np.isin(item.mask, classes)
                result = segmenter.predict([name])
                mask, found[name, s].background = result.mask(1), result.background
                if truth.mean() >= SHOWN:
                    union = (mask | truth) & known
                    found[name, s].ious.append(float((mask & truth).sum() / union.sum()))
                elif not truth.any():
                    found[name, s].shares.append(float(mask.mean()))
    # Two spellings of a rule, such as ``auto`` and what it stands for, are one.
    return list({(each.name, each.background): each for each in found.values()}.values())


def measure(
    model: PACL, margins: Sequence[float], split: str, pairs: str, count: int, precision: Precision = "auto"
) -> dict[float, tuple[list[float], list[float]]]:
    """For each margin: the IoU of every object asked for alone, and the pixel share of one absent thing a scene."""
    found: dict[float, tuple[list[float], list[float]]] = {margin: ([], []) for margin in margins}
    segmenter = Segmenter(model, SegmenterSettings(background="contrast", precision=precision))
    config, rng = model.config, Random(0)
    for index in range(count):
        drawn = scene(split, index, size=(192, 256), pairs=pairs)
        segmenter.set_image(drawn.image)
        there = [obj.name for obj in drawn.objects]
        absent = rng.choice([name for name in OBJECT_NAMES if name not in there])
        for margin, (ious, shares) in found.items():
            model.config = dataclasses.replace(config, contrast_margin=margin)
            for name in there:
                truth = drawn.mask == drawn.names.index(name)
                mask = segmenter.predict([name]).mask(name)
                ious.append(float(np.logical_and(mask, truth).sum() / np.logical_or(mask, truth).sum()))
            shares.append(segmenter.predict([absent]).shares[0])
    model.config = config
    return found


def print_photos(found: Sequence[Found]) -> None:
    """A line for each rule and name, and the mean of each rule over the names that some image shows."""
    header = ("background", "name", "photos", "IoU >= 0.5", "mean IoU", "others", f"under {ABSENT:.0%}")
    table: list[tuple[str, ...]] = []
    for rule in dict.fromkeys(each.background for each in found):
        rows = [each for each in found if each.background == rule and each.ious]
        for each in rows:
            kept_out = f"{each.kept_out:.0%}" if each.shares else "-"
            figures = (f"{len(each.ious)}", f"{each.reached:.0%}", f"{np.mean(each.ious):.2f}", f"{len(each.shares)}")
            table.append((rule, each.name, *figures, kept_out))
        if rows:
            reached, iou = np.mean([each.reached for each in rows]), np.mean([np.mean(each.ious) for each in rows])
            kept = [each.kept_out for each in rows if each.shares]
            mean = f"{np.mean(kept):.0%}" if kept else "-"
            table.append((rule, "mean", "", f"{reached:.0%}", f"{iou:.2f}", "", mean))
    if table:
        Console(highlight=False).print(terminal_table(header, table, range(2, 7)))
    shown = {each.name for each in found if each.ious}
    if missing := [name for name in dict.fromkeys(each.name for each in found) if name not in shown]:
        names = ", ".join(missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
        say(MODULE, f"note: no photo shows {names} on at least {SHOWN:.0%} of its pixels; the table leaves that out")


def on_photos(args: argparse.Namespace) -> None:
    """Measure a benchmark and print.

    Raises:
        UserError: data, names or rules that are none.
    """
    benchmark = find_benchmark(args.benchmark, args)
    folder = benchmark.open(args.data, args.split, names=benchmark.lists()[0], limit=args.limit, partial=args.partial)
    # The background, where it is the first class, is not asked for.
    prompts = ["" if benchmark.background and not c else label.prompts[0] for c, label in enumerate(folder.labels)]
    able = list(dict.fromkeys(filter(None, prompts)))
    if unknown := [name for name in args.names or [] if name not in able]:
        raise ArgumentError("names", unknown[0], f"no class of {args.benchmark}; choose from {', '.join(able)}")
    names = [c for c, prompt in enumerate(prompts) if prompt in (args.names or able)]
    if not len(folder):
        raise UserError(f"{args.benchmark}: no photos")
    settings = [SegmenterSettings(background=rule) for rule in dict.fromkeys(args.backgrounds)]
    check_figures(args, MODULE, input_files(args))
    inspect(MODULE, args.benchmark, folder, own=args.benchmark == CUSTOM)
    model = load(args)
    check_figures(args, MODULE, input_files(args))
    arguments = figures_arguments(args)
    found = measure_photos(model, folder, names, [dataclasses.replace(s, precision=args.precision) for s in settings])
    print(f"{args.benchmark}: {counted(len(folder), 'photo')}, model {args.model}, {args.precision}\n")
    print_photos(found)
    if args.out:
        save_figures(args.out, MODULE, arguments, [dataclasses.asdict(each) for each in found], args.overwrite)


def on_scenes(args: argparse.Namespace) -> None:
    """Measure drawn scenes and print."""
    model = load(args)
    margins = args.margins or [model.config.contrast_margin]
    header = ("pairs", "margin", "IoU there", "IoU >= 0.5", "share absent", f"absent > {ABSENT:.0%}")
    table = []
    for pairs, name in (("seen", "seen"), ("held_out", "new")):
        found = measure(model, margins, args.split or "val", pairs, args.scenes, args.precision)
        for margin, (ious, shares) in found.items():
            reach = statistics.mean(iou >= 0.5 for iou in ious)
            beyond = statistics.mean(share > ABSENT for share in shares)
            figures = (
                f"{statistics.mean(ious):.3f}",
                f"{reach:.0%}",
                f"{statistics.mean(shares):.2%}",
                f"{beyond:.0%}",
            )
            table.append((name, f"{margin:.2f}", *figures))
    print(f"drawn scenes: {args.scenes} of each kind, model {args.model}, {args.precision}\n")
    Console(highlight=False).print(terminal_table(header, table, range(1, 6)))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = new_parser(MODULE, __doc__)
    parser.add_argument(
        "benchmark", nargs="?", metavar="BENCHMARK", help=f"{', '.join([*BENCHMARKS, 'custom'])}; none: drawn scenes"
    )
    add_data(parser)
    photos = parser.add_argument_group("photos")
    photos.add_argument("--names", nargs="+", metavar="NAME", help="classes to ask for (default: all)")
    photos.add_argument("--limit", type=int, metavar="N", help="N photos only, evenly spread")
    photos.add_argument(
        "--backgrounds", nargs="+", metavar="RULE", default=["auto"], help="background rules to try (default: auto)"
    )
    photos.add_argument("--out", type=Path, metavar="FILE", help="also write all figures as JSON")
    add_overwrite(parser)
    scenes = parser.add_argument_group("drawn scenes")
    scenes.add_argument("--scenes", type=int, default=100, help="of each kind (default 100)")
    scenes.add_argument("--margins", type=float, nargs="+", help="cosines to try (default: the head's own)")
    add_model(parser)
    args = parser.parse_args(argv)
    if args.out is None:
        need_output()
    check_least(args, scenes=1, limit=1)
    if args.benchmark:
        check_unused(args, parser, OF_SCENES, "on photos, only on drawn scenes")
        args.model = "photos" if args.model == "auto" else args.model
        on_photos(args)
    else:
        own = [name for name in OF_DATA if name != "split"]  # which scenes have, too
        check_unused(args, parser, (*OF_PHOTOS, *own), "on drawn scenes; name a benchmark")
        args.model = "bundled" if args.model == "auto" else args.model
        on_scenes(args)
    return 0


if __name__ == "__main__":
    run_verb(MODULE, main)
