"""When ``auto`` is bfloat16, and what it concerns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from pacl.errors import UserError
from pacl.models import precision
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.model import PACL
from pacl.models.precision import has_bf16, inference, resolve_precision, tower_autocast
from pacl.models.towers.timm_tower import TimmTower
from pacl.segmentation.segmenter import Segmenter
from tests.colours import noise
from tests.tiny import save_tiny_clip


@pytest.fixture
def clip(tmp_path: Path) -> Backbone:
    return load_backbone(save_tiny_clip(tmp_path))


@pytest.mark.parametrize("convert", ["half", "double", "bfloat16", "meta"])
def test_weights_stay_float32_and_somewhere(convert: str, clip: Backbone) -> None:
    segmenter = Segmenter(PACL.untrained(clip))
    segmenter.set_image(noise(40, 56))
    expected = segmenter.predict(["a dog", "grass"]).index
    for module in (segmenter.model, clip):
        with pytest.raises(UserError):
            module.to("meta") if convert == "meta" else getattr(module, convert)()
    segmenter.model.to("cpu").float()
    segmenter.set_image(noise(40, 56))  # nothing was converted
    assert (segmenter.predict(["a dog", "grass"]).index == expected).all()


@pytest.mark.parametrize("hardware", [False, True])
def test_auto_asks_the_hardware_and_the_tower(hardware: bool, clip: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda kind: hardware)
    assert resolve_precision("auto", clip) == ("bf16" if hardware else "fp32")
    assert resolve_precision("fp32", clip) == "fp32"
    assert resolve_precision("bf16", clip) == "bf16"
    clip.image.register_module("depthwise", nn.Conv2d(8, 8, 3, padding=1, groups=8))
    assert not clip.image.bf16_on_cpu
    assert resolve_precision("auto", clip) == "fp32"
    assert resolve_precision("bf16", clip) == "bf16"
    with pytest.raises(ValueError, match="fp16"):
        resolve_precision("fp16", clip)


def test_on_a_gpu_convolutions_gain_as_well(monkeypatch: pytest.MonkeyPatch, clip: Backbone) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda kind: True)
    monkeypatch.setattr(Backbone, "device", torch.device("cuda"))
    clip.image.register_module("depthwise", nn.Conv2d(8, 8, 3, padding=1, groups=8))
    assert resolve_precision("auto", clip) == "bf16"


@pytest.mark.parametrize(("name", "gains"), [("test_vit", True), ("test_efficientnet", False), ("test_resnet", False)])
def test_on_a_cpu_transformers_gain_and_sliding_convolutions_do_not(name: str, gains: bool) -> None:
    assert TimmTower(timm.create_model(name, pretrained=False)).bf16_on_cpu is gains


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({}, False),
        ({"avx2": True, "avx512_f": True, "amx_int8": True}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
    ],
)
def test_which_cpus_have_bfloat16(able: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    has_bf16.cache_clear()
    try:
        assert has_bf16("cpu") is expected
        assert has_bf16("mps") is False
    finally:
        has_bf16.cache_clear()


def test_an_older_torch_is_asked_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    has_bf16.cache_clear()
    try:
        assert has_bf16("cpu")
    finally:
        has_bf16.cache_clear()


def test_the_context_of_the_tower(clip: Backbone) -> None:
    with tower_autocast("bf16", clip):
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        with tower_autocast("fp32", clip):
            assert not torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


def test_naming_the_choices_needs_no_torch() -> None:
    command = "import sys, pacl.models.precision, pacl.segmentation.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


def test_in_inference_no_autocast_of_the_caller_acts() -> None:
    @inference()
    def enabled() -> tuple[bool, bool]:
        return torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()

    assert enabled() == (False, True)
    with torch.autocast("cpu"):
        assert enabled() == enabled() == (False, True)
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_inference_mode_enabled()
