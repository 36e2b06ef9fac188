"""Draw how well every image fits every text: ``python -m pacl.similarity --images ... --texts ... [options]``."""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pacl.cli.image_scores import DIGITS, add_score, check_score, load_scorer, score_files
from pacl.cli.inputs import FoundImages, find_images
from pacl.cli.messages import need_output, printing, run_verb, say, shown_warnings
from pacl.cli.model import add_model
from pacl.cli.parser import new_parser
from pacl.cli.table import shorten
from pacl.errors import WORD_WARNINGS, ArgumentError, ImageWarning, UserError
from pacl.files import atomic_write, check_output_file, write_together
from pacl.images import SAVED_ENDINGS, is_written_here
from pacl.printing import decimals, escaped, printable
from pacl.prompts import Label

if TYPE_CHECKING:
    import numpy as np

    from pacl.classification.scorer import EncodedLabels, Scorer

PROG = "pacl similarity"

USAGE = "pacl similarity --images IMAGE_OR_FOLDER... --texts TEXT... [options]"

EXAMPLES = """\
examples:
  pacl similarity --images cat.jpg cup.jpg --texts "a cat on a blanket" "a cup of coffee"
  pacl similarity --images photos/ --texts "a dog" "a beach" --maps --out dogs.png
  pacl similarity --images photos/ --texts "a dog" "a beach" --csv                  prints the scores
  pacl similarity --images photos/ --texts "a dog" "a beach" --csv scores.csv --score phi

The best text of each image has a frame. With --maps each cell also shows where in the image the text is found.

exit codes: 0 done; 2 stopped by a mistake named in one line
"""

OUT = Path("similarity.png")
STDOUT = Path("-")
MOST = 64
"""Images, and texts, that fit in one drawn matrix."""
WHAT = {
    "clip": "cosine of image and text",
    "phi": "phi of image and text",
    "both": "weighted mean of cosine and phi",
}


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser(PROG, "Draw how well every image fits every text.", usage=USAGE, epilog=EXAMPLES)
    parser.words_hint = "name images after --images and texts after --texts"
    parser.add_argument("--images", nargs="+", default=[], metavar="IMAGE", help="images and folders of images")
    parser.add_argument("--texts", nargs="+", default=[], metavar="TEXT", help="texts, taken as they are")
    results = parser.add_argument_group("results")
    results.add_argument(
        "--out", metavar="FILE", type=Path, help=f"the drawn matrix, PNG or JPEG (default: {OUT}; none with --csv)"
    )
    results.add_argument(
        "--csv", metavar="FILE", type=Path, nargs="?", const=STDOUT,
        help="the scores, a line for each image, to a file; without FILE, or with -, to standard output",
    )  # fmt: skip
    results.add_argument("--overwrite", action="store_true", help="replace files that this command did not write")
    results.add_argument("--maps", action="store_true", help="draw in each cell where in the image the text is found")
    add_score(parser.add_argument_group("score"))
    add_model(parser.add_argument_group("model"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything that needs no model, load the model, score the images, draw and write.

    Raises:
        UserError: whatever is wrong with the flags, the model or an image; then nothing is written.
    """
    with shown_warnings(PROG, ImageWarning, *WORD_WARNINGS):
        return similarity(build_parser().parse_args(argv))


def similarity(args: argparse.Namespace) -> int:
    """`main` for parsed flags."""
    if args.csv == STDOUT:
        need_output()
    check_score(args)
    if not args.images:
        raise UserError('no images: name them, as in --images cat.jpg dog.jpg --texts "a cat" "a dog"')
    if not args.texts or not all(text.strip() for text in args.texts):
        raise UserError(f'{"a text is empty" if args.texts else "no texts"}: name them, as in --texts "a cat" "a dog"')
    found = find_images(args.images, prompts=False)
    if args.out is None and args.csv is None:
        args.out = OUT
    if args.maps and args.out is None:
        raise UserError("--maps: there is no drawing to put them in; name one with --out")
    check_outputs(args, found)
    for note in found.notes():
        say(PROG, f"note: {note}")
    scorer = load_scorer(args, draws=args.maps)
    return run(found, scorer.encode([Label(text, (text,)) for text in args.texts]), scorer, args)


def check_outputs(args: argparse.Namespace, found: FoundImages) -> None:
    """Refuse files that cannot be written, are no images, or would replace an image of the matrix.

    Raises:
        ArgumentError: the flag and what would work.
    """
    inputs = [file.path for file in found.files]
    if args.csv not in (None, STDOUT):
        is_table = partial(is_own_table, texts=args.texts)
        check_output_file(args.csv, is_table, "csv", inputs=inputs, overwrite=args.overwrite)
    if args.out is None:
        return
    check_output_file(args.out, is_written_here, inputs=inputs, overwrite=args.overwrite, endings=SAVED_ENDINGS)
    if args.csv not in (None, STDOUT) and args.csv.resolve() == args.out.resolve():
        raise ArgumentError("csv", args.csv, "is the file of the drawing, too; choose another name")
    for name, count in (("images", len(found.files)), ("texts", len(args.texts))):
        if count > MOST:
            raise ArgumentError(name, f"({count})", f"at most {MOST} fit in a drawing; --csv alone takes any number")


def is_own_table(path: Path, texts: Sequence[str]) -> bool:
    """Whether a file is a table that `write_table` wrote for these texts: others may be anybody's."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            header, first = next(rows), next(rows)
    except (OSError, ValueError, StopIteration, csv.Error):
        return False
    scores = [re.fullmatch(rf"-?\d\.\d{{{DIGITS}}}", cell) for cell in first[1:]]
    return header == ["image", *(text.strip() for text in texts)] and len(header) == len(first) and all(scores)


def run(found: FoundImages, texts: EncodedLabels, scorer: Scorer, args: argparse.Namespace) -> int:
    """Score the images, write what was asked for, and print the best text of each image."""
    from pacl.results.matrix import CELL, similarity_matrix
    from pacl.results.overlay import fit

    names: list[str] = []
    scores: list[np.ndarray] = []
    thumbnails: list[np.ndarray] = []
    maps: list[np.ndarray] = []
    for file, image, own in score_files(found.files, lambda images: scorer.scores(images, texts)):
        if isinstance(own, UserError) or isinstance(image, UserError):
            raise own if isinstance(own, UserError) else image  # type: ignore[misc]
        names.append(printable(file.path))
        scores.append(own.numpy())
        if args.out is not None:
            thumbnails.append(fit(image, CELL))
        if args.maps:
            maps.append(scorer.maps(image, texts, thumbnails[-1].shape[:2]))
    import numpy as np

    from pacl.images import save_image

    matrix = np.stack(scores)  # [I, T]
    with write_together():
        if args.csv not in (None, STDOUT):
            with atomic_write(args.csv) as aside, aside.open("w", encoding="utf-8", newline="") as written:
                write_table(written, names, texts.names, matrix)
        if args.out is not None:
            caption = f"Values: {WHAT[scorer.score]}. Frames: the best text of each image."
            shown = [printable(file.path.name) for file in found.files]
            save_image(args.out, similarity_matrix(thumbnails, texts.names, matrix, maps or None, caption, shown))
    with printing():
        if args.csv == STDOUT:
            write_table(sys.stdout, names, texts.names, matrix)
            return 0
        for name, row in zip(names, matrix, strict=True):
            best = int(row.argmax())
            print(f"{escaped(name)}: {shorten(texts.names[best], 60)} {decimals(row[best], 3)}")
        for path in filter(None, (args.out, args.csv)):
            print(f"  {escaped(path)}")
    return 0


def write_table(file: IO[str], images: Sequence[str], texts: Sequence[str], scores: np.ndarray) -> None:
    """Write scores [I, T] as CSV: a line for each image, a column for each text."""
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["image", *texts])
    for name, row in zip(images, scores, strict=True):
        table.writerow([name, *(decimals(score, DIGITS) for score in row)])


if __name__ == "__main__":
    run_verb(PROG, main)
