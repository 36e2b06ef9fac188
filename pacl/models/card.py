"""Model cards of heads: Markdown with the front matter of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pacl.models.head import HeadConfig


MAX_WORDS = 500
"""Words of a vocabulary that a card lists."""


@dataclass(frozen=True)
class TrainingRun:
    """Facts about a finished training.

    Attributes:
        data: a description of each source, with its number of images.
        settings: name -> value of the main settings.
        figures: name -> last logged value.
        chance: name -> what a random order would give, for the figures of which it is known.
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
    start_recall: float | None = None
    chance: Mapping[str, float] = field(default_factory=dict)
    weights: str = "the last"
    vocabulary: Sequence[str] = ()


def write_card(config: HeadConfig, run: TrainingRun | None = None) -> str:
    """The model card of a head, with facts about its training if there was one."""
    pooling = "mean pooling" if config.temperature == float("inf") else f"temperature {config.temperature:g}"
    facts = {
        "CLIP": f"`{config.backbone}`, frozen; loaded by its name, checked against checksum `{config.checksum[:12]}`",
        "patch tokens": f"`{config.dense}`, {config.size} px",
        "embedder": f"`{config.start}` start, {config.width} -> {config.hidden} -> {config.dim}",
        "pooling": pooling + (", learned" if config.learn_temperature else ""),
    }
    if config.vocabulary:
        facts["words"] = f"{len(config.vocabulary):,} it was trained on: `vocabulary` in `config.json`"
    if run is not None:
        facts |= {
            "data": "; ".join(run.data),
            "training": f"{run.steps:,} steps over {run.images:,} images, with repetitions"
            + (f" ({run.skipped:,} of them unusable)" if run.skipped else "")
            + f", {run.seconds / 60:.1f} minutes on {run.device}"
            + (" (since it was resumed)" if run.resumed else ""),
            "weights": run.weights,
            "settings": ", ".join(f"{name} {value}" for name, value in run.settings.items()),
        }
    lines = [
        *("---", "library_name: pacl", "license: apache-2.0", "tags: [clip, segmentation]", "---", ""),
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
            lines.append(f"| {name} | {value:.4g} | {'' if by_chance is None else f'{by_chance:.4g}'} |")
    if run is not None and run.vocabulary:
        shown = " ".join(run.vocabulary[:MAX_WORDS]) + (" ..." if len(run.vocabulary) > MAX_WORDS else "")
        lines += ["", f"The text tower knows {len(run.vocabulary):,} words:", "", f"> {shown}"]
    return "\n".join(lines) + "\n"
