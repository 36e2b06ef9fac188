"""Opening image files with Pillow, and what Pillow decodes as upright 8-bit RGB."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pacl.errors import UserError

# Only these decoders: others start external programs (EPS) or are used by malicious files only.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "MPO", "PPM", "JPEG2000", "AVIF", "ICO", "TGA", "QOI")
ORIENTATION = 0x0112
_BITS, _PHOTOMETRIC, _PLANES, _SAMPLES = 258, 262, 284, 339  # tags of TIFF
_WHITE_IS_0, _UNSIGNED, _SIGNED = 0, 1, 2
_FULL = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # of 8, 10, 12, 14 and 16 bits
_LITTLE_CONTRAST = 0.25  # of the range of all values

_pillow_limit = threading.Lock()


@contextmanager
def without_bomb_check() -> Iterator[None]:
    """Disable Pillow's size limit, which is global; ours is an argument."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def is_bomb_to_pillow(image: Image.Image) -> bool:
    return Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS


@contextmanager
def open_header(file: Path | io.BytesIO) -> Iterator[Image.Image]:
    """Read the header only.

    A path is opened here: with a path Pillow maps the pixels of a plain TIFF into memory, and swaps the sides of those
    that EXIF turns before it does.
    """
    Image.init()
    with nullcontext(file) if isinstance(file, io.BytesIO) else file.open("rb") as stream:
        with without_bomb_check():
            image = Image.open(stream, formats=[name for name in _FORMATS if name in Image.OPEN])
        with image:
            yield image


def content_of(file: Path | io.BytesIO) -> bytes:
    return file.getvalue() if isinstance(file, io.BytesIO) else file.read_bytes()


def count_frames(image: Image.Image) -> int:
    """Number of frames or pages that a viewer would show; the previews in a phone's MPO and in a TIFF are none."""
    if image.format in ("MPO", "ICO"):
        return 1
    try:
        frames = getattr(image, "n_frames", 1)
        if image.format == "TIFF" and frames > 1:
            image.seek(1)
            smaller = int(image.tag_v2.get(254, 0)) & 1  # type: ignore[attr-defined]  # NewSubfileType: reduced
            image.seek(0)
            return 1 if smaller else frames
    except Exception:  # what follows the first frame may be damaged
        image.seek(0)
        return 1
    return frames


def deep_values(image: Image.Image, file: Path | io.BytesIO) -> np.ndarray | None:
    """Values [H, W], [H, W, 3] or RGBA [H, W, 4] of an image of 16 or 32 bits a channel, not yet upright; None for 8.

    Pillow has no mode for several channels of 16 bits and keeps the upper 8 only, so OpenCV decodes such files.

    Raises:
        UserError: OpenCV cannot read it, though it is not damaged.
        OSError: it is damaged; so are other types of Pillow's errors.
    """
    if _is_deep_grey(image):
        image.load()
        return _grey_values(image)
    if image.mode not in ("RGB", "RGBA", "LA") or not _has_deep_channels(image, file):
        return None
    import cv2

    from pacl.opencv import quiet

    image.load()  # a damaged file is an error of Pillow's, while libpng in OpenCV prints lines of its own
    with quiet():
        values = cv2.imdecode(np.frombuffer(content_of(file), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or values.shape[2] < 3 or _has_planes(image):
        raise UserError("has 16 bits a channel in a form that cannot be read; save it as a PNG of 8 bits")
    return values[..., [2, 1, 0, 3] if values.shape[2] == 4 and image.has_transparency_data else [2, 1, 0]]


def _grey_values(image: Image.Image) -> np.ndarray:
    """Values [H, W] of a deep grey image; RGBA [H, W, 4] if the file states a value that stands for transparency."""
    values, key = np.asarray(image), image.info.get("transparency")
    if image.mode == "L":
        return values.view(np.int8)
    if image.mode == "I" and _tag(image, _BITS) == 32 and _tag(image, _SAMPLES) in (None, _UNSIGNED):
        return values.view(np.uint32)  # Pillow's mode is signed
    if not isinstance(key, int):
        return values
    return np.dstack([values, values, values, np.where(values == key, 0, 65_535).astype(values.dtype)])


def _is_deep_grey(image: Image.Image) -> bool:
    """Whether it has more than 8 bits, or 8 with a sign, which Pillow takes for those of "L"."""
    has_sign = image.mode == "L" and _tag(image, _SAMPLES) == _SIGNED
    return image.mode.startswith("I;16") or image.mode in ("I", "F") or has_sign


def _has_deep_channels(image: Image.Image, file: Path | io.BytesIO) -> bool:
    """Whether the file of an image of several channels has more than 8 bits in each."""
    if image.format == "JPEG2000":  # Pillow does not say it; a byte of the SIZ marker does
        content = content_of(file)
        return content[content.index(b"\xff\x4f\xff\x51") + 42] & 0x7F > 7
    if _has_planes(image):
        return max(image.tag_v2.get(258, (8,))) > 8  # type: ignore[attr-defined]  # BitsPerSample
    kinds = " ".join(str(tile[-1]) for tile in getattr(image, "tile", ()))
    return "65535" in kinds if image.format == "PPM" else bool(re.search(r"\b(RGB[AX]?|LA);16", kinds))


def _has_planes(image: Image.Image) -> bool:
    """Whether a TIFF has its channels one after the other, which OpenCV reads wrongly."""
    return image.format == "TIFF" and _tag(image, _PLANES) == 2


def to_rgb(image: Image.Image, deep: np.ndarray | None = None) -> np.ndarray:
    """Decode the first frame: [H, W, 3] uint8, upright; of a deep image (see `deep_values`) from its values."""
    image.load()
    if deep is not None:
        exif = image.getexif()
        image = _shallow(image, deep)
        image.getexif().update({tag: exif[tag] for tag in (ORIENTATION,) if tag in exif})
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # damaged EXIF data: ignore the orientation
        image.info.pop("exif", None)
    return pillow_to_rgb(image)


def pillow_to_rgb(image: Image.Image) -> np.ndarray:
    """A Pillow image as RGB, uint8 [H, W, 3], with the values of `open_image`, but not turned by its EXIF data."""
    if _is_deep_grey(image):
        image = _shallow(image, _grey_values(image))
    if image.mode == "La":  # premultiplied grey: Pillow converts it to this only
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _shallow(image: Image.Image, values: np.ndarray) -> Image.Image:
    """An image of 8 bits a channel of the values of a deep one."""
    shallow = _to_8_bits(values, image.mode == "F")
    return Image.fromarray(255 - shallow if _tag(image, _PHOTOMETRIC) == _WHITE_IS_0 else shallow)


def _tag(image: Image.Image, number: int) -> int | None:
    """The (first) value of a tag of a TIFF; None without one, and for other formats."""
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) else value


def _to_8_bits(values: np.ndarray, real: bool) -> np.ndarray:
    """Scale to uint8. How many of its bits a deep file uses is not in the file, so guess it from the values."""
    if values.shape[2:] == (4,):  # opaque is the most of the bits that the colours use, or of 16
        colours = _to_8_bits(values[..., :3], real)
        return np.dstack([colours, _to_8_bits(np.dstack([values[..., 3], values.max(axis=-1)]), real)[..., 0]])
    values = values.astype(np.float32)
    if not np.isfinite(values).any():
        raise UserError("no pixel has a finite value")
    values = np.nan_to_num(values, posinf=0, neginf=0)
    low = min(0.0, float(values.min()))
    if low:  # heights, CT, images normalised for a network: no convention says what is white
        values = values - low
        return np.clip(np.rint(values * (255 / float(values.max()))), 0, 255).astype(np.uint8)
    top = float(values.max())
    full = next((full for full in ((1.0,) if real else ()) + _FULL if top <= full), top)
    return np.clip(np.rint(values * (255 / full)), 0, 255).astype(np.uint8)


def is_squeezed(values: np.ndarray) -> bool:
    """Whether `_to_8_bits` scales by an extreme value, such as -9999, which leaves the others little contrast."""
    finite = values[..., :3][np.isfinite(values[..., :3])] if values.ndim == 3 else values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    if low >= 0 and high <= _FULL[-1]:
        return False
    for extreme in (low, high):
        rest = finite[finite != extreme]
        some = rest[:: max(1, rest.size // 1_000_000)]
        if some.size and 0 < np.ptp(np.percentile(some, (1, 99))) < _LITTLE_CONTRAST * (high - low):
            return True
    return False
