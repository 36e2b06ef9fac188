"""Small SAMs: with random weights, for the way through transformers, and one that returns known masks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pacl.models.sam import Features, Sam


def tiny_sam() -> torch.nn.Module:
    """An input of 64 pixels, 16 patches of 16 pixels, masks of 16 x 16 cells."""
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 16,
            "output_channels": 8, "mlp_dim": 16, "window_size": 2, "global_attn_indexes": [1], "num_pos_feats": 4,
        },
        prompt_encoder_config={"hidden_size": 8, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 8, "mlp_dim": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
            "iou_head_hidden_dim": 8,
        },
    )  # fmt: skip
    return SamModel(config)


def tiny_sam2() -> torch.nn.Module:
    """A SAM 2 of the same input and masks."""
    from transformers import Sam2Config, Sam2Model

    torch.manual_seed(0)
    config = Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model", "hidden_size": 8, "embed_dim_per_stage": [8, 16, 32, 64],
                "blocks_per_stage": [1, 1, 2, 1], "num_attention_heads_per_stage": [1, 1, 1, 1],
                "window_size_per_stage": [4, 4, 4, 4], "global_attention_blocks": [3], "image_size": [64, 64],
                "window_positional_embedding_background_size": [2, 2],
            },
            "backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 16},
        mask_decoder_config={
            "hidden_size": 32, "mlp_dim": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
            "iou_head_hidden_dim": 8,
        },
    )  # fmt: skip
    return Sam2Model(config)


class FakeSam(Sam):
    """Returns known masks and keeps the prompts that it was given.

    Args:
        answer: box x0, y0, x1, y1 -> slices of the rows and columns of each of its masks.
        cells: side of its grid, which is that of the image.
    """

    def __init__(self, answer: Callable[[tuple[int, ...]], list[tuple[slice, slice]]], cells: int = 64) -> None:
        self.answer, self.cells = answer, cells
        self.boxes: list[tuple[int, ...]] = []
        self.points: list[list[list[int]]] = []
        self.encoded: list[tuple[int, ...]] = []

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def checksum(self) -> str:
        return "0" * 64

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.cells, self.cells

    def encode(self, image: Tensor, precision: str = "fp32") -> Features:
        self.encoded.append(tuple(image.shape))
        return (torch.zeros(1, 1, 1, 1),)

    def masks(self, features: Features, boxes: Tensor, points: Tensor, grid: tuple[int, int]) -> Tensor:
        self.points += points.tolist()
        found = []
        for box in boxes.tolist():
            self.boxes.append(tuple(box))
            masks = self.answer(tuple(box))
            found.append(torch.full((len(masks), *grid), -10.0))
            for mask, where in zip(found[-1], masks, strict=True):
                mask[where] = 10.0
        return torch.stack(found)
