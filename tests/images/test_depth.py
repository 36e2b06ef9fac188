"""Images of more than 8 bits are scaled to 8."""

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
from pacl.images import decode_image, open_image, pillow_to_rgb
from tests.images.drawn import TURNED


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


@pytest.mark.parametrize("key", [4096, 40_000])
def test_a_grey_of_16_bits_that_stands_for_transparency_is_white(key: int) -> None:
    """As a value of the file: the grey beside it, which has the same 8 bits, is none."""
    values = np.array([[0, key, key + 1, 65_535]], np.uint16)[..., None]
    data = struct.pack(">H", key)
    content = deep_png(values, 0, struct.pack(">I4s2sI", 2, b"tRNS", data, zlib.crc32(b"tRNS" + data)))
    expected = [0, 255, round((key + 1) / 257), 255]
    assert decode_image(content, "deep")[0].tolist() == [[grey] * 3 for grey in expected]
    with Image.open(io.BytesIO(content)) as image:
        assert pillow_to_rgb(image)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("colour_type", [2, 6])
def test_opencv_prints_nothing_about_bad_files(colour_type: int, capfd: pytest.CaptureFixture[str]) -> None:
    channels = {2: 3, 6: 4}[colour_type]
    content = deep_png(np.full((32, 48, channels), 40_000, np.uint16), colour_type)
    for bad in (content[:-40], content[:60] + b"bad" + content[63:]):
        with pytest.raises(UserError):
            decode_image(bad, "deep.png")
    assert capfd.readouterr().err == ""


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


def with_tag(content: bytes, number: int, value: int) -> bytes:
    """A little-endian TIFF with another value of one of its tags, a short."""
    entry = struct.pack("<HHI", number, 3, 1)
    assert content.count(entry) == 1
    start = content.index(entry) + len(entry)
    return content[:start] + struct.pack("<I", value) + content[start + 4 :]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_that_counts_from_white_is_no_negative(dtype: type) -> None:
    full = 1 if dtype == np.float32 else np.iinfo(dtype).max
    values = (np.linspace(0, 1, 64).reshape(8, 8) * full).astype(dtype)
    file = io.BytesIO()
    Image.fromarray((full - values).astype(dtype)).save(file, "TIFF")
    content = with_tag(file.getvalue(), 262, 0)  # PhotometricInterpretation: WhiteIsZero
    expected = values.astype(float) / full * 255
    assert np.abs(decode_image(content, "a.tif")[..., 0] - expected).max() <= 1
    assert np.abs(pillow_to_rgb(Image.open(io.BytesIO(content)))[..., 0] - expected).max() <= 1


def test_values_of_32_bits_without_a_sign_do_not_wrap_around() -> None:
    values = np.linspace(0, 2**32 - 1, 64).reshape(8, 8).astype(np.uint32)
    file = io.BytesIO()
    Image.fromarray(values.view(np.int32)).save(file, "TIFF")
    content = with_tag(file.getvalue(), 339, 1)  # SampleFormat: unsigned
    assert np.abs(decode_image(content, "a.tif")[..., 0] - values / (2**32 - 1) * 255).max() <= 1


def test_values_of_8_bits_with_a_sign_do_not_wrap_around() -> None:
    values = np.arange(-128, 128).reshape(16, 16).astype(np.int8)
    file = io.BytesIO()
    Image.fromarray(values.view(np.uint8)).save(file, "TIFF", tiffinfo={339: 2})  # SampleFormat: signed
    assert np.abs(decode_image(file.getvalue(), "a.tif")[..., 0] - (values.astype(int) + 128)).max() <= 1


def test_a_deep_image_with_a_hot_pixel_is_called_nearly_black(tmp_path: Path) -> None:
    values = np.full((32, 48), 1000, np.uint16)
    values[0, 0] = 65535
    Image.fromarray(values).save(tmp_path / "hot.png")
    with pytest.warns(ImageWarning, match="nearly black"):
        open_image(tmp_path / "hot.png")


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_made_an_error_stays_one(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "dark.png")
    with pytest.raises(ImageWarning):
        open_image(tmp_path / "dark.png")


@pytest.mark.parametrize(
    ("highest", "dtype", "is_black"),
    [(0, np.uint8, True), (8, np.uint8, True), (9, np.uint8, False), (8, np.uint16, True), (300, np.uint16, False)],
)
def test_an_image_without_bright_values_is_called_nearly_black(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, highest: int, dtype: type, is_black: bool
) -> None:
    values = np.zeros((32, 48), dtype)
    values[:16] = highest  # such as a mask of class ids
    Image.fromarray(values).save(tmp_path / "dark.png")
    open_image(tmp_path / "dark.png")
    assert [each.category for each in recwarn] == [ImageWarning] * is_black


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


@pytest.mark.parametrize(
    ("values", "squeezed"),
    [
        ([-9999.0], True),
        ([-9999.0] * 200, True),
        ([1e20] * 200, True),
        ([-1.0], False),  # as wide as the others
        ([np.nan], False),
        ([], False),
    ],
)
def test_values_for_no_data_that_leave_no_contrast_are_warned_of(
    tmp_path: Path, values: list[float], squeezed: bool
) -> None:
    pixels = np.linspace(0, 1, 40 * 50, dtype=np.float32).reshape(40, 50)
    pixels.flat[100 : 100 + len(values)] = values
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_image(tmp_path / "a.tif")
    assert [each.category for each in caught] == [ImageWarning] * squeezed


def test_black_and_white_is_no_lost_contrast(tmp_path: Path) -> None:
    pixels = np.full((40, 50), -1, np.float32)
    pixels[:5] = 1
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_image(tmp_path / "a.tif")
