"""What competes for the pixels of an image: prompts, and the label or background that each stands for."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pacl.errors import ArgumentError, first_few
from pacl.printing import counted
from pacl.prompts import Label, split_words
from pacl.segmentation.background import Background
from pacl.segmentation.contrast import competitors
from pacl.segmentation.encode import check_finite

if TYPE_CHECKING:
    from torch import Tensor

    from pacl.models.head import HeadConfig
    from pacl.models.model import PACL

SAME_VECTOR = 0.01
"""Vectors of unit length of the same text and model differ by less: devices round differently."""


@dataclass(frozen=True)
class Query:
    """N prompts that compete, with the id that each stands for."""

    labels: tuple[Label, ...]
    """C of them; `labels[i]` has id i + 1."""
    prompts: tuple[str, ...]
    """N texts, those of the background first, so that the background wins where a label has the same text."""
    ids: tuple[int, ...]
    """The id of each prompt: i + 1 for `labels[i]`, 0 for the background. Prompts of the same id are neighbours."""
    background: Background
    """The rule, with `auto` resolved. Under `peak` one more channel competes: a constant level, for id 0."""
    margin: float = 0.0
    """How much higher the cosine of a background prompt must be than those of the labels to win a pixel."""

    @property
    def channels(self) -> tuple[int, ...]:
        """The id of each channel that competes: of each prompt and, before them, of the level of the rule `peak`."""
        return (0, *self.ids) if self.background.kind == "peak" else self.ids

    @property
    def classes(self) -> tuple[int, ...]:
        """The distinct ids, in the order of the channels: K = C, or C + 1 where id 0 competes."""
        return tuple(dict.fromkeys(self.channels))


@dataclass(frozen=True)
class Wording:
    """What a segmenter makes the prompts and their vectors of, besides the labels and the weights of the model."""

    templates: str
    """Their name, or their file."""
    texts: tuple[str, ...]
    """The templates themselves."""
    background: Background
    """The rule as it was set."""
    calibrated: bool
    """Whether the model is, which the rule `auto` depends on."""
    contrast: tuple[str, ...]
    """The model's words for the background."""
    margin: float
    """The model's margin of these."""

    @classmethod
    def of(cls, config: HeadConfig, templates: str | Path, texts: Sequence[str], background: Background) -> Wording:
        """That of a model with this configuration."""
        words = tuple(config.contrast)
        return cls(str(templates), tuple(texts), background, config.calibrated, words, config.contrast_margin)

    def differs(self, other: Wording, rule: Background) -> str | None:
        """The first difference that matters under a (resolved) background rule, in words: "OWN, not OTHER'S"."""
        if self.texts != other.texts:
            same = self.templates == other.templates
            return f"other {other.templates}" if same else f"templates {self.templates}, not {other.templates}"
        if self.background != other.background:
            return f"background {self.background}, not {other.background}"
        if rule.kind in ("peak", "contrast") and self.calibrated != other.calibrated:
            return "a model that is calibrated" if self.calibrated else "a model that is not calibrated"
        if rule.kind == "contrast" and (self.contrast, self.margin) != (other.contrast, other.margin):
            return "a model of other background words"
        return None


@dataclass(frozen=True, eq=False)
class EncodedQuery:
    """A query with its prompts as text vectors."""

    query: Query
    texts: Tensor
    """float32 [N, D], unit length."""
    wording: Wording | None = None
    """What the segmenter that prepared it made the prompts of; None: it is not compared."""

    def __repr__(self) -> str:
        names = [label.name for label in self.query.labels]
        return (
            f"<EncodedQuery of {counted(len(names), 'label')} ({first_few(names)}), background {self.query.background}>"
        )

    def only(self, ids: Collection[int]) -> EncodedQuery:
        """The same query, but only the labels of these ids compete, and the background."""
        kept = [n for n, i in enumerate(self.query.ids) if i == 0 or i in ids]
        query = replace(
            self.query,
            prompts=tuple(self.query.prompts[n] for n in kept),
            ids=tuple(self.query.ids[n] for n in kept),
        )
        return replace(self, query=query, texts=self.texts[kept])

    def check(self, model: PACL, wording: Wording) -> None:
        """Refuse a query that was prepared with another model or in other words.

        The model counts as the same if it has the same vector for the last prompt, which its cache of texts holds.

        Args:
            model: of the segmenter that the query is given to.
            wording: of that segmenter.

        Raises:
            ArgumentError: ``labels``: it differs, and in what.
        """
        if self.wording is None:
            return
        if differs := self.wording.differs(wording, self.query.background):
            raise _prepared_otherwise(differs)
        last = self.texts[-1:]
        own = model.encode_prompts(self.query.prompts[-1:], wording.texts).float().to(last.device)
        if own.shape != last.shape or not bool((own - last).norm() < SAME_VECTOR):
            raise _prepared_otherwise("another model")


def _prepared_otherwise(what: str) -> ArgumentError:
    return ArgumentError("labels", "of another segmenter", f"were prepared with {what}; prepare them again")


def equal_prompts(encoded: EncodedQuery, asked: Collection[str], tolerance: float = 1e-5) -> list[list[str]]:
    """Groups of prompts that have the same embedding and stand for different ids.

    Args:
        encoded: the query.
        asked: the prompts that are compared: those of the user, not those that the model added.
        tolerance: embeddings are the same if their cosine is above 1 minus this.
    """
    query, asked = encoded.query, set(asked)
    rows = [n for n, prompt in enumerate(query.prompts) if prompt in asked]
    texts = encoded.texts[rows].cpu().double()  # (MPS has no float64)
    # Equal vectors have equal projections on any direction, so they are neighbours if sorted by one. Only neighbours
    # are compared, which is fast for thousands of prompts, too.
    direction = torch.linspace(1, 2, texts.shape[1], dtype=texts.dtype)
    order = (texts @ direction).argsort()
    same = (texts[order[1:]] * texts[order[:-1]]).sum(-1) > 1 - tolerance
    groups = [[rows[int(order[0])]]]
    for n, joins in zip(order[1:].tolist(), same.tolist(), strict=True):
        if joins:
            groups[-1].append(rows[n])
        else:
            groups.append([rows[n]])
    found = sorted(sorted(group) for group in groups if len({query.ids[n] for n in group}) > 1)
    return [[query.prompts[n] for n in group] for group in found]


def alike_prompts(query: Query, asked: Collection[str]) -> list[list[str]]:
    """Groups of prompts that stand for different labels and differ in case, article or plural only.

    Args:
        query: what competes.
        asked: the prompts that are compared, as in `equal_prompts`.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    asked = set(asked)
    for n, prompt in enumerate(query.prompts):
        if prompt in asked and query.ids[n]:
            words = [word for word in split_words(prompt) if word not in ("a", "an", "the")]
            groups.setdefault(tuple(re.sub(r"(?<=[^s])s$", "", word) for word in words), []).append(n)
    found = [group for words, group in groups.items() if words and len({query.ids[n] for n in group}) > 1]
    return [[query.prompts[n] for n in group] for group in found]


def make_query(
    labels: Sequence[Label], background: Background, config: HeadConfig, background_prompts: Sequence[str] = ()
) -> Query:
    """Gather the prompts of the labels and of the background.

    Args:
        labels: as `pacl.prompts.check_labels` accepts them.
        background: the rule; `auto` is resolved here.
        config: the configuration of the model. Its contrast prompts compete under the rule `contrast`, except those
            that are prompts of the labels.
        background_prompts: texts of the background that compete beside any rule, such as the names that a benchmark
            has for its class 0.

    Raises:
        ArgumentError: ``background``: the rule makes no sense with these labels.
    """
    prompts = [prompt for label in labels for prompt in label.prompts]
    ids = [i for i, label in enumerate(labels, start=1) for _ in label.prompts]
    classes, texts = len(labels) + bool(background_prompts), len(prompts) + len(background_prompts)
    background = background.resolve(classes, texts, config.calibrated)
    against = [*background_prompts, *background.prompts]
    margin = 0.0
    if background.kind == "contrast":
        contrast, margin = competitors(prompts, config.contrast), config.contrast_margin
        against += contrast
        if not contrast:
            raise ArgumentError(
                "background", background, "the model has no words that compete with these prompts; use none"
            )
    return Query(tuple(labels), (*against, *prompts), (*[0] * len(against), *ids), background, margin)


def encode_query(model: PACL, query: Query, templates: Sequence[str]) -> EncodedQuery:
    """Embed the prompts, each averaged over the templates (see `pacl.prompts.get_templates`).

    Raises:
        UserError: the embeddings are not finite.
    """
    texts = model.encode_prompts(query.prompts, templates).float()
    check_finite([texts], "text embeddings")
    return EncodedQuery(query, texts)
