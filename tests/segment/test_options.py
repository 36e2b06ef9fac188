"""Every option reaches the segmenter and changes what it is for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from pacl.models.backbone import load_backbone
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.models.towers.dense import VARIANTS
from pacl.segment import build_parser
from pacl.segmentation.settings import SegmenterSettings
from tests.commands import Run
from tests.segment.records import record


def test_every_setting_is_a_flag_with_its_default_and_its_help() -> None:
    parsed = build_parser().parse_args([])
    defaults = SegmenterSettings()
    assert {name: getattr(parsed, name) for name in vars(defaults)} == vars(defaults)
    for action in build_parser()._actions:
        assert action.help, action.option_strings


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["--size", "48"], {"size": 48}),
        (["--window", "16"], {"window": 16, "window_step": None}),
        (["--window", "16/8"], {"window": 16, "window_step": 8}),
        (
            ["--window", "16", "--window_step", "4", "--accumulate", "pixel"],
            {"window": 16, "window_step": 4, "accumulate": "pixel"},
        ),
        (["--stride", "4"], {"stride": 4}),
        (["--scales", "1,2"], {"scales": [1.0, 2.0]}),
        (["--scales", "1.5"], {"scales": [1.5]}),
        (["--refine", "2"], {"refine": 2}),
        (["--templates", "paper"], {"templates": "paper"}),
        (["--logit_scale", "40"], {"logit_scale": 40.0}),
        (["--prior", "0.3"], {"prior": 0.3}),
        (["--prior", "-0.3"], {"prior": -0.3}),
        (["--prior", "0"], {"prior": 0.0}),
        (["--precision", "bf16"], {"precision": "bf16"}),
        (["--window_batch", "1"], {"window_batch": 1}),
        (["--background", "prompt:sky;a wall"], {"background": "prompt:sky;a wall"}),
    ],
)
def test_settings_reach_the_segmenter(run: Run, tiny_clip: str, words: list[str], settings: dict[str, Any]) -> None:
    found = record(run, "a dog", "grass", *words)
    model = load_model(tiny_clip)  # what is left to it is stated, too
    own = {"size": model.config.size, "scales": model.config.scales, "prior": model.config.prior, "precision": "fp32"}
    own["background"] = "none"  # of two labels
    own["logit_scale"] = float(model.logit_scale.detach())
    assert found["settings"] == {**vars(SegmenterSettings()), **own, **settings}


@pytest.mark.parametrize("rule", ["none", "contrast", "prompt:sky", "threshold:0.6", "entropy:0.5"])
def test_background_rules(run: Run, rule: str) -> None:
    assert record(run, "a dog", "grass", "--background", rule)["background"]["rule"] == rule


@pytest.mark.parametrize("dense", VARIANTS)
def test_dense_variants(run: Run, dense: str) -> None:
    assert record(run, "a dog", "grass", "--dense", dense)["model"]["dense"] == dense


def test_options_change_the_result(run: Run) -> None:
    """Not one of them is read and then forgotten."""
    plain = record(run, "a dog", "grass")["labels"]
    for words in (
        ["--size", "48"],
        ["--stride", "3"],
        ["--scales", "1,2"],
        ["--dense", "clip"],
        ["--templates", "paper"],
        ["--refine", "5"],
        ["--prior", "1"],
        ["--prior", "-1"],
    ):
        assert record(run, "a dog", "grass", *words)["labels"] != plain, words


def test_a_heads_own_prior_holds_unless_the_flag_says_otherwise(run: Run, tiny_clip: str) -> None:
    PACL.untrained(load_backbone(tiny_clip), prior=1.0).save_pretrained("head")

    def labels(*words: str) -> Any:
        return record(partial(run, model="head"), "a dog", "grass", *words)["labels"]

    assert labels() == labels("--prior", "1") != labels("--prior", "0")


def test_a_heads_own_scales_hold_unless_the_flag_says_otherwise(run: Run, tiny_clip: str) -> None:
    PACL.untrained(load_backbone(tiny_clip), scales=(1.0, 2.0)).save_pretrained("head")

    def labels(*words: str) -> Any:
        return record(partial(run, model="head"), "a dog", "grass", *words)["labels"]

    assert labels() == labels("--scales", "1,2") != labels("--scales", "1")
    code, out, err = run("photo.png", "a dog", "--window", "16", "--accumulate", "pixel", model="head")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "--accumulate pixel: the model's own scales 1,2" in err


def test_one_prompt_on_a_calibrated_model_has_a_peak(run: Run, tiny_clip: str) -> None:
    model = PACL.untrained(load_backbone(tiny_clip))
    model.config.presence = 1e-6
    model.centre = torch.zeros(model.config.dim)
    model.save_pretrained("head")
    calibrated = partial(run, model="head")
    assert record(calibrated, "a dog")["background"]["rule"] == "peak:0.6"
    assert record(calibrated, "a dog", "--background", "peak:0.9")["background"]["rule"] == "peak:0.9"
    assert record(calibrated, "a dog", "grass")["background"]["rule"] == "none"


def test_device_cpu(run: Run) -> None:
    assert record(run, "a dog", "grass", "--device", "cpu") == record(run, "a dog", "grass")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_cuda(run: Run) -> None:
    assert record(run, "a dog", "grass", "--device", "cuda:0")["labels"]


@pytest.mark.parametrize("words", [["--prior", "-1e-3"], ["--prior=-1e-3"]])
def test_a_negative_prior_in_scientific_notation_is_a_number(run: Run, here: Path, words: list[str]) -> None:
    assert record(run, "a dog", "grass", *words)["settings"]["prior"] == -1e-3


def test_what_matters_is_first_in_the_help() -> None:
    told = build_parser().format_help()
    flags = ("--classes", "--model", "--background", "--prior", "--refine ", "--size", "--out", "--step", "--remainder")
    places = [told.index(f"\n  {flag}") for flag in flags]
    assert places == sorted(places)
