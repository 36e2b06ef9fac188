"""EfficientNet-Lite without timm: the same weights, features, layers and classes as timm's."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.data import ImageNetInfo

from pacl.models.towers import efficientnet_lite, timm_tower
from pacl.models.towers.efficientnet_lite import LITE2, EfficientNetLite, imagenet_classes, load_lite2
from pacl.models.towers.packaged import PACKAGES, Package, file_sha256
from pacl.models.towers.timm_tower import TimmTower, class_names, load_timm

SCALES = {"lite0": (1.0, 1.0, 224), "lite1": (1.0, 1.1, 240), "lite2": (1.1, 1.2, 260)}


def pair(name: str, output_stride: int = 16) -> tuple[EfficientNetLite, Any]:
    """Ours and timm's, on the same random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = timm.create_model(f"tf_efficientnet_{name}", output_stride=output_stride).eval()
        for norm in theirs.modules():  # as after training
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.weight.data.uniform_(0.5, 1.5)
                norm.bias.data.normal_()
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 1.5)
    ours = EfficientNetLite(*SCALES[name], output_stride=output_stride).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize(("name", "stride"), [("lite0", 16), ("lite0", 8), ("lite0", 32), ("lite1", 16), ("lite2", 16)])
@torch.no_grad()
def test_features_are_timms_up_to_rounding(name: str, stride: int) -> None:
    ours, theirs = pair(name, stride)
    images = torch.randn(2, 3, 64, 75, generator=torch.Generator().manual_seed(0))
    assert [(key, value.shape) for key, value in ours.state_dict().items()] == [
        (key, value.shape) for key, value in theirs.state_dict().items()
    ]
    final, earlier = ours.forward_intermediates(images, [0, 2, 3])
    expected, layers = theirs.forward_intermediates(images, indices=[0, 2, 3])
    torch.testing.assert_close(final, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(earlier, layers, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-3, atol=1e-3)
    for key in ("reduction", "num_chs"):
        assert [info[key] for info in ours.feature_info] == [info[key] for info in theirs.feature_info]


def test_gradients_and_batch_statistics_are_timms_too() -> None:
    ours, theirs = (model.train() for model in pair("lite0"))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for model in (ours, theirs):
        model(images).square().mean().backward()
    assert torch.equal(ours.conv_stem.weight.grad, theirs.conv_stem.weight.grad)
    assert torch.equal(ours.bn2.running_var, theirs.bn2.running_var)


def test_preprocessing_is_timms() -> None:
    ours, theirs = pair("lite2")
    assert ours.pretrained_cfg == {key: theirs.pretrained_cfg[key] for key in ours.pretrained_cfg}


def test_as_a_tower_it_is_the_same_as_timms() -> None:
    ours, theirs = (timm_tower.timm_tower(model, [1]) for model in pair("lite0"))
    assert type(ours) is type(theirs) is TimmTower
    for name in ("width", "patch", "size", "preprocessing", "layers", "bf16_on_cpu"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.classifier is not None
    assert theirs.classifier is not None
    assert ours.classifier.names == theirs.classifier.names
    assert ours.classifier.definitions == theirs.classifier.definitions


def test_classes_are_those_that_timm_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = ImageNetInfo()
    names, definitions = imagenet_classes()
    assert [", ".join(each) for each in names] == info.label_descriptions()
    assert [f"{', '.join(a)}: {b}" for a, b in zip(names, definitions, strict=True)] == info.label_descriptions(
        detailed=True
    )
    moved = ModuleSpec("timm", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda _: moved)
    with pytest.raises(FileNotFoundError):
        imagenet_classes()
    assert class_names(EfficientNetLite(*SCALES["lite0"])) == (names, definitions)  # asks timm then


def test_the_package_is_read_without_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = pair("lite2")
    state = {f"other.{key}": value for key, value in ours.state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "w.pth")
    monkeypatch.setattr(Package, "find", lambda _: tmp_path / "w.pth")
    monkeypatch.setitem(PACKAGES, LITE2, Package("x", "w.pth", sha256(tmp_path / "w.pth")))
    for name in (LITE2, LITE2.removesuffix(".in1k")):
        tower, full = load_timm(name)
        assert full == name
        assert isinstance(tower.model, EfficientNetLite)
        assert tower.weights().keys() == ours.state_dict().keys()
        assert all(torch.equal(value, ours.state_dict()[key]) for key, value in tower.weights().items())
    assert isinstance(load_timm("timm:tf_efficientnet_lite2/random")[0].model, timm.models.EfficientNet)


def test_without_its_package_it_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Package, "find", lambda _: None)
    assert load_lite2() is None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_sha256(file)
