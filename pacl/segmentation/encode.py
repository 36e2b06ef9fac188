"""From images to patch vectors.

image [3,H,W] --resize--> [3,H',W'] --windows--> [T,3,h',w'] --encode_crops--> patch vectors [T,D,h,w]
at several scales: each resampled to the finest patch grid, and averaged
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from pacl.errors import ArgumentError, ImageWarning, UserError
from pacl.images import MAX_PIXELS, NEARLY_BLACK, black_message, open_image, pillow_to_rgb
from pacl.images import resize as resize_image
from pacl.models.precision import tower_autocast
from pacl.models.towers.grid import PatchGrid
from pacl.segmentation.patch_maps import PatchMaps, mean_of
from pacl.segmentation.settings import SegmenterSettings, listed
from pacl.segmentation.windows import WindowLayout, plan_layout

if TYPE_CHECKING:
    from pacl.models.model import PACL
    from pacl.models.sam import Features, Sam

AnyImage = np.ndarray | Tensor | Image.Image | str | Path
"""The forms of an image that `as_tensor` takes."""

GUIDE_SIDE = 512
"""Long side, in pixels, of the small image that is kept for the refinement of probabilities. A larger one would take
more memory and hardly refine better."""

GUIDE_BLUR = 2.0 / GUIDE_SIDE
"""Standard deviation of the blur that hides the texture of that image, as a share of its long side. Without it, asphalt
or grass leave specks of other labels in the refined masks."""


@dataclass(frozen=True)
class EncodedImage:
    """All that is kept of an image between `Segmenter.set_image` and `Segmenter.predict`."""

    patches: PatchMaps
    """Patch vectors [T, D, h, w], float32."""
    guide: Tensor | None
    """The image whose edges refinement follows, float [3, h, w] in [0, 1]; None without refinement. See `guide_of`."""
    source: AnyImage | None = None
    """The image as it was given, for drawing; None where it is not known."""
    sam: Features | None = None
    """What a SAM keeps of the image; None without one."""
    stamp: tuple[int, int] | None = None
    """Of the file of a path when it was read, see `pacl.files.file_stamp`."""
    made_by: Mapping[str, Any] | None = None
    """The model and the settings of the segmenter that encoded it; None: they are not compared."""
    path: str | None = None
    """Absolute path of the file that was read."""

    def __repr__(self) -> str:
        height, width = self.patches.layout.size
        return f"<EncodedImage of {width} x {height} pixels, vectors {list(self.patches.values.shape)}>"


def encode_images(
    models: Sequence[PACL], images: Sequence[AnyImage], settings: SegmenterSettings, sam: Sam | None = None
) -> list[list[EncodedImage]]:
    """Images of any sizes -> patch vectors. Windows of equal size go through the tower together.

    Args:
        models: one model, or several with the same backbone, whose blocks before the last are computed once for all of
            them. Images are moved to the device of the backbone, window by window.
        images: images in the forms that `as_tensor` takes.
        settings: those of size, scales, windows, stride and interpolation, window_batch, precision and refinement are
            read. Where size or scales are None, those of the first model's configuration hold.
        sam: encodes the images, too; once for all models.

    Returns:
        For each model, the patch vectors of each image.

    Raises:
        MemoryError: an image would be resized to more than `MAX_PIXELS`.
        ArgumentError: ``accumulate`` is "pixel", but the model has several scales of its own.
    """
    config = models[0].config
    pixels = [as_tensor(image) for image in images]  # [3, H, W] each
    size = settings.size or config.size
    scales = resolved_scales(models[0], settings)
    by_scale = [encode_scale(models, pixels, round(size * scale), settings) for scale in sorted(scales)]
    by_model = [[mean_of(maps) for maps in zip(*own, strict=True)] for own in zip(*by_scale, strict=True)]
    guides = [guide_of(image, maps.layout, settings) for image, maps in zip(pixels, by_model[0], strict=True)]
    kept = [None if sam is None else sam.encode(image, settings.precision) for image in pixels]
    return [[EncodedImage(*parts) for parts in zip(own, guides, images, kept, strict=True)] for own in by_model]


def resolved_scales(model: PACL, settings: SegmenterSettings) -> tuple[float, ...]:
    """The scales of the settings, else the model's own.

    Raises:
        ArgumentError: ``accumulate`` is "pixel", but the model has several scales of its own.
    """
    scales = settings.scales or tuple(model.config.scales)
    if len(scales) > 1 and settings.accumulate != "patch":
        reason = f"the model's own scales {listed(scales)} are averaged on one patch grid; use patch, or scales 1"
        raise ArgumentError("accumulate", settings.accumulate, reason)
    return scales


def guide_of(image: Tensor, layout: WindowLayout, settings: SegmenterSettings) -> Tensor | None:
    """The image whose edges refinement follows, float32 [3, h, w] in [0, 1]; None without refinement.

    For probabilities its long side is at most `GUIDE_SIDE`, and it is blurred by `GUIDE_BLUR`. For cosines it is the
    resized image, resized again to the size of the original image, as in the published code of SCLIP and NACLIP.
    """
    if not settings.refine_steps:
        return None
    if settings.refine_on == "cosines":
        return resize(resize(image, layout.resized, settings.interpolation), layout.size, "bilinear")
    small = shrink(image, GUIDE_SIDE)
    return blur(small, GUIDE_BLUR * max(small.shape[1:]))


def encode_scale(
    models: Sequence[PACL], images: Sequence[Tensor], size: int, settings: SegmenterSettings
) -> list[list[PatchMaps]]:
    """Images [3, H, W] -> for each model, patch vectors [T, D, h, w] of each image at a short side of ``size``."""
    first = models[0]
    layouts = [
        plan_layout(
            (image.shape[1], image.shape[2]),
            size,
            patch=first.clip.patch,
            stride=settings.stride or first.clip.patch,
            window=settings.window,
            step=settings.window_step,
            aligned=settings.accumulate == "patch",
            cut=settings.remainder == "cut",
            two_steps=settings.upsampling == "twice",
        )
        for image in images
    ]
    for layout in layouts:
        height, width = layout.resized
        if height * width > MAX_PIXELS:  # systems end a process that uses too much instead of refusing it the memory
            raise MemoryError(f"a short side of {size} makes {width} x {height} pixels of an image")
    how = settings.interpolation
    grids: dict[tuple[int, int], PatchGrid] = {}
    vectors: list[list[list[Tensor]]] = [[[] for _ in images] for _ in models]
    for window in dict.fromkeys(layout.window for layout in layouts):
        members = [i for i, layout in enumerate(layouts) if layout.window == window]
        windows = ((i, crop) for i in members for crop in crop_windows(images[i], layouts[i], how))
        while batch := list(islice(windows, settings.window_batch)):
            crops = torch.stack([crop for _, crop in batch]).to(first.device)  # [B, 3, h', w']
            by_model, grid = encode_crops(models, first.clip.normalize(crops), settings)  # [B, P, D] each
            grids[window] = grid
            for own, v in zip(vectors, by_model, strict=True):
                for (i, _), vector in zip(batch, rearrange(v, "b (h w) d -> b d h w", h=grid.h), strict=True):
                    own[i].append(vector)
    encoded = []
    for own in vectors:
        maps = [
            PatchMaps(torch.stack(parts), grids[layout.window], layout)  # [T, D, h, w]
            for layout, parts in zip(layouts, own, strict=True)
        ]
        encoded.append([m.merged() for m in maps] if settings.accumulate == "patch" else maps)
    return encoded


def encode_crops(models: Sequence[PACL], crops: Tensor, settings: SegmenterSettings) -> tuple[list[Tensor], PatchGrid]:
    """Normalised crops [B, 3, h', w'] -> unit patch vectors [B, P, D] of each model, float32, and their grid.

    Raises:
        UserError: they are not finite.
    """
    clip = models[0].clip
    variants = [model.config.dense for model in models]
    with tower_autocast(settings.precision, clip):
        tokens, grid = clip.patch_tokens_of(crops, variants, settings.stride, settings.positions)
    vectors = [model.patch_vectors(part.float()) for model, part in zip(models, tokens, strict=True)]
    check_finite(vectors, "patch vectors")
    return vectors, grid


def check_finite(vectors: Sequence[Tensor], what: str) -> None:
    """Refuse NaN and infinity, with which one label would win everywhere.

    Raises:
        UserError: they are among the vectors.
    """
    if not all(each.isfinite().all() for each in vectors):
        raise UserError(f"the model's {what} are not finite (NaN): damaged weights, or precision fp32 is needed")


def crop_windows(image: Tensor, layout: WindowLayout, interpolation: str = "bicubic") -> Iterator[Tensor]:
    """The windows [3, h', w'] of an image [3, H, W], float32 in [0, 1]."""
    resized = resize(image, layout.resized, interpolation)  # [3, H', W']
    height, width = layout.window
    return (resized[:, y : y + height, x : x + width] for y, x in layout.corners)


def as_tensor(image: AnyImage, argument: str = "image") -> Tensor:
    """An image in any form -> its tensor [3, H, W], uint8 or float in [0, 1].

    Arrays and tensors of 8 bits are not copied. Floats that are 8 bits divided by 255 become these again, so that they
    are resized like them.

    Args:
        image: a path, which is read by `pacl.images.open_image`; a Pillow image of any mode; an array [H, W, 3] in RGB
            or a tensor [3, H, W], uint8 or float in [0, 1].
        argument: the name of the image in error messages.

    Raises:
        UserError: the file of a path is not a readable image.
        ArgumentError: the image has another type, or a wrong shape, dtype or range.
    """
    if isinstance(image, (str, Path)):
        image = open_image(image)
    elif isinstance(image, Image.Image):
        image = _from_pillow(image, argument)
    if isinstance(image, np.ndarray):
        tensor = _from_array(image, argument)
    elif isinstance(image, Tensor):
        tensor = _dense(image, argument)
    else:
        kind = type(image).__name__
        reason = "must be a path, a Pillow image, an array [H, W, 3] or a tensor [3, H, W]"
        raise ArgumentError(argument, f"of type {kind}", reason)
    shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    if tensor.ndim != 3 or shape[0] != 3:
        last = tensor.ndim == 3 and shape[2] == 3
        raise ArgumentError(
            argument,
            f"of shape {shape}",
            "a tensor must be RGB [3, H, W]"
            + ("; image.permute(2, 0, 1) puts the channels first" if last else "")
            + ("; predict_batch takes several images" if tensor.ndim == 4 else ""),
        )
    if 0 in shape:
        raise ArgumentError(argument, f"of shape {shape}", "has no pixels")
    if tensor.is_floating_point():
        if tensor.element_size() < 4:  # torch resizes no half precision on the CPU, and finds no extremes of 8 bits
            tensor = tensor.float()
        low, high = (float(value) for value in tensor.aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ArgumentError(argument, "with NaN or infinite values", "float values must be from 0 to 1")
        if low < 0 or high > 1:
            reason = "float values must be from 0 to 1; divide by the largest possible value, or use uint8"
            raise ArgumentError(argument, f"with values from {low:g} to {high:g}", reason)
        return _eight_bits(tensor)
    if tensor.dtype != torch.uint8:
        raise ArgumentError(argument, f"of dtype {dtype}", "must be uint8, or float with values from 0 to 1")
    return tensor


def warn_of_black(images: Sequence[AnyImage], names: Sequence[str] = ()) -> None:
    """Warn of images that are nearly black, such as those divided by 255 twice; of files, `open_image` does.

    Args:
        images: in any form; what is no image is left to `as_tensor`.
        names: their names in the warnings; by default their places.

    Warns:
        ImageWarning: an image has no value above `NEARLY_BLACK`; for the caller of the function that calls this.
    """
    for image, name in zip(images, names or [f"images[{i}]" for i in range(len(images))], strict=True):
        highest = _highest(image)
        if highest is not None and highest <= NEARLY_BLACK:
            warnings.warn(black_message(name, round(highest)), ImageWarning, stacklevel=3)


def _highest(image: AnyImage) -> float | None:
    """The highest value of an image of plain values, of 255; None for others, and for paths."""
    if isinstance(image, Image.Image):
        bands = image.getextrema() if image.mode in ("L", "RGB") else ()
        return max(np.ravel(bands)[1::2], default=None)
    if isinstance(image, np.ndarray) and image.size and image.dtype.kind in "uf":
        return float(image.max()) * (255 if image.dtype.kind == "f" else 1)
    if isinstance(image, Tensor) and image.numel() and (image.dtype == torch.uint8 or image.is_floating_point()):
        plain = image.layout == torch.strided and not image.is_meta and not image.is_nested
        return float(image.detach().float().max()) * (255 if image.is_floating_point() else 1) if plain else None
    return None


def _eight_bits(image: Tensor) -> Tensor:
    """uint8 for an image [3, H, W] in [0, 1] of which all values are 0 to 255, divided by 255; others as they are."""

    def levels(part: Tensor) -> Tensor | None:
        scaled = part * 255
        rounded = scaled.round()
        return rounded if bool((scaled - rounded).abs().amax() < 1e-3) else None  # (rounding of float32: 2e-5)

    if levels(image[:, 0]) is None:  # of most others, one row says so
        return image
    found = levels(image)
    return image if found is None else found.to(torch.uint8)


def _from_pillow(image: Image.Image, argument: str) -> np.ndarray:
    try:
        return pillow_to_rgb(image)
    except (OSError, ValueError) as error:  # no value is finite; the rest of its file is missing; it is closed
        raise ArgumentError(argument, f"of mode {image.mode}", str(error)) from None


def _dense(image: Tensor, argument: str) -> Tensor:
    """A tensor that holds plain values; `ArgumentError` for the others, which torch cannot resize."""
    kinds = {
        "on the meta device": image.is_meta,
        "nested": image.is_nested,
        "quantised": image.is_quantized,
        "not strided": image.layout != torch.strided,
    }
    if wrong := [kind for kind, is_it in kinds.items() if is_it]:
        reason = "must hold plain values; .to_dense() and .dequantize() make some of such a tensor"
        raise ArgumentError(argument, f"a tensor that is {wrong[0]}", reason)
    return image.detach()


def _from_array(image: np.ndarray, argument: str) -> Tensor:
    """An array [H, W, 3] of numbers as a tensor [3, H, W]; values are checked by `as_tensor`."""
    if image.ndim != 3 or image.shape[2] != 3:
        hints = {
            image.ndim == 2: "; for a grey one, np.stack([image] * 3, axis=-1)",
            image.ndim == 3 and image.shape[0] == 3: "; np.moveaxis(image, 0, -1) puts the channels last",
            image.ndim == 3 and image.shape[2] == 4: "; image[..., :3] leaves out the transparency",
            image.ndim == 4: "; predict_batch takes several images",
        }
        reason = f"an array must be RGB [H, W, 3]{hints.get(True, '')}"
        raise ArgumentError(argument, f"of shape {image.shape}", reason)
    if image.dtype != np.uint8 and image.dtype.kind != "f":
        raise ArgumentError(argument, f"of dtype {image.dtype}", "must be uint8, or float with values from 0 to 1")
    if image.dtype.kind == "f":
        image = image.astype(np.float32, copy=False)
    return torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)  # [3, H, W]


def as_array(image: AnyImage, argument: str = "image") -> np.ndarray:
    """An image in any form that `as_tensor` takes -> RGB uint8 [H, W, 3]."""
    pixels = as_tensor(image, argument)
    if pixels.is_floating_point():
        pixels = (pixels.float() * 255).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())


def resize(image: Tensor, size: tuple[int, int], interpolation: str = "bicubic") -> Tensor:
    """[3, H, W], uint8 or float in [0, 1] -> float32 [3, *size] in [0, 1]; 8 bits stay so until they are small."""
    small = resize_image(image, size, interpolation)
    return small.float() / 255 if image.dtype == torch.uint8 else small.float()


def shrink(image: Tensor, side: int) -> Tensor:
    """[3, H, W] -> float32 [3, h, w] in [0, 1], of the same proportions, with a long side of at most `side`."""
    height, width = image.shape[1:]
    factor = min(1.0, side / max(height, width))
    return resize(image, (max(1, round(height * factor)), max(1, round(width * factor))))


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [3, H, W], float; beyond the border the nearest pixel is used."""
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    weights = torch.softmax(-offsets.square() / (2 * sigma**2), 0)  # [2 reach + 1], sums to 1
    padded = F.pad(image[:, None], (reach, reach, reach, reach), mode="replicate")  # [3, 1, H + 2 reach, W + 2 reach]
    return F.conv2d(F.conv2d(padded, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))[:, 0]
