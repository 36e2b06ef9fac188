"""Results of retrieval, and their tables.

Results are created in two steps: their settings before the evaluation, since the output folder depends on them, and
their scores afterwards.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eval.common.files import own_data
from eval.common.memory import peak_memory
from eval.common.result import Result, describe_model, made_with
from eval.common.tables import markdown_table, terminal_table
from eval.retrieval import RERANKED
from eval.retrieval.caption_sets import CAPTIONS, CaptionSet
from pacl.metrics.retrieval import Recalls, chance
from pacl.models.model import PACL

if TYPE_CHECKING:
    from rich.table import Table

DIGITS = 16  # hexadecimal digits of digests in results
RANKS = ("i2t median rank", "t2i median rank")


def planned(
    model: PACL, name: str, captions: CaptionSet, methods: Sequence[str], precision: str, candidates: int | None
) -> list[Result]:
    """A result for each method with all settings that its scores depend on, but without the scores.

    Args:
        model: the model.
        name: the model's name as the user gave it.
        captions: images and captions.
        methods: methods of `eval.retrieval.METHODS` and `RERANKED`.
        precision: precision of the image tower.
        candidates: number of candidates that `RERANKED` reranks.
    """
    digest = captions.digest()
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
        "precision": precision,
        "pairs_sha256": digest[:DIGITS],
    }
    if captions.name == "custom":
        protocol["data"] = own_data(captions.annotations, digest)
    temperature = float(model.temperature)
    phi = {"temperature": temperature if math.isfinite(temperature) else "infinite", "cosine": model.config.cosine}
    more: dict[str, dict[str, Any]] = {"pooled": {}, "phi": phi, RERANKED: {**phi, "first_stage": candidates}}
    common = Result(
        task="retrieval",
        dataset=captions.name,
        split=captions.split,
        images=len(captions.source),
        full=captions.full,
        method="",
        model=describe_model(model, name),
        protocol={},
        scores={},
        made=made_with(model.device),
    )
    return [dataclasses.replace(common, method=each, protocol={**protocol, **more[each]}) for each in methods]


def measured(
    model: PACL, captions: CaptionSet, plans: Sequence[Result], found: dict[str, tuple[Recalls, float]], seconds: float
) -> list[Result]:
    """Add the scores to planned results.

    Args:
        model: the model.
        captions: images and captions.
        plans: the results of `planned`.
        found: method -> recalls, and seconds of scoring.
        seconds: seconds of encoding.
    """
    texts = captions.texts()[0]
    too_long = sum(model.clip.count_tokens(text) > model.clip.context_length for text in set(texts))
    results = []
    for plan in plans:
        recall, scoring = found[plan.method]
        details: dict[str, Any] = {
            "captions": len(texts),
            "captions longer than the text tower reads": too_long,
            "pictures without a caption": sum(not own for own in captions.captions),
            **dict(zip(RANKS, (recall.image_to_text_rank, recall.text_to_image_rank), strict=True)),
        }
        speed = {
            "images_per_second": len(captions.source) / seconds,  # encoding, captions included
            "scoring_seconds": scoring,
            "peak_memory_mb": peak_memory(model.device) / 2**20,  # memory-mapped files included
        }
        ks = list(recall.image_to_text)
        details["chance"] = chance([len(own) for own in captions.captions], [1] * len(texts), ks).percent()
        results.append(dataclasses.replace(plan, scores=recall.percent(), details=details, speed=speed))
    return results


# --- Tables -------------------------------------------------------------------------------------------


def headline(result: Result) -> str:
    """Data set and model of the results, in one line."""
    name, clip = result.model["name"], result.model["clip"]
    named = name if clip == name else f"{name} ({clip})"
    whole = "" if not result.partial else f" of {result.full}"
    return (
        f"{result.dataset} {result.split}, {result.images}{whole} images, {result.details['captions']} captions "
        f"({result.protocol['annotations']}), model {named}, dense variant {result.model['dense']}"
    )


def summary(results: Sequence[Result]) -> Table:
    """The table for the terminal, with one column per method."""
    header, *rows = zip(*_table(results), strict=True)
    return terminal_table(("", *header[1:]), rows, range(1, len(header)))


def markdown(results: Sequence[Result]) -> str:
    """The table as Markdown, with one row per method, and the settings below it."""
    header, *rows = _table(results)
    table = markdown_table(header, rows, right=range(1, len(header)))
    settings = [
        f"- {result.method}: " + ", ".join(f"{key} {x}" for key, x in result.protocol.items() if x is not None)
        for result in results
    ]
    return f"# Retrieval: {headline(results[0])}\n\n{table}\n\n" + "\n".join(settings) + "\n"


def _table(results: Sequence[Result]) -> list[list[str]]:
    """Cells of the table: the header, one row per method, and what a random order would score."""
    rows = [["method", *results[0].scores, *RANKS]]
    for result in results:
        candidates = result.protocol.get("first_stage")
        title = result.method if candidates is None else f"{result.method} ({candidates} candidates)"
        scores = (f"{value:.1f}" for value in result.scores.values())
        rows.append([title, *scores, *(f"{result.details[rank]:g}" for rank in RANKS)])
    level = results[0].details.get("chance") or {}
    if level:
        rows.append(["chance", *(f"{level[score]:.1f}" for score in results[0].scores), *("" for _ in RANKS)])
    return rows
