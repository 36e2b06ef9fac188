"""Segment images and videos by words: ``python -m pacl.segment IMAGE_OR_FOLDER... PROMPT... [options]``."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacl.class_files import say_renumbered
from pacl.cli.hints import rules_of, say_swallowed
from pacl.cli.inputs import FoundImages, ImageFile, find_images, images_and_prompts
from pacl.cli.interruptions import Interruptions
from pacl.cli.messages import need_output, printing, prints_utf8, run_verb, shown_warnings
from pacl.cli.messages import say as say_as
from pacl.cli.model import add_model, load
from pacl.cli.parser import Once, OneLineParser, new_parser
from pacl.cli.settings import add_settings, settings_of
from pacl.cli.table import record_line, record_table
from pacl.cli.video import add_video, segment_videos, video_run
from pacl.errors import (
    WORD_WARNINGS,
    ImageWarning,
    UserError,
)
from pacl.files import check_folder, is_out_of_space, make_folder
from pacl.printing import counted, escaped
from pacl.prompts import Label, check_labels, get_templates, parse_prompt, read_classes
from pacl.results.folder_dataset import FolderDataset
from pacl.results.formats import DEFAULT_FORMATS, FORMATS, check_formats
from pacl.results.kinds import SEGMENTED, check_kind
from pacl.results.labelme import FOLDER as LABELME
from pacl.results.places import folders_of
from pacl.results.records import ENDINGS, names_of, read_record
from pacl.results.removing import Removed
from pacl.results.replacing import check_free, check_replaceable
from pacl.results.sharing import check_same_labels, check_same_model, of_other_labels
from pacl.results.writer import Writer
from pacl.segmentation.background import LIMITED, SPELLINGS, parse_background
from pacl.segmentation.image_doubts import COMPARED, swallowed, unlike_drawn_scenes
from pacl.segmentation.settings import SegmenterSettings
from pacl.video.settings import DEFAULT_VIDEO_FORMATS, VIDEO_FORMATS

if TYPE_CHECKING:
    from rich.console import Console

    from pacl.segmentation.query import EncodedQuery
    from pacl.segmentation.segmenter import Segmenter

PROG = "pacl segment"
say = partial(say_as, PROG)

OUT = Path("out")
"""Where results are written by default: a place to try things out, where runs of other labels may follow each other."""

USAGE = "pacl segment IMAGE_OR_FOLDER... PROMPT... [options]"

EXAMPLES = """\
examples:
  pacl segment dog.jpg "a dog" "grass" "sky"
  pacl segment dog.jpg "a dog"                     one prompt: the model's own words compete with it
  pacl segment photos/ "a dog=animal" "cat;kitten" a folder; a label of its own; synonyms
  pacl segment photos/ --classes classes.txt       a label a line
  pacl segment dog.jpg "a dog" "grass" --refine 10                 edges that follow the image
  pacl segment dog.jpg "a dog" "grass" --stride 4  (CLIPs)         finer masks
  pacl segment big.jpg "a car" "a road" --size 672 --window 224    sliding windows
  pacl segment dog.jpg "a dog" --json --format rle | jq            for other programs
  pacl segment clip.mp4 "a dog" "grass" --step 5                   a video, every fifth frame

Words that look like the name of a file, contain a path separator or name something that exists here are images or
folders; all others are prompts. --prompt makes any word a prompt.

exit codes: 0 done; 1 some images failed or are in formats that are not read; 2 stopped by a mistake named in one line
"""


def build_parser() -> OneLineParser:
    """The command's words and flags; every field of `SegmenterSettings` is one of the latter."""
    parser = new_parser(PROG, "Segment images and videos by words.", usage=USAGE, epilog=EXAMPLES)
    parser.add_argument("words", nargs="*", help="images, folders of images (with subfolders), videos, and prompts")
    words = parser.add_argument_group("what to look for")
    words.add_argument("--prompt", action="append", default=[], help="a prompt, whatever it looks like; repeatable")
    words.add_argument(
        "--classes",
        metavar="FILE",
        action=Once,
        help="text file with one label per line: name, a;synonym or prompt=name; or a list of names as JSON, YAML "
        "(YOLO's names) or a label map of CVAT",
    )
    add_model(parser.add_argument_group("model"), many=True)
    how = parser.add_argument_group("how")
    results = parser.add_argument_group("results")
    results.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=OUT,
        help="folder for them (default: %(default)s). A folder that you name belongs to one list of labels",
    )
    results.add_argument(
        "--overwrite", action="store_true", help="replace all results of earlier runs that are in the folder"
    )
    results.add_argument(
        "--format",
        metavar="NAME[,NAME]",
        action=Once,
        help=f"what is written for each image (default: {','.join(DEFAULT_FORMATS)}). "
        + "; ".join(f"{name}: {each.help}" for name, each in FORMATS.items())
        + f". Of a video (default: {','.join(DEFAULT_VIDEO_FORMATS)}): "
        + "; ".join(f"{name}: {text}" for name, text in VIDEO_FORMATS.items()),
    )
    results.add_argument(
        "--json",
        action="store_true",
        help="print the record of each image as a line of JSON instead of a table; the files are written all the same",
    )
    add_video(parser.add_argument_group("videos"))
    add_settings(how, parser.add_argument_group("rarely needed"))
    parser.values["--background"] = SPELLINGS
    parser.instead |= {f"--{rule}": f"--background {rule}:" for rule in LIMITED}
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything that needs no model, load the model, segment the images.

    Returns:
        0, or 1 when some of several images failed.

    Raises:
        UserError: whatever is wrong with the words, the flags, the model, or the only image.
    """
    with shown_warnings(PROG, ImageWarning, *WORD_WARNINGS):
        return segment(build_parser().parse_intermixed_args(argv))


def segment(args: argparse.Namespace) -> int:
    """`main` for parsed words and flags."""
    if args.json:
        need_output()
    settings = settings_of(args)
    formats = DEFAULT_FORMATS if args.format is None else check_formats(args.format, "format")
    sources, prompts, doubtful = images_and_prompts(args.words)
    labels, hints = labels_and_hints(args, prompts, doubtful)
    if not sources:
        raise UserError('no image: name one or a folder of them, as in pacl segment image.jpg "a dog"')
    found = find_images(sources, args.out, joined=None if args.overwrite else args.out, videos=True)
    if not labels:
        example = f'say what to look for, as in pacl segment {sources[0]} "a dog"'
        raise UserError(f"no prompt: {'; '.join(hints) or example}")
    check_labels(labels)
    get_templates(settings.templates)
    names = [label.name for label in labels]
    sources_of = {file.name: file.path for file in [*found.files, *found.videos]}
    check_kind(args.out, SEGMENTED, "out")
    check_free(args.out, sources_of)
    check_replaceable(args.out, [file.name for file in found.files], formats, names)
    video_formats = DEFAULT_VIDEO_FORMATS if args.format is None else formats
    check_replaceable(args.out, [file.name for file in found.videos], video_formats, names, videos=True)
    pending_notes: list[str] = []  # notes on results, of which there may be none
    model = {} if args.model == "auto" else {"name": args.model}  # what is known before it is loaded
    one_set_of_labels = args.out != OUT and not args.overwrite  # and one model
    if one_set_of_labels:
        check_same_labels(args.out, names)
        check_same_model(args.out, model)
    elif not args.overwrite and (note := other_results(args, names, found)):
        pending_notes.append(note)
    check_folder(args.out)
    writer = Writer(args.out, formats, model, args.overwrite)
    # (on the model depends which rule `auto` is, not whether it is one)
    background = parse_background(settings.background).settle(len(labels), calibrated=True).kind != "none"
    videos = video_run(args, found, video_formats)
    images = {file.name: file.relative for file in found.files}
    writer.start(names, images, background=background)
    for hint in [*hints, *found.notes(), *filter(None, [named_from_several(writer, found)])]:
        say(f"note: {hint}")

    def flush_notes() -> None:
        if writer.replaced:  # (seldom: with thousands of images the set below is large)
            written = {args.out / f"{name}{ending}" for name in sources_of for ending in ENDINGS}
            if removed := set(writer.replaced) - written:
                pending_notes.append(f"removed {counted(len(removed), 'result')} of earlier runs")
            writer.replaced.clear()
        while pending_notes:
            say(f"note: {pending_notes.pop(0)}")

    segmenter = load_segmenter(args, settings)
    query = segmenter.prepare(labels)
    if one_set_of_labels:
        check_same_model(args.out, segmenter.about_model)
    writer.set_model({"name": args.model, **segmenter.about_model})
    make_folder(args.out)  # not before: a run that is refused leaves none
    try:
        code = run(found, query, segmenter, writer, flush_notes, as_json=args.json) if found.files else 0
        if videos is not None:
            console, alone = output(stderr=args.json), not found.files
            code |= segment_videos(
                found.videos, query, segmenter, videos, writer, console, say, flush_notes, alone=alone
            )
    finally:
        if writer.removed.images and not args.overwrite:
            say(f"note: {say_removed(writer.removed)}")
        if not (one_set_of_labels or args.overwrite) and (note := results_left(writer, names, sources_of)):
            say(f"note: {note}")
    return code


def labels_and_hints(
    args: argparse.Namespace, prompts: list[str], doubtful: list[str]
) -> tuple[list[Label], list[str]]:
    """The labels of the prompts and of ``--classes``, and notes on words that may have been meant differently."""
    labels = [parse_prompt(prompt) for prompt in [*prompts, *args.prompt]]
    hints = [
        f'"{word}" exists here and is taken for an image; --prompt "{word}" makes it a prompt' for word in doubtful
    ]
    if args.classes:
        own = read_classes(args.classes)
        hints += filter(None, [say_renumbered(args.classes, len(labels))])
        labels += own
    return labels, hints


def say_removed(removed: Removed) -> str:
    """A note on results of earlier runs that have gone; what has a new file of the same name is not among them."""
    files = [f"{counted(len(removed.files), 'file')} such as {min(removed.files)}"] if removed.files else []
    what = " and ".join([*files, *(f"the entries in {path}" for path in sorted(removed.datasets))])
    return (
        f"{counted(len(removed.images), 'earlier result')} had other prompts, settings, weights or images, or did not "
        f"state them; removed {what}: "
        "to keep the results of both runs, give each an --out of its own"
    )


def other_results(args: argparse.Namespace, labels: list[str], found: FoundImages) -> str | None:
    """A note that the default folder holds results of other labels beside those of this run."""
    own = {args.out / f"{file.name}.json" for file in found.files}
    own |= {args.out / f"{file.name}.jsonl" for file in found.videos}
    other = of_other_labels(args.out, labels, own)
    if other is None:
        return None
    results = f"results of other labels, such as {other[0].relative_to(args.out)}"
    return f"{args.out} also holds {results}; --overwrite removes all results of earlier runs in it"


def named_from_several(writer: Writer, found: FoundImages) -> str | None:
    """A note that images of a data set that refers to files are not all named from one folder."""
    datasets = [each for each in writer.datasets.values() if not isinstance(each, FolderDataset)]
    folders = folders_of(((file.path, file.relative) for file in found.files), datasets) if datasets else []
    if len(folders) < 2:
        return None
    which = " and ".join(each.path.name for each in datasets)
    return (
        f"{which}: paths of images start from {len(folders)} folders, such as {folders[0]} and {folders[1]}, but tools "
        "look in one; segment the folder that holds all of them, with a new --out"
    )


def results_left(writer: Writer, labels: list[str], images: Iterable[str]) -> str | None:
    """A note on earlier results of other labels that the run was to replace, and stopped or failed before."""
    if not writer.written:
        return None
    paths = (writer.out / f"{name}{ending}" for name in images if name not in writer.written for ending in ENDINGS)
    folders = [each for each in writer.datasets.values() if isinstance(each, FolderDataset)]
    dropped = {writer.out / f"{name}.json" for each in folders for name in each.dropped}
    left = [path for path in paths if (record := read_record(path)) and (names_of(record) != labels or path in dropped)]
    if not left:
        return None
    results = f"{counted(len(left), 'result')} of other labels or classes, such as {left[0].relative_to(writer.out)}"
    return f"{writer.out} still holds {results}, that were to be replaced: run the command again, or add --overwrite"


def load_segmenter(args: argparse.Namespace, settings: SegmenterSettings) -> Segmenter:
    """Import torch and load the model."""
    model = load(args)
    from pacl.segmentation.segmenter import Segmenter

    return Segmenter(model, settings)


def run(
    found: FoundImages,
    query: EncodedQuery,
    segmenter: Segmenter,
    writer: Writer,
    flush_notes: Callable[[], None],
    *,
    as_json: bool,
) -> int:
    """Segment the images, and print the outcome of each; of several, a bad one is reported and skipped.

    ``flush_notes`` is called after each result that is written.

    Returns:
        0, or 1 when some images failed or are in formats that are not read.

    Raises:
        UserError: the only image failed, or no further result can be written.
    """
    from pacl.cli.batches import segment_files

    outcomes = segment_files(found.files, query, segmenter, writer)
    progress = Progress(len(found.files), output(stderr=as_json), as_json)
    doubts = Doubts(segmenter, is_for_drawn_scenes=writer.model["name"] == "bundled")
    with Interruptions() as interruptions:
        try:
            for file, record in outcomes:
                if isinstance(record, UserError):
                    if len(found.files) == 1 and not found.videos:
                        raise record
                    progress.fail(record)
                    continue
                progress.done += 1
                flush_notes()
                doubts.look_at(file, record)
                progress.show(record)
        except BaseException as error:
            with interruptions.held(), suppress(UserError):  # what stopped the run matters more
                outcomes.close()  # the image that is being written is complete then
                writer.finish()
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                say(f"{len(writer.written)} of {counted(len(found.files), 'image')} done; results in {writer.out}")
            raise
    if doubts.swallowed_images:
        say(f"note: {say_swallowed(doubts.swallowed_images, progress.done, **rules_of(segmenter))}")
    progress.sum_up(found, writer, writer.finish())
    return 1 if progress.failed or found.unread else 0


class Doubts:
    """Images whose masks may mean little."""

    def __init__(self, segmenter: Segmenter, is_for_drawn_scenes: bool) -> None:
        self.model = segmenter.model
        self.prior = segmenter.resolved_settings().prior
        self.to_compare = COMPARED if is_for_drawn_scenes else 0  # images, with drawn scenes
        self.swallowed_images: dict[str, str] = {}  # with what covers each

    def look_at(self, file: ImageFile, record: Mapping[str, Any]) -> None:
        """Remember an image that one label covers; warn once if one of the first is unlike the model's training."""
        if what := swallowed({each["label"]: each["share"] for each in record["labels"]}, self.prior):
            self.swallowed_images[record["image"]] = what
        if self.to_compare:
            self.to_compare -= 1
            if unlike := unlike_drawn_scenes(self.model, file.path, file.path):
                self.to_compare = 0
                say(f"warning: {unlike}")


class Progress:
    """Prints the outcome of each image, and counts."""

    def __init__(self, total: int, console: Console, as_json: bool) -> None:
        self.total, self.console, self.as_json = total, console, as_json
        self.done, self.failed = 0, 0
        self.started = 0.0  # when the first image was complete, which takes longer than the others

    def _count(self) -> tuple[int, str]:
        self.started = self.started or time.monotonic()
        number = self.done + self.failed
        return number, f"[{number}/{self.total}]"

    def fail(self, error: UserError) -> None:
        """Report an image that failed.

        Raises:
            UserError: so would all others.
        """
        self.failed += 1
        _, count = self._count()
        if is_out_of_space(error):
            raise UserError(f"{count} {error}; {counted(self.done, 'image')} done")
        say(f"error: {count} {error}")

    def show(self, record: dict[str, Any]) -> None:
        """Print the record: as JSON, as a line where there are several images, or as a table."""
        number, count = self._count()
        with printing():
            if self.as_json:
                print(json.dumps(record, ensure_ascii=not prints_utf8(), allow_nan=False), flush=True)
            if self.total > 1:
                left = (time.monotonic() - self.started) / max(1, number - 1) * (self.total - number)
                more = f" ({left:.0f} s left)" if left >= 1 else ""
                self.console.print(f"{count} {escaped(record['image'])}: {record_line(record)}{more}", markup=False)
            elif not self.as_json:
                for row in record_table(record):
                    self.console.print(row)
                paths = [escaped(path) for kind in record["files"].values() for path in kind]
                if paths:
                    self.console.print("  " + "\n  ".join(paths), markup=False)

    def sum_up(self, found: FoundImages, writer: Writer, run_files: Mapping[str, Path]) -> None:
        """Print the files of the whole run and, of several images, how many are done."""
        with printing():
            for path in run_files.values():
                self.console.print(f"  {escaped(path)}", markup=False)
            if self.total > 1:
                if self.done and "labelme" in writer.formats:
                    self.console.print(f"  {escaped(writer.out / LABELME)}", markup=False)
                counts = f"{self.done} of {counted(self.total, 'image')} segmented, {self.failed} failed"
                unread = f", {len(found.unread)} not read" if found.unread else ""
                self.console.print(f"{counts}{unread}; results in {escaped(writer.out)}", markup=False)


def output(stderr: bool) -> Console:
    """Where results are printed; a reader that closes it raises `BrokenPipeError`."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise  # (rich calls this while it handles the error)

    return Output(stderr=stderr, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_verb(PROG, main)
