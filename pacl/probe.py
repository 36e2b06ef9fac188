"""Train a linear classifier on folders of images: ``python -m pacl.probe TRAIN_FOLDER [options]``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pacl.cli.messages import printing, run_verb, shown_warnings
from pacl.cli.messages import say as say_as
from pacl.cli.model import add_model
from pacl.cli.parser import new_parser
from pacl.cli.progress import tracked
from pacl.errors import WORD_WARNINGS, ArgumentError, ImageWarning, UserError
from pacl.files import check_folder
from pacl.models.precision import PRECISIONS
from pacl.printing import counted
from pacl.prompts import Label, get_templates
from pacl.results.kinds import check_kind
from pacl.training.run_files import PROBE_CURVE, PROBE_TABLE, check_unused, results_of

if TYPE_CHECKING:
    import numpy as np

    from pacl.classification.class_folders import ClassFolders
    from pacl.classification.encoded_folders import EncodedFolders
    from pacl.classification.few_shot import Accuracy
    from pacl.classification.logistic import Examples, Shots, Splits, Trained
    from pacl.models.model import PACL

PROG = "pacl probe"
say = partial(say_as, PROG)
USAGE = "pacl probe TRAIN_FOLDER [--test FOLDER | --holdout SHARE] --out FOLDER [options]"
EXAMPLES = """\
examples:
  pacl probe pets/ --out probes/pets      pets/cat/*.jpg, pets/dog/*.jpg, ...; a fifth of them is for the test
  pacl probe pets/train --test pets/test --shots 1,4,all --model photos --out probes/pets
  pacl classify photo.jpg --model probes/pets

The folder has a folder of images for each class. What is trained is a logistic regression on frozen features; the last
row of the table is the classifier that is saved.

exit codes: 0 done; 1 done, but some images could not be read; 2 stopped by a mistake named in one line
"""
HOLDOUT = 0.2
IN_USE = "choose another folder, or give --overwrite"


def build_parser() -> argparse.ArgumentParser:
    """The command's word and flags."""
    parser = new_parser(PROG, "Train a linear classifier on folders of images.", usage=USAGE, epilog=EXAMPLES)
    parser.add_argument("train", metavar="TRAIN_FOLDER", type=Path, help="a folder with a folder of images per class")
    data = parser.add_argument_group("data")
    tested = data.add_mutually_exclusive_group()
    tested.add_argument("--test", metavar="FOLDER", type=Path, help="test images, in folders of the same names")
    tested.add_argument(
        "--holdout", metavar="SHARE", type=float,
        help=f"without --test: share of each class that is tested on instead of trained on (default: {HOLDOUT})",
    )  # fmt: skip
    data.add_argument(
        "--shots", metavar="LIST",
        help="training images of each class; several numbers train several classifiers (default: those of "
        "1,2,4,8,16,all that the classes have images for)",
    )  # fmt: skip
    data.add_argument("--seeds", metavar="LIST", default="0,1,2", help="of the choice of few images (default: 0,1,2)")
    result = parser.add_argument_group("result")
    result.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="where the probe goes")
    result.add_argument("--overwrite", action="store_true", help="replace the probe that is there")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--features", choices=("pooled", "patches"), default="pooled",
        help="pooled: what the image tower makes of the whole image; patches: the mean of PACL's patch embeddings "
        "(default: pooled)",
    )  # fmt: skip
    model.add_argument(
        "--templates", metavar="NAME", default="none", help="of the zero-shot row, as for pacl classify (default: none)"
    )
    model.add_argument(
        "--precision", choices=PRECISIONS, default="fp32",
        help="arithmetic of the image tower; auto is bf16 where that is faster (default: fp32)",
    )  # fmt: skip
    add_model(model)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything that needs no model, encode the images, train, test, save.

    Returns:
        0, or 1 when some images could not be read.

    Raises:
        UserError: whatever is wrong with the flags, the folders or the model; then nothing is written.
    """
    with shown_warnings(PROG, ImageWarning, *WORD_WARNINGS):
        return probe(build_parser().parse_args(argv))


def probe(args: argparse.Namespace) -> int:
    """`main` for parsed words and flags."""
    shots = parse_shots(args.shots)
    seeds = parse_seeds(args.seeds)
    if args.holdout is not None and not 0 < args.holdout < 1:
        raise ArgumentError("holdout", args.holdout, "must be between 0 and 1, such as 0.2 for a fifth")
    if args.dense is not None and args.features == "pooled":
        raise ArgumentError("dense", args.dense, "has no effect on pooled features; give --features patches")
    if args.templates != "imagenet":  # these need open_clip, which takes seconds to import
        get_templates(args.templates)

    check_folder(args.out)  # the folders first: torch takes seconds to import
    check_kind(args.out, "probe", "out")
    if not args.overwrite:
        check_unused(args.out, results_of("probe"), "out", IN_USE)

    from pacl.classification.class_folders import ClassFolders, hold_out

    train = ClassFolders.read(args.train)
    test = ClassFolders.read(args.test, train.classes) if args.test else None

    from pacl.classification.logistic import check_installed
    from pacl.training.run_folder import RunFolder

    check_installed()
    for note in (*train.notes, *(test.notes if test else ())):
        say(f"note: {note}")
    if shots is not None:  # broken images are found later
        fit = train.labels if test else train.labels[hold_out(train.labels, share_of(args))[0]]
        split(args, fit, train.classes, shots, seeds)
    folder = RunFolder(args.out, "probe", "out", args.overwrite, False, IN_USE)
    with folder.claim():
        return run(args, train, test, shots, seeds)


def parse_shots(text: str | None) -> list[Shots] | None:
    """``1,4,all`` as a list; None stays None.

    Raises:
        ArgumentError: a part is neither a number from 1 nor ``all``.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if wrong := [part for part in parts if part != "all" and not (part.isascii() and part.isdigit() and int(part))]:
        raise ArgumentError("shots", text, f"{wrong[0]!r} is neither a number from 1 nor all; write them as 1,4,16,all")
    return [part if part == "all" else int(part) for part in dict.fromkeys(parts)]


def parse_seeds(text: str) -> list[int]:
    """``0,1,2`` as a list.

    Raises:
        ArgumentError: a part is no number from 0.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ArgumentError("seeds", text, "must be numbers from 0, such as 0,1,2")
    return list(dict.fromkeys(map(int, parts)))


def run(
    args: argparse.Namespace,
    train: ClassFolders,
    test: ClassFolders | None,
    shots: list[Shots] | None,
    seeds: list[int],
) -> int:
    """Encode, train, test, save and print; the folder of the results is claimed."""
    from pacl.classification.class_folders import hold_out
    from pacl.classification.encoded_folders import ImageEncoder, encode_folders
    from pacl.classification.few_shot import possible_shots
    from pacl.cli.model import load
    from pacl.models.precision import resolve_precision

    model = load(args)
    encoder = ImageEncoder(model, args.features, resolve_precision(args.precision, model.clip))
    show = partial(tracked, line=say)
    found = encode_folders(train, encoder, show(train.files, "images"))
    tested = encode_folders(test, encoder, show(test.files, "test images"), found.digests) if test else None
    report(found)
    if tested:
        report(tested)
        fit, measured, files = found.examples, tested.examples, tested.files
    else:
        first, second = hold_out(found.examples.labels, share_of(args))
        fit, measured = found.examples[first], found.examples[second]
        files = [found.files[i] for i in second]
    if not files:
        if args.test:
            raise UserError(f"{args.test}: no image is left to test on; give others than those that are trained on")
        raise UserError(f"{args.train}: no image is left to test on; classes need two or more")
    missing = [name for i, name in enumerate(train.classes) if i not in set(measured.labels.tolist())]
    if missing:
        say(f"note: no test images of {', '.join(missing[:5])}{', ...' * (len(missing) > 5)}")
    if shots is None:
        shots, too_few = possible_shots(fit.labels, train.classes)
        if too_few:
            reason = counting_held_out(args, too_few)
            say(f"note: trained on {', '.join(map(str, shots))} images of each class only: {reason}")
    splits = split(args, fit.labels, train.classes, shots, seeds)
    rows = baselines(model, args, train.classes, files, measured.labels)
    return finish(args, model, train, fit, measured, splits, rows, bool(found.broken or (tested and tested.broken)))


def share_of(args: argparse.Namespace) -> float:
    """The share of each class that is tested on, without ``--test``."""
    return HOLDOUT if args.holdout is None else args.holdout


def split(
    args: argparse.Namespace, labels: np.ndarray, classes: Sequence[str], shots: list[Shots], seeds: list[int]
) -> Splits:
    """`make_splits` of images that are not held out.

    Raises:
        UserError: a class has no or too few images; the message counts those that are held out, too.
    """
    from pacl.classification.logistic import make_splits

    try:
        return make_splits(labels, classes, shots, seeds)
    except ArgumentError as error:
        raise ArgumentError(error.argument, error.value, counting_held_out(args, error)) from None


def counting_held_out(args: argparse.Namespace, too_few: ArgumentError) -> str:
    """Why a class has too few images for some shots, and how many it needs where a share is held out before that."""
    from pacl.classification.class_folders import held_out
    from pacl.classification.logistic import images_needed

    if args.test:
        return too_few.reason
    share, needed = share_of(args), images_needed(int(too_few.value))  # type: ignore[call-overload]
    total = int((needed - 0.5) / (1 - share))  # or a few more, by rounding
    while total - held_out(total, share) < needed:
        total += 1
    return f"{too_few.reason}; with those held out for the test (--holdout {share:g}) {total}, or give --test"


def finish(
    args: argparse.Namespace,
    model: PACL,
    folders: ClassFolders,
    train: Examples,
    test: Examples,
    splits: Splits,
    rows: list[Accuracy],
    failed: bool,
) -> int:
    """Train and test the classifiers, save the last one, and print the table below ``rows``."""
    import numpy as np

    from pacl.classification.few_shot import accuracy_of, ordered, probe_accuracies
    from pacl.classification.probe import make_probe
    from pacl.files import atomic_write, write_together
    from pacl.images import save_image
    from pacl.models.precision import resolve_precision

    right: dict[Shots, list[np.ndarray]] = {}
    kept: dict[Shots, tuple[int, Trained]] = {}
    runs = probe_accuracies(train, test, len(folders.classes), splits)
    for shots, seed, trained, own in tracked(runs, "classifiers", len(ordered(splits)), line=say):
        right.setdefault(shots, []).append(own)
        kept.setdefault(shots, (seed, trained))
    rows += [accuracy_of(str(shots), np.stack(own), test.labels) for shots, own in right.items()]
    last, (seed, trained) = list(kept.items())[-1]
    name = model.name or args.model
    saved = make_probe(
        model,
        model_name(name),
        folders.classes,
        args.features,
        trained,
        resolve_precision(args.precision, model.clip),
        shots=last,
        seed=seed,
        train=str(args.train),
        test=None if args.test is None else str(args.test),
        holdout=None if args.test else share_of(args),
        test_images=len(test.labels),
        results=[row.to_json() for row in rows],
    )
    features = f"{args.features} features of {name}"
    text = table(rows, len(test.labels), len(folders.classes), features)
    with write_together():
        saved.save(args.out)
        with atomic_write(args.out / PROBE_TABLE) as aside:
            aside.write_text(f"# Accuracy of a linear probe\n\n{text}", encoding="utf-8")
        save_image(args.out / PROBE_CURVE, curve(rows, features))
    with printing():
        print(text, end="")
        print(f"\n{args.out}: to use it, pacl classify IMAGES --model {args.out}")
    return 1 if failed else 0


def report(found: EncodedFolders) -> None:
    """Say what was left out."""
    for note in found.notes:
        say(f"note: {note}")
    for error in found.broken:
        say(f"warning: skipped: {error}")


def model_name(name: str) -> str:
    """A name that `load_model` takes, so that it takes it in any folder."""
    from pacl.models.config import SHIPPED

    prefix = "local-dir:" if name.startswith("local-dir:") else ""
    path = Path(name.removeprefix(prefix)).expanduser()
    return f"{prefix}{path.resolve()}" if name not in SHIPPED and path.is_dir() else name


def baselines(
    model: PACL, args: argparse.Namespace, classes: Sequence[str], files: Sequence[Path], labels: np.ndarray
) -> list[Accuracy]:
    """Chance, and zero-shot classification of the test images by the names of the classes where these are words."""
    import numpy as np

    from pacl.classification.few_shot import accuracy_of, chance
    from pacl.classification.scorer import BATCH, Scorer
    from pacl.data.class_folders import class_names, is_code

    rows = [chance(len(classes))]
    if any(map(is_code, classes)):
        say("note: no zero-shot row: names of classes are numbers or ids, not words")
        return rows
    scorer = Scorer(model, templates=args.templates, precision=args.precision)
    try:
        encoded = scorer.encode([Label(folder, (name,)) for folder, name in class_names(classes).items()])
    except UserError as error:
        say(f"note: no zero-shot row: {error}")
        return rows
    starts = tracked(range(0, len(files), BATCH), "zero-shot", line=say)
    scores = [scorer.scores(files[start : start + BATCH], encoded).numpy() for start in starts]
    right = np.concatenate(scores).argmax(axis=1) == labels
    return [*rows, accuracy_of("zero-shot", right[None], labels)]


def table(rows: Sequence[Accuracy], images: int, classes: int, features: str) -> str:
    """The accuracies as a Markdown table, which is also readable in a terminal."""
    header = ("training images of each class", "top-1, %", "balanced, %")
    cells = [header, *((row.name, cell(row, "top1"), cell(row, "balanced")) for row in rows)]
    widths = [max(len(each[i]) for each in cells) for i in range(3)]
    lines = ["| " + " | ".join(text.ljust(w) for text, w in zip(each, widths, strict=True)) + " |" for each in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    seeds = max(row.seeds for row in rows)
    spread = f"; ± standard deviation over {seeds} choices of the training images" if seeds > 1 else ""
    first = "" if rows[-1].seeds == 1 else ", with the first choice"
    return (
        "\n".join(lines) + f"\n\n{counted(images, 'test image')}, {classes:,} classes, {features}. "
        f"In brackets the 95 % interval over test images{spread}.\nSaved is the classifier of the last row{first}.\n"
    )


def cell(row: Accuracy, name: str) -> str:
    """``71.2 ± 0.8 (68.0-74.1)``."""
    text = f"{getattr(row, name):.1f}"
    if name in row.spread:
        text += f" ± {row.spread[name]:.1f}"
    low, high = row.intervals.get(name, (None, None))
    return text if low is None else f"{text} ({low:.1f}-{high:.1f})"


def curve(rows: Sequence[Accuracy], features: str) -> np.ndarray:
    """The drawn accuracies, RGB uint8 [H, W, 3]."""
    from pacl.results.shots_curve import Point, draw_shots_curve

    fixed = [(row.name, row.top1) for row in rows if row.name in ("chance", "zero-shot")]
    points = [Point(row.name, row.top1, *row.intervals["top1"]) for row in rows if row.name not in dict(fixed)]
    return draw_shots_curve(f"top-1 accuracy, %, on {features}", points, fixed)


if __name__ == "__main__":
    run_verb(PROG, main)
