"""Results of classification, and their tables.

A result is created in two steps: its settings before the evaluation, since the output folder depends on them, and its
scores afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.classification.features import Loading
from eval.classification.image_sets import IMAGE_BENCHMARKS, ImageSet
from eval.classification.intervals import accuracy_intervals
from eval.common.files import own_data
from eval.common.memory import peak_memory
from eval.common.result import Result, describe_model, made_with
from eval.common.tables import markdown_table, terminal_table
from pacl.metrics.accuracy import SCORES, accuracies, per_class
from pacl.models.model import PACL
from pacl.printing import counted

if TYPE_CHECKING:
    from rich.table import Table

DIGITS = 16  # hexadecimal digits of digests in results
HEADER = ("data set", "images", "method", "top-1", "top-5", "per class")
NUMERIC = range(3, len(HEADER))  # columns that are right-aligned
INTERVALS = "with its 95 % confidence interval over images, or ± the standard deviation over seeds"


@dataclass(frozen=True)
class Setup:
    """Settings that all results of a run have in common.

    Attributes:
        model: the model.
        description: description of the model in results, see `eval.common.result.describe_model`.
        loading: how images are read and encoded.
        limit: maximum number of images; None for all.
    """

    model: PACL
    description: dict[str, Any]
    loading: Loading
    limit: int | None = None

    @classmethod
    def of(cls, model: PACL, name: str, loading: Loading, limit: int | None = None) -> Setup:
        """Settings with the description of a model; ``name`` is the model's name as the user gave it."""
        return cls(model, describe_model(model, name), loading, limit)

    def planned(self, images: ImageSet, method: str, protocol: dict[str, Any]) -> Result:
        """A result with all settings that its scores depend on, but without the scores.

        Args:
            images: the images that are classified.
            method: name of the method.
            protocol: settings of the method.
        """
        digest = images.digest()
        own = {"data": own_data(images.folder, digest)} if images.benchmark.name == "custom" else {}
        return Result(
            task="classification",
            dataset=images.benchmark.name,
            split=images.split,
            images=len(images),
            full=images.full,
            method=method,
            model=self.description,
            protocol={
                **protocol,
                "main": images.benchmark.main,
                "classes": len(images.keys),
                "size": self.model.clip.size,
                "preprocessing": self.model.clip.preprocessing.get("resize_mode", "shortest"),
                "precision": self.loading.precision,
                "pictures": images.selection,
                "limit": self.limit,
                "pictures_sha256": digest[:DIGITS],
                **own,
            },
            scores={},
            made=made_with(self.model.device),
        )

    def measured(self, planned: Result, images: ImageSet, counts: np.ndarray, speed: dict[str, float]) -> Result:
        """Add the scores to a planned result.

        Args:
            planned: the result of `planned`.
            images: the images that were classified.
            counts: `pacl.metrics.accuracy.count_ranks` of these images, int64 [C, 3].
            speed: measured times, by name.
        """
        recalls = dict(zip(images.keys, (100 * per_class(counts)).tolist(), strict=True))
        return dataclasses.replace(
            planned,
            scores={name: float(value) for name, value in accuracies(counts).items()},
            intervals=accuracy_intervals(counts),
            details={"classes_measured": int((counts.sum(axis=1) > 0).sum()), "per_class": recalls},
            speed={**speed, "peak_memory_mb": peak_memory(self.model.device) / 2**20},
        )


# --- Tables -------------------------------------------------------------------------------------------


def summary(results: Sequence[Result]) -> Table:
    """The table for the terminal."""
    rows = _rows(results, {name: benchmark.title for name, benchmark in IMAGE_BENCHMARKS.items()})
    names = [result.dataset for result in results]
    sections = [i for i in range(1, len(names)) if names[i] != names[i - 1]]
    caption = f"percent; bold: the main score, {INTERVALS}"
    models = dict.fromkeys(f"model {model_text(result.model)}" for result in results)
    caption = "\n".join([caption, *models])
    return terminal_table(HEADER, rows, NUMERIC, caption=caption, sections=sections)


def markdown(results: Sequence[Result]) -> str:
    """The table as Markdown, and the settings below it."""
    lines = [
        "# Classification",
        "",
        markdown_table(HEADER, _rows(results, {}), NUMERIC),
        "",
        f"Percent; bold: the main score, of published data sets the one that the literature reports, {INTERVALS}.",
        "",
        *dict.fromkeys(f"- Model: {model_text(result.model)}." for result in results),
        *dict.fromkeys(f"- {result.dataset}, {result.method}: {protocol_text(result.protocol)}." for result in results),
    ]
    return "\n".join(lines) + "\n"


def _rows(results: Sequence[Result], titles: dict[str, str]) -> list[list[str]]:
    """Cells of the table, a row per result; ``titles`` are the names of data sets in the table."""
    rows = []
    for result in results:
        scores = {name: f"{result.scores[name]:.1f}" for name in SCORES}
        main = result.protocol["main"]
        scores[main] = f"**{scores[main]}**{_interval(result, main)}"
        images = f"{result.images:,}" + (f"/{result.full:,}" if result.partial and result.full is not None else "")
        name = titles.get(result.dataset, result.dataset)
        rows.append([f"{name} {result.split}", images, result.method, *scores.values()])
    return rows


def _interval(result: Result, score: str) -> str:
    """Confidence interval of a score, else its standard deviation over seeds, else an empty text."""
    low, high = result.intervals.get(score) or (None, None)
    if low is not None and high is not None:
        return f" ({low:.1f}-{high:.1f})"
    deviation = (result.details.get("deviation") or {}).get(score)
    return "" if deviation is None else f" ± {deviation:.1f}"


def model_text(model: dict[str, Any]) -> str:
    """The model of a result, in words."""
    head = f"trained head {model.get('head')}" if model.get("trained") else "no trained head"
    clip = "" if model.get("clip") == model.get("name") else f"CLIP {model.get('clip')}, "
    return f"{model.get('name')} ({clip}weights {model.get('checksum')}, dense variant {model.get('dense')}, {head})"


def protocol_text(protocol: dict[str, Any]) -> str:
    """The settings of a result, in words, without those that are None."""
    known = [text(protocol[key]) for key, text in PHRASES.items() if protocol.get(key) is not None]
    rest = {key: value for key, value in protocol.items() if key not in PHRASES and value is not None}
    return "; ".join([*filter(None, known), *(f"{key.replace('_', ' ')} {_value(rest[key])}" for key in rest)])


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _list(value) if isinstance(value, (list, tuple)) else str(value)


def _list(values: Sequence[object]) -> str:
    """The values as an enumeration, such as "0, 1 and 2"."""
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last


def _seeds(seeds: Sequence[int]) -> str:
    return f"mean over seeds {_list(seeds)}" if len(seeds) > 1 else f"seed {_list(seeds)}"


PHRASES: dict[str, Callable[[Any], str]] = {
    "name": str,
    "names": "class names: {}".format,
    "templates": "templates: {}".format,
    "template_count": lambda count: counted(count, "template"),
    "score": "score: {}".format,
    "shots": lambda n: "all training images" if n == "all" else f"{counted(n, 'training image')} per class",
    "seeds": _seeds,
    "features": "{} features".format,
    "train_split": "trained on split {}".format,
    "train_images": "chosen from {:,} training images".format,
    "train_full": "of {:,} in the split".format,
    "classifier": "classifier: {}".format,
    "main": lambda score: f"main score: {SCORES.get(score, score)}",
    "classes": "{:,} classes".format,
    "size": "{0} x {0} pixels".format,
    "preprocessing": "resize mode {} of open_clip".format,
    "precision": "precision {}".format,
    "data": "data: {}".format,
    "pictures": "images: {}".format,
    "limit": "{:,} of them, evenly spaced".format,
    "names_sha256": "digest of the file of names {}".format,
    "templates_sha256": "digest of the file of templates {}".format,
    "texts_sha256": "digest of the texts {}".format,
    "train_sha256": "digest of the training images {}".format,
    "pictures_sha256": "digest of the images {}".format,
}
"""Setting -> function that describes its value in words, in the order of the description."""
