"""Colours of labels, and masks as palette PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pacl.results.palette import palette, save_mask


def test_palette_is_black_then_distinct_whatever_the_count() -> None:
    colours = palette(255)
    assert colours.shape == (256, 3)
    assert colours.dtype == np.uint8
    assert colours[0].tolist() == [0, 0, 0]
    assert len({tuple(colour) for colour in colours}) == 256
    for count in (0, 1, 20, 21, 100):
        assert np.array_equal(palette(count), colours[: count + 1])
    assert palette(65_534).shape == (65_535, 3)


def test_first_colours_differ_for_colour_blind_readers() -> None:
    """Distances in OKLab (Ottosson 2020) of the colours that dichromats see (Machado et al. 2009)."""
    srgb = palette(8)[1:] / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = {
        "all": np.eye(3),
        "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    }
    to_lms = np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]])
    to_lab = np.array([[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]])
    for who, matrix in seen.items():
        lab = np.cbrt(np.clip(linear @ np.transpose(matrix), 0, 1) @ to_lms.T) @ to_lab.T
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + np.eye(8)
        assert apart.min() > (0.12 if who == "all" else 0.06), who


def test_mask_is_a_palette_image_of_ids(tmp_path: Path) -> None:
    index = np.repeat(np.arange(4, dtype=np.uint8), 150).reshape(20, 30)
    save_mask(tmp_path / "m.png", index)
    with Image.open(tmp_path / "m.png") as mask:
        assert mask.mode == "P"
        assert np.array_equal(np.asarray(mask), index)
        colours = np.asarray(mask.convert("RGB"))
    assert np.array_equal(colours, palette(3)[index])


def test_mask_of_255_and_more_labels(tmp_path: Path) -> None:
    index = np.arange(256, dtype=np.uint16).reshape(16, 16)
    save_mask(tmp_path / "m.png", index)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "m.png")), index)
    save_mask(tmp_path / "m.png", index + 300)
    with Image.open(tmp_path / "m.png") as mask:
        assert mask.mode == "I;16"
        assert np.array_equal(np.asarray(mask), index + 300)
