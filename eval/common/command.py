"""What the evaluation commands share: parser, flags, the model that they name, and warnings about texts."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from eval.common.files import is_utf8
from pacl.cli import model as cli_model
from pacl.cli import parser as cli_parser
from pacl.cli.messages import say
from pacl.errors import ArgumentError
from pacl.models.precision import PRECISIONS, resolve_precision
from pacl.printing import counted
from pacl.prompts import unknown_words

if TYPE_CHECKING:
    from pacl.models.backbone import Backbone
    from pacl.models.model import PACL

SHOWN = 5  # unknown words in a warning


def new_parser(module: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser for ``python -m MODULE`` with one-line errors; its help is the module's docstring."""
    return cli_parser.new_parser(f"python -m {module}", doc)


def add_model(parser: argparse.ArgumentParser) -> None:
    """The flags of `pacl.cli.model.add_model`, and ``--precision``."""
    group = parser.add_argument_group("model")
    cli_model.add_model(group, many=True)
    group.add_argument(
        "--precision", choices=PRECISIONS, default="auto",
        help="arithmetic of the image tower; auto is bf16 where that is faster (default: %(default)s)",
    )  # fmt: skip


def load(args: argparse.Namespace) -> PACL:
    """Load the model of `add_model`'s flags, see `pacl.cli.model.load`.

    ``args.model`` and ``args.precision`` are replaced by what ``auto`` stands for, so that results state it.
    """
    model = cli_model.load(args)
    args.model = model.name
    args.precision = resolve_precision(args.precision, model.clip)
    return model


def load_pooled(args: argparse.Namespace) -> PACL:
    """`load` a model for a command that compares its pooled embedding with texts.

    Raises:
        ArgumentError: ``model`` has none in the space of its texts.
    """
    named, model = args.model, load(args)
    if not model.clip.shared:
        reason = "which this command needs: its towers were trained apart; choose a CLIP or a head on one"
        raise ArgumentError("model", named, f"has no pooled embedding in the space of its texts, {reason}")
    return model


def add_folder(parser: argparse.ArgumentParser, base: Path) -> None:
    """``--out`` and ``--overwrite``, see `eval.common.folders.results_folder`."""
    parser.add_argument(
        "--out", metavar="DIR", type=Path,
        help=f"results go to DIR/DATASET (default: to a folder of this command's own, {base}/DATASET-MODEL)",
    )  # fmt: skip
    add_overwrite(parser)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """``--overwrite``, see `eval.common.folders`."""
    parser.add_argument("--overwrite", action="store_true", help="replace results of other settings in --out")


def check_least(args: argparse.Namespace, **least: int) -> None:
    """Refuse numbers below the ``least`` of their argument; None passes.

    Raises:
        ArgumentError: one is too small.
    """
    for name, minimum in least.items():
        if (value := getattr(args, name)) is not None and value < minimum:
            raise ArgumentError(name, value, f"must be at least {minimum}")


def check_text(args: argparse.Namespace, *names: str) -> None:
    """Refuse values that are not UTF-8, because results state them.

    Raises:
        ArgumentError: one is not.
    """
    for name in names:
        if (value := getattr(args, name)) is not None and not is_utf8(str(value)):
            raise ArgumentError(name, f"{str(value)!a}", "not UTF-8; rename it")


def check_seeds(seeds: Iterable[int]) -> None:
    """Refuse seeds that no random generator takes.

    Raises:
        ArgumentError: one is negative, or above 32 bits.
    """
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise ArgumentError("seeds", seed, "must be at least 0" if seed < 0 else "must be at most 4294967295")


def warn(module: str, message: str) -> None:
    """Print a warning as one line on standard error."""
    say(module, f"warning: {message}")


def warn_of_unknown_words(module: str, clip: Backbone, texts: Iterable[str], title: str) -> None:
    """Warn of words that are not in the vocabulary of a model that has a closed one.

    Args:
        module: the command.
        clip: the model.
        texts: names or captions.
        title: what the texts are, such as ``names of cifar10``.
    """
    if unknown := unknown_words(texts, clip.vocabulary):
        shown = ", ".join(map(repr, unknown[:SHOWN])) + (", ..." if len(unknown) > SHOWN else "")
        warn(module, f"{counted(len(unknown), 'word')} of the {title} not in this model's vocabulary: {shown}")
