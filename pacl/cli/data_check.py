"""Check image-caption data before training: ``python -m pacl.data check WHAT [options]``.

WHAT is a configuration of `pacl.train` or `pacl.pretrain`, or one source: a table, a captions JSON, a folder with
caption files or by class, or shards.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from pacl.cli.configured_sources import Entry, read_config
from pacl.cli.messages import run_verb
from pacl.cli.parser import new_parser
from pacl.cli.progress import tracked
from pacl.data.copies import count_copies, count_twice, describe_alike, describe_copies, describe_twice, split_all
from pacl.data.inspection import CONTEXT, PROBLEMS, SHOWN, Statistics, inspect_all, read_items
from pacl.data.sources import FEWEST, Source, describe_few
from pacl.data.workers import cores
from pacl.errors import ArgumentError, UserError
from pacl.files import begins_with, check_output_file, save_json
from pacl.images import is_written_here
from pacl.printing import counted, escaped, printable, without_controls

QUICK = 500  # images of each source that --quick decodes
LISTED = 5  # bad images of each kind that are printed
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
are too few images to train on; 2 nothing was checked because of an error, printed in one line
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
    if workers < 0:
        raise ArgumentError("workers", workers, "must be at least 0")
    if not 0 <= args.max_bad <= 1:
        raise ArgumentError("max_bad", args.max_bad, "must be a share, from 0 to 1")
    for name, path, suffix in (("sheet", args.sheet, ".png"), ("report", args.report, ".json")):
        if path.suffix.lower() != suffix:
            raise ArgumentError(name, path, f"must end in {suffix}")
    entries = find_entries(args)
    for name, path, is_own in (("sheet", args.sheet, is_written_here), ("report", args.report, begins_with(REPORT))):
        check_output_file(path, is_own, name, inputs=[args.what])
    sources = {part: [e.source for e in entries if e.role.startswith(part)] for part in ("train", "val")}
    kept, held = split_all(sources["train"], sources["val"])
    copies, twice = count_copies(kept, held), count_twice(held)
    streams = [read_items(entry.source, args.limit, QUICK if args.quick else None) for entry in entries]

    from rich.console import Console

    from pacl.cli.source_sheet import SourceImages, source_sheet
    from pacl.images import save_image

    console = Console(highlight=False, soft_wrap=True)
    all_statistics: list[Statistics] = []
    records: list[dict[str, Any]] = []
    for entry, (items, total, unused) in zip(entries, streams, strict=True):
        statistics = Statistics(args.seed)
        inspected = inspect_all(items, workers)
        size = min(total or args.limit or 0, args.limit or total or 0) or None
        for item, found in tracked(inspected, escaped(entry.title), size):
            statistics.add(item, found)
        record = {
            "source": dataclasses.asdict(entry.source),
            "role": entry.role,
            "title": entry.title,
            "total": total,
            "unused": unused,
            **statistics.figures(entry.side),
            "clip": entry.clip,
            "in_training": _shared(statistics, all_statistics, entries) if entry.role.startswith("val") else None,
            "problems": [
                {"image": printable(name), "problem": problem, "message": printable(message)}
                for name, problem, message in statistics.problems
            ],
        }
        all_statistics.append(statistics)
        records.append(record)
        console.print(escaped(entry.title), style="bold", markup=False)
        for line in lines(record):
            console.print(line, markup=False)
        console.print()
    bad = [record for record in records if record["bad"] > args.max_bad * max(record["images"], 1)]
    shown = [SourceImages(e.title, s.shown.items(), e.crop) for e, s in zip(entries, all_statistics, strict=True)]
    save_image(args.sheet, source_sheet(shown, args.seed))
    alike = _alike([s for e, s in zip(entries, all_statistics, strict=True) if not e.role.startswith("val")])
    training = [(e.source, r) for e, r in zip(entries, records, strict=True) if not e.role.startswith("val")]
    few = _few(training, sum(map(len, kept)))
    fine = not (bad or few or copies or twice or alike)
    doubts = {"held_in_training": copies, "held_twice": twice, "alike": alike}
    save_json(args.report, {"what": args.what, "max_bad": args.max_bad, "fine": fine, **doubts, "sources": records})
    console.print(f"sheet {escaped(args.sheet)}, report {escaped(args.report)}", markup=False)
    for record in bad:
        share = f"{record['bad']:,} of {counted(record['images'], 'image')} {'is' if record['bad'] == 1 else 'are'} bad"
        console.print(
            f"{escaped(record['title'])}: {share}, more than --max_bad {args.max_bad}", style="red", markup=False
        )
    if few:
        console.print(escaped(few), style="red", markup=False)
    if copies:
        console.print(describe_copies(copies, sum(map(len, held))), style="red", markup=False)
    if twice:
        console.print(describe_twice(twice, sum(map(len, held))), style="red", markup=False)
    if alike:
        sample = args.limit is not None or (args.quick and alike == "images")  # --quick reads all captions
        console.print(describe_alike(alike, sample=sample), style="red", markup=False)
    if fine:
        console.print(", apart from ".join(["fine", *filter(None, [" and ".join(_spots(records))])]), style="green")
        if sum(record["total"] or FEWEST for _, record in training) < FEWEST:
            needs = f"a training that holds some out needs 3, and shows something from {FEWEST} on"
            console.print(f"few images: {needs}", markup=False)
    return 1 if bad or few else 0


def _few(training: Sequence[tuple[Source, dict[str, Any]]], kept: int) -> str | None:
    """`describe_few` of what trains, without bad images; ``kept``: images that are not held out, 0 if unknown.

    As many of the bad ones as can be are taken to be held out, so that only what is certain is refused.
    """
    if any(source.kind == "shards" for source, _ in training):  # they are not counted
        return None
    total, bad = (sum(record[name] for _, record in training) for name in ("total", "bad"))
    kept = kept or total
    held = total - kept
    return describe_few([source for source, _ in training], kept - max(0, bad - held), held)


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


def _shared(statistics: Statistics, before: Sequence[Statistics], entries: Sequence[Entry]) -> float | None:
    """Share of the decoded images with the same pixels as an image of a training source."""
    training = [
        np.asarray(each.pixels) for each, entry in zip(before, entries, strict=False) if entry.role.startswith("train")
    ]
    return (
        float(np.isin(np.asarray(statistics.pixels), np.concatenate(training)).mean())
        if len(statistics.pixels)
        else None
    )


def lines(record: dict[str, Any]) -> Iterator[str]:
    """The figures of one source, one per line."""
    of = f" of {record['total']:,}" if record["total"] not in (None, record["images"]) else ""
    rows: list[tuple[str, str | None]] = [
        ("images", f"{record['images']:,}{of}"),
        ("pairs", f"{record['pairs']:,}"),
        ("captions per image", _range(record["captions_per_image"])),
        ("without caption", f"{record['without_caption']:,}"),
        ("missing", f"{record['missing']:,}"),
        ("unreadable", f"{record['unreadable']:,} of {record['decoded'] + record['unreadable']:,} decoded"),
        *(("not used", f"{count:,} {kind}") for kind, count in record["unused"].items()),
        ("broken shards", f"{record['broken_shards']:,}" if record["broken_shards"] else None),
        ("repeated", ", ".join(f"{_percent(v)} of {k}" for k, v in record["repeated"].items() if v is not None)),
        ("also in training", _percent(record["in_training"])),
        ("words per caption", _range(record["caption_words"])),
        ("CLIP tokens", _tokens(record["caption_tokens"]) if record["clip"] else None),
        ("width", _range(record["width"])),
        ("height", _range(record["height"])),
        ("width / height", _range(record["aspect"], 2)),
        (f"smaller than {record['small']['side']}", _percent(record["small"]["share"])),
        ("frequent words", ", ".join(list(record["words"])[:15])),
        ("frequent nouns", ", ".join(list(record["nouns"] or {})[:15])),
        ("decoding", record["decoded_per_second"] and f"{record['decoded_per_second']:,.0f} images/s per process"),
    ]
    yield from (f"  {name:<20}{without_controls(text)}" for name, text in rows if text)
    for kind in PROBLEMS:
        own = [each for each in record["problems"] if each["problem"] == kind]
        yield from (f"  {kind}: {escaped(each['message'])}" for each in own[:LISTED])
        if len(own) > LISTED:
            yield f"  {kind}: and {len(own) - LISTED:,} more, all in the report"


def _range(spread: dict[str, float] | None, digits: int = 0) -> str | None:
    if spread is None:
        return None
    low, median, high = (f"{spread[key]:,.{digits}f}" for key in ("min", "median", "max"))
    return low if low == high else f"{low} to {high}, median {median}, mean {spread['mean']:,.{max(digits, 1)}f}"


def _tokens(spread: dict[str, float] | None) -> str | None:
    if spread is None:
        return None
    cut = f"{_percent(spread['cut'])} of the captions are" if spread["cut"] else "no caption is"
    return f"{_range(spread)}; {cut} above the {CONTEXT} that a CLIP reads"


def _percent(share: float | None) -> str | None:
    if share is None:
        return None
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{share:.1%}" if 0.0005 <= share < 0.9995 else "<0.1%" if share < 0.5 else ">99.9%"


if __name__ == "__main__":
    run_verb("pacl data check", main)
