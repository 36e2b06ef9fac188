"""The command that compares fp32 with bf16."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import torch

from eval.speed.precision import agreement, main, tower_times
from pacl.errors import ArgumentError, UserError
from pacl.models.loading import load_model
from pacl.prompts import parse_prompt
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import noise


def test_it_prints_both_times_their_ratio_and_the_agreement(
    tiny_clip: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(photo), "--model", tiny_clip, "--prompt", "a dog", "grass", "--runs", "2", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert tiny_clip in printed
    assert re.search(r"^1 images of 32 px, 2 labels, batches of 8, 2 runs$", printed, re.MULTILINE)
    fp32, bf16 = (float(re.search(rf"^{p} .* at least, +([\d.]+) median", printed, re.MULTILINE)[1]) for p in
                  ("fp32", "bf16"))  # fmt: skip
    ratio = float(re.search(r"bf16 is ([\d.]+) times", printed)[1])
    assert ratio == pytest.approx(fp32 / bf16, rel=0.3)  # the printed milliseconds are rounded
    agree = [float(share) for share in re.findall(r"([\d.]+)%", printed)]
    assert 50 < agree[1] <= agree[0] <= 100


def test_precisions_alternate_on_every_batch(tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(tiny_clip)
    seen = []

    def seconds(run: partial[None], device: torch.device) -> float:
        _, images, precision = run.args
        seen.append((len(images), precision))
        return len(seen) / 1e3

    monkeypatch.setattr("eval.speed.precision.seconds", seconds)
    times = tower_times(model, torch.zeros(5, 3, 32, 32).split(4), runs=2)
    turns = [(4, "fp32"), (4, "bf16"), (1, "fp32"), (1, "bf16")]
    assert seen == [*turns, *turns]
    assert times["fp32"].least == 1 / 4  # the first call, with four images
    assert times["fp32"].median == pytest.approx((5 / 4 + 3) / 2)  # of 1/4, 3, 5/4 and 7


def test_agreement_is_the_share_of_equal_labels(tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(tiny_clip)
    images = [noise(40, 40), noise(50, 64, seed=1), noise(32, 32, seed=2)]
    labels = [parse_prompt(text) for text in ("a dog", "grass", "a boat")]
    settings = SegmenterSettings(window_batch=2, background="none")
    shares = agreement(model, images, labels, settings)
    assert len(shares) == 3
    assert all(0.8 < share <= 1 for share in shares)
    monkeypatch.setattr("eval.speed.precision.CHOICES", ("fp32", "fp32"))
    assert agreement(model, images, labels, settings) == [1, 1, 1]


def test_wrong_arguments(photo: Path) -> None:
    with pytest.raises(ArgumentError) as error:
        main([str(photo), "--runs", "0"])
    assert (error.value.argument, error.value.value) == ("runs", 0)
    with pytest.raises(UserError, match=r"none\.png"):
        main([str(photo.parent / "none.png")])
