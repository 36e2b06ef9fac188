"""Refinement follows the picture's edges and never makes probabilities up."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

import pacl.segmentation.refine
from pacl.segmentation.encode import blur
from pacl.segmentation.refine import refine


def disc_picture(size: int = 96) -> tuple[Tensor, Tensor]:
    """A red disc on noisy green [3, S, S], and its mask, bool [S, S]."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    mask = (y - 44) ** 2 + (x - 52) ** 2 < 27**2
    image = torch.where(
        mask, torch.tensor([0.8, 0.2, 0.2])[:, None, None], torch.tensor([0.2, 0.6, 0.3])[:, None, None]
    )
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return (image + 0.03 * noise).clamp(0, 1), mask


def blocky(mask: Tensor, patch: int = 12) -> Tensor:
    """Probabilities [2, S, S] that know the mask only by patches, and not well."""
    coarse = interpolate(mask[None, None].float(), scale_factor=1 / patch, mode="area")
    inside = 0.2 + 0.6 * interpolate(coarse, size=mask.shape, mode="nearest")[0, 0]
    return torch.stack([1 - inside, inside])


def iou(a: Tensor, b: Tensor) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_blocky_mask_moves_to_the_edge() -> None:
    image, mask = disc_picture()
    maps = blocky(mask)
    refined = refine(maps, image)
    before, after = iou(maps.argmax(0) == 1, mask), iou(refined.argmax(0) == 1, mask)
    assert before < 0.9
    assert after > 0.97
    assert torch.equal(maps, blocky(mask))  # the input is left alone


def test_probabilities_stay_probabilities() -> None:
    image, _ = disc_picture(40)
    maps = torch.rand(5, 40, 40, generator=torch.Generator().manual_seed(1)).softmax(0)
    refined = refine(maps, image)
    assert refined.shape == maps.shape
    assert torch.allclose(refined.sum(0), torch.ones(40, 40), atol=1e-5)
    assert refined.min() >= maps.min()
    assert refined.max() <= maps.max()


@pytest.mark.parametrize("picture", ["constant", "noise"])
def test_constant_maps_stay(picture: str) -> None:
    image = torch.full((3, 9, 11), 0.5) if picture == "constant" else torch.rand(3, 9, 11)
    maps = torch.tensor([0.7, 0.3])[:, None, None].expand(2, 9, 11)
    assert torch.allclose(refine(maps, image), maps, atol=1e-6)


def test_weights_match_the_formula_pixel_by_pixel() -> None:
    """One step against a direct loop in float64."""
    image = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(2))
    maps = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(3))
    dilations = (1, 3)
    expected = torch.empty(2, 5, 6, dtype=torch.float64)
    picture = image.double()
    for y in range(5):
        for x in range(6):
            places = [
                (min(max(y + dy * d, 0), 4), min(max(x + dx * d, 0), 5))
                for d in dilations
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
                if dy or dx
            ]
            near = torch.stack([picture[:, j, i] for j, i in places])  # [K, 3]
            sigma = torch.cat([near, picture[None, :, y, x].expand(len(dilations), 3)]).std(0)
            logits = -((near - picture[:, y, x]).abs() / (0.1 * sigma + 1e-8)).mean(1)
            values = torch.stack([maps[:, j, i].double() for j, i in places])  # [K, C]
            expected[:, y, x] = logits.softmax(0) @ values
    assert torch.allclose(refine(maps, image, 1, dilations).double(), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (2, 3)])
def test_pictures_smaller_than_the_dilations(size: tuple[int, int]) -> None:
    refined = refine(torch.rand(3, *size).softmax(0), torch.rand(3, *size))
    assert refined.shape == (3, *size)
    assert torch.isfinite(refined).all()
    assert torch.allclose(refined.sum(0), torch.ones(size), atol=1e-5)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    image, maps = torch.rand(3, 12, 10), torch.rand(7, 12, 10)
    whole = refine(maps, image, 3)
    monkeypatch.setattr(pacl.segmentation.refine, "CLASSES_AT_ONCE", 2)
    assert torch.equal(refine(maps, image, 3), whole)


def test_the_dtype_stays() -> None:
    assert refine(torch.rand(2, 6, 6).half(), torch.rand(3, 6, 6), 2).dtype == torch.float16


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ"):
        refine(torch.rand(2, 6, 6), torch.rand(3, 6, 7))


def test_the_blurred_guide_leaves_no_specks_on_a_texture() -> None:
    """Between two labels that are equally likely, noise decides the pixels; blurred, it does so for whole areas."""
    draw = torch.Generator().manual_seed(0)
    texture = (0.5 + 0.15 * torch.randn(3, 96, 96, generator=draw)).clamp(0, 1)
    left = torch.sigmoid((48 - torch.arange(96.0)) / 12).expand(96, 96)
    maps = torch.stack([left, 1 - left])

    def areas(guide: torch.Tensor) -> int:
        labels = refine(maps, guide).argmax(0).numpy().astype(np.uint8)
        return sum(cv2.connectedComponents(np.where(labels == i, 1, 0).astype(np.uint8))[0] - 1 for i in (0, 1))

    assert areas(texture) > 20
    assert areas(blur(texture, 2.0)) < areas(texture) / 4


def test_blurring_is_gaussian() -> None:
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    expected = cv2.GaussianBlur(image.permute(1, 2, 0).numpy(), (13, 13), 2.0, borderType=cv2.BORDER_REPLICATE)
    assert np.allclose(blur(image, 2.0).permute(1, 2, 0).numpy(), expected, atol=1e-5)
