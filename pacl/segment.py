"""Segment pictures by words: ``python -m pacl.segment IMAGE_OR_FOLDER... PROMPT... [options]``."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args, get_type_hints

from pacl.cli.inputs import Picture, find_pictures, split_words
from pacl.errors import UnfamiliarWords, UserError, run_verb
from pacl.files import make_folder
from pacl.prompts import Label, check_labels, fill, get_templates, parse_prompt, read_classes, unknown_words
from pacl.results.writer import DEFAULT_FORMATS, FORMATS, Writer, line, table
from pacl.segmentation.settings import SegmenterSettings

if TYPE_CHECKING:
    import torch

    from pacl.segmentation.segmenter import Segmenter

MEMORY_ADVICE = "a smaller --size, --window, a larger --stride or --precision bf16"
EXIT_PIPE_CLOSED = 141  # what a shell reports of a program that ended so

USAGE = "pacl segment IMAGE_OR_FOLDER... PROMPT... [options]"

EXAMPLES = """\
examples:
  pacl segment dog.jpg "a dog" "grass" "sky"
  pacl segment dog.jpg "a dog"                     one prompt: the model's own words compete with it
  pacl segment photos/ "a dog=animal" "cat;kitten" a folder; a label of its own; synonyms
  pacl segment photos/ --classes classes.txt       a label a line
  pacl segment dog.jpg "a dog" "grass" --stride 4 --refine 10      finer masks
  pacl segment big.jpg "a car" "a road" --size 672 --window 224    sliding windows
  pacl segment dog.jpg "a dog" --json --format rle | jq            for other programs

Words that end in an image suffix, hold a path separator or name something that exists here are pictures or
folders; all others are prompts. --prompt makes any word a prompt.

exit codes: 0 done, 1 some pictures of several failed, 2 nothing done because of a mistake named in one line
"""


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage text that would bury it."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: -"):
            flag = message.split()[2].partition("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            close = difflib.get_close_matches(flag, known, n=1, cutoff=0.7)
            message = f"{flag}: no such option; " + (f"did you mean {close[0]}?" if close else "see --help")
        raise UserError(message.removeprefix("argument "))


class Window(argparse.Action):
    """``--window CROP/STEP`` says both at once."""

    def __call__(self, parser: Any, namespace: Any, value: Any, option: str | None = None) -> None:
        crop, slash, step = value.partition("/")
        if not crop.isdecimal() or (slash and not step.isdecimal()):
            raise UserError(f"{option} {value}: is CROP or CROP/STEP in pixels, such as 224/112")
        namespace.window = int(crop)
        if slash:
            namespace.window_step = int(step)


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags; every field of `SegmenterSettings` is one of the latter."""
    parser = OneLineParser(
        prog="pacl segment",
        usage=USAGE,
        description="Segment pictures by words.",
        epilog=EXAMPLES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", help="pictures, folders of pictures (with subfolders), and prompts")
    words = parser.add_argument_group("what to look for")
    words.add_argument("--prompt", action="append", default=[], help="a prompt, whatever it looks like; repeatable")
    words.add_argument(
        "--classes", metavar="FILE", help="text file with a label a line: name, a;synonym or prompt=name"
    )
    results = parser.add_argument_group("results")
    results.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="folder for them (default: out)")
    results.add_argument(
        "--format",
        metavar="NAME[,NAME]",
        default=",".join(DEFAULT_FORMATS),
        help=f"what is written for each picture (default: {','.join(DEFAULT_FORMATS)}). "
        + "; ".join(f"{name}: {what}" for name, what in FORMATS.items()),
    )
    results.add_argument("--json", action="store_true", help="print only the record of each picture, one JSON a line")
    add_model(parser.add_argument_group("model"))
    add_settings(parser.add_argument_group("how"))
    return parser


def add_model(group: argparse._ArgumentGroup) -> None:
    """``--model``, ``--dense`` and ``--device``."""
    group.add_argument(
        "--model",
        default="auto",
        help="auto (OpenAI's ViT-B/16 when it is in the cache or can be downloaded, else photos, else bundled), "
        "photos, bundled, the folder of a trained head, open_clip:NAME/TAG, hf-hub:ORG/REPO or local-dir:PATH "
        "(default: auto)",
    )
    group.add_argument(
        "--dense",
        metavar="VARIANT",
        help="of the image tower's last block: clip, value, maskclip, sclip, clearclip or naclip; proxyclip for a CLIP "
        "with a second image tower, CLIP,proxy=timm:NAME (default: what the head was trained on; for a CLIP without a "
        "head proxyclip where it has a proxy, else naclip)",
    )
    group.add_argument(
        "--device", default="auto", help="auto (cuda if there is one), cpu, cuda, cuda:N or mps (default: auto)"
    )


def add_settings(group: argparse._ArgumentGroup) -> None:
    """A flag for every field of `SegmenterSettings`: its name, type, default and description are the field's own."""
    from docstring_parser import parse_from_object

    texts = {param.arg_name: param.description or "" for param in parse_from_object(SegmenterSettings).params}
    hints = get_type_hints(SegmenterSettings)
    for field in dataclasses.fields(SegmenterSettings):
        hint = hints[field.name]
        kinds = [kind for kind in get_args(hint) or [hint] if kind is not type(None)]
        text = texts[field.name].replace("None:", "Default:").replace("%", "%%")
        if field.default is not None:
            text += f" (default: {field.default})"
        if field.name == "window":
            group.add_argument("--window", metavar="CROP[/STEP]", action=Window, help=text)
        elif field.name == "scales":
            group.add_argument("--scales", metavar="X[,X...]", type=parse_scales, help=text)
        elif isinstance(kinds[0], str):  # Literal
            group.add_argument(f"--{field.name}", choices=kinds, default=field.default, help=text)
        else:
            metavar = {int: "N", float: "X", str: "TEXT"}[kinds[0]]
            group.add_argument(f"--{field.name}", type=kinds[0], metavar=metavar, default=field.default, help=text)


def parse_scales(text: str) -> tuple[float, ...]:
    """``1,2`` -> (1.0, 2.0).

    Raises:
        argparse.ArgumentTypeError: No numbers with commas between them.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number or several such as 1,2") from None


def parse_formats(text: str) -> tuple[str, ...]:
    """``overlay,mask`` -> its names, each once.

    Raises:
        UserError: None, or one that there is not.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        raise UserError(f"--format {text}: choose from {', '.join(FORMATS)}; several with commas between them")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything that can be checked in an instant, load the model, segment picture by picture.

    Returns:
        0, or 1 when some pictures of several failed.

    Raises:
        UserError: Whatever is wrong with the words, the flags, the model, or the only picture.
    """
    args = build_parser().parse_intermixed_args(argv)
    settings = SegmenterSettings(**{f.name: getattr(args, f.name) for f in dataclasses.fields(SegmenterSettings)})
    formats = parse_formats(args.format)
    sources, prompts, doubtful = split_words(args.words)
    labels = [parse_prompt(prompt) for prompt in [*prompts, *args.prompt]]
    labels += read_classes(args.classes) if args.classes else []
    hints = [
        f'"{word}" exists here and is taken for pictures; --prompt "{word}" makes it a prompt' for word in doubtful
    ]
    if not sources:
        raise UserError('no picture: name one or a folder of them, as in pacl segment image.jpg "a dog"')
    pictures = find_pictures(sources, args.out)
    if not labels:
        example = f'say what to look for, as in pacl segment {sources[0]} "a dog"'
        raise UserError(f"no prompt: {'; '.join(hints) or example}")
    for hint in hints:
        say(f"note: {hint}")
    check_labels(labels)
    get_templates(settings.templates)
    make_folder(args.out)

    segmenter = load_segmenter(args.model, args.dense, args.device, settings)
    warn_of_unknown_words(segmenter, labels)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", UnfamiliarWords)
        segmenter.predict_batch([], labels)  # no picture yet: what is wrong with the words shows now, and only once
    for warning in heard:
        say(f"warning: {warning.message}")
    config = segmenter.model.config
    model = {"name": args.model, "clip": config.backbone, "dense": config.dense, "trained": config.trained}
    try:
        return run(pictures, labels, segmenter, Writer(args.out, formats, model), as_json=args.json)
    except BrokenPipeError:  # whoever read the output, `head` say, has enough; nor must Python's last flush complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED


def load_segmenter(name: str, dense: str | None, device: str, settings: SegmenterSettings) -> Segmenter:
    """Import torch and load the model; a misspelt variant or device is refused before any weights are read."""
    target = choose_device(device)
    from pacl.models.loading import load_model
    from pacl.models.towers.dense import NAMES
    from pacl.segmentation.segmenter import Segmenter

    if dense is not None and dense not in NAMES:
        raise UserError(f"--dense {dense}: choose from {', '.join(NAMES)}")
    return Segmenter(load_model(name, dense=dense, device=target), settings)


def choose_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is CUDA where there is one.

    Raises:
        UserError: No such device, here or at all.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")  # one more that nothing can be computed on
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"--device {name}: choose auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: torch finds {torch.cuda.device_count()} CUDA devices here; use cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"--device {name}: torch finds no such device here; use cpu")
    return device


def warn_of_unknown_words(segmenter: Segmenter, labels: Sequence[Label]) -> None:
    """Name the words of the prompts that a model with a closed vocabulary was never taught."""
    prompts = [prompt for label in labels for prompt in label.prompts] + list(segmenter.background.prompts)
    vocabulary = segmenter.model.clip.vocabulary
    unknown = unknown_words([*prompts, *(fill(template, "") for template in segmenter.templates)], vocabulary)
    if vocabulary is not None and unknown:
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        say(
            f"warning: this model knows {len(vocabulary)} words and not {', '.join(map(repr, unknown[:10]))}{more}: "
            "expect nonsense for them (its model card lists the words)"
        )


def run(
    pictures: Sequence[Picture], labels: Sequence[Label], segmenter: Segmenter, writer: Writer, *, as_json: bool
) -> int:
    """Segment the pictures one after the other; of several, a bad one is told of and passed over."""
    from rich.console import Console

    from pacl.images import open_image

    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    start, failed = time.monotonic(), 0
    for number, picture in enumerate(pictures, start=1):
        progress = f"[{number}/{len(pictures)}]"
        try:
            image = open_image(picture.path)
            with memory_advice(str(picture.path), MEMORY_ADVICE):
                segmenter.set_image(image)
                found = segmenter.predict(labels)
                record = writer.write(picture, image, found)
        except UserError as error:
            if len(pictures) == 1:
                raise
            failed += 1
            say(f"error: {progress} {error}")
            continue
        if as_json:
            print(json.dumps(record, ensure_ascii=False, allow_nan=False), flush=True)
        if len(pictures) > 1:
            left = (time.monotonic() - start) / number * (len(pictures) - number)
            more = f" ({left:.0f} s left)" if left >= 1 else ""
            console.print(f"{progress} {record['image']}: {line(record)}{more}", markup=False)
        elif not as_json:
            for row in table(record):
                console.print(row)
            console.print("  " + "\n  ".join(file for kind in record["files"].values() for file in kind), markup=False)
    if len(pictures) > 1:
        counts = f"{len(pictures) - failed} of {len(pictures)} pictures segmented"
        console.print(f"{counts}, {failed} failed; results in {writer.out}", markup=False)
    return 1 if failed else 0


@contextmanager
def memory_advice(where: str, advice: str) -> Iterator[None]:
    """Turn the several ways in which memory runs out into one line: where, and what to try.

    Raises:
        UserError: It ran out.
    """
    import torch

    try:
        yield
    except Exception as error:  # OpenCV's is of no kind but its own
        told = any(words in str(error) for words in ("allocate memory", "Insufficient memory"))
        if isinstance(error, UserError) or not (told or isinstance(error, (MemoryError, torch.OutOfMemoryError))):
            raise
        raise UserError(f"{where}: out of memory; try {advice}") from None


def say(message: str) -> None:
    """One line on standard error."""
    print(f"pacl segment: {' '.join(message.split())}", file=sys.stderr)


if __name__ == "__main__":
    run_verb("segment", main)
