"""Images of more than 8 bits are scaled to 8."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pacl.errors import ImageWarning, UserError
from pacl.images import open_image


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    for name in ("grey.png", "grey.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert open_image(tmp_path / name)[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_16_bit_colour(tmp_path: Path, name: str) -> None:
    values = np.array([[[0, 32896, 65535], [65535, 257, 0]]], np.uint16)
    cv2.imwrite(str(tmp_path / name), values[..., ::-1])  # cv2 writes BGR
    assert np.abs(open_image(tmp_path / name).astype(int) - values / 257).max() <= 1


@pytest.mark.parametrize(("top", "full"), [(200, 255), (3060, 4095), (10_000, 16_383), (40_000, 65_535)])
@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "colour.png", "colour.tif"])
def test_16_bit_files_that_use_fewer_bits_are_not_black(tmp_path: Path, name: str, top: int, full: int) -> None:
    values = np.linspace(0, top, 32 * 48).astype(np.uint16).reshape(32, 48)
    deep = np.stack([values, values // 2, values // 3], axis=-1) if "colour" in name else values
    cv2.imwrite(str(tmp_path / name), deep[..., ::-1] if deep.ndim == 3 else deep)  # cv2 writes BGR
    expected = np.atleast_3d(deep) / full * 255
    assert np.abs(open_image(tmp_path / name).astype(int) - expected).max() <= 1


def test_deep_colour_is_turned_upright(tmp_path: Path) -> None:
    values = np.zeros((32, 48, 3), np.uint16)
    values[:, :24] = 4000
    cv2.imwrite(str(tmp_path / "deep.png"), values)
    exif = Image.Exif()
    exif[0x0112] = 6
    chunk = b"eXIf" + exif.tobytes()[6:]
    content = (tmp_path / "deep.png").read_bytes()
    (tmp_path / "deep.png").write_bytes(
        content[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]
    )
    image = open_image(tmp_path / "deep.png")
    assert image.shape == (48, 32, 3)
    assert (image[:20] > 200).all()


def test_a_deep_image_with_a_hot_pixel_is_called_nearly_black(tmp_path: Path) -> None:
    values = np.full((32, 48), 1000, np.uint16)
    values[0, 0] = 65535
    Image.fromarray(values).save(tmp_path / "hot.png")
    with pytest.warns(ImageWarning, match="nearly black"):
        open_image(tmp_path / "hot.png")


@pytest.mark.parametrize(("dtype", "top"), [(np.float32, 1.0), (np.float32, 200.0), (np.int32, 65535)])
def test_32_bit_grey_takes_its_range_from_the_values(tmp_path: Path, dtype: type, top: float) -> None:
    Image.fromarray(np.linspace(0, top, 256).astype(dtype).reshape(16, 16)).save(tmp_path / "deep.tif")
    image = open_image(tmp_path / "deep.tif")
    assert image.min() == 0
    assert image.max() == (200 if top == 200.0 else 255)
    assert len(np.unique(image)) > 150


def test_negative_values_are_stretched_not_cut_off(tmp_path: Path) -> None:
    ramp = np.linspace(-1000, 3000, 64).reshape(8, 8)
    for values in (ramp.astype(np.int32), ramp.astype(np.float32), (ramp / 4000).astype(np.float32)):
        Image.fromarray(values).save(tmp_path / "ct.tif")
        found = open_image(tmp_path / "ct.tif")[..., 0]
        assert (found.min(), found.max()) == (0, 255)
        assert len(np.unique(found)) == 64


def test_a_file_without_any_finite_value_is_refused(tmp_path: Path) -> None:
    values = np.full((16, 16), np.nan, np.float32)
    Image.fromarray(values).save(tmp_path / "nan.tif")
    with pytest.raises(UserError, match=r"nan\.tif") as error:
        open_image(tmp_path / "nan.tif")
    assert "finite" in str(error.value)
    values[:, 4:] = 0.5
    Image.fromarray(values).save(tmp_path / "some.tif")
    assert open_image(tmp_path / "some.tif").max() == 128
