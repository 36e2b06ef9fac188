"""Results of classifiers as a table: on the terminal, and as Markdown with all that decides the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from eval.classification.image_sets import IMAGE_BENCHMARKS
from eval.common.result import Result
from eval.common.tables import markdown_table
from pacl.metrics.accuracy import SCORES

if TYPE_CHECKING:
    from rich.table import Table

HEADS = ("data set", "images", "method", "top-1", "top-5", "per class")
FIGURES = range(3, len(HEADS))
RANGES = "with its 95 % interval over pictures, or ± the standard deviation over draws"


@dataclass(frozen=True)
class Row:
    """A line of the tables."""

    dataset: str
    images: str
    method: str
    top1: str
    top5: str
    mean_per_class: str


def rows(results: Sequence[Result], bold: str) -> list[Row]:
    """The results in words; ``bold`` marks the score that the literature gives, with its value in place of ``{}``."""
    found = []
    for result in results:
        scores = {name: f"{result.scores[name]:.1f}" for name in SCORES}
        main = result.protocol["main"]
        scores[main] = bold.format(scores[main]) + _range(result, main)
        images = f"{result.images:,}" if not result.partial or result.full is None else (
            f"{result.images:,}/{result.full:,}"
        )  # fmt: skip
        found.append(Row(f"{result.dataset} {result.split}", images, result.method, **scores))
    return found


def _range(result: Result, score: str) -> str:
    """How sure a score is: its interval, of several draws their spread."""
    low, high = result.intervals.get(score) or (None, None)
    if low is not None and high is not None:
        return f" ({low:.1f}-{high:.1f})"
    deviation = (result.details.get("deviation") or {}).get(score)
    return "" if deviation is None else f" ± {deviation:.1f}"


def markdown(results: Sequence[Result]) -> str:
    """A table, the literature's score in bold with its range, and how it was measured."""
    cells = [list(asdict(row).values()) for row in rows(results, "**{}**")]
    lines = [
        "# Classification",
        "",
        markdown_table(HEADS, cells, FIGURES),
        "",
        f"Percent; in bold what the literature gives for the data set, {RANGES}.",
        "",
        *dict.fromkeys(f"- Model: {model_words(result.model)}." for result in results),
        *dict.fromkeys(
            f"- {result.dataset}, {result.method}: {protocol_words(result.protocol)}." for result in results
        ),
    ]
    return "\n".join(lines) + "\n"


def model_words(model: dict[str, Any]) -> str:
    """A model as people write it."""
    head = f"trained head {model.get('head')}" if model.get("trained") else "no trained head"
    clip = "" if model.get("clip") == model.get("name") else f"CLIP {model.get('clip')}, "
    return f"{model.get('name')} ({clip}weights {model.get('checksum')}, dense variant {model.get('dense')}, {head})"


def protocol_words(protocol: dict[str, Any]) -> str:
    """The settings as people write them; those that are not set are left out."""
    words = [say(protocol[key]) for key, say in PHRASES.items() if protocol.get(key) is not None]
    others = [f"{key.replace('_', ' ')} {_value(value)}" for key, value in protocol.items() if key not in PHRASES]
    return "; ".join([word for word in words if word] + [word for word in others if not word.endswith(" None")])


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _list(value) if isinstance(value, (list, tuple)) else str(value)


def _list(values: Sequence[object]) -> str:
    """``0, 1 and 2``."""
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last


def _seeds(seeds: Sequence[int]) -> str:
    return f"mean over the draws of seeds {_list(seeds)}" if len(seeds) > 1 else f"drawn by seed {_list(seeds)}"


PHRASES: dict[str, Callable[[Any], str]] = {
    "name": str,
    "names": "class names: {}".format,
    "templates": "templates: {}".format,
    "template_count": lambda count: "1 template" if count == 1 else f"{count} templates",
    "score": "score: {}".format,
    "shots": lambda n: "all training pictures" if n == "all" else f"{n} training picture{'s' * (n > 1)} a class",
    "seeds": _seeds,
    "features": "{} features".format,
    "train_split": "trained on split {}".format,
    "train_images": "drawn from {:,} training pictures".format,
    "train_full": "of {:,} that the split has".format,
    "classifier": "classifier: {}".format,
    "main": lambda score: f"the literature gives {SCORES.get(score, score)}",
    "classes": "{:,} classes".format,
    "size": "{0} x {0} pixels".format,
    "preprocessing": "resized as open_clip's {}".format,
    "precision": "arithmetic {}".format,
    "pictures": "pictures: {}".format,
    "limit": "{:,} of them at equal distances".format,
    "texts_sha256": "digest of the texts {}".format,
    "train_sha256": "digest of the training pictures {}".format,
    "pictures_sha256": "digest of the pictures {}".format,
}
"""Of each setting its words, in the order in which they are told."""


def summary(results: Sequence[Result]) -> Table:
    """The table for the terminal."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    titles = {name: benchmark.title for name, benchmark in IMAGE_BENCHMARKS.items()}
    caption = f"percent; bold: what the literature gives, {RANGES}"
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    for i, head in enumerate(HEADS):
        found.add_column(head, justify="right" if i in FIGURES else "left", no_wrap=True)
    last = ""
    for row, result in zip(rows(results, "[bold]{}[/]"), results, strict=True):
        if last not in ("", result.dataset):
            found.add_section()
        last = result.dataset
        title = escape(f"{titles.get(result.dataset, result.dataset)} {result.split}")
        found.add_row(title, *list(asdict(row).values())[1:])
    return found
