"""Reading, writing and resizing images: every common file format becomes upright 8-bit RGB."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from pacl.errors import ImageWarning, UserError
from pacl.files import atomic_write
from pacl.image_folders import READABLE, UNREAD_SUFFIXES
from pacl.image_repair import repaired

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS = 200_000_000
# Only these decoders: others start external programs (EPS) or are used by malicious files only.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "MPO", "PPM", "JPEG2000", "AVIF", "ICO", "TGA", "QOI")


_URL = re.compile(r"\w{2,}:/")  # `Path` leaves one slash; "C:/" is no URL

SOFTWARE = "pacl"
"""The text chunk "Software" of PNGs, and the comment of JPEGs, that are written here: it tells results from photos."""

ArrayOrTensor = TypeVar("ArrayOrTensor", np.ndarray, "Tensor")


def open_image(path: str | Path, max_pixels: int = MAX_PIXELS, short_side: int | None = None) -> np.ndarray:
    """Read an image as a viewer shows it.

    The EXIF orientation is applied. Greyscale, 1-bit, palette and CMYK images become RGB; 16-bit values are scaled, not
    clipped, by the smallest of 8, 10, 12, 14 and 16 bits that holds them all (of CMYK and of premultiplied colours the
    upper 8 bits are used), or from least to most where some are negative; transparent pixels are blended with white; of
    an animation or of several pages, the first is used. Colour profiles are ignored, as in CLIP's own preprocessing.

    Args:
        path: the file.
        max_pixels: an image with more pixels is refused before it is decoded.
        short_side: a large JPEG may be decoded at a half, a quarter or an eighth of its size, which is several times
            as fast, if its shorter side is then at least this; None decodes it at full size.

    Returns:
        RGB, uint8 [H, W, 3], contiguous and writable.

    Raises:
        UserError: the file is missing, a folder, empty, not an image, broken, too large, or has 16 bits a channel in a
            form that only the upper bits can be read of.

    Warns:
        ImageWarning: there are further frames or pages, the last rows of a JPEG are missing (more missing rows are an
            error), or all but a few pixels of a deep image are nearly black.
    """
    given, path = path, Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder, not an image")
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a regular file")
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes)")
    except UserError:
        raise
    except FileNotFoundError:
        if _URL.match(str(given)):
            raise UserError(f"{given} is a URL; download the image first and name the file") from None
        raise UserError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return _decode(path, path, max_pixels, short_side)


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS, short_side: int | None = None) -> np.ndarray:
    """`open_image` for the content of a file; ``name`` is its name in messages."""
    return _decode(io.BytesIO(data), Path(name), max_pixels, short_side)


def _decode(file: Path | io.BytesIO, path: Path, max_pixels: int, short_side: int | None) -> np.ndarray:
    try:
        try:
            return _decode_once(file, path, max_pixels, short_side)
        except (OSError, ValueError) as error:  # (UserError is a ValueError; nothing repairs it)
            content = None if isinstance(error, (UserError, Image.UnidentifiedImageError)) else _content(file)
            mended = repaired(content, error) if content is not None else None
            if mended is None:
                raise
        image = _decode_once(io.BytesIO(mended.content), path, max_pixels, short_side)
        if mended.complaint:
            warnings.warn(f"{path} {mended.complaint}", ImageWarning, stacklevel=3)
        return image
    except UserError:
        raise
    except Image.UnidentifiedImageError:
        advice = "convert it to JPEG or PNG" if path.suffix.lower() in UNREAD_SUFFIXES else READABLE
        raise UserError(f"{path} is not an image that can be read: {advice}") from None
    except PermissionError:
        raise UserError(f"{path} cannot be read: permission denied") from None
    except MemoryError:
        raise UserError(f"{path} does not fit in memory: scale it down first") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and others
        raise UserError(f"{path} is broken or truncated ({_one_line(error)}): save or download it again") from None


def _decode_once(file: Path | io.BytesIO, path: Path, max_pixels: int, short_side: int | None) -> np.ndarray:
    with _open(file) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise UserError(
                f"{path} is too large: {width} x {height} pixels, "
                f"the limit is {max_pixels / 1e6:g} million; scale it down first"
            )
        if short_side is not None and image.format == "JPEG":
            image.draft(None, (short_side, short_side))  # the smallest size with both sides at least this
        frames = _frames(image)
        with _without_bomb_check() if _is_bomb_to_pillow(image) else nullcontext():
            try:
                deep = _deep_values(image, file)
                pixels = np.require(_to_rgb(image, deep), requirements=("C", "W"))  # torch wants it writable
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
    if frames > 1:
        warnings.warn(f"{path} has {frames} frames or pages: only the first is used", ImageWarning, stacklevel=4)
    if deep is not None and pixels.any() and np.percentile(pixels, 99) < _NEARLY_BLACK:
        message = f"{path} has a few bright pixels and is nearly black elsewhere: stretch its values first"
        warnings.warn(message, ImageWarning, stacklevel=4)
    elif deep is not None and _is_squeezed(deep):
        message = (
            f"{path} has extreme values, perhaps for no data, that leave the others little contrast: replace them first"
        )
        warnings.warn(message, ImageWarning, stacklevel=4)
    return pixels


def _content(file: Path | io.BytesIO) -> bytes:
    return file.getvalue() if isinstance(file, io.BytesIO) else file.read_bytes()


def upright_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of the image that `open_image` would return, from the header of the file.

    Raises:
        OSError: the file cannot be read, or is no image.
    """
    with _open(Path(path)) as image:
        width, height = image.size
        if image.format == "TIFF":  # some versions of Pillow have turned its size by then, others have not
            width, height = image.tag_v2[256], image.tag_v2[257]  # type: ignore[attr-defined]
        return (width, height) if image.getexif().get(_ORIENTATION) in (5, 6, 7, 8) else (height, width)


def pixel_checksum(image: np.ndarray) -> str:
    """What tells an image, uint8 [H, W, 3], from all with other pixels or another size: 64 bits as hex digits."""
    height, width = image.shape[:2]
    pixels = np.ascontiguousarray(image).data
    return hashlib.blake2b(pixels, digest_size=8, person=f"{width}x{height}".encode()).hexdigest()


def save_image(path: str | Path, image: np.ndarray) -> None:
    """Write RGB uint8 [H, W, 3] as JPEG, WebP or else PNG, by the suffix of the path.

    Raises:
        UserError: the file cannot be written.
    """
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(Path(path).suffix.lower())
    with atomic_write(path) as temporary:
        if kind is None:
            temporary.write_bytes(_png(image))
        else:
            Image.fromarray(image).save(temporary, format=kind, quality=92, comment=SOFTWARE)


def _png(image: np.ndarray) -> bytes:
    """RGB uint8 [H, W, 3] as the content of a PNG.

    By OpenCV, which takes an eighth of Pillow's time for a file a sixth larger and lets other threads work meanwhile.
    """
    import cv2

    content = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR))[1].tobytes()
    text, start = b"tEXtSoftware\0" + SOFTWARE.encode(), 8 + 25  # after the signature and the header
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    return content[:start] + chunk + content[start:]


def is_written_here(path: str | Path) -> bool:
    """Whether `save_image` wrote a file, as PNG or JPEG: its name stands in them."""
    try:
        with Image.open(path) as image:
            return SOFTWARE in (image.info.get("Software"), image.info.get("comment", b"").decode(errors="replace"))
    except (OSError, ValueError, SyntaxError, AttributeError):
        return False


def png_text() -> PngInfo:
    """The text chunks of a PNG: who wrote it, see `SOFTWARE`."""
    text = PngInfo()
    text.add_text("Software", SOFTWARE)
    return text


def resize(image: ArrayOrTensor, size: tuple[int, int], interpolation: str = "bicubic") -> ArrayOrTensor:
    """Resize an image.

    Args:
        image: an array [H, W, 3] uint8, or a tensor [..., C, H, W], uint8 or float in [0, 1].
        size: (H, W) of the result.
        interpolation: ``bicubic``, antialiased when shrinking, as CLIP's own preprocessing does it, or ``bilinear``
            without antialiasing, as in OpenCV and mmsegmentation; for uint8, bit-identical to OpenCV.

    Returns:
        The same type and dtype as ``image``; values beyond the valid range (overshoot of bicubic) are clamped.
    """
    import cv2
    import torch
    from torch.nn.functional import interpolate

    if isinstance(image, np.ndarray):
        if image.shape[:2] == tuple(size):
            return image
        if interpolation == "bilinear":
            return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
        # A view, colours last in memory: torch's kernel for that layout is ten times as fast.
        view = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return resize(view, size, interpolation).permute(1, 2, 0).contiguous().numpy()
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    batch = image.reshape(-1, *image.shape[-3:])  # [B, C, H, W]
    as_uint8 = image.dtype == torch.uint8
    smooth = interpolation == "bicubic"
    if as_uint8 and not smooth and not image.is_cuda and image.ndim == 3:
        array = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        return torch.from_numpy(resize(array, size, interpolation)).permute(2, 0, 1)
    if as_uint8 and (image.is_cuda or not smooth):  # torch has a uint8 kernel for the one on the CPU only
        batch = batch.float()
    steps = [tuple(size)]
    if 1 in (batch.shape[-1], size[1]):
        # torch's float kernel mixes up the rows of a one-pixel-wide image: resize the height at two or more.
        batch = batch.expand(-1, -1, -1, 2) if batch.shape[-1] == 1 else batch
        steps = [(size[0], batch.shape[-1]), tuple(size)]
    for step in steps:
        batch = interpolate(batch, size=step, mode=interpolation, align_corners=False, antialias=smooth)
    if batch.is_floating_point():
        batch = batch.round().clamp(0, 255).to(torch.uint8) if as_uint8 else batch.clamp(0, 1)
    return batch.reshape(*image.shape[:-2], *size)


# --- Pillow ---------------------------------------------------------------------------------------


_NEARLY_BLACK = 8  # of 255
_LITTLE_CONTRAST = 0.25  # of the range of all values


def _frames(image: Image.Image) -> int:
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


def _deep_values(image: Image.Image, file: Path | io.BytesIO) -> np.ndarray | None:
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
        values = cv2.imdecode(np.frombuffer(_content(file), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or values.shape[2] < 3 or _has_planes(image):
        raise UserError("has 16 bits a channel in a form that cannot be read; save it as a PNG of 8 bits")
    return values[..., [2, 1, 0, 3] if values.shape[2] == 4 and image.has_transparency_data else [2, 1, 0]]


def _grey_values(image: Image.Image) -> np.ndarray:
    """Values [H, W] of a deep grey image; RGBA [H, W, 4] if the file states a value that stands for transparency."""
    values, key = np.asarray(image), image.info.get("transparency")
    if not isinstance(key, int):
        return values
    return np.dstack([values, values, values, np.where(values == key, 0, 65_535).astype(values.dtype)])


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or image.mode in ("I", "F")


def _has_deep_channels(image: Image.Image, file: Path | io.BytesIO) -> bool:
    """Whether the file of an image of several channels has more than 8 bits in each."""
    if image.format == "JPEG2000":  # Pillow does not say it; a byte of the SIZ marker does
        content = _content(file)
        return content[content.index(b"\xff\x4f\xff\x51") + 42] & 0x7F > 7
    if _has_planes(image):
        return max(image.tag_v2.get(258, (8,))) > 8  # type: ignore[attr-defined]  # BitsPerSample
    kinds = " ".join(str(tile[-1]) for tile in getattr(image, "tile", ()))
    return "65535" in kinds if image.format == "PPM" else bool(re.search(r"\b(RGB[AX]?|LA);16", kinds))


def _has_planes(image: Image.Image) -> bool:
    """Whether a TIFF has its channels one after the other, which OpenCV reads wrongly."""
    return image.format == "TIFF" and image.tag_v2.get(284) == 2  # type: ignore[attr-defined]  # PlanarConfiguration


def _to_rgb(image: Image.Image, deep: np.ndarray | None = None) -> np.ndarray:
    """Decode the first frame: [H, W, 3] uint8, upright; of a deep image (see `_deep_values`) from its values."""
    image.load()
    if deep is not None:
        exif = image.getexif()
        image = Image.fromarray(_to_8_bits(deep, image.mode == "F"))
        image.getexif().update({tag: exif[tag] for tag in (_ORIENTATION,) if tag in exif})
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # damaged EXIF data: ignore the orientation
        image.info.pop("exif", None)
    return pillow_to_rgb(image)


def pillow_to_rgb(image: Image.Image) -> np.ndarray:
    """A Pillow image as RGB, uint8 [H, W, 3], with the values of `open_image`, but not turned by its EXIF data."""
    if _is_deep_grey(image):
        image = Image.fromarray(_to_8_bits(_grey_values(image), image.mode == "F"))
    if image.mode == "La":  # premultiplied grey: Pillow converts it to this only
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


_ORIENTATION = 0x0112
_FULL = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # of 8, 10, 12, 14 and 16 bits


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


def _is_squeezed(values: np.ndarray) -> bool:
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


_pillow_limit = threading.Lock()


@contextmanager
def _without_bomb_check() -> Iterator[None]:
    """Disable Pillow's size limit, which is global; ours is an argument."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _is_bomb_to_pillow(image: Image.Image) -> bool:
    return Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS


@contextmanager
def _open(file: Path | io.BytesIO) -> Iterator[Image.Image]:
    """Read the header only.

    A path is opened here: with a path Pillow maps the pixels of a plain TIFF into memory, and swaps the sides of those
    that EXIF turns before it does.
    """
    Image.init()
    with nullcontext(file) if isinstance(file, io.BytesIO) else file.open("rb") as stream:
        with _without_bomb_check():
            image = Image.open(stream, formats=[name for name in _FORMATS if name in Image.OPEN])
        with image:
            yield image


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
