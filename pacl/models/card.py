"""Model cards of heads: Markdown with the front matter of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from huggingface_hub import EvalResult, ModelCardData

from pacl.printing import counted

if TYPE_CHECKING:
    from pacl.models.head import HeadConfig


MAX_WORDS = 500
"""Words of a vocabulary that a card lists."""

TASK = "image-segmentation"
"""The hub's name of what all heads are for."""

TAGS = ("clip", "segmentation", "open-vocabulary-segmentation")

CALIBRATED = "## Calibrated"
"""The heading over what a calibration was made with."""

HUB_METRICS = {"val_recall": "recall"}
"""Figures of a training that are metrics of the hub: its name of each."""


@dataclass(frozen=True)
class TrainingRun:
    """Facts about a finished training.

    Attributes:
        data: a description of each source, with its number of images.
        settings: name -> value of the main settings.
        figures: name -> last logged value.
        chance: name -> what a random order would give, for the figures of which it is known.
        measured_at: name -> step after which the figure was measured; without an entry it is of the last step.
        start_recall: validation recall before the first step, if it was measured.
        steps: optimizer steps.
        images: images seen, with repetitions.
        skipped: number of these that could not be used.
        seconds: duration, since the run was last resumed.
        device: name of the hardware.
        resumed: whether the run was resumed.
        weights: which weights are saved: the last or the best.
        vocabulary: words of a text tower that knows these words only; empty for all others.
    """

    data: Sequence[str]
    settings: Mapping[str, object]
    figures: Mapping[str, float]
    steps: int
    images: int
    skipped: int
    seconds: float
    device: str
    resumed: bool = False
    measured_at: Mapping[str, int] = field(default_factory=dict)
    start_recall: float | None = None
    chance: Mapping[str, float] = field(default_factory=dict)
    weights: str = "the last"
    vocabulary: Sequence[str] = ()

    def step_of(self, figure: str) -> str:
        """``" after step 10"``, where the figure is not of the last step; else empty."""
        step = self.measured_at.get(figure, self.steps)
        return f" after step {step:,}" if step < self.steps else ""


def hub_fields(config: HeadConfig, run: TrainingRun | None = None) -> ModelCardData:
    """The front matter: the fields of a model that the Hugging Face hub reads.

    Without a licence, which is for whoever trained the head to choose: `with_hub_fields` adds it.
    """
    figures = {} if run is None else {name: run.figures[name] for name in HUB_METRICS if name in run.figures}
    name = config.backbone.rstrip("/").rpartition("/")[2]
    step = "" if run is None else run.step_of("val_recall")
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type="captioned-images",
            dataset_name="held-out images of the training data",
            metric_type=HUB_METRICS[figure],
            metric_name=f"{figure}{step}, mean of image-to-text and text-to-image retrieval by phi",
            metric_value=round(value, 5),
        )
        for figure, value in figures.items()
    ]
    return ModelCardData(
        library_name="pacl",
        pipeline_tag=TASK,
        tags=list(TAGS),
        base_model=config.backbone.removeprefix("hf-hub:") if config.backbone.startswith("hf-hub:") else None,
        metrics=[HUB_METRICS[figure] for figure in figures] or None,
        model_name=f"PACL head for {name}" if results else None,
        eval_results=results or None,
    )


def with_hub_fields(card: str, **fields: object) -> str:
    """A card whose front matter has other or further fields, such as ``datasets=["me/photos"]``."""
    from huggingface_hub import ModelCard

    changed = ModelCard(card, ignore_metadata_errors=True)
    for name, value in fields.items():
        changed.data[name] = value
    return str(changed)


def with_calibration(card: str, photos: int, presence: float) -> str:
    """A card that says that its head is calibrated, in place of what it said of an earlier calibration.

    Args:
        card: may be written by hand; the rest of it is kept.
        photos: the number of photos.
        presence: the score from which a text is present.
    """
    told = (
        f"{CALIBRATED}\n\nOn {counted(photos, 'photo')}: the mean score of each text over them is subtracted, and a "
        f"text is present from a score of {presence:.3f}.\n"
    )
    before, _, after = f"\n{card}".partition(f"\n{CALIBRATED}\n")
    rest = re.search(r"^#", after, re.MULTILINE)
    return f"{before[1:].rstrip()}\n\n{told}" + (f"\n{after[rest.start() :]}" if rest else "")


def write_card(config: HeadConfig, run: TrainingRun | None = None, temperature: float | None = None) -> str:
    """The model card of a head.

    Args:
        config: of the head.
        run: facts about its training, if there was one.
        temperature: of pooling, where it was learned; None: that of the start, in ``config``.
    """
    temperature = config.temperature if temperature is None else temperature
    pooling = "mean pooling" if temperature == float("inf") else f"temperature {temperature:.4g}"
    facts = {
        "CLIP": f"`{config.backbone}`, frozen; loaded by its name, checked against checksum `{config.checksum[:12]}`",
        "patch tokens": f"`{config.dense}`, {config.size} px",
        "embedder": f"`{config.start}` start, {config.width} -> {config.hidden} -> {config.dim}",
        "pooling": pooling + (", learned" if config.learn_temperature else ""),
    }
    if config.vocabulary:
        classes = ", or of the image tower's classes" if config.start == "conse" else ""
        facts["words"] = f"{len(config.vocabulary):,}, nouns of its captions{classes}: `vocabulary` in `config.json`"
    if run is not None:
        facts |= {
            "data": "; ".join(run.data),
            "training": f"{counted(run.steps, 'step')} over {counted(run.images, 'image')}, repetitions included"
            + (f" ({run.skipped:,} of them unusable)" if run.skipped else "")
            + f", {run.seconds / 60:.1f} minutes on {run.device}"
            + (" (since it was resumed)" if run.resumed else ""),
            "weights": run.weights,
            "settings": ", ".join(f"{name} {value}" for name, value in run.settings.items()),
        }
    lines = [
        *("---", hub_fields(config, run).to_yaml(), "---", ""),
        f"# A PACL patch embedder for `{config.backbone}`",
        "",
        "```bash",
        'python -m pacl.segment image.jpg "a dog" "grass" --model PATH_OF_THIS_FOLDER',
        "```",
        "",
        *("| | |", "|---|---|"),
        *(f"| {name} | {value} |" for name, value in facts.items()),
    ]
    if run is not None and run.figures:
        start = {} if run.start_recall is None else {"val_recall before the first step": run.start_recall}
        lines += ["", "| at the end | | by chance |", "|---|---|---|"]
        for name, value in {**start, **run.figures}.items():
            by_chance = run.chance.get(name.partition(" ")[0])
            step = "" if name in start else run.step_of(name)
            lines.append(f"| {name}{step} | {value:.4g} | {'' if by_chance is None else f'{by_chance:.4g}'} |")
    if run is not None and run.vocabulary:
        shown = " ".join(run.vocabulary[:MAX_WORDS]) + (" ..." if len(run.vocabulary) > MAX_WORDS else "")
        lines += ["", f"The text tower knows {len(run.vocabulary):,} words:", "", f"> {shown}"]
    return "\n".join(lines) + "\n"
