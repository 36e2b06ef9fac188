"""Segment millions of images on many processes: ``python -m pacl.bulk SOURCE PROMPT... --out DIR [options]``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacl.class_files import say_renumbered
from pacl.cli.inputs import find_images, images_and_prompts
from pacl.cli.messages import printing, run_verb, shown_warnings
from pacl.cli.messages import say as say_as
from pacl.cli.model import add_model, load
from pacl.cli.parser import Once, new_parser
from pacl.cli.settings import add_settings, settings_of
from pacl.data.shards import local_path, shards_below
from pacl.errors import WORD_WARNINGS, ArgumentError, UserError, first_few
from pacl.image_folders import say_unread, search_folder
from pacl.jobs.folder import BASE, RESULTS, Done, JobFolder, strays, verify
from pacl.jobs.units import JobImage, ListPart, Unit, count_repeated, find_units, folder_units
from pacl.printing import counted, escaped
from pacl.processes import Process
from pacl.prompts import Label, check_labels, get_templates, parse_prompt, read_classes
from pacl.results.formats import FORMATS
from pacl.results.kinds import JOB, check_kind
from pacl.results.writer import describe

if TYPE_CHECKING:
    import numpy as np

    from pacl.segmentation.query import EncodedQuery
    from pacl.segmentation.result import Segmentation
    from pacl.segmentation.segmenter import Segmenter

PROG = "pacl bulk"

EXAMPLES = """\
examples:
  pacl bulk "data/{00000..00331}.tar" --classes classes.txt --out labels         WebDataset shards
  pacl bulk paths.txt "a dog" "grass" --out labels                               a list of image files
  pacl bulk photos/ "a dog" "grass" --out labels                                 a folder of image files
  torchrun --nproc_per_node 8 -m pacl.bulk data/ --classes classes.txt --out labels
  srun --ntasks 64 --gpus-per-task 1 python -m pacl.bulk data/ --classes classes.txt --out /shared/labels
  pacl bulk --verify --out labels                                                check a finished job

The first word is the source, all others are prompts. One that looks like the name of a file, contains a path separator
or names something that exists here is refused: --prompt makes any word a prompt.

Each process takes units, a shard or --lines of a list, that no other one has taken. Killed or stopped, the same command
goes on with the units that are not finished, with any number of processes.

exit codes: 0 done, or left to other processes; images that cannot be read are lines with an error in the results,
counted in manifest.json; 2 stopped by a mistake named in one line, or none of all images could be read
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    usage = "pacl bulk SOURCE PROMPT... --out DIR [options]"
    parser = new_parser(PROG, "Segment millions of images on many processes.", usage=usage, epilog=EXAMPLES)
    parser.add_argument(
        "source",
        nargs="?",
        help="shards (a pattern, or a folder of them), a .txt file of image paths, or a folder of images",
    )
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="what to look for")
    parser.add_argument("--prompt", action="append", default=[], help="a prompt, whatever it looks like; repeatable")
    parser.add_argument(
        "--classes", metavar="FILE", action=Once, help="file with one label per line, as for pacl segment"
    )
    work = parser.add_argument_group("work")
    work.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the results, for all processes")
    work.add_argument(
        "--lines",
        metavar="N",
        type=int,
        default=1000,
        help="images of a list or folder in a unit (default: %(default)s)",
    )
    work.add_argument(
        "--images", metavar="DIR", type=Path, help="folder of relative paths in a list (default: this one)"
    )
    work.add_argument(
        "--workers", metavar="N", type=int, default=2, help="threads of each process that decode (default: %(default)s)"
    )
    work.add_argument("--verify", action="store_true", help="only read the results of a finished job and check them")
    add_model(parser.add_argument_group("model"), many=True)
    add_settings(parser.add_argument_group("how"), parser.add_argument_group("rarely needed"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Segment the units that this process can claim.

    Returns:
        0.

    Raises:
        UserError: whatever is wrong with the words, the flags, the model or the folder of results.
    """
    args = build_parser().parse_intermixed_args(argv)
    if args.verify:
        if args.source:
            raise UserError("--verify reads the results alone; leave out the source and the prompts")
        manifest = verify(args.out)
        note_strays(Process(), args.out, manifest)
        with printing():
            units = counted(len(manifest["units"]), "unit")
            print(f"{escaped(args.out)}: {units}, {said(manifest)}: all there and unchanged")
        return 0
    with shown_warnings(PROG, *WORD_WARNINGS):
        return bulk(args)


def bulk(args: argparse.Namespace) -> int:
    """`main` for parsed words and flags."""
    for name in ("lines", "workers"):
        if getattr(args, name) < 1:
            raise ArgumentError(name, getattr(args, name), "must be at least 1")
    if not args.source:
        raise UserError('no source: name shards or a list, as in pacl bulk data/ "a dog" "grass" --out labels')
    settings = settings_of(args)
    sources, prompts, _ = images_and_prompts(args.prompts)
    if sources:  # a pattern without quotes, of which the shell has made many words
        advice = f"name one, a pattern in quotes; if it is a prompt, write --prompt {sources[0]!r}"
        raise UserError(f"{sources[0]}: is a second source beside {args.source}; {advice}")
    labels = [parse_prompt(prompt) for prompt in [*prompts, *args.prompt]]
    labels += read_classes(args.classes) if args.classes else []
    if not labels:
        raise UserError(f'no prompt: say what to look for, as in pacl bulk {args.source} "a dog" --out {args.out}')
    check_labels(labels)
    get_templates(settings.templates)
    check_kind(args.out, JOB, "out")
    process = Process.of()
    before = len(prompts) + len(args.prompt)
    if args.classes and process.rank == 0 and (note := say_renumbered(args.classes, before)):
        say(process, f"note: {note}")
    units = units_of(args, process)

    from pacl.segmentation.segmenter import Segmenter

    args.device = process.device(args.device)
    segmenter = Segmenter(load(args), settings)
    query = segmenter.prepare(labels)
    folder = JobFolder(args.out, run_of(segmenter, labels, units))
    if (others := folder.count_done()) and not any(folder.done(unit) for unit in units):
        advice = "its name or its lines have changed, or files were moved; all is done again"
        say(
            process, f"note: none of the {counted(others, 'finished unit')} in {args.out} is of {args.source}: {advice}"
        )
    done = work(folder, units, query, segmenter, process, args.workers)
    manifest = folder.manifest(units)
    if manifest is not None:
        nothing = "" if done else ", nothing was left to do"
        say(process, f"finished, {counted(len(units), 'unit')}: {said(manifest)}{nothing}; results in {args.out}")
        note_strays(process, args.out, manifest)
        if manifest["images"] == manifest["failed"]:
            problems = [problem for unit in manifest["units"] for problem in unit["problems"]]
            reason = problems[0] if problems else f"the errors are in {args.out}/{RESULTS}"
            raise UserError(
                f"{args.source}: none of its {counted(manifest['images'], 'image')} could be read ({reason})"
            )
    else:
        left = sum(folder.done(unit) is None for unit in units)
        say(process, f"{left} of {counted(len(units), 'unit')} left to other processes, or to the same command again")
    return 0


def units_of(args: argparse.Namespace, process: Process) -> list[Unit]:
    """The units of the source; notes say what of a folder is left out, as those of `pacl segment` do, or is done twice.

    Raises:
        UserError: an error of `find_units` or `find_images`, or a folder holds shards and images.
    """
    folder = local_path(args.source)
    notes: Iterable[str] = ()
    if folder is None or args.images is not None or not folder.is_dir():
        units = find_units(args.source, args.lines, args.images)
        if process.rank == 0 and isinstance(units[0], ListPart) and (count := count_repeated(units[0].file)):
            lines = f"{counted(count, 'line')} of {args.source} with an image of an earlier line"
            notes = [f"{lines}: done again, so that the results have a line for each"]
    elif shards := shards_below(folder):
        content = search_folder(folder, recursive=True)
        if content.images:
            raise UserError(
                f"{folder}: holds images ({first_few(content.images)}) and shards ({first_few(shards)}); name one "
                f"kind: the shards as {shards[0].parent}/*{shards[0].suffix}, or a list (.txt) of the images"
            )
        units = find_units(args.source)
        notes = [say_unread(content.unread)] if content.unread else ()
    else:
        found = find_images([str(folder)], prompts=False)
        units = folder_units(folder, [file.path for file in found.files], args.lines)
        notes = found.notes()
    if process.rank == 0:
        for note in notes:
            say(process, f"note: {note}")
    return units


def note_strays(process: Process, out: Path, manifest: dict[str, Any]) -> None:
    """Say which results in the folder are not of this job as it is now."""
    if others := strays(out, manifest):
        advice = "the source or --lines has changed since; delete them, or read those of manifest.json only"
        say(
            process,
            f"note: {out / RESULTS} has {counted(len(others), 'file')} of other units ({first_few(others)}): {advice}",
        )


def run_of(segmenter: Segmenter, labels: Sequence[Label], units: Sequence[Unit]) -> dict[str, Any]:
    """What decides the results: equal in all processes of a job."""
    import dataclasses

    from pacl.models import identity

    model = segmenter.model
    return {
        "labels": [[label.name, list(label.prompts)] for label in labels],
        "model": {"clip": model.config.backbone, **identity.whole(model)},
        "settings": {**dataclasses.asdict(segmenter.resolved_settings()), **segmenter.contents},
        BASE: next((str(unit.base) for unit in units if unit.base is not None), None),
    }


def work(
    folder: JobFolder, units: Sequence[Unit], query: EncodedQuery, segmenter: Segmenter, process: Process, workers: int
) -> int:
    """Do the units that can be claimed, say each, and return their number."""
    start, done, images = time.monotonic(), 0, 0
    for unit in process.ordered(units):
        with folder.claim(unit) as is_free:
            if not is_free:
                continue
            problems: list[str] = []
            result = folder.write(unit, records(unit, query, segmenter, workers, problems), problems)
        done, images = done + 1, images + result.images
        say(process, f"{unit.name}: {said_of(result)}; {images / (time.monotonic() - start):.3g} images/s")
    return done


def records(
    unit: Unit, query: EncodedQuery, segmenter: Segmenter, workers: int, problems: list[str]
) -> Iterator[dict[str, Any]]:
    """The results of the images of a unit, in order."""
    from pacl.cli.batches import segment_all

    for image, outcome in segment_all(
        unit.images(problems), query, segmenter, JobImage.decode, record_of, workers=workers
    ):
        yield {"image": image.name, "error": str(outcome)} if isinstance(outcome, UserError) else outcome


def record_of(image: JobImage, pixels: np.ndarray, found: Segmentation) -> dict[str, Any]:
    """The record of `pacl segment`, without what all images have in common, and of the labels that have pixels."""
    record = describe(image.name, found, {}, {"rle": FORMATS["rle"].entry}, {})  # type: ignore[dict-item]
    for common in ("model", "settings", "files"):
        del record[common]
    record["labels"] = [
        {key: value for key, value in label.items() if key != "prompts"} for label in record["labels"] if label["share"]
    ]
    record["background"] = record["background"]["share"]
    return record


def said(counts: dict[str, Any]) -> str:
    """Counts of a job in words."""
    failed = f", {counts['failed']} of them failed" if counts["failed"] else ""
    problems = f", {counted(counts['problems'], 'problem')}" if counts["problems"] else ""
    return f"{counted(counts['images'], 'image')}{failed}{problems}"


def said_of(done: Done) -> str:
    """Counts of a unit in words, and its first problem."""
    first = f" ({done.problems[0]})" if done.problems else ""
    return said({"images": done.images, "failed": done.failed, "problems": len(done.problems)}) + first


def say(process: Process, message: str) -> None:
    """One line on standard error, with the process's number where there are several."""
    say_as(PROG, f"[{process.rank}] {message}" if process.count > 1 else message)


if __name__ == "__main__":
    run_verb(PROG, main)
