"""Images from memory, and smaller than they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pacl.errors import UserError
from pacl.images import decode_image, open_image, resize
from tests.images.drawn import encoded, smooth


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_content_is_read_as_its_file(tmp_path: Path, picture: np.ndarray, kind: str) -> None:
    content = encoded(picture, kind)
    (tmp_path / "p").write_bytes(content)
    for short_side in (None, 5):
        from_file = open_image(tmp_path / "p", short_side=short_side)
        assert np.array_equal(decode_image(content, "x/p", short_side=short_side), from_file)
        assert from_file.flags.writeable


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is not an image"),
        (b"just words", "is not an image"),
        (encoded(np.zeros((64, 64, 3), np.uint8), "PNG")[:60], "is broken or truncated"),
    ],
)
def test_bad_content_is_called_by_its_name(content: bytes, complaint: str) -> None:
    with pytest.raises(UserError, match=f"^0.tar/7.jpg {complaint}"):
        decode_image(content, "0.tar/7.jpg")


def test_content_has_the_same_limit(picture: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"x\.jpg is too large: 60 x 40 pixels"):
        decode_image(encoded(picture), "x.jpg", max_pixels=2_399, short_side=5)


@pytest.mark.parametrize(
    ("short_side", "size"),
    [
        (None, (400, 601)),
        (401, (400, 601)),
        (201, (400, 601)),
        (200, (200, 301)),
        (101, (200, 301)),
        (100, (100, 151)),
        (50, (50, 76)),
        (1, (50, 76)),
    ],
)
@pytest.mark.parametrize("upright", [True, False])
def test_a_large_jpeg_is_decoded_smaller(short_side: int | None, size: tuple[int, int], upright: bool) -> None:
    image = smooth(400, 601) if upright else smooth(601, 400)
    found = decode_image(encoded(image, quality=95), "p.jpg", short_side=short_side)
    assert found.shape[:2] == (size if upright else size[::-1])
    assert np.abs(found.astype(int) - resize(image, found.shape[:2])).max() <= 6


def test_it_is_turned_upright_all_the_same() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decode_image(encoded(smooth(400, 600), exif=exif), "p.jpg", short_side=100)
    assert np.abs(found.astype(int) - np.rot90(resize(smooth(400, 600), (100, 150)), -1)).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_other_formats_are_decoded_in_full(kind: str) -> None:
    assert decode_image(encoded(smooth(200, 300), kind), "p", short_side=10).shape == (200, 300, 3)
