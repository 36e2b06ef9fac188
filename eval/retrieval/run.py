"""Retrieval: which pictures belong to a caption and which captions to a picture.

Recall at 1, 5 and 10 both ways and median ranks, of CLIP's pooled embedding ("pooled"), of PACL's phi ("phi") and,
with --first_stage K, of phi among the K best by CLIP ("pooled then phi"). As the literature has it, every caption is
a query and an item of its own (equal captions are not merged), a picture is right when any of its captions is among
the k best, and captions are taken as they are, without a template. A wrong item with the score of a right one ranks
before it.

    python -m eval.retrieval flickr8k --data flickr8k --model bundled --split all --limit 1000
    python -m eval.retrieval coco --data coco --first_stage 128
    python -m eval.retrieval custom --data captions.csv

Without --out each command has a folder of its own, out/retrieval/DATASET-DIGEST, and the same command again replaces
its results.

Memory beyond the model: patch embeddings lie in a temporary file in that folder (half precision: 1 GB for 5,000
pictures with ViT-B/16), and one score of every picture with every caption is held (0.5 GB for 5,000 x 25,000).
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from eval.common.command import add_folder, add_model, check_least, check_text, load, new_parser
from eval.common.folders import results_folder
from eval.common.result import Result, describe_model, made_with, write_results
from eval.common.tables import markdown_table
from eval.retrieval.caption_sets import CAPTIONS, LAYOUTS, CaptionSet, open_captions
from pacl.errors import UserError
from pacl.files import make_folder, written_whole

if TYPE_CHECKING:
    from torch import Tensor

    from pacl.metrics.retrieval import Recalls
    from pacl.models.model import PACL

OUT = Path("out/retrieval")
METHODS = ("pooled", "phi")
RERANKED = "pooled then phi"
KS = (1, 5, 10)
DIGITS = 16  # of SHA-256, in hexadecimal
ROWS = 64  # pictures whose phi is computed at a time


@dataclass(frozen=True)
class Encoded:
    """What the towers say of a set.

    Attributes:
        pooled: CLIP's own embeddings of the pictures, float32 [I, D].
        pooled_texts: CLIP's embeddings of the captions, float32 [T, D].
        patches: embedded patches, float16 [I, P, D], mapped from a file; None if nobody asks.
        texts: the head's embeddings of the captions, float32 [T, D], on the model's device.
    """

    pooled: Tensor
    pooled_texts: Tensor
    patches: Tensor | None
    texts: Tensor


def encode(
    model: PACL, captions: CaptionSet, methods: Sequence[str], args: argparse.Namespace, scratch: IO[bytes]
) -> Encoded:
    """Encode every picture and caption once; ``scratch`` is the file for the patches."""
    import torch

    from eval.classification.features import Squares, embed, square_batches

    squares = Squares(captions.source.image, len(captions.source), model)
    pooled: list[Tensor] = []
    shape: tuple[int, ...] = ()
    with torch.inference_mode():
        for images in square_batches(squares, model, args.batch, args.workers, captions.annotations, "pictures"):
            whole, patches = embed(model, images, args.precision)
            if not (whole.isfinite().all() and patches.isfinite().all()):
                raise UserError("embeddings are no finite numbers; the model's weights are damaged")
            pooled.append(whole.cpu())
            if {"phi", RERANKED} & set(methods):
                shape = tuple(patches.shape[1:])
                scratch.write(patches.half().cpu().numpy().tobytes())
        texts = captions.texts()[0]
        pooled_texts = model.clip.encode_text(texts).cpu()
        texts_of_head = model.encode_text(texts)
    return Encoded(
        torch.cat(pooled),
        pooled_texts,
        mapped(scratch, (len(captions.source), *shape)) if shape else None,
        texts_of_head,
    )


def mapped(file: IO[bytes], shape: tuple[int, ...]) -> Tensor:
    """A file of float16 as a tensor that is read where it is looked at."""
    import numpy as np
    import torch

    file.flush()
    # (mapped copy-on-write, because torch wants to be able to write; nothing does)
    return torch.from_numpy(np.memmap(file, np.float16, "c", shape=shape))


def measure(
    model: PACL, encoded: Encoded, owners: Sequence[int], count: int, methods: Sequence[str], first: int | None
) -> dict[str, tuple[Recalls, float]]:
    """Recalls and seconds of every method.

    Args:
        model: whose phi it is.
        encoded: pictures and captions.
        owners: the picture of each caption.
        count: pictures.
        methods: of `METHODS` and `RERANKED`.
        first: candidates of the first stage.
    """
    import torch

    from eval.classification.features import tracked
    from pacl.metrics.retrieval import recalls, reranked_recalls, score_all_pairs

    positives = torch.zeros(count, len(owners), dtype=torch.bool)  # [I, T]
    positives[list(owners), range(len(owners))] = True
    # Learned, the temperature is a tensor; as a setting it may be infinite, which phi has a shortcut for.
    temperature = model.temperature.detach() if model.config.learn_temperature else model.config.temperature
    pooling: dict[str, Any] = {"temperature": temperature, "cosine": model.config.cosine, "device": model.device}
    found: dict[str, tuple[Recalls, float]] = {}
    scores: Tensor | None = None  # one [I, T] at a time
    if {"pooled", RERANKED} & set(methods):
        start = time.perf_counter()
        scores = encoded.pooled @ encoded.pooled_texts.T
        found["pooled"] = recalls(scores, positives, KS), time.perf_counter() - start
        if RERANKED in methods:
            assert encoded.patches is not None
            assert first is not None
            reranked = reranked_recalls(scores, positives, encoded.patches, encoded.texts, first, ks=KS, **pooling)
            found[RERANKED] = reranked, time.perf_counter() - start
    if "phi" in methods:
        assert encoded.patches is not None
        start = time.perf_counter()
        scores = None
        scores = torch.empty(count, len(owners))
        for first_row in tracked(range(0, count, ROWS), "phi"):
            rows = slice(first_row, first_row + ROWS)
            scores[rows] = score_all_pairs(encoded.patches[rows], encoded.texts, batch=ROWS, **pooling)
        found["phi"] = recalls(scores, positives, KS), time.perf_counter() - start
    return {method: found[method] for method in methods}


def scores_of(found: Recalls) -> dict[str, float]:
    """Recalls in percent."""
    scores = {f"i2t R@{k}": 100 * value for k, value in found.image_to_text.items()}
    scores |= {f"t2i R@{k}": 100 * value for k, value in found.text_to_image.items()}
    return {**scores, "mean recall": 100 * found.mean}


def table_rows(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Header and a row of cells for every method."""
    ranks = ["i2t median rank", "t2i median rank"]
    rows = [
        [_title(r), *(f"{value:.1f}" for value in r.scores.values()), *(f"{r.details[rank]:g}" for rank in ranks)]
        for r in results
    ]
    return ["method", *results[0].scores, *ranks], rows


def _title(result: Result) -> str:
    first = result.protocol.get("first_stage")
    return result.method if first is None else f"{result.method} ({first} candidates)"


def page(results: Sequence[Result]) -> str:
    """The results as Markdown."""
    header, rows = table_rows(results)
    table = markdown_table(header, rows, right=range(1, len(header)))
    told = [
        f"- {result.method}: "
        + ", ".join(f"{key} {value}" for key, value in result.protocol.items() if value is not None)
        for result in results
    ]
    return f"# Retrieval: {headline(results[0])}\n\n{table}\n\n" + "\n".join(told) + "\n"


def headline(result: Result) -> str:
    """What was measured, in a line."""
    whole = "" if not result.partial else f" of {result.full}"
    return (
        f"{result.dataset} {result.split}, {result.images}{whole} pictures, {result.details['captions']} captions "
        f"({result.protocol['annotations']}), {result.model['clip']}, dense variant {result.model['dense']}"
    )


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.retrieval", __doc__)
    parser.add_argument("dataset", choices=[*LAYOUTS, "custom"], help="which pictures and captions")
    parser.add_argument(
        "--data",
        required=True,
        metavar="ROOT",
        help="the set's folder, or the one that it lies in; of custom: a table of pictures and captions, or JSON",
    )
    parser.add_argument("--images", metavar="DIR", help="folder of the pictures (default: the official place)")
    parser.add_argument(
        "--split", help="test (the literature's), val2017 (of COCO) or all (default: what there is a file for)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="so many pictures, the same ones in every run")
    parser.add_argument("--partial", action="store_true", help="leave out pictures that are absent")
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS), help="(default: both)")
    parser.add_argument(
        "--first_stage", type=int, metavar="K", help="also let phi order the K best by CLIP alone, such as 128"
    )
    parser.add_argument("--batch", type=int, default=64, help="pictures at a time (default: 64)")
    parser.add_argument("--workers", type=int, default=2, help="processes that read pictures (default: 2)")
    add_model(parser)
    add_folder(parser, OUT)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    args = build_parser().parse_args(argv)
    for flag, low in (("limit", 1), ("first_stage", 1), ("batch", 1), ("workers", 0)):
        if (value := getattr(args, flag)) is not None and value < low:
            raise UserError(f"--{flag} {value}: {low} or more")
    check_text(args, "out", "model", "split", *(["data"] if args.dataset == "custom" else []))
    methods = [method for method in METHODS if method in args.method]
    if args.first_stage:
        methods.append(RERANKED)
    make_folder(args.out or OUT)
    captions = open_captions(
        args.dataset, args.data, args.split, limit=args.limit, partial=args.partial, images=args.images
    )
    model = load(args)

    from eval.common.command import warn_of_unknown_words

    planned = [plan(model, captions, method, args) for method in methods]
    folder = results_folder(args.out, OUT, planned, args.overwrite)
    warn_of_unknown_words("eval.retrieval", model.clip, captions.texts()[0], f"captions of {captions.name}")
    results = run(model, captions, planned, args, folder)
    write_results(folder, results)
    with written_whole(folder / "results.md") as aside:
        aside.write_text(page(results), encoding="utf-8")
    show(results)
    print(f"results in {folder}")
    return 0


def plan(model: PACL, captions: CaptionSet, method: str, args: argparse.Namespace) -> Result:
    """A method's result without figures: all that decides them."""
    protocol: dict[str, Any] = {
        "name": "retrieval",
        "names": None,
        "annotations": captions.annotations,
        "captions": "all" if captions.name == "custom" else f"the first {CAPTIONS}",
        "queries": "every caption, equal ones too",
        "templates": "none",
        "ties": "wrong items first",
        "size": model.clip.size,
        "preprocessing": model.clip.preprocessing.get("resize_mode", "shortest"),
        "precision": args.precision,
        "pairs_sha256": captions.digest()[:DIGITS],
    }
    if method != "pooled":
        temperature = float(model.temperature)
        protocol["temperature"] = temperature if math.isfinite(temperature) else "infinite"
        protocol["cosine"] = model.config.cosine
    if method == RERANKED:
        protocol["first_stage"] = args.first_stage
    return Result(
        task="retrieval",
        dataset=captions.name,
        split=captions.split,
        images=len(captions.source),
        full=captions.full,
        method=method,
        model=describe_model(model, args.model),
        protocol=protocol,
        scores={},
        made=made_with(model.device),
    )


def run(
    model: PACL, captions: CaptionSet, planned: Sequence[Result], args: argparse.Namespace, folder: Path
) -> list[Result]:
    """Encode and score: the planned results with their figures."""
    from eval.common.memory import peak_memory

    texts, owners = captions.texts()
    count = len(captions.source)
    methods = [result.method for result in planned]
    start = time.perf_counter()
    try:
        with tempfile.TemporaryFile(dir=folder) as scratch:  # gone however this ends
            encoded = encode(model, captions, methods, args, scratch)
            seconds = time.perf_counter() - start
            found = measure(model, encoded, owners, count, methods, args.first_stage)
    except OSError as error:
        raise UserError(f"--out {folder}: patches cannot be kept there ({error.strerror or error})") from error
    cut = sum(model.clip.count_tokens(text) > model.clip.context_length for text in set(texts))
    results = []
    for result in planned:
        recall, scoring = found[result.method]
        details = {
            "captions": len(texts),
            "captions longer than the text tower reads": cut,
            "pictures without a caption": sum(not own for own in captions.captions),
            "i2t median rank": recall.image_to_text_rank,
            "t2i median rank": recall.text_to_image_rank,
        }
        speed = {
            "images_per_second": count / seconds,  # encoded, with their captions
            "scoring_seconds": scoring,
            "peak_memory_mb": peak_memory(model.device) / 2**20,  # mapped files included
        }
        results.append(dataclasses.replace(result, scores=scores_of(recall), details=details, speed=speed))
    return results


def show(results: Sequence[Result]) -> None:
    """Print the figures, a method a column."""
    from rich.console import Console
    from rich.table import Table

    header, rows = table_rows(results)
    table = Table()
    for i, columns in enumerate(zip(header, *rows, strict=True)):
        if i:
            table.add_row(*columns)
            continue
        table.add_column("")
        for title in columns[1:]:
            table.add_column(title, justify="right")
    print(headline(results[0]))
    Console().print(table)
