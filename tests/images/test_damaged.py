"""What is broken, too large or no image is one line, unless all of it can still be read."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pacl.errors import ImageWarning, UserError
from pacl.images import open_image
from tests.images.drawn import encoded, smooth


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_matter(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "p.png", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff\xff\xff")
    assert np.array_equal(open_image(tmp_path / "p.png"), picture)


def fails(path: Path, *words: str, **kwargs: int) -> None:
    with pytest.raises(UserError) as caught:
        open_image(path, **kwargs)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    for word in words:
        assert word in message


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    fails(tmp_path / "none.jpg", "does not exist")
    fails(tmp_path, "folder")
    fails(tmp_path / "empty.jpg", "empty")
    fails(tmp_path / "empty.jpg" / "below.jpg", "cannot be read")


@pytest.mark.parametrize("content", [b"just words\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg></svg>", bytes(1000)])
def test_not_a_picture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.jpg"
    path.write_bytes(content)
    fails(path, "not an image", "JPEG, PNG")


def test_iphone_pictures_get_advice(tmp_path: Path) -> None:
    path = tmp_path / "phone.heic"
    path.write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(100))
    fails(path, "convert it to JPEG")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tif", "bmp"])
@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_truncated(tmp_path: Path, suffix: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, format={"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix))
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole.getvalue()[: int(keep * len(whole.getvalue()))])
    fails(path)


@pytest.mark.parametrize("suffix", ["png", "jp2", "tif", "ppm"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_truncated_with_16_bits_a_channel(tmp_path: Path, suffix: str, channels: int, keep: float) -> None:
    if (suffix, channels) == ("ppm", 4):
        pytest.skip("has no transparency")
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64, channels), dtype=np.uint16)
    content = cv2.imencode(f".{suffix}", noise)[1].tobytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(content[: int(keep * len(content))])
    fails(path, *(["broken or truncated"] if suffix != "tif" else []))  # OpenCV's TIFFs have their tags at the end


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [2, 10])
def test_a_jpeg_that_lacks_only_its_end_is_read_with_a_warning(tmp_path: Path, missing: int, progressive: bool) -> None:
    picture = smooth(320, 480)
    content, path = encoded(picture, quality=90, progressive=progressive), tmp_path / "cut.jpg"
    path.write_bytes(content[:-missing])
    with pytest.warns(ImageWarning, match=r"cut\.jpg lacks its end"):
        image = open_image(path)
    assert np.abs(image[:-17].astype(int) - picture[:-17]).max() < 12


@pytest.mark.parametrize("kind", ["zTXt", "tEXt", "iTXt"])
@pytest.mark.parametrize("after", [False, True])
def test_much_text_in_a_png_does_not_matter(tmp_path: Path, picture: np.ndarray, kind: str, after: bool) -> None:
    content = encoded(picture, "PNG")
    text = b"settings of an image generator " * 2_500_000
    data = {
        "zTXt": b"workflow\0\0" + zlib.compress(text),
        "iTXt": b"workflow\0\1\0\0\0" + zlib.compress(text),
        "tEXt": b"workflow\0" + text,
    }[kind]
    chunk = struct.pack(">I", len(data)) + kind.encode() + data
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    place = len(content) - 12 if after else 33  # before the last chunk, or after the first
    (tmp_path / "p.png").write_bytes(content[:place] + chunk + content[place:])
    assert np.array_equal(open_image(tmp_path / "p.png"), picture)


def test_damaged_png(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "p.png"
    Image.fromarray(picture).save(path)
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    fails(path, "broken")


def png_that_claims(path: Path, width: int, height: int) -> None:
    """A PNG whose header promises width x height pixels and that holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


@pytest.mark.filterwarnings("error")
def test_bombs_are_refused_by_their_header_alone(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    png_that_claims(path, 60_000, 60_000)
    fails(path, "too large", "60000 x 60000", "200 million")


@pytest.mark.filterwarnings("error")
def test_the_limit_is_an_argument(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    Image.new("RGB", (100, 50), "red").save(path)
    fails(path, "too large", max_pixels=4_999)
    assert open_image(path, max_pixels=5_000).shape == (50, 100, 3)


@pytest.mark.filterwarnings("error")
def test_large_pictures_within_the_limit_open_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.gif"
    Image.new("RGB", (100, 50), "red").convert("P").save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)  # to Pillow this picture is now a bomb
    assert open_image(path).shape == (50, 100, 3)
    assert Image.MAX_IMAGE_PIXELS == 1_000  # the application's own limit stands


def test_what_is_wrong_is_said_once(tmp_path: Path) -> None:
    empty, folder = tmp_path / "empty.jpg", tmp_path / "folder.jpg"
    empty.touch()
    folder.mkdir()
    for path, complaint in ((empty, "is empty (0 bytes)"), (folder, "is a folder, not an image")):
        with pytest.raises(UserError) as error:
            open_image(path)
        assert str(error.value) == f"{path} {complaint}"


def test_a_jpeg_without_its_end_is_repaired_beyond_the_limits_of_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(encoded(smooth(320, 480), quality=90)[:-2])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_image(path)
    assert [each.category for each in caught] == [ImageWarning]
