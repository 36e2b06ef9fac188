"""Retrieval of images by captions and of captions by images: recall at 1, 5 and 10, and median ranks.

There are three methods: the cosine of CLIP's pooled embedding ("pooled"), PACL's phi ("phi") and, with --first_stage K,
phi among the K best items by CLIP's cosine ("pooled then phi"). The model is a CLIP or a head on one.

The evaluation is the usual one. Every caption is a separate item, even if another caption has the same text. A caption
succeeds at k if its image is among the k best images, an image succeeds at k if any of its captions is among the k best
captions. Captions are used without templates. Of items with equal scores, the wrong ones rank first; how many captions
and image files are equal to another one is said. A table or JSON of custom is measured as a whole: a split that it
states is not used, which is said, too.

    python -m eval.retrieval flickr8k --data flickr8k --model bundled --split all --limit 1000
    python -m eval.retrieval coco --data coco --first_stage 128
    python -m eval.retrieval custom --data captions.csv

Without --out, results are written to out/retrieval/DATASET-MODEL; the same command replaces them.

Memory: patch embeddings are written to a temporary file in that folder in half precision (1 GB for 5,000 images with
ViT-B/16). The scores of all images with all captions are in memory (0.5 GB for 5,000 images with 25,000 captions).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from eval.common.command import (
    add_folder,
    add_model,
    check_least,
    check_text,
    load_pooled,
    new_parser,
    warn_of_unknown_words,
)
from eval.common.folders import check_unchanged, results_folder
from eval.common.result import write_results
from eval.retrieval import METHODS, RERANKED
from eval.retrieval.caption_sets import LAYOUTS, open_captions
from pacl.cli.messages import say
from pacl.cli.parser import check_unused
from pacl.files import atomic_write, check_folder
from pacl.printing import counted, escaped

MODULE = "eval.retrieval"
OUT = Path("out/retrieval")


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = new_parser(MODULE, __doc__)
    parser.add_argument("dataset", choices=[*LAYOUTS, "custom"], help="the data set")
    parser.add_argument(
        "--data", required=True, metavar="ROOT",
        help="folder of the data set, or the folder that contains it; for custom a table of captions or JSON",
    )  # fmt: skip
    parser.add_argument("--images", metavar="DIR", help="folder of the images (default: the official one)")
    parser.add_argument(
        "--split",
        help="test (as in the literature), val2017 (COCO only) or all (default: the first for which there are files)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="use only N images of the split, always the same ones")
    parser.add_argument("--partial", action="store_true", help="skip missing images")
    parser.add_argument(
        "--method", nargs="+", choices=METHODS, default=list(METHODS), help="methods to evaluate (default: both)"
    )
    parser.add_argument(
        "--first_stage",
        type=int,
        metavar="K",
        help="also let phi rerank the K best items by CLIP, such as 128",
    )
    parser.add_argument("--batch", type=int, default=64, help="images per batch (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes that read images (default: %(default)s)")
    add_model(parser)
    add_folder(parser, OUT)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate the methods, print the table and save the results."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if set(args.method) == {"pooled"} and not args.first_stage:
        check_unused(args, parser, ["dense"], "on --method pooled, which compares no patches")
    check_least(args, limit=1, first_stage=1, batch=1, workers=0)
    check_text(args, "out", "model", "split", *(["data"] if args.dataset == "custom" else []))
    check_folder(args.out or OUT)
    captions = open_captions(
        args.dataset, args.data, args.split, limit=args.limit, partial=args.partial, images=args.images
    )
    for what, count in captions.unused.items():
        say(MODULE, f"note: {captions.annotations}: {what}: {count:,} not used")
    if equal := captions.equal_images():
        of = f"{equal:,} of {counted(len(captions.source), 'image')} are files equal to another one"
        say(MODULE, f"note: {of}; of equal scores the wrong item ranks first, which lowers the recalls")
    if ambiguous := captions.ambiguous():
        of = f"{ambiguous:,} of {len(captions.texts()[0]):,} captions are equal to one of another image"
        say(MODULE, f"note: {of}; of equal scores the wrong item ranks first, which lowers the recalls")
    if args.limit is not None and not captions.whole:
        apart = "others than training with hold_out keeps apart, which may have trained on them"
        say(MODULE, f"note: {counted(len(captions.source), 'image')} of the split {captions.split}, {apart}")
    model = load_pooled(args)

    from rich.console import Console

    from eval.classification.features import Loading
    from eval.retrieval.measure import encode_and_measure
    from eval.retrieval.results import DIGITS, headline, markdown, measured, planned, summary

    methods = [method for method in METHODS if method in args.method] + ([RERANKED] if args.first_stage else [])
    plans = planned(model, args.model, captions, methods, args.precision, args.first_stage)
    with results_folder(args.out, OUT, plans, args.overwrite) as folder:
        warn_of_unknown_words(MODULE, model.clip, captions.texts()[0], f"captions of {captions.name}")
        loading = Loading(args.batch, args.workers, args.precision)
        found = encode_and_measure(model, captions, methods, loading, args.first_stage, folder)
        check_unchanged(plans[0].protocol["pairs_sha256"], captions.digest()[:DIGITS], captions.name)
        results = measured(model, captions, plans, *found)
        write_results(folder, results)
        with atomic_write(folder / "results.md") as aside:
            aside.write_text(markdown(results), encoding="utf-8")
    print(escaped(headline(results[0])))
    Console().print(summary(results))
    print(f"results in {escaped(folder)}")
    return 0
