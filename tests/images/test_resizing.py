"""Sizes: as Pillow and OpenCV make them, of arrays and tensors alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pacl.images import resize


@pytest.mark.parametrize("size", [(20, 30), (7, 61), (100, 1), (1, 100), (20, 1), (40, 60)])
@pytest.mark.parametrize("width", [60, 2, 1])
def test_resize_equals_pillows_bicubic(picture: np.ndarray, width: int, size: tuple[int, int]) -> None:
    """CLIP's own preprocessing resizes with Pillow. (One pixel wide is where torch alone goes wrong.)"""
    picture = np.ascontiguousarray(picture[:, :width])
    expected = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC))
    result = resize(picture, size)
    assert result.dtype == np.uint8
    assert np.abs(result.astype(int) - expected).max() <= 1
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    as_tensor = resize(tensor, size)
    assert np.array_equal(as_tensor.permute(1, 2, 0).numpy(), result)
    as_float = resize(tensor[None].float() / 255, size)
    assert as_float.shape == (1, 3, *size)
    assert np.abs(as_float[0].permute(1, 2, 0).numpy() * 255 - expected).max() <= 1.5


@pytest.mark.parametrize("size", [(20, 31), (97, 140), (60, 8), (41, 57)])
def test_bilinear_equals_opencvs(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    theirs = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    ours = resize(image, size, "bilinear")
    assert np.array_equal(ours, theirs)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert np.array_equal(resize(tensor, size, "bilinear").permute(1, 2, 0).numpy(), ours)
    exact = 255 * resize(tensor.float() / 255, size, "bilinear").permute(1, 2, 0).numpy()
    assert np.abs(exact - ours).max() <= 1  # OpenCV's arithmetic is fixed-point
    assert not np.array_equal(resize(image, size), ours)


def test_resize_is_antialiased_and_stays_in_range() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize(stripes, (8, 8)).astype(int) - 127).max() <= 25  # grey, no moire
    edge = torch.zeros(1, 8, 8)
    edge[..., 4:] = 1
    up = resize(edge, (32, 32))
    assert up.min() == 0
    assert up.max() == 1
