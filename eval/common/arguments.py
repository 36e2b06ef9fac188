"""The flags that the scripts share, and the model they name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pacl import segment
from pacl.errors import UserError
from pacl.models.precision import PRECISIONS, resolve_precision

if TYPE_CHECKING:
    from pacl.models.model import PACL


def new_parser(verb: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser for ``python -m eval.VERB`` whose mistakes are one line and whose help is the module's docstring."""
    return segment.OneLineParser(
        prog=f"python -m eval.{verb}",
        description=doc,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """The flags of `pacl.segment.add_model`, and ``--precision``."""
    group = parser.add_argument_group("model")
    segment.add_model(group)
    group.add_argument(
        "--precision", choices=PRECISIONS, default="auto",
        help="arithmetic of the image tower; auto is bf16 where that is faster (default: auto)",
    )  # fmt: skip


def load(args: argparse.Namespace) -> PACL:
    """The model of `add_model`'s flags, on its device; a misspelt variant or device is refused before weights are read.

    ``args.precision`` becomes what it comes to there, so that results and kept counts state it.

    Raises:
        UserError: It cannot be found, or does not fit.
    """
    device = segment.choose_device(args.device)
    from pacl.models.loading import load_model
    from pacl.models.towers.dense import NAMES

    if args.dense is not None and args.dense not in NAMES:
        raise UserError(f"--dense {args.dense}: choose from {', '.join(NAMES)}")
    model = load_model(args.model, dense=args.dense, device=device)
    args.precision = resolve_precision(args.precision, model.clip)
    return model
