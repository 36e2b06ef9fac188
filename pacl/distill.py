"""Make a static text tower from a sentence encoder: python -m pacl.distill TEXT --out FOLDER [options]

The result is a table with one fixed vector for each token, see `pacl.models.distillation`.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from pacl.cli.messages import run_verb
from pacl.cli.parser import new_parser
from pacl.cli.progress import ProgressMeter
from pacl.errors import ArgumentError, UserError
from pacl.printing import escaped

EXAMPLES = """\
examples:
  python -m pacl.distill st:sentence-transformers/all-MiniLM-L6-v2 --out words
  python -m pacl.distill st:/models/mine --out words --words captions.csv --names eval/segmentation/names --dim 128

The result is a text tower: --model timm:NAME+static:./words
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = new_parser(
        "pacl distill", "Make a static text tower (one vector a token) from a sentence encoder.", epilog=EXAMPLES
    )
    parser.add_argument("text", metavar="TEXT", help="the sentence encoder, st:ORG/NAME or st:/FOLDER")
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument(
        "--words",
        metavar="FILE",
        nargs="+",
        default=[],
        help="text files (captions, tables) or folders of .txt files: words that occur at least twice in them "
        "and in ImageNet's class names and definitions get vectors of their own",
    )
    parser.add_argument("--names", metavar="FILE", nargs="+", default=[], help="the same, but all of their words count")
    parser.add_argument("--dim", metavar="D", type=int, default=256, help="width of the vectors (default: %(default)s)")
    parser.add_argument("--license", metavar="NAME", default="unknown", help="licence of the encoder, for the card")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Raises:
        UserError: a mistake in the arguments or in the files they name.
    """
    args = build_parser().parse_args(argv)
    if not args.text.startswith("st:"):
        raise UserError(f"{args.text}: not a sentence encoder; use st:ORG/NAME or st:/FOLDER")
    if args.dim < 1:
        raise ArgumentError("dim", args.dim, "must be at least 1")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise ArgumentError("out", args.out, "exists already; choose a new folder")
    for flag, path in [("words", path) for path in args.words] + [("names", path) for path in args.names]:
        if not Path(path).exists():  # before PyTorch is imported
            raise ArgumentError(flag, path, "does not exist")
    from rich.console import Console

    from pacl.models import distillation
    from pacl.models.towers.base import weights_checksum
    from pacl.models.towers.sentence_tower import load_sentence_tower

    running = [*distillation.imagenet_texts(), *distillation.read_texts(args.words, "words")]
    words = distillation.find_words(running, distillation.read_texts(args.names, "names"))
    try:
        tower, _ = load_sentence_tower(args.text)
    except ArgumentError as error:  # the loader's "model" is this command's TEXT
        raise UserError(f"{error.value}: {error.reason}") from None
    tower.requires_grad_(False)
    try:
        with ProgressMeter("word pieces and words") as meter:
            tokenizer, embeddings, counts = distillation.distill(tower, words, args.dim, meter.update)
    except ArgumentError:
        raise
    except UserError as error:
        raise UserError(f"{args.text}: {error}") from None
    facts = {
        "source": args.text,
        "source_checksum": weights_checksum(tower.weights()),
        "license": args.license,
        "command": _command(args),
        **counts,
    }
    config = distillation.write_folder(args.out, tokenizer, embeddings, facts)
    Console(highlight=False, soft_wrap=True).print(
        f"{escaped(args.out)}: {config['pieces']:,} word pieces and {config['words']:,} whole words, {args.dim} wide; "
        f"lowest cosine of int8 with float32 {config['lowest_cosine_of_int8']}",
        markup=False,
    )
    return 0


def _command(args: argparse.Namespace) -> str:
    """The command for the model card; absolute paths are shortened to file names."""
    words = ["python", "-m", "pacl.distill", args.text, "--out", args.out.name]
    for flag, paths in (("--words", args.words), ("--names", args.names)):
        shown = [path if not Path(path).is_absolute() else Path(path).name for path in paths]
        words += [flag, *shown] if paths else []
    return shlex.join([*words, "--dim", str(args.dim), "--license", args.license])


if __name__ == "__main__":
    run_verb("pacl distill", main)
