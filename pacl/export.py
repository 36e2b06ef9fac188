"""Export a model for other programs: ``python -m pacl.export [LABEL...] --to onnx --out DIR [options]``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pacl.class_files import say_renumbered
from pacl.cli.inputs import looks_like_a_file
from pacl.cli.messages import printing, run_verb, say, shown_warnings
from pacl.cli.model import add_model, load
from pacl.cli.parser import Once, new_parser
from pacl.cli.settings import add_settings, settings_of
from pacl.deployment import SETTINGS
from pacl.deployment.folder import check_unused
from pacl.deployment.formats import FORMATS
from pacl.errors import WORD_WARNINGS, ArgumentError, UserError
from pacl.models.config import SHIPPED
from pacl.printing import printable
from pacl.prompts import check_labels, parse_prompt, read_classes
from pacl.results.kinds import is_model

PROG = "pacl export"

USAGE = "pacl export [LABEL...] --out DIR [options]"

EXAMPLES = """\
examples:
  pacl export "cat" "blanket" --model photos --out exported
  pacl export --classes classes.txt --model photos --out exported --overwrite
  pacl export --model open_clip:ViT-B-16/openai --dense naclip --text --out exported --to pt2

DIR gets the image tower with the head (pixels to patch embeddings), the embeddings of the labels, with --text the text
tower (token ids to embeddings), and model.json, which describes them. docs/deploying.md segments with them.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    import dataclasses

    from pacl.segmentation.settings import SegmenterSettings

    parser = new_parser(PROG, "Export a model for other programs.", usage=USAGE, epilog=EXAMPLES)
    parser.add_argument("labels", nargs="*", metavar="LABEL", help="labels whose embeddings are written")
    parser.add_argument("--classes", metavar="FILE", action=Once, help="labels from a file, as for pacl segment")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the files")
    parser.add_argument(
        "--to",
        choices=list(FORMATS),
        default="onnx",
        help="; ".join(f"{name}: {each.help}" for name, each in FORMATS.items()) + " (default: %(default)s)",
    )
    parser.add_argument("--text", action="store_true", help="also export the text tower, of a CLIP")
    parser.add_argument("--overwrite", action="store_true", help="replace an export that is in --out")
    add_model(parser.add_argument_group("model"), device=False)
    others = {field.name for field in dataclasses.fields(SegmenterSettings)} - set(SETTINGS)
    add_settings(parser.add_argument_group("constants in model.json"), skip=others)
    own = ", ".join(f"--{name}" for name in SETTINGS)
    parser.never = {f"--{name}": f"is not in the files of an export; these options are: {own}" for name in others}
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything that needs no model, load the model, export it.

    Raises:
        UserError: whatever is wrong with the words, the flags or the model; then nothing is written.
    """
    with shown_warnings(PROG, *WORD_WARNINGS):
        return export(build_parser().parse_intermixed_args(argv))


def export(args: argparse.Namespace) -> int:
    """`main` for parsed words and flags."""
    settings = settings_of(args)
    if model := next((word for word in args.labels if word in SHIPPED or is_model(word)), None):
        raise UserError(f"{model}: is a model, not a label; give it as --model")
    if file := next(filter(looks_like_a_file, args.labels), None):
        raise UserError(
            f"{file}: is no label but the name of a file; --classes FILE takes labels of any form, one a line"
        )
    labels = [parse_prompt(text) for text in args.labels]
    labels += read_classes(args.classes) if args.classes else []
    if labels:
        check_labels(labels)
    if args.classes and (note := say_renumbered(args.classes, len(args.labels))):
        say(PROG, f"note: {note}")
    FORMATS[args.to].check_installed()
    if args.out.exists() and not args.out.is_dir():
        raise ArgumentError("out", args.out, "is a file; choose a folder")
    check_unused(args.out, args.overwrite)
    model = load(args)
    from pacl.deployment.export import export_model

    exported = export_model(
        model,
        args.out,
        args.to,
        labels or None,
        settings=settings,
        text=args.text,
        overwrite=args.overwrite,
        progress=lambda step: say(PROG, f"{step} ..."),
    )
    sizes = [f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in exported.files if path.suffix != ".json"]
    with printing():
        print(f"{printable(exported.folder)}: {', '.join(sizes)}, {exported.files[-1].name}")
    return 0


if __name__ == "__main__":
    run_verb(PROG, main)
