"""Teach a head what its texts score where nothing shows them: ``python -m pacl.calibrate MODEL PHOTOS [--out FOLDER]``.

The photos need no captions. A few hundred serve, if they show many different things: one of each of ImageNet's classes
is ideal, a thousand street scenes are not. A calibrated head scores words more evenly, and a single prompt finds the
whole thing, or nothing where it is not there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pacl.errors import UserError, run_verb
from pacl.segment import OneLineParser

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = """\
examples:
  python -m pacl.calibrate runs/train photos/
  python -m pacl.calibrate open_clip:ViT-B-16/openai photos/ --out runs/calibrated
  python -m pacl.segment --model runs/calibrated dog.jpg "a dog"
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    parser = OneLineParser(
        prog="pacl calibrate",
        description=__doc__.split("\n\n")[1] if __doc__ else None,
        epilog=EXAMPLES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="folder of a head, or whatever pacl segment --model takes")
    parser.add_argument("photos", metavar="PHOTOS", nargs="+", help="photos, or folders of them")
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, help="where the head goes (default: MODEL, where that is a folder)"
    )
    parser.add_argument("--limit", metavar="N", type=int, default=1000, help="photos at most (default: 1000)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or mps (default: cpu)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Load the head, look at the photos, and write the head.

    Raises:
        UserError: whatever is wrong with the words of the command or the files they name.
    """
    args = build_parser().parse_args(argv)
    if args.limit < 1:
        raise UserError(f"--limit {args.limit}: 1 or more")
    out = args.out or Path(args.model)
    if args.out is None and not (out / "config.json").is_file():
        raise UserError(f"{args.model}: not the folder of a head; say with --out where the calibrated one goes")

    from rich.console import Console

    from pacl.calibration import calibrate
    from pacl.models.loading import load_model
    from pacl.sources import find_pictures

    photos = [picture.path for picture in find_pictures(args.photos, out)]
    photos = photos[:: max(1, len(photos) // args.limit)][: args.limit]
    model = calibrate(load_model(args.model, device=args.device), decoded(photos))
    card = out / "README.md"
    model.save_pretrained(out, card=card.read_text(encoding="utf-8") if card.is_file() else None)
    Console(highlight=False, soft_wrap=True).print(
        f"{out}: calibrated on {len(photos):,} photos; a text is present from a score of {model.config.presence:.3f}",
        markup=False,
    )
    return 0


def decoded(photos: Sequence[Path]) -> Iterator[np.ndarray]:
    """The photos, one at a time, with a progress bar."""
    from rich.console import Console
    from rich.progress import track

    from pacl.images import open_image

    for path in track(photos, "photos", console=Console(stderr=True), transient=True):
        yield open_image(path)


if __name__ == "__main__":
    run_verb("calibrate", main)
