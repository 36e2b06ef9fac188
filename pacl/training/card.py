"""The model card of a trained head, filled from its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pacl.models.model import HeadConfig


@dataclass(frozen=True)
class Run:
    """What a training knows of itself when it ends.

    Attributes:
        data: a line for each source: what, how many pictures.
        settings: name -> value, of what decides the result.
        figures: name -> value, as they were logged last.
        before: mean recall before the first step, if it was measured.
        steps: optimiser steps.
        images: pictures seen, over all of them.
        skipped: how many of these could not be used.
        seconds: how long it took, in this part of the run if it was resumed.
        device: what it ran on.
        resumed: whether this was the last part of several.
        kept: which weights are saved.
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
    before: float | None = None
    kept: str = "the last"


def write_card(config: HeadConfig, run: Run) -> str:
    """Markdown with the hub's front matter."""
    pooling = "mean pooling" if config.temperature == float("inf") else f"temperature {config.temperature:g}"
    facts = {
        "CLIP": f"`{config.backbone}`, frozen; loaded by its name, checked against checksum `{config.checksum[:12]}`",
        "patch tokens": f"`{config.dense}`, {config.size} px",
        "embedder": f"`{config.start}` start, {config.width} -> {config.hidden} -> {config.dim}",
        "pooling": pooling + (", learned" if config.learn_temperature else ""),
        "data": "; ".join(run.data),
        "training": f"{run.steps:,} steps over {run.images:,} pictures, with repetitions"
        + (f" ({run.skipped:,} of them unusable)" if run.skipped else "")
        + f", {run.seconds / 60:.1f} minutes on {run.device}"
        + (" (the last part of a resumed run)" if run.resumed else ""),
        "weights": run.kept,
        "settings": ", ".join(f"{name} {value}" for name, value in run.settings.items()),
    }
    lines = [
        *("---", "library_name: pacl", "tags: [clip, segmentation]", "---", ""),
        f"# A PACL patch embedder for `{config.backbone}`",
        "",
        "```bash",
        'python -m pacl.segment image.jpg "a dog" "grass" --model PATH_OF_THIS_FOLDER',
        "```",
        "",
        *("| | |", "|---|---|"),
        *(f"| {name} | {value} |" for name, value in facts.items()),
        "",
    ]
    if run.figures:
        lines += ["| at the end | |", "|---|---|"]
        lines += [f"| val_recall before the first step | {run.before:.4g} |"] if run.before is not None else []
        lines += [f"| {name} | {value:.4g} |" for name, value in run.figures.items()]
    return "\n".join(lines) + "\n"
