"""Classify images by words: ``python -m pacl.classify IMAGE_OR_FOLDER... LABEL... [options]``."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacl.class_files import say_lists
from pacl.cli.image_scores import DIGITS, ScoreImages, add_score, check_score, load_scorer, score_files
from pacl.cli.inputs import FoundImages, find_images, images_and_prompts
from pacl.cli.messages import need_output, printing, prints_utf8, run_verb, shown_warnings
from pacl.cli.messages import say as say_as
from pacl.cli.model import add_model
from pacl.cli.parser import Once, check_unused, new_parser
from pacl.cli.table import shorten
from pacl.errors import WORD_WARNINGS, ArgumentError, ImageWarning, UserError
from pacl.models.device import choose_device
from pacl.printing import counted, decimals, escaped, printable, rounded
from pacl.prompts import check_labels, parse_prompt, read_classes

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


PROG = "pacl classify"
say = partial(say_as, PROG)

USAGE = "pacl classify IMAGE_OR_FOLDER... LABEL... [options]"

EXAMPLES = """\
examples:
  pacl classify dog.jpg "a dog" "a cat" "a horse"
  pacl classify photos/ "a dog;a puppy=dog" "a cat=cat"      a folder; synonyms; labels of their own
  pacl classify photos/ --classes classes.txt --templates imagenet --top 3
  pacl classify photos/ --classes classes.txt --csv > labels.csv
  pacl classify photos/ --model probes/mine               the classes of a probe of pacl probe; no labels

The probabilities of an image are the softmax over the labels of logit scale times score: 1 in all, also where none of
the labels fits.

exit codes: 0 done; 1 some images failed or are in formats that are not read; 2 stopped by a mistake named in one line
"""

TOP = 5  # labels of an image that are printed without --top
WIDTH = 40  # characters of a label in the table
BAR = 30  # characters of the bar of probability 1


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    parser = new_parser(PROG, "Classify images by words.", usage=USAGE, epilog=EXAMPLES)
    parser.add_argument("words", nargs="*", help="images, folders of images (with subfolders), and labels")
    words = parser.add_argument_group("labels")
    words.add_argument("--prompt", action="append", default=[], help="a label, whatever it looks like; repeatable")
    words.add_argument(
        "--classes",
        metavar="FILE",
        action=Once,
        help="text file with one label per line, or another list, as for pacl segment",
    )
    results = parser.add_argument_group("results")
    results.add_argument(
        "--top",
        metavar="K",
        type=int,
        help=f"the K most probable labels of each image (default: {TOP}; all with --json and --csv)",
    )
    how = results.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print a line of JSON for each image")
    how.add_argument("--csv", action="store_true", help="print a line of CSV for each image and label")
    add_score(parser.add_argument_group("score"), precision="fp32; of a probe, its own")
    add_model(parser.add_argument_group("model"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything that needs no model, load the model, classify the images.

    Returns:
        0, or 1 when some of several images failed.

    Raises:
        UserError: whatever is wrong with the words, the flags, the model, or the only image.
    """
    with shown_warnings(PROG, ImageWarning, *WORD_WARNINGS):
        parser = build_parser()
        return classify(parser.parse_intermixed_args(argv), parser)


def classify(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """`main` for parsed words and flags, and what parsed them."""
    if args.top is not None and args.top < 1:
        raise ArgumentError("top", args.top, "must be at least 1")
    need_output()
    if is_probe(args.model):
        return classify_with_probe(args, parser)
    check_score(args)
    sources, prompts, doubtful = images_and_prompts(args.words)
    labels = [parse_prompt(prompt) for prompt in [*prompts, *args.prompt]]
    labels += read_classes(args.classes) if args.classes else []
    hints = [f'"{word}" exists here and is taken for an image; --prompt "{word}" makes it a label' for word in doubtful]
    if not sources:
        raise UserError('no image: name one or a folder of them, as in pacl classify image.jpg "a dog" "a cat"')
    found = find_images(sources)
    listed = say_lists([prompt for label in labels for prompt in label.prompts])
    if len(labels) < 2:
        example = f'name what it may show, as in pacl classify {sources[0]} "a dog" "a cat"'
        count = "one label alone always has probability 1" if labels else "no labels"
        raise UserError(f"{count}: {'; '.join(filter(None, [listed, *hints])) or example}")
    check_labels(labels)
    for hint in [*hints, *found.notes(), listed]:
        if hint:
            say(f"note: {hint}")
    scorer = load_scorer(args)
    encoded = scorer.encode(labels)

    def score(images: Sequence[np.ndarray]) -> Tensor:
        return scorer.scores(images, encoded)

    return run(found, Classifier(encoded.names, scorer.score, score, scorer.probabilities), args)


@dataclass(frozen=True)
class Classifier:
    """What gives images probabilities.

    Attributes:
        names: of its C labels.
        score: name of its score.
        unit: what its scores are, for a table.
        scores: images -> scores, float32 [I, C].
        probabilities: scores [I, C] or [C] -> probabilities.
    """

    names: Sequence[str]
    score: str
    scores: ScoreImages
    probabilities: Callable[[Tensor], Tensor]
    unit: str = "score"


def is_probe(model: str) -> bool:
    """Whether a model's name is the folder of a probe."""
    if not os.path.isdir(model):
        return False
    from pacl.models.config import PROBE  # takes seconds

    return os.path.isfile(os.path.join(model, PROBE))


def classify_with_probe(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """`main` where the model is a probe, which has classes of its own.

    Raises:
        UserError: labels or flags that a probe has no use for, or a probe that cannot be used.
    """
    sources, prompts, _ = images_and_prompts(args.words)
    if labels := [*prompts, *args.prompt, *([args.classes] if args.classes else [])]:
        raise UserError(f"{labels[0]}: {args.model} is a probe and has classes of its own; leave out labels")
    check_unused(args, parser, ("score", "weight", "templates", "dense"), f"with a probe ({args.model})")
    if not sources:
        raise UserError(f"no image: name one or a folder of them, as in pacl classify image.jpg --model {args.model}")
    found = find_images(sources, prompts=False)
    for note in found.notes():
        say(f"note: {note}")
    device = choose_device(args.device)

    from pacl.classification.probe import Probe

    probe = Probe.load(Path(args.model), device=device)
    probe.precision = args.precision or probe.precision
    return run(found, Classifier(probe.classes, "probe", probe.scores, probe.probabilities, "logit"), args)


def run(found: FoundImages, classifier: Classifier, args: argparse.Namespace) -> int:
    """Print the labels of each image; of several, a bad one is reported and skipped.

    Returns:
        0, or 1 when some images failed or are in formats that are not read.

    Raises:
        UserError: the only image failed, or standard output cannot be written.
    """
    files, failed = found.files, 0
    top = args.top or (len(classifier.names) if args.json or args.csv else TOP)
    table = csv.writer(sys.stdout, lineterminator="\n")
    if args.csv:
        with printing():
            table.writerow(["image", "label", "probability", "score"])
    for number, (file, _, scores) in enumerate(score_files(files, classifier.scores), start=1):
        if isinstance(scores, UserError):
            if len(files) == 1:
                raise scores
            failed += 1
            say(f"error: [{number}/{len(files)}] {scores}")
            continue
        image, ranked = printable(file.path), ranking(scores, classifier)[:top]
        with printing():
            if args.json:
                record = {"image": image, "score": classifier.score, "labels": ranked}
                print(json.dumps(record, ensure_ascii=not prints_utf8(), allow_nan=False), flush=True)
            elif args.csv:
                table.writerows([image, *each.values()] for each in ranked)
                sys.stdout.flush()
            else:
                shown = escaped(file.path)
                for row in rows(shown, ranked, classifier.unit) if len(files) == 1 else [line(shown, ranked)]:
                    print(row, flush=True)
    if len(files) > 1:
        unread = f", {len(found.unread)} not read" if found.unread else ""
        if failed or unread:
            say(f"{len(files) - failed} of {counted(len(files), 'image')} classified, {failed} failed{unread}")
    return 1 if failed or found.unread else 0


def ranking(scores: Tensor, classifier: Classifier) -> list[dict[str, Any]]:
    """The labels of an image, the most probable first, each with its probability and its score."""
    probabilities = classifier.probabilities(scores)
    order = scores.argsort(descending=True, stable=True).tolist()
    return [
        {
            "label": classifier.names[i],
            "probability": round(float(probabilities[i]), DIGITS),
            "score": rounded(float(scores[i]), DIGITS),
        }
        for i in order
    ]


def rows(image: str, ranked: Sequence[dict[str, Any]], unit: str) -> Iterator[str]:
    """A table of one image: probability, score and a bar for each label."""
    wide = max(6, len(unit))
    width = max(len("label"), *(len(shorten(each["label"], WIDTH)) for each in ranked))
    yield image
    yield f"    {'label':<{width}}  probability  {unit:>{wide}}"
    for each in ranked:
        bar = "█" * round(BAR * each["probability"])
        share, score = each["probability"], each["score"]
        yield f"    {shorten(each['label'], WIDTH):<{width}}  {share:11.1%}  {decimals(score, 3, wide)}  {bar}".rstrip()


def line(image: str, ranked: Sequence[dict[str, Any]]) -> str:
    """The labels of one image of several."""
    return f"{image}: " + ", ".join(f"{shorten(each['label'], WIDTH)} {each['probability']:.1%}" for each in ranked)


if __name__ == "__main__":
    run_verb(PROG, main)
