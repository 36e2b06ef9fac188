"""Check image-caption data before training: ``python -m pacl.data check WHAT [options]``.

WHAT is a configuration of `pacl.train` or `pacl.pretrain`, or one source: a table, a captions JSON, a folder with
caption files or by class, or shards.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

import numpy as np

from pacl.cli.configured_sources import Entry, read_config
from pacl.cli.data_figures import lines, percent
from pacl.cli.messages import run_verb
from pacl.cli.parser import new_parser
from pacl.cli.progress import tracked
from pacl.data.copies import count_copies, count_twice, describe_alike, describe_copies, describe_twice, split_all
from pacl.data.inspection import Items, inspect_all, read_items
from pacl.data.pairs import FilePairs, PairSource
from pacl.data.sources import FEWEST, Source, describe_few
from pacl.data.statistics import SHOWN, Statistics
from pacl.data.workers import cores
from pacl.errors import ArgumentError, UserError
from pacl.files import begins_with, check_output_file, save_json
from pacl.images import is_written_here
from pacl.printing import counted, escaped, printable

if TYPE_CHECKING:
    from rich.console import Console

TRAINING_ALLOWS = 0.05  # `max_skipped` of `CaptionData`, which takes seconds to import
QUICK = 500  # images of each source that --quick decodes
REPORT = rb'\{\n "what": "'  # how a report begins

USAGE = "pacl data check WHAT [options]"

EXAMPLES = f"""\
examples:
  pacl data check configs/flickr8k.yaml                  every source that a training reads
  pacl data check captions.csv --images photos           a table of images and captions
  pacl data check captions_val2017.json --images val2017
  pacl data check train --names words.txt --limit 2000   a folder by class; some of its images
  pacl data check photos                                 a folder with caption files beside its images
  pacl data check "shards/{{000..331}}.tar" --quick

Every image is decoded at full size; for large sources, --quick checks that all files exist and decodes about {QUICK}.
Paths in a configuration are relative to the current folder, as in training.

exit codes: 0 fine, or only what training warns of: held-out images that are also in training or there twice, captions
or images that are all the same (then "fine" is false in the report); 1 the share of images of a source that are
missing, unreadable or without a caption is above --max_bad (by default, if there is one: training skips it), or there
are too few images to train on (a single source needs 3: training holds one out); 2 nothing was checked because of an
error, printed in one line
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command; the options for one source are fields of `Source`."""
    from docstring_parser import parse_from_object

    about = "Read image-caption data and report statistics and problems."
    parser = new_parser("pacl data check", about, usage=USAGE, epilog=EXAMPLES)
    parser.instead["--out"] = "--report FILE.json, or for the images --sheet "
    parser.add_argument("what", metavar="WHAT", help="a configuration (.yaml), or the pairs of one source")
    one = parser.add_argument_group("one source (not with a configuration)")
    texts = {param.arg_name: " ".join((param.description or "").split()) for param in parse_from_object(Source).params}
    for name in ("images", "format", "image_column", "caption_column", "names", "template", "only"):
        choices = get_args(get_type_hints(Source)["format"]) if name == "format" else None
        text = texts[name].replace("null", "default:").replace("%", "%%")
        one.add_argument(f"--{name}", choices=choices, metavar=None if choices else "TEXT", help=text)
    how = parser.add_argument_group("how")
    how.add_argument("--limit", metavar="N", type=_positive, help="check N images spread evenly over each source")
    how.add_argument("--quick", action="store_true", help=f"check that files exist and decode about {QUICK} of them")
    how.add_argument(
        "--workers", metavar="N", type=int, help="processes that decode; 0 decodes in this one (default: cores)"
    )
    how.add_argument(
        "--max_bad",
        metavar="SHARE",
        type=float,
        default=0.0,
        help="exit with 1 if a larger share of the images of a source is bad (default: 0.0, not a single one)",
    )
    how.add_argument(
        "--seed", metavar="N", type=int, default=0, help="which images the sheet shows (default: %(default)s)"
    )
    results = parser.add_argument_group("results")
    results.add_argument(
        "--sheet",
        metavar="FILE.png",
        type=Path,
        default=Path("out/check.png"),
        help=f"contact sheet: {SHOWN} images of each source as training crops them (default: out/check.png)",
    )
    results.add_argument(
        "--report",
        metavar="FILE.json",
        type=Path,
        default=Path("out/check.json"),
        help="all figures and every bad image (default: out/check.json)",
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text}: must be 1 or more")
    return int(text)


def is_configuration(what: str) -> bool:
    """Whether WHAT is a configuration, or else a source."""
    return what.endswith((".yaml", ".yml"))


def find_entries(args: argparse.Namespace) -> list[Entry]:
    """The sources given by WHAT and the options."""
    own = {field.name: getattr(args, field.name, None) for field in dataclasses.fields(Source)}
    given = {name: value for name, value in own.items() if value is not None}
    if is_configuration(args.what):
        if given:
            name, value = next(iter(given.items()))
            raise ArgumentError(name, value, f"{args.what} has this setting for each of its sources")
        return read_config(args.what)
    return [Entry("", Source(args.what, **given))]


# --- Checking ---------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Read the captions of every source, then its images; print figures, write the report and the contact sheet.

    Returns:
        0, or 1 if the share of bad images of a source is above ``--max_bad``, or there are too few to train on.

    Raises:
        UserError: an error in the arguments, the configuration or its tables.
    """
    args = build_parser().parse_args(argv)
    try:
        return check(args)
    except UserError as error:
        if is_configuration(args.what):
            error.advised = ()  # its settings are keys there, and no flags
        raise


def check(args: argparse.Namespace) -> int:
    """`main` for parsed words and flags."""
    workers = cores() if args.workers is None else args.workers
    _check_values(args, workers)
    entries = find_entries(args)
    check_output_file(args.sheet, is_written_here, "sheet", inputs=[args.what], endings=[".png"])
    check_output_file(args.report, begins_with(REPORT), "report", inputs=[args.what], endings=[".json"])
    read = [None if entry.source.kind == "shards" else entry.source.read() for entry in entries]
    kept, held = _split(entries, read)
    streams = [
        read_items(entry.source, pairs, args.limit, QUICK if args.quick else None)
        for entry, pairs in zip(entries, read, strict=True)
    ]

    from rich.console import Console

    from pacl.cli.source_sheet import SourceImages, source_sheet
    from pacl.images import save_image

    console = Console(highlight=False, soft_wrap=True)
    checked: list[Checked] = []
    for entry, items in zip(entries, streams, strict=True):
        statistics = _inspect(entry, items, args, workers)
        checked.append(Checked(entry, statistics, _record(entry, items, statistics, checked)))
        _print_source(console, checked[-1].record)
    verdict = _judge(checked, kept, held, args.max_bad)
    shown = [SourceImages(each.entry.title, each.statistics.shown.items(), each.entry.crop) for each in checked]
    save_image(args.sheet, source_sheet(shown, args.seed))
    save_json(args.report, _report(args, verdict, checked))
    console.print(f"sheet {escaped(args.sheet)}, report {escaped(args.report)}", markup=False)
    _print_verdict(console, verdict, checked, args)
    return 1 if verdict.bad or verdict.few else 0


class Checked(NamedTuple):
    """A source, the statistics of its images, and its figures in the report."""

    entry: Entry
    statistics: Statistics
    record: dict[str, Any]


class Verdict(NamedTuple):
    """What speaks against a training.

    Attributes:
        bad: figures of the sources with too many bad images.
        few: why there are too few images to train on, in a line; None if there are not.
        held: number of held-out images.
        copies: see `count_copies`.
        twice: see `count_twice`.
        alike: see `_alike`.
        shared: validation sources with images of the training that ``copies`` cannot count, as those in shards.
    """

    bad: list[dict[str, Any]]
    few: str | None
    held: int
    copies: int
    twice: int
    alike: str | None
    shared: list[dict[str, Any]]

    @property
    def is_fine(self) -> bool:
        return not (self.bad or self.few or self.copies or self.twice or self.alike or self.shared)


def _check_values(args: argparse.Namespace, workers: int) -> None:
    if workers < 0:
        raise ArgumentError("workers", workers, "must be at least 0")
    if not 0 <= args.max_bad <= 1:
        raise ArgumentError("max_bad", args.max_bad, "must be a share, from 0 to 1")


def _split(entries: Sequence[Entry], read: Sequence[FilePairs | None]) -> tuple[list[PairSource], list[PairSource]]:
    """The training and the held-out images of a configuration, see `split_all`; shards are left out."""
    parts: dict[str, list[tuple[Source, FilePairs]]] = {"train": [], "val": [], "": []}
    for entry, pairs in zip(entries, read, strict=True):
        if pairs is not None:
            parts[entry.role.partition("[")[0]].append((entry.source, pairs))
    return split_all(parts["train"], parts["val"])


def _inspect(entry: Entry, items: Items, args: argparse.Namespace, workers: int) -> Statistics:
    """The statistics of the images of a source, with a bar of progress."""
    statistics = Statistics(args.seed)
    size = min(items.total or args.limit or 0, args.limit or items.total or 0) or None
    for item, found in tracked(inspect_all(items.stream, workers), escaped(entry.title), size):
        statistics.add(item, found)
    return statistics


def _record(entry: Entry, items: Items, statistics: Statistics, before: Sequence[Checked]) -> dict[str, Any]:
    """The figures of a source in the report; ``before``: the sources before it."""
    return {
        "source": dataclasses.asdict(entry.source),
        "role": entry.role,
        "title": entry.title,
        "total": items.total,
        "unused": items.unused,
        **statistics.figures(entry.side),
        "clip": entry.clip,
        "in_training": _shared(statistics, before) if entry.is_val else None,
        "problems": [
            {"image": printable(name), "problem": problem, "message": printable(message)}
            for name, problem, message in statistics.problems
        ],
    }


def _judge(
    checked: Sequence[Checked], kept: Sequence[PairSource], held: Sequence[PairSource], max_bad: float
) -> Verdict:
    """What speaks against a training.

    Args:
        checked: the sources.
        kept: the images that train, see `split_all`.
        held: the images that are held out.
        max_bad: share of bad images of a source above which they are too many.
    """
    training = [each for each in checked if not each.entry.is_val]
    copies = count_copies(kept, held)
    return Verdict(
        bad=[each.record for each in checked if each.record["bad"] > max_bad * max(each.record["images"], 1)],
        few=_few(training, sum(map(len, kept))),
        held=sum(map(len, held)),
        copies=copies,
        twice=count_twice(held),
        alike=_alike([each.statistics for each in training]),
        shared=[] if copies else [each.record for each in checked if each.record["in_training"]],
    )


def _report(args: argparse.Namespace, verdict: Verdict, checked: Sequence[Checked]) -> dict[str, Any]:
    return {
        "what": args.what,
        "max_bad": args.max_bad,
        "fine": verdict.is_fine,
        "held_in_training": verdict.copies,
        "held_twice": verdict.twice,
        "alike": verdict.alike,
        "sources": [each.record for each in checked],
    }


def _print_source(console: Console, record: dict[str, Any]) -> None:
    console.print(escaped(record["title"]), style="bold", markup=False)
    for line in lines(record):
        console.print(line, markup=False)
    console.print()


def _print_verdict(console: Console, verdict: Verdict, checked: Sequence[Checked], args: argparse.Namespace) -> None:
    for line in _doubts(verdict, args):
        console.print(line, style="red", markup=False)
    if verdict.is_fine:
        spots = " and ".join(_spots([each.record for each in checked]))
        console.print(", apart from ".join(["fine", *filter(None, [spots])]), style="green")
        if sum(each.record["total"] or FEWEST for each in checked if not each.entry.is_val) < FEWEST:
            console.print(f"few images: a training shows something from {FEWEST} on", markup=False)


def _doubts(verdict: Verdict, args: argparse.Namespace) -> Iterator[str]:
    """What speaks against a training, a line each."""
    for record in verdict.bad:
        share = f"{record['bad']:,} of {counted(record['images'], 'image')} {'is' if record['bad'] == 1 else 'are'} bad"
        limit = f", more than --max_bad {args.max_bad}" if args.max_bad else ""
        advice = (
            f"mend them or take them out of the captions, or allow more with --max_bad ({TRAINING_ALLOWS} in training)"
        )
        yield f"{escaped(record['title'])}: {share}{limit}; {advice}"
    if verdict.few:
        yield escaped(verdict.few)
    if verdict.copies:
        yield describe_copies(verdict.copies, verdict.held)
    for record in verdict.shared:
        share = f"{percent(record['in_training'])} of its images are also in training"
        yield f"{escaped(record['title'])}: {share}: val_recall says less than it seems; validate on other images"
    if verdict.twice:
        yield describe_twice(verdict.twice, verdict.held)
    if verdict.alike:
        sample = args.limit is not None or (args.quick and verdict.alike == "images")  # --quick reads all captions
        yield describe_alike(verdict.alike, sample=sample)


def _few(training: Sequence[Checked], kept: int) -> str | None:
    """`describe_few` of what trains, without bad images; ``kept``: images that are not held out, 0 if unknown.

    As many of the bad ones as can be are taken to be held out, so that only what is certain is refused. Of a source
    that is not in a configuration one image is taken to be held out, as the configurations for photos do.
    """
    sources = [each.entry.source for each in training]
    if any(source.kind == "shards" for source in sources):  # they are not counted
        return None
    total, bad = (sum(each.record[name] for each in training) for name in ("total", "bad"))
    kept = kept or total
    held = total - kept
    if not training[0].entry.role:
        kept, held = max(1, kept - 1), 1
    return describe_few(sources, min(kept - max(0, bad - held), total - bad), held)


def _spots(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What is no reason to stop, but worth a look."""
    if any(record["unused"] for record in records):
        yield "what is not used"
    if any(record["repeated"]["images"] for record in records):
        yield "repeated images (hold_out may put copies of one image in training and in validation)"


def _alike(training: Sequence[Statistics]) -> str | None:
    """What is the same in all pairs of the training sources together: "captions" or "images"; None if they differ."""
    hashes = {"captions": [each.captions for each in training], "images": [each.pixels for each in training]}
    for kind, own in hashes.items():
        values = np.concatenate([np.asarray(each) for each in own])
        if len(values) > 1 and (values == values[0]).all():
            return kind
    return None


def _shared(statistics: Statistics, before: Sequence[Checked]) -> float | None:
    """Share of the decoded images with the same pixels as an image of a training source."""
    if not len(statistics.pixels):
        return None
    training = [np.asarray(each.statistics.pixels) for each in before if not each.entry.is_val]
    return float(np.isin(np.asarray(statistics.pixels), np.concatenate(training)).mean())


if __name__ == "__main__":
    run_verb("pacl data check", main)
