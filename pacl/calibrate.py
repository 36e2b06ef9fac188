"""Calibrate a head on photos without captions: python -m pacl.calibrate MODEL PHOTOS [--out FOLDER]

It measures the mean score of each text, which is subtracted from then on. A few hundred photos are enough if they show
many different things: one of each ImageNet class is ideal, a thousand street scenes are not. With a calibrated head a
single prompt needs no competing words: its mask is where its score is high, and empty where the thing is absent.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pacl.cli.inputs import find_images
from pacl.cli.messages import printing, run_verb, say, shown_warnings
from pacl.cli.model import load
from pacl.cli.parser import new_parser
from pacl.cli.progress import tracked
from pacl.errors import ArgumentError, ImageWarning, UserError
from pacl.files import check_folder
from pacl.image_folders import spread
from pacl.images import open_image, pixel_checksum
from pacl.models.config import CONFIG, SHIPPED, is_head
from pacl.models.device import choose_device
from pacl.printing import counted, escaped
from pacl.results.kinds import RUN_FILES, check_kind
from pacl.training.run_files import check_card, check_unused

if TYPE_CHECKING:
    import numpy as np

PROG = "pacl calibrate"
FEW = 50
"""Photos, from which on there is no warning."""
EXAMPLES = """\
examples:
  python -m pacl.calibrate runs/train photos/
  python -m pacl.calibrate open_clip:ViT-B-16/openai photos/ --out runs/calibrated
  python -m pacl.segment --model runs/calibrated dog.jpg "a dog"
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    parser = new_parser(PROG, __doc__, epilog=EXAMPLES)
    parser.add_argument("model", metavar="MODEL", help="folder of a head, or whatever pacl segment --model takes")
    parser.add_argument("photos", metavar="PHOTOS", nargs="+", help="photos, or folders of them")
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, help="where the head goes (default: MODEL, where that is a folder)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a head that is in --out")
    parser.add_argument("--limit", metavar="N", type=int, default=1000, help="photos at most (default: %(default)s)")
    parser.add_argument(
        "--device", default="auto", help="auto (cuda if there is one), cpu, cuda, cuda:N or mps (default: %(default)s)"
    )
    parser.set_defaults(dense=None)  # the head's own
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Load the head, measure it on the photos, and save it.

    Raises:
        UserError: whatever is wrong with the words of the command or the files they name.
    """
    args = build_parser().parse_args(argv)
    if args.limit < 1:
        raise ArgumentError("limit", args.limit, "must be at least 1")
    found = find_images(args.photos, prompts=False)
    for note in found.notes():
        say(PROG, f"note: {note}")
    photos = spread([file.path for file in found.files], args.limit)

    source = Path(args.model)
    own = is_head(source / CONFIG)
    if args.out is None and not own:
        if not source.exists() and args.model not in SHIPPED and ":" not in args.model:
            load(args)  # its error says what was meant
        raise UserError(f"{args.model}: is not the folder of a head; name a folder for the calibrated head with --out")
    out = Path(args.out or source)
    check_folder(out)
    if (out / CONFIG).exists() and not is_head(out / CONFIG):
        raise ArgumentError("out", out, f"contains a {CONFIG} that is not a head's; choose another folder")
    check_kind(out, "head", "out")
    if not (own and out.exists() and out.samefile(source)):
        check_unused(out, RUN_FILES, "out", "choose another folder")  # a curve and checkpoints of another head
        if is_head(out / CONFIG) and not args.overwrite:
            raise ArgumentError("out", out, "holds another head; choose another folder, or replace it with --overwrite")
    if not is_head(out / CONFIG):  # else it is the card of that head
        check_card(out, "out")

    from pacl.segmentation.calibration import calibrate  # slow, so the folder is looked at before

    choose_device(args.device)  # a bad one is refused before the model is loaded
    model = load(args)
    broken: list[UserError] = []
    distinct: set[str] = set()
    try:
        with shown_warnings(PROG, ImageWarning):
            calibrate(model, decoded(photos, broken, distinct))
    except ValueError as error:
        raise UserError(broken[0] if broken else f"{' '.join(args.photos)}: {error}") from None
    model.save_pretrained(out)  # with its own card
    for reason in broken:
        say(PROG, f"warning: skipped: {reason}")
    used = len(photos) - len(broken)
    if len(distinct) < FEW:
        say(
            PROG,
            f"warning: {counted(len(distinct), 'distinct photo')}, few: the means are those of what they show; a few "
            "hundred are needed",
        )
    with printing():
        print(
            f"{escaped(out)}: calibrated on {counted(used, 'photo')}; "
            f"a text is present from a score of {model.config.presence:.3f}"
        )
    return 0


def decoded(photos: Sequence[Path], broken: list[UserError], distinct: set[str]) -> Iterator[np.ndarray]:
    """The photos one at a time, with a progress bar; those that cannot be read are skipped and added to ``broken``.

    The checksums of the pixels of the others are added to ``distinct``.
    """
    for path in tracked(photos, "photos"):
        try:
            image = open_image(path)
        except UserError as error:
            broken.append(error)
        else:
            distinct.add(pixel_checksum(image))
            yield image


if __name__ == "__main__":
    run_verb(PROG, main)
