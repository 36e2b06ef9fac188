"""Every kind of picture file a person may have, and every kind that must end in one clear line."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pacl.errors import ImageWarning, UserError
from pacl.images import decode_image, open_image, pillow_to_rgb, resize, save_image, upright_size


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth [40, 60, 3] picture whose four corners differ."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("p.png", 0), ("p.bmp", 0), ("p.tif", 0), ("p.ppm", 0), ("p.jpg", 12), ("p.webp", 12), ("P.PNG", 0)],
)
def test_common_formats(tmp_path: Path, picture: np.ndarray, name: str, tolerance: int) -> None:
    Image.fromarray(picture).save(tmp_path / name)
    image = open_image(tmp_path / name)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert np.abs(image.astype(int) - picture).max() <= tolerance


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


TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
"""What a viewer does with an image [H, W, ...] of each EXIF orientation."""


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


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    for name in ("grey.png", "grey.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert open_image(tmp_path / name)[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_16_bit_colour(tmp_path: Path, name: str) -> None:
    import cv2

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


def deep_png(values: np.ndarray, colour_type: int, extra: bytes = b"") -> bytes:
    """A PNG of 16 bits a channel; ``values`` are [H, W, C]."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_tiff(values: np.ndarray, orientation: int, *, planes: bool = False) -> bytes:
    """A plain TIFF of 16 bits a channel, RGB or RGBA; ``values`` are [H, W, C]."""
    height, width, channels = values.shape
    data = np.moveaxis(values, -1, 0) if planes else values
    count = 11 + (channels == 4)
    bits = 8 + 2 + 12 * count + 4
    start, size = bits + 2 * channels + 8 * channels, 2 * width * height
    strips, counts = bits + 2 * channels, bits + 6 * channels
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, channels, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, channels, strips) if planes else (273, 4, 1, start),
        (274, 3, 1, orientation),
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, channels, counts) if planes else (279, 4, 1, size * channels),
        (284, 3, 1, 2 if planes else 1),
        *([(338, 3, 1, 2)] if channels == 4 else []),  # the fourth channel is transparency
    ]
    return b"".join(
        [
            struct.pack("<2sHIH", b"II", 42, 8, count),
            *(struct.pack("<HHII", *tag) for tag in tags),
            struct.pack(f"<I{channels}H", 0, *[16] * channels),
            struct.pack(f"<{channels}I", *(start + size * i for i in range(channels))),
            struct.pack(f"<{channels}I", *[size] * channels),
            data.astype("<u2").tobytes(),
        ]
    )


PNG_KEY = struct.pack(">I4s6sI", 6, b"tRNS", bytes(6), zlib.crc32(b"tRNS" + bytes(6)))
LOSSLESS = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]


@pytest.mark.parametrize("full", [1023, 4095, 16_383, 65_535])
@pytest.mark.parametrize("kind", ["RGBA png", "LA png", "RGBA tiff", "RGB ppm", "RGB jp2", "RGBA jp2", "key png"])
def test_deep_channels_are_scaled_by_the_bits_they_use(kind: str, full: int) -> None:
    """A ramp to the most that so many bits hold; opaque is the most of 16 bits."""
    values = np.repeat(np.linspace(0, full, 32 * 48).astype(np.uint16).reshape(32, 48, 1), 3, axis=2)
    opaque = np.dstack([values, np.full((32, 48), 65_535, np.uint16)])
    content = {
        "RGBA png": lambda: deep_png(opaque, 6),
        "LA png": lambda: deep_png(opaque[..., 2:], 4),
        "RGBA tiff": lambda: deep_tiff(opaque, 1),
        "RGB ppm": lambda: b"P6 48 32 65535\n" + values.astype(">u2").tobytes(),
        "RGB jp2": lambda: cv2.imencode(".jp2", values, LOSSLESS)[1].tobytes(),
        "RGBA jp2": lambda: cv2.imencode(".jp2", opaque, LOSSLESS)[1].tobytes(),
        "key png": lambda: deep_png(values, 2, PNG_KEY),
    }[kind]()
    expected = values / full * 255
    if kind == "key png":
        expected[(values == 0).all(axis=-1)] = 255  # black is the colour that stands for transparency
    assert np.abs(decode_image(content, "deep") - expected).max() <= 1


def test_deep_transparency_may_use_the_bits_of_the_colours() -> None:
    values = np.zeros((1, 3, 4), np.uint16)
    values[0, :, 3] = (4095, 2048, 0)
    values[0, 2, :3] = 4095
    assert decode_image(deep_png(values, 6), "deep")[0, :, 0].tolist() == [0, 127, 255]
    values[0, 0, 3] = 65_535  # of 16 bits: the others are nearly transparent
    assert decode_image(deep_png(values, 6), "deep")[0, :, 0].tolist() == [0, 247, 255]


def test_a_nearly_black_image_with_transparency_is_said() -> None:
    values = np.full((32, 48, 4), 1000, np.uint16)
    values[0, 0] = values[..., 3] = 65_535
    with pytest.warns(ImageWarning):
        decode_image(deep_png(values, 6), "deep")


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("orientation", TURNED)
def test_deep_tiffs_are_upright(channels: int, orientation: int) -> None:
    values = np.random.default_rng(0).integers(0, 65_536, (6, 10, channels))
    values[..., 3:] = 65_535
    found = decode_image(deep_tiff(values, orientation), "deep.tif")
    expected = TURNED[orientation](values[..., :3] / 257)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1


def test_deep_planes_are_refused() -> None:
    values = np.full((6, 10, 3), 4095, np.uint16)
    with pytest.raises(UserError) as error:
        decode_image(deep_tiff(values, 1, planes=True), "planes.tif")
    assert str(error.value).startswith("planes.tif: ")


def test_a_bmp_of_16_bits_a_pixel_is_not_deep() -> None:
    header = struct.pack("<2sIHHI", b"BM", 66 + 8, 0, 0, 66)
    about = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0)
    content = header + about + struct.pack("<III4H", 0xF800, 0x7E0, 0x1F, *[0xF800] * 4)
    assert decode_image(content, "red.bmp").tolist() == [[[255, 0, 0]] * 2] * 2


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


def test_one_bit_and_grey(tmp_path: Path) -> None:
    grey = np.array([[0, 255], [255, 0]], np.uint8)
    Image.fromarray(grey).convert("1").save(tmp_path / "bit.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    for name in ("bit.png", "grey.png"):
        assert np.array_equal(open_image(tmp_path / name), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "gif", "RGB colour key"])
def test_transparent_pixels_become_white(tmp_path: Path, kind: str) -> None:
    """Left half opaque black, right half transparent (with black hidden under it)."""
    path = tmp_path / "clear.png"
    if kind in ("RGBA", "LA"):
        alpha = np.repeat(np.array([[255, 0]], np.uint8), 2, axis=0)
        Image.merge(kind, [Image.new("L", (2, 2))] * (len(kind) - 1) + [Image.fromarray(alpha)]).save(path)
    elif kind == "RGB colour key":
        rgb = np.zeros((2, 2, 3), np.uint8)
        rgb[:, 1] = (10, 20, 30)
        Image.fromarray(rgb).save(path, transparency=(10, 20, 30))
    else:
        indexed = Image.fromarray(np.array([[0, 1], [0, 1]], np.uint8), mode="P")
        indexed.putpalette([0, 0, 0, 1, 1, 1])
        path = path.with_suffix(".gif") if kind == "gif" else path
        indexed.save(path, transparency=1)
    assert open_image(path).tolist() == [[[0] * 3, [255] * 3]] * 2


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"],
)
def test_every_mode_of_pillow_becomes_rgb(mode: str) -> None:
    assert pillow_to_rgb(Image.new(mode, (3, 2))).shape == (2, 3, 3)


def test_premultiplied_grey_is_unmultiplied() -> None:
    half = Image.merge("LA", [Image.new("L", (1, 1), 100), Image.new("L", (1, 1), 128)])
    expected = pillow_to_rgb(half).astype(int)
    assert np.abs(pillow_to_rgb(half.convert("La")) - expected).max() <= 1


def test_half_transparent_is_blended(tmp_path: Path) -> None:
    Image.new("RGBA", (1, 1), (0, 0, 0, 128)).save(tmp_path / "half.png")
    assert open_image(tmp_path / "half.png")[0, 0, 0] in (126, 127, 128)


def test_opaque_palette(tmp_path: Path) -> None:
    indexed = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    indexed.putpalette([200, 10, 0, 0, 99, 0])
    indexed.save(tmp_path / "p.png")
    assert open_image(tmp_path / "p.png").tolist() == [[[200, 10, 0], [0, 99, 0]]]


def test_cmyk_jpeg_is_not_a_negative(tmp_path: Path) -> None:
    """Adobe stores CMYK inverted; Pillow writes its CMYK JPEGs that way too, with the marker."""
    Image.new("RGB", (16, 16), (250, 5, 5)).convert("CMYK").save(tmp_path / "ink.jpg", quality=95)
    assert b"Adobe" in (tmp_path / "ink.jpg").read_bytes()
    assert np.abs(open_image(tmp_path / "ink.jpg").astype(int) - (250, 5, 5)).max() < 12


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"move.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.warns(ImageWarning, match=rf"move\.{suffix} has 2 frames"):
        image = open_image(tmp_path / f"move.{suffix}")
    assert np.abs(image.astype(int) - (255, 0, 0)).max() <= 4


def test_pages_of_a_tiff_are_said_and_its_reduced_copies_are_not(tmp_path: Path) -> None:
    page, path = Image.new("RGB", (32, 32), "red"), tmp_path / "pages.tif"
    page.save(path, save_all=True, append_images=[page, page])
    with pytest.warns(ImageWarning, match="3 frames or pages"):
        open_image(path)
    small = Image.new("RGB", (16, 16), "red")
    small.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(path, save_all=True, append_images=[small])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(path).shape == (32, 32, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_thin_pictures(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "thin.png")
    assert open_image(tmp_path / "thin.png").shape == (size[1], size[0], 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_matter(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "p.png", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff\xff\xff")
    assert np.array_equal(open_image(tmp_path / "p.png"), picture)


# --- What must end in one clear line ----------------------------------------------------------------


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
def test_truncated(tmp_path: Path, picture: np.ndarray, suffix: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, format={"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix))
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole.getvalue()[: int(keep * len(whole.getvalue()))])
    fails(path)


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
    Image.new("RGB", (100, 50)).save(path)
    fails(path, "too large", max_pixels=4_999)
    assert open_image(path, max_pixels=5_000).shape == (50, 100, 3)


@pytest.mark.filterwarnings("error")
def test_large_pictures_within_the_limit_open_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.gif"
    Image.new("P", (100, 50)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)  # to Pillow this picture is now a bomb
    assert open_image(path).shape == (50, 100, 3)
    assert Image.MAX_IMAGE_PIXELS == 1_000  # the application's own limit stands


def test_threads_leave_pillow_as_it_was(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "p.png")
    limit = Image.MAX_IMAGE_PIXELS
    threads = [threading.Thread(target=lambda: [open_image(tmp_path / "p.png") for _ in range(20)]) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limit == Image.MAX_IMAGE_PIXELS


# --- Sizes ------------------------------------------------------------------------------


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


def test_no_warning_on_ordinary_pictures(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).quantize(8).save(tmp_path / "p.png", transparency=bytes(range(8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.from_numpy(open_image(tmp_path / "p.png"))


def test_what_is_wrong_is_said_once(tmp_path: Path) -> None:
    empty, folder = tmp_path / "empty.jpg", tmp_path / "folder.jpg"
    empty.touch()
    folder.mkdir()
    for path, complaint in ((empty, "is empty (0 bytes)"), (folder, "is a folder, not an image")):
        with pytest.raises(UserError) as error:
            open_image(path)
        assert str(error.value) == f"{path} {complaint}"


# --- From memory, and smaller than they are -----------------------------------------------------------------------


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 250 // width, y * 250 // height, (x + y) * 250 // (height + width)], -1).astype(np.uint8)


def encoded(image: np.ndarray, kind: str = "JPEG", **settings: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **settings)
    return file.getvalue()


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


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_images_are_saved_in_the_format_of_the_suffix(tmp_path: Path, suffix: str, kind: str) -> None:
    save_image(tmp_path / f"new/folder/x.{suffix}", np.full((8, 8, 3), 77, np.uint8))
    with Image.open(tmp_path / f"new/folder/x.{suffix}") as image:
        assert image.format == kind
        assert np.abs(np.asarray(image).astype(int) - 77).max() < 4


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
