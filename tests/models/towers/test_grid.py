"""Patches are where `pacl.models.towers.grid` says they are."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pacl.models.towers.grid import PatchGrid, upsample


@pytest.mark.parametrize(("h", "w"), [(4, 4), (3, 7), (1, 5)])
def test_tiling_patches_are_plain_bilinear_resizing(h: int, w: int) -> None:
    maps = torch.randn(2, 3, h, w, dtype=torch.float64)
    grid = PatchGrid(h, w, patch=8, stride=8)
    ours = upsample(maps, grid, grid.extent)
    torch.testing.assert_close(ours, F.interpolate(maps, size=grid.extent, mode="bilinear", align_corners=False))


@pytest.mark.parametrize("stride", [1, 3, 8])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 2.0)])
def test_a_linear_picture_comes_back_at_its_place(stride: int, scale: tuple[float, float]) -> None:
    """Values that equal the patch centre's coordinate interpolate to the pixel's own coordinate."""
    grid = PatchGrid(6, 5, patch=8, stride=stride)
    y, x = torch.meshgrid(
        torch.arange(6.0, dtype=torch.float64) * stride + 3.5,
        torch.arange(5.0, dtype=torch.float64) * stride + 3.5,
        indexing="ij",
    )
    size = (round(grid.extent[0] / scale[0]), round(grid.extent[1] / scale[1]))
    out = upsample(torch.stack([y, x]), grid, size, scale)
    pixel_y = ((torch.arange(size[0]) + 0.5) * scale[0] - 0.5).clamp(3.5, 3.5 + 5 * stride).double()
    pixel_x = ((torch.arange(size[1]) + 0.5) * scale[1] - 0.5).clamp(3.5, 3.5 + 4 * stride).double()
    torch.testing.assert_close(out[0], pixel_y[:, None].expand(size), rtol=0, atol=1e-9)
    torch.testing.assert_close(out[1], pixel_x[None].expand(size), rtol=0, atol=1e-9)


def test_offsets() -> None:
    maps = torch.randn(3, 4, 4)
    grid = PatchGrid(4, 4, patch=8, stride=8)
    shifted = upsample(maps, grid, (40, 40), offset=(5.0, 0.0))
    torch.testing.assert_close(shifted[:, 5:], upsample(maps, grid, (40, 40))[:, :-5])


@pytest.mark.parametrize(
    ("size", "patch", "stride", "expected"),
    [((32, 32), 8, 8, (4, 4)), ((33, 1), 8, 8, (5, 1)), ((32, 20), 8, 4, (7, 4)), ((8, 9), 8, 3, (1, 2))],
)
def test_cover(size: tuple[int, int], patch: int, stride: int, expected: tuple[int, int]) -> None:
    grid = PatchGrid.cover(*size, patch, stride)
    assert (grid.h, grid.w) == expected
    assert grid.patches == expected[0] * expected[1]
    for extent, pixels in zip(grid.extent, size, strict=True):
        assert pixels <= extent < pixels + max(stride, patch)


def test_wrong_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="3, 3"):
        upsample(torch.zeros(1, 2, 2), PatchGrid(3, 3, 8, 8), (8, 8))
