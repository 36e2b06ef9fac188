"""The flags that the evaluation commands share, and the model they name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pacl.cli import model as cli_model
from pacl.cli import parser as cli_parser
from pacl.models.precision import PRECISIONS, resolve_precision

if TYPE_CHECKING:
    from pacl.models.model import PACL


def new_parser(module: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser for ``python -m MODULE`` whose mistakes are one line and whose help is the module's docstring."""
    return cli_parser.new_parser(f"python -m {module}", doc)


def add_model(parser: argparse.ArgumentParser) -> None:
    """The flags of `pacl.cli.model.add_model`, and ``--precision``."""
    group = parser.add_argument_group("model")
    cli_model.add_model(group)
    group.add_argument(
        "--precision", choices=PRECISIONS, default="auto",
        help="arithmetic of the image tower; auto is bf16 where that is faster (default: auto)",
    )  # fmt: skip


def load(args: argparse.Namespace) -> PACL:
    """The model of `add_model`'s flags, see `pacl.cli.model.load`.

    ``args.precision`` becomes what it comes to there, so that results and kept counts state it.
    """
    model = cli_model.load(args)
    args.precision = resolve_precision(args.precision, model.clip)
    return model
