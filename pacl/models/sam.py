"""SAM, the Segment Anything Model, by transformers: an image is encoded once, then boxes and points become masks.

    image [3,H,W] --Sam.encode--> features --Sam.masks, with P boxes and points--> mask logits [P,M,h,w]

All coordinates are cells of a grid of h x w cells that covers the image, that of SAM's masks (`Sam.grid`). The first
SAM keeps the proportions of an image and fills its square input up at the bottom and at the right; SAM 2 stretches it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.nn.functional import pad

from pacl.errors import ArgumentError, UserError
from pacl.images import resize
from pacl.models.towers.base import weights_checksum
from pacl.models.towers.hub import fail_fast, first_line, no_progress_bars

CLASSES = {"sam": "SamModel", "sam2": "Sam2Model", "sam2_video": "Sam2Model"}
"""The `model_type` of a configuration, and transformers' class for images; SAM 2 is published as a video model."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, by which SAM's input is normalised (Kirillov et al., "Segment Anything", ICCV 2023, code)."""

PROMPTS_AT_ONCE = 8
"""Boxes that go through the mask decoder together: bounds the memory, about 40 MB for each."""

Features = tuple[Tensor, ...]
"""What SAM keeps of an image: [1, D, h, w], of SAM 2 at three resolutions; float32, 4 to 16 MB."""


class Sam:
    """A SAM of transformers.

    Args:
        model: a ``SamModel`` or ``Sam2Model``.

    Attributes:
        side: of its square input, in pixels.
        cell: pixels of the input in a cell of the grid, along each side.
        stretches: whether it resizes images to a square.
    """

    def __init__(self, model: Any) -> None:
        self.model = model.float().eval().requires_grad_(False)
        prompts = model.config.prompt_encoder_config
        self.side = int(prompts.image_size)
        self.cell = int(prompts.patch_size) // 4  # masks have four cells in each patch
        self.stretches = type(model).__name__ != CLASSES["sam"]

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return next(self.model.parameters()).device

    def checksum(self) -> str:
        """SHA-256 of its weights."""
        return weights_checksum(self.model.state_dict())

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the grid that covers an image of this height and width; the longer is ``side / cell``."""
        cells = self.side // self.cell
        if self.stretches:
            return cells, cells
        return max(1, round(cells * size[0] / max(size))), max(1, round(cells * size[1] / max(size)))

    @torch.inference_mode()
    def encode(self, image: Tensor, precision: str = "fp32") -> Features:
        """Encode an image.

        Args:
            image: [3, H, W], uint8 or float in [0, 1].
            precision: of the image encoder, "fp32" or "bf16".

        Raises:
            UserError: the features are not finite.
        """
        h, w = (self.cell * cells for cells in self.grid((image.shape[1], image.shape[2])))
        small = resize(image, (h, w)).to(self.device)
        small = small.float() / 255 if image.dtype == torch.uint8 else small.float()
        mean, std = (small.new_tensor(x)[:, None, None] for x in (MEAN, STD))
        pixels = pad((small - mean) / std, (0, self.side - w, 0, self.side - h))[None]  # [1, 3, side, side]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
            found = self.model.get_image_embeddings(pixels)
        features = tuple(part.float() for part in ([found] if isinstance(found, Tensor) else found))
        if not all(part.isfinite().all() for part in features):
            raise UserError("SAM's features are not finite (NaN): damaged weights, or precision fp32 is needed")
        return features

    @torch.inference_mode()
    def masks(self, features: Features, boxes: Tensor, points: Tensor, grid: tuple[int, int]) -> Tensor:
        """Masks of one image; of a prompt that means a part, a thing or several, SAM has M of them.

        Args:
            features: the image.
            boxes: int64 [P, 4], the first and last columns and rows x0, y0, x1, y1 of what is in each, in cells.
            points: int64 [P, k, 2], cells x, y that are in the mask.
            grid: rows h and columns w of the image's grid.

        Returns:
            Logits, float32 [P, M, h, w]; a mask is where they are above 0.
        """
        first, last = boxes[:, :2] * self.cell, (boxes[:, 2:] + 1) * self.cell - 1  # pixels of the input
        corners = torch.cat([first, last], dim=1).float()
        centres = (points * self.cell).float() + (self.cell - 1) / 2
        found = []
        for box, point in zip(corners.split(PROMPTS_AT_ONCE), centres.split(PROMPTS_AT_ONCE), strict=True):
            output = self.model(
                image_embeddings=list(features) if len(features) > 1 else features[0],
                input_boxes=box[None].to(self.device),
                input_points=point[None].to(self.device),
                input_labels=torch.ones(1, *point.shape[:2], dtype=torch.int, device=self.device),
                multimask_output=True,
            )
            found.append(output.pred_masks[0, :, :, : grid[0], : grid[1]].float())
        return torch.cat(found)


_loaded: WeakValueDictionary[tuple[str, str], Sam] = WeakValueDictionary()
"""Those in use, by name and device: the methods of a benchmark share one."""


def load_sam(name: str, device: torch.device) -> Sam:
    """Load a SAM or SAM 2.

    Args:
        name: a folder in transformers' format, or a repository ORG/NAME on the Hugging Face hub.
        device: where it is computed.

    Raises:
        ArgumentError: ``refine``: transformers is not installed, or there is no such SAM.
    """
    place, kind = find_sam(name)
    key = (str(place), str(device))
    if (loaded := _loaded.get(key)) is None:
        loaded = _loaded[key] = Sam(_load(name, place, kind).to(device))
    return loaded


def find_sam(name: str) -> tuple[str | Path, str]:
    """The place of a SAM and the name of its class in transformers, by its configuration; no weights are read.

    Raises:
        ArgumentError: ``refine``, as `load_sam`.
    """
    folder = Path(name).expanduser()
    try:
        from transformers import PretrainedConfig, Sam2Model, SamModel  # noqa: F401 (both must be there)
    except ImportError:
        raise _refusal(name, 'needs transformers 4.56 or newer; pip install "pacl[sam]"') from None
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise _refusal(name, "the folder holds no config.json: not a SAM in transformers' format")
    if not folder.is_dir() and name.strip("/").count("/") != 1:
        raise _refusal(name, "neither a folder nor a repository ORG/NAME on the hub, such as facebook/sam-vit-base")
    place = folder.resolve() if folder.is_dir() else name
    try:
        with fail_fast(local=folder.is_dir()):
            config, _ = PretrainedConfig.get_config_dict(place)
    except Exception as error:  # network, damaged files: the libraries raise many types
        raise _refusal(name, f"{first_line(error)}{_advice(place)}") from error
    kind = config.get("model_type")
    if kind not in CLASSES:
        raise _refusal(name, f"is of type {kind}, not a SAM or SAM 2, such as facebook/sam-vit-base")
    return place, CLASSES[kind]


def _load(name: str, place: str | Path, kind: str) -> Any:
    import transformers

    try:
        with fail_fast(local=isinstance(place, Path)), no_progress_bars():
            model, told = getattr(transformers, kind).from_pretrained(place, output_loading_info=True)
    except Exception as error:  # missing or damaged weights, memory
        raise _refusal(name, f"{first_line(error)}{_advice(place)}") from error
    if missing := sorted(told["missing_keys"]):
        raise _refusal(name, f"its weights lack {len(missing)} of SAM's, such as {missing[0]}; download it again")
    return model


def _advice(place: str | Path) -> str:
    return "" if isinstance(place, Path) else "; connect once so that it is cached, or give a folder as sam:FOLDER"


def _refusal(name: str, reason: str) -> ArgumentError:
    return ArgumentError("refine", f"sam:{name}", reason)
