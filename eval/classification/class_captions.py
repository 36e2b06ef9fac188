"""Write a caption table for images whose file names contain their ImageNet class.

    python -m eval.classification.class_captions FOLDER --out FILE

The name of each file must begin with the WordNet id of its class, such as ``n01440764_tench.JPEG``, or
``n01440764_10026.JPEG`` as in ImageNet itself. Each image gets two captions: a sentence with the class name, and the
class name with WordNet's definition ("tench, freshwater dace-like game fish of Europe"). The definition adds words that
the name lacks, such as "fish".
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.common.command import new_parser
from eval.common.files import is_utf8
from pacl.cli.messages import run_verb
from pacl.errors import UserError
from pacl.files import atomic_write, begins_with, check_output_file
from pacl.image_folders import list_images

TABLE = rb"image,caption\n[^\n]*n\d{8}[^\n]*,a photo of a "
"""How a table begins."""


def class_captions(folder: Path) -> list[tuple[str, str]]:
    """Two captions for each image in a folder and its subfolders: (path relative to the folder, caption).

    Raises:
        UserError: there are no images, or the name of an image does not begin with the WordNet id of an ImageNet class
            or is not UTF-8.
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    known = set(info.label_names())
    rows = []
    for file in list_images(folder, recursive=True):
        label = file.name.partition("_")[0]
        if label not in known:
            raise UserError(f"{file}: its name does not begin with an ImageNet class such as n01440764_")
        names = info.label_name_to_description(label)
        definition = info.label_name_to_description(label, detailed=True).removeprefix(f"{names}: ")
        name = names.partition(",")[0]
        path = str(file.relative_to(folder))
        if not is_utf8(path):
            raise UserError(f"{file}: its name is not UTF-8, as the table must be; rename it")
        rows += [(path, f"a photo of a {name}."), (path, f"{name}, {definition}")]
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Write the table to the file ``--out``."""
    parser = new_parser("eval.classification.class_captions", __doc__)
    parser.add_argument("folder", type=Path, help="folder of images, with subfolders")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write: image,caption")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if not args.folder.is_dir():
        raise UserError(f"{args.folder}: no such folder")
    check_output_file(args.out, begins_with(TABLE))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("image", "caption"))
    writer.writerows(class_captions(args.folder))
    with atomic_write(args.out) as aside:
        aside.write_text(table.getvalue(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_verb("eval.classification.class_captions", main)
