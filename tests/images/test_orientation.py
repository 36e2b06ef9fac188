"""Images are turned upright, as their orientation tag tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pacl.images import decode_image, open_image, upright_size
from tests.images.drawn import TURNED


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, suffix: str, orientation: int) -> None:
    """The stored picture is turned as a camera would store it; reading it back gives the upright one."""
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24] = 255  # only the upper left is white
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    assert np.abs(open_image(path).astype(int) - upright).max() <= 20


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "RGBX", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("orientation", TURNED)
def test_plain_tiffs_are_upright_from_a_path_and_from_content(tmp_path: Path, mode: str, orientation: int) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (10, 17)).astype(np.uint8)
    deep = {"I;16": Image.fromarray(grey.astype(np.uint16) * 257), "F": Image.fromarray(grey.astype(np.float32))}
    stored = deep.get(mode) or Image.fromarray(grey).convert("RGBA" if mode == "RGBX" else mode)
    path = tmp_path / "turned.tif"
    stored.save(path, tiffinfo={0x0112: 1})
    upright = TURNED[orientation](open_image(path))
    stored.save(path, tiffinfo={0x0112: orientation})
    assert np.array_equal(open_image(path), upright)
    assert np.array_equal(decode_image(path.read_bytes(), "turned.tif"), upright)
    assert upright_size(path) == upright.shape[:2]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", TURNED)
def test_the_upright_size_is_in_the_header(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.new("RGB", (17, 10)).save(path, exif=exif)
    assert upright_size(path) == open_image(path).shape[:2] == ((10, 17) if orientation < 5 else (17, 10))
