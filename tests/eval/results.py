"""A result to change."""

from __future__ import annotations

from eval.common.result import Result


def a_result(**changes) -> Result:
    """A part of VOC20, as SCLIP's protocol has it, but for the changes; a dict is merged into the field."""
    values = {
        "task": "segmentation", "dataset": "voc20", "split": "val", "images": 1449, "full": 1449, "method": "sclip",
        "model": {"name": "auto", "clip": "bundled", "dense": "sclip", "trained": False},
        "protocol": {"name": "sclip", "names": "sclip", "size": 336, "window": None, "changed": []},
        "scores": {"miou": 41.25, "pixel_accuracy": 60.0}, "speed": {"images_per_second": 2.5, "peak_memory_mb": 900.4},
        "made": {"date": "2030-01-02", "device": "cpu"},
    }  # fmt: skip
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    return Result(**values)


def classified(**changes) -> Result:
    """The same of a classifier on ImageNet."""
    protocol = {"name": "zero-shot", "names": "clip (open_clip's)", "templates": "imagenet", "main": "top1"}
    values = {
        "task": "classification", "dataset": "imagenet", "images": 50_000, "full": 50_000, "method": "phi",
        "protocol": {**protocol, **changes.pop("protocol", {})},
        "scores": {"top1": 2.0, "top5": 4.0, "mean_per_class": 3.0}, **changes,
    }  # fmt: skip
    return a_result(**values)
