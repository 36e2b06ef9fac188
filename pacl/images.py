"""Reading, writing and resizing images: every common file format becomes upright 8-bit RGB."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pacl.errors import ArgumentError, ImageWarning, UserError
from pacl.files import atomic_write
from pacl.image_decoding import (
    ORIENTATION,
    content_of,
    count_frames,
    deep_values,
    is_bomb_to_pillow,
    is_squeezed,
    open_header,
    to_rgb,
    without_bomb_check,
)
from pacl.image_decoding import pillow_to_rgb as pillow_to_rgb  # it is a public name of this module, too
from pacl.image_folders import READABLE, UNREAD_SUFFIXES
from pacl.image_repair import repaired

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS = 200_000_000
NEARLY_BLACK = 8
"""Of 255: an image without a value above it is taken for a mistake, such as a mask of class ids."""

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
        ArgumentError: ``path``: not a path.
        UserError: the file is missing, a folder, empty, not an image, broken, too large, or has 16 bits a channel in a
            form of which only the upper 8 bits can be read.

    Warns:
        ImageWarning: there are further frames or pages, the last rows of a JPEG are missing (more missing rows are an
            error), the image is nearly black, or all but a few pixels of a deep one, or it has extreme values that
            leave the others little contrast.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError("path", f"of type {type(path).__name__}", "must be a path; Segmenter takes arrays, too")
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
            content = None if isinstance(error, (UserError, Image.UnidentifiedImageError)) else content_of(file)
            mended = repaired(content, error) if content is not None else None
            if mended is None:
                raise
        image = _decode_once(io.BytesIO(mended.content), path, max_pixels, short_side)
        if mended.complaint:
            warnings.warn(f"{path} {mended.complaint}", ImageWarning, stacklevel=3)
        return image
    except (UserError, ImageWarning):  # (a warning, where the caller makes errors of them)
        raise
    except Image.UnidentifiedImageError:
        suffix = path.suffix.lower()
        advice = "convert it to JPEG or PNG" if suffix in UNREAD_SUFFIXES else READABLE
        if suffix in (".tif", ".tiff"):  # such as of several channels of 32 bits
            advice = "save it with 8 or 16 bits a channel, as PNG or TIFF"
        raise UserError(f"{path} is not an image that can be read: {advice}") from None
    except PermissionError:
        raise UserError(f"{path} cannot be read: permission denied") from None
    except MemoryError:
        raise UserError(f"{path} does not fit in memory: scale it down first") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and others
        raise UserError(f"{path} is broken or truncated ({_one_line(error)}): save or download it again") from None


def _decode_once(file: Path | io.BytesIO, path: Path, max_pixels: int, short_side: int | None) -> np.ndarray:
    with open_header(file) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise UserError(
                f"{path} is too large: {width} x {height} pixels, "
                f"the limit is {max_pixels / 1e6:g} million; scale it down first"
            )
        if short_side is not None and image.format == "JPEG":
            image.draft(None, (short_side, short_side))  # the smallest size with both sides at least this
        frames = count_frames(image)
        with without_bomb_check() if is_bomb_to_pillow(image) else nullcontext():
            try:
                deep = deep_values(image, file)
                pixels = np.require(to_rgb(image, deep), requirements=("C", "W"))  # torch wants it writable
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
    if frames > 1:
        warnings.warn(f"{path} has {frames} frames or pages: only the first is used", ImageWarning, stacklevel=4)
    if (highest := int(pixels.max())) <= NEARLY_BLACK:
        warnings.warn(black_message(str(path), highest), ImageWarning, stacklevel=4)
    elif deep is not None and np.percentile(pixels, 99) < NEARLY_BLACK:
        message = f"{path} has a few bright pixels and is nearly black elsewhere: stretch its values first"
        warnings.warn(message, ImageWarning, stacklevel=4)
    elif deep is not None and is_squeezed(deep):
        message = (
            f"{path} has extreme values, perhaps for no data, that leave the others little contrast: replace them first"
        )
        warnings.warn(message, ImageWarning, stacklevel=4)
    return pixels


def black_message(name: str, highest: int) -> str:
    """What to say of an image without a value above `NEARLY_BLACK`."""
    reason = "a mask of class ids, or values from 0 to 1 as integers?" if highest else "there is nothing to see"
    return f"{name} is nearly black, no value is above {highest} of 255: {reason}"


def upright_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of the image that `open_image` would return, from the header of the file.

    Raises:
        OSError: the file cannot be read, or is no image.
    """
    with open_header(Path(path)) as image:
        width, height = image.size
        if image.format == "TIFF":  # some versions of Pillow have turned its size by then, others have not
            width, height = image.tag_v2[256], image.tag_v2[257]  # type: ignore[attr-defined]
        return (width, height) if image.getexif().get(ORIENTATION) in (5, 6, 7, 8) else (height, width)


def pixel_checksum(image: np.ndarray) -> str:
    """Checksum of the pixels and the size of an image, uint8 [H, W, 3]: 64 bits as hexadecimal digits."""
    height, width = image.shape[:2]
    pixels = np.ascontiguousarray(image).data
    return hashlib.blake2b(pixels, digest_size=8, person=f"{width}x{height}".encode()).hexdigest()


SAVED_ENDINGS = (".png", ".jpg", ".jpeg")
"""Of the files that `save_image` writes."""


def save_image(path: str | Path, image: np.ndarray) -> None:
    """Write RGB uint8 [H, W, 3] as JPEG or else PNG, by the suffix of the path.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_write(path) as temporary:
        if temporary.suffix.lower() in (".jpg", ".jpeg"):
            Image.fromarray(image).save(temporary, format="JPEG", quality=92, comment=SOFTWARE)
        else:
            temporary.write_bytes(_png(image))


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
        with open_header(Path(path)) as image:
            # (a PNG may have a text "comment", too, which is a `str` and no one's mark)
            return image.info.get("Software") == SOFTWARE or image.info.get("comment") == SOFTWARE.encode()
    except (OSError, ValueError, SyntaxError):
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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
