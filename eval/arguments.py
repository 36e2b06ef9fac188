"""The flags that the scripts share, and the model they name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pacl.errors import UserError
from pacl.segment import OneLineParser, choose_device

if TYPE_CHECKING:
    from pacl.model import PACL


def new_parser(verb: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser for ``python -m eval.VERB`` whose mistakes are one line and whose help is the module's docstring."""
    return OneLineParser(
        prog=f"python -m eval.{verb}",
        description=doc,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """``--model``, ``--dense``, ``--device`` and ``--precision``, as `pacl.segment` knows them."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default="auto",
        help="auto (OpenAI's ViT-B/16 when it is in the cache or can be downloaded, else bundled), bundled, the folder "
        "of a trained head, open_clip:NAME/TAG, hf-hub:ORG/REPO or local-dir:PATH (default: auto)",
    )
    group.add_argument(
        "--dense",
        metavar="VARIANT",
        help="of the image tower's last block: clip, value, maskclip, sclip, clearclip or naclip (default: what the "
        "head was trained on; naclip for a CLIP without a head)",
    )
    group.add_argument(
        "--device", default="auto", help="auto (cuda if there is one), cpu, cuda, cuda:N or mps (default: auto)"
    )
    group.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32", help="arithmetic of the image tower (default: fp32)"
    )


def add_out(parser: argparse._ActionsContainer, default: str) -> None:
    """``--out``, the folder for results."""
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path(default), help=f"results (default: {default})")


def load(args: argparse.Namespace) -> PACL:
    """The model of `add_model`'s flags, on its device; a misspelt variant or device is refused before weights are read.

    Raises:
        UserError: It cannot be found, or does not fit.
    """
    device = choose_device(args.device)
    from pacl.dense import VARIANTS
    from pacl.loading import load_model

    if args.dense is not None and args.dense not in VARIANTS:
        raise UserError(f"--dense {args.dense}: choose from {', '.join(VARIANTS)}")
    return load_model(args.model, dense=args.dense, device=device)
