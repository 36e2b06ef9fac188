"""Find the images of a folder that fit a text or another image: ``python -m pacl.search FOLDER QUERY [options]``."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacl.cli.image_scores import add_score, check_score, load_scorer
from pacl.cli.inputs import find_images, images_and_prompts
from pacl.cli.messages import memory_advice, need_output, printing, prints_utf8, run_verb, shown_warnings
from pacl.cli.messages import say as say_as
from pacl.cli.model import add_model
from pacl.cli.parser import check_unused, new_parser
from pacl.cli.progress import ProgressMeter
from pacl.errors import WORD_WARNINGS, ArgumentError, ImageWarning, UserError, first_few
from pacl.files import check_output_file
from pacl.image_folders import no_images, say_repeated, say_unread, search_folder
from pacl.images import SAVED_ENDINGS, open_image, save_image
from pacl.printing import counted, decimals, escaped, printable
from pacl.prompts import Label, check_labels, parse_prompt
from pacl.results.own import is_own

if TYPE_CHECKING:
    import numpy as np

    from pacl.image_folders import FolderContent
    from pacl.index.image_index import Hit, Index

PROG = "pacl search"
say = partial(say_as, PROG)

USAGE = "pacl search FOLDER TEXT_OR_IMAGE [options]"

EXAMPLES = """\
examples:
  pacl search photos/ "a dog on a beach"
  pacl search photos/ "a dog;a puppy" --top 20 --out dogs.png       synonyms; a contact sheet with what was found
  pacl search photos/ cat.jpg --csv > cats.csv                      images that are similar to an image

The first search computes an index of the folder, photos/.pacl_index, which is brought up to date by every later one.
Which of several texts fit an image: pacl classify.

exit codes: 0 done; 1 some images cannot be read; 2 stopped by a mistake named in one line
"""

MOST = 100
"""Images that fit in a contact sheet."""
SHOWN = 5
"""Images that cannot be read and are named one by one."""


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    parser = new_parser(
        PROG, "Find the images of a folder that fit a text or another image.", usage=USAGE, epilog=EXAMPLES
    )
    parser.add_argument("words", nargs="*", help="a folder of images (with subfolders), and a text or an image")
    parser.add_argument("--prompt", metavar="TEXT", help="the text, whatever it looks like")
    results = parser.add_argument_group("results")
    results.add_argument("--top", metavar="K", type=int, default=10, help="the K best images (default: %(default)s)")
    results.add_argument(
        "--out", metavar="FILE", type=Path, help="also draw them, with what was found outlined: PNG or JPEG"
    )
    how = results.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print a line of JSON for each image")
    how.add_argument("--csv", action="store_true", help="print a line of CSV for each image")
    index = parser.add_argument_group("index")
    index.add_argument(
        "--index",
        metavar="DIR",
        type=Path,
        help="folder that the index is kept in (default: .pacl_index in the folder, or if that cannot be written "
        "~/.cache/pacl/index)",
    )
    index.add_argument(
        "--no_update", action="store_true", help="search the index as it is, without a look at the files"
    )
    index.add_argument(
        "--patches",
        choices=("keep", "recompute"),
        default="keep",
        help="for phi and both: keep the patch vectors of new images in the index, about 0.3 MB for an image, or "
        "compute those of the candidates for every search (default: %(default)s)",
    )
    index.add_argument(
        "--rerank",
        metavar="N",
        type=int,
        help="for phi and both: the N best images by a cheaper score, the mean of the patches or clip, are ranked "
        "exactly (default: 100)",
    )
    add_score(parser.add_argument_group("score"))
    add_model(parser.add_argument_group("model"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything that needs no model, load the model, bring the index up to date, and search.

    Returns:
        0, or 1 when some images cannot be read.

    Raises:
        UserError: whatever is wrong with the words, the flags, the model or the index.
    """
    with shown_warnings(PROG, ImageWarning, *WORD_WARNINGS):
        parser = build_parser()
        return search(parser.parse_intermixed_args(argv), parser)


def search(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """`main` for parsed words and flags."""
    if args.out is None or args.json or args.csv:
        need_output()
    check_score(args)
    for name in ("top", "rerank"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ArgumentError(name, getattr(args, name), "must be at least 1")
    folder, query = folder_and_query(args)
    if isinstance(query, Label):
        check_labels([query])
    else:
        check_unused(args, parser, ("rerank", "weight", "templates"), "where the query is an image")
    content = None if args.no_update else folder_content(folder)
    check_output(args, [query] if isinstance(query, Path) else [])
    return run(folder, open_image(query) if isinstance(query, Path) else query, content, args)


def folder_and_query(args: argparse.Namespace) -> tuple[Path, Path | Label]:
    """The folder, and the path of an image or a text to search for.

    Raises:
        UserError: one of them is missing, or there is more than one.
    """
    words = list(args.words)
    if not words:
        raise UserError('no folder: name one of images, as in pacl search photos "a dog"')
    folder, *queries = words
    if not os.path.isdir(folder):
        there = "is a file; name its folder" if os.path.isfile(folder) else "no such folder"
        raise UserError(f'{folder}: {there}, as in pacl search photos "a dog"')
    queries += [args.prompt] * (args.prompt is not None)
    if not queries:
        raise UserError(f'nothing to search for: name a text or an image, as in pacl search {folder} "a dog"')
    if len(queries) > 1:
        images, *_ = images_and_prompts(queries)
        hint = f'a text of several words needs quotes: "{" ".join(queries)}"'
        if images:
            hint = f"which of several texts fit an image: pacl classify {images[0]} TEXT..."
        raise UserError(f"{len(queries)} queries, one is searched for at a time; {hint}")
    if args.prompt is None and images_and_prompts(queries)[0]:
        if os.path.isdir(queries[0]):
            raise UserError(f'{queries[0]}: is a folder; name an image, or write --prompt "{queries[0]}" for the text')
        [file] = find_images(queries).files
        return Path(folder), file.path
    return Path(folder), parse_prompt(queries[0])


def folder_content(folder: Path) -> FolderContent:
    """The images of the folder, some at least.

    Raises:
        UserError: there are none that can be read.
    """
    content = search_folder(folder, recursive=True, look_inside=False)
    if not content.images:
        raise no_images(folder, content.unread)
    return content


def check_output(args: argparse.Namespace, inputs: Sequence[Path]) -> None:
    """Refuse a contact sheet that cannot be drawn or written, or would replace the image that is searched for.

    Raises:
        ArgumentError: the flag and what would work.
    """
    if args.out is None:
        return
    if args.top > MOST:
        raise ArgumentError("top", args.top, f"at most {MOST} images fit in a contact sheet; leave out --out")
    check_output_file(args.out, is_own, inputs=inputs, endings=SAVED_ENDINGS)


def run(folder: Path, query: Label | np.ndarray, content: FolderContent | None, args: argparse.Namespace) -> int:
    """Bring the index up to date, search it, and print and draw what was found.

    Args:
        folder: of images.
        query: a text, or an image, RGB uint8 [H, W, 3].
        content: of the folder; None to search the index as it is.
        args: the flags.

    Returns:
        0, or 1 when some images cannot be read.
    """
    from pacl.index.image_index import RERANK, Index

    scorer = load_scorer(args, draws=args.out is not None)
    if scorer.score == "clip":
        for name, given in (("rerank", args.rerank is not None), ("patches", args.patches != "keep")):
            if given:
                raise ArgumentError(name, getattr(args, name), "has no effect with --score clip; use phi or both")
    index = Index(scorer, folder, args.index, keep_patches=args.patches == "keep")
    text = scorer.encode([query]) if isinstance(query, Label) else None  # before hours of encoding images
    with memory_advice(str(folder), "a smaller model"):
        if content is not None:
            update(index, content, folder)
        if text is not None:
            hits = index.search(text, args.top, rerank=args.rerank or RERANK)
        else:
            hits = index.similar(query, args.top)  # type: ignore[arg-type]
    show([replace(hit, path=folder / hit.path.relative_to(index.folder)) for hit in hits], args)  # as it was named
    if args.out is not None:
        from pacl.cli.search_sheet import search_sheet

        save_image(args.out, search_sheet(index, hits, query))
        with printing():
            print(f"  {escaped(args.out)}", file=sys.stderr if args.json or args.csv else sys.stdout)
    return 1 if index.unread else 0


def update(index: Index, content: FolderContent, folder: Path) -> None:
    """Bring the index of a folder up to date, and say what is new and what is left out."""
    is_new = not index.path.is_file()
    from pacl.index.indexing import IndexInUse

    try:
        with ProgressMeter("indexing", line=say) as meter:
            index.update(content, progress=meter.update)
    except IndexInUse as busy:
        raise UserError(f"{busy}, or search it as it is with --no_update") from None
    if is_new:
        others = len(list(index.path.parent.glob(f"*{index.path.suffix}"))) - 1
        beside = f", beside {others} of other folders, models or scores" if others else ""
        inside = index.path.is_relative_to(index.folder)
        path = folder / index.path.relative_to(index.folder) if inside else index.path  # as it was named
        say(f"note: new index of {counted(len(index), 'image')}: {path}{beside}")
    if index.own:
        say(f"note: left out {counted(len(index.own), 'image')} that pacl wrote ({first_few(index.own)})")
    if index.repeated:
        say(f"note: {say_repeated(index.repeated)}")
    if content.unread:
        say(f"note: {say_unread(content.unread)}")
    for error in index.unread[:SHOWN]:
        say(f"error: {error}")
    if len(index.unread) > SHOWN:
        say(f"error: cannot be read: {counted(len(index.unread) - SHOWN, 'more image')}")


def show(hits: Sequence[Hit], args: argparse.Namespace) -> None:
    """Print the images that were found: a table, JSON or CSV."""
    found: list[dict[str, Any]] = [{"rank": hit.rank, "score": hit.score, "image": printable(hit.path)} for hit in hits]
    with printing():
        if args.json:
            for each in found:
                print(json.dumps(each, ensure_ascii=not prints_utf8(), allow_nan=False))
        elif args.csv:
            table = csv.writer(sys.stdout, lineterminator="\n")
            table.writerow(["rank", "score", "image"])
            table.writerows([each["rank"], decimals(each["score"], 6), each["image"]] for each in found)
        else:
            print(f"{'rank':>6}   score  image")
            for each in found:
                print(f"{each['rank']:>6}  {decimals(each['score'], 3, 6)}  {escaped(each['image'])}")


if __name__ == "__main__":
    run_verb(PROG, main)
