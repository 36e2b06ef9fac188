"""A probe that learns masks: it finds what the tokens tell, on the half it has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eval.segmentation import generate
from eval.segmentation.mask_probe import main, probed, train_probe
from pacl.errors import UserError
from pacl.models.towers.grid import PatchGrid
from pacl.segmentation.patch_maps import PatchMaps
from pacl.segmentation.windows import WindowLayout

GRID = PatchGrid(4, 6, patch=8, stride=8)
LAYOUT = WindowLayout((32, 48), (32, 48), (32, 48), (0,), (0,))


def photos(count: int, told: bool) -> tuple[list[PatchMaps], list[np.ndarray]]:
    """Images whose patches are of 3 classes at random, and tokens that tell which (or nothing)."""
    rng = torch.Generator().manual_seed(0)
    maps, targets = [], []
    for _ in range(count):
        classes = torch.randint(3, (GRID.h, GRID.w), generator=rng)
        told_by = classes if told else torch.randint(3, (GRID.h, GRID.w), generator=rng)
        tokens = 5 + 0.1 * torch.randn(1, 8, GRID.h, GRID.w, generator=rng)
        tokens[0, :3] += torch.nn.functional.one_hot(told_by, 3).permute(2, 0, 1)
        maps.append(PatchMaps(tokens, GRID, LAYOUT))
        targets.append(classes.repeat_interleave(8, 0).repeat_interleave(8, 1).numpy().astype(np.int32))
    return maps, targets


@pytest.mark.parametrize(("told", "least", "most"), [(True, 0.99, 1.0), (False, 0.2, 0.5)])
def test_the_probe_labels_the_half_it_has_not_seen(told: bool, least: float, most: float) -> None:
    maps, targets = photos(40, told)
    found = probed(maps, targets, 3)
    right = [
        (each.values[0].argmax(0).numpy() == target[4::8, 4::8]).mean()
        for each, target in zip(found, targets, strict=True)
    ]
    assert least <= np.mean(right) <= most


def test_patches_without_a_class_teach_nothing() -> None:
    tokens = torch.eye(4).repeat(50, 1)
    labels = torch.tensor([0, 1, -1, -1]).repeat(50)
    probe = train_probe(tokens, labels, 2)
    assert probe(torch.eye(4)[:2]).argmax(1).tolist() == [0, 1]
    torch.testing.assert_close(train_probe(tokens[labels >= 0], labels[labels >= 0], 2).weight, probe.weight)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Six drawn images in the layout of VOC 2012."""
    assert generate.main(["voc20", "--data", str(tmp_path / "data"), "--count", "6", "--size", "40x60"]) == 0
    return tmp_path / "data"


def test_photos_without_labels_are_refused() -> None:
    with pytest.raises(UserError, match="no labelled patch"):
        train_probe(torch.zeros(5, 4), torch.full((5,), -1), 2)


def test_the_command_prints_both_figures(voc: Path, tiny_clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["voc20", "--data", str(voc), "--partial", "--model", tiny_clip]) == 0
    assert "mIoU" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["voc21"], ["voc20", "--limit", "1"]])
def test_what_it_cannot_take_is_refused(words: list[str], voc: Path, tiny_clip: str) -> None:
    with pytest.raises(UserError, match=words[0]):
        main([*words, "--data", str(voc), "--partial", "--model", tiny_clip])
