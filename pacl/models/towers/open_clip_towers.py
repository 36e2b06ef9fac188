"""Image and text towers of open_clip models.

`ViTTower` implements the forward pass of open_clip's ViT with overlapping patches, any image size and the dense
variants. `FeatureTower` uses open_clip's intermediate features for other image encoders (timm models, ResNets).
`OpenClipText` is the text tower of both.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from pacl.errors import ArgumentError
from pacl.models.towers import dense
from pacl.models.towers.base import (
    ImageTower,
    TextTower,
    architecture_of,
    layer_indices,
    pad_to,
    size_errors,
    tensor_state,
    weight_state,
)
from pacl.models.towers.grid import PUBLISHED_MARGIN, PatchGrid, is_exporting, resample_positions
from pacl.models.towers.open_clip_loading import LoadedClip
from pacl.models.towers.tensor_cache import TensorCache
from pacl.models.towers.timm_tower import accept_any_size

POSITIONS_BYTES = 64 * 2**20  # of interpolated position embeddings that are kept; a grid of 28 x 28 has 2.4 MB
TEXT_STEP = 8  # tokens; lengths of texts are rounded up to a multiple of it


def image_tower(loaded: LoadedClip, layers: Sequence[int] = ()) -> ViTTower | FeatureTower:
    """The image tower of an open_clip model.

    Args:
        loaded: the model.
        layers: indices of earlier layers whose features come before the final ones.

    Raises:
        UserError: it has no patch tokens, or not those layers.
    """
    visual, name = loaded.clip.visual, loaded.name
    tower: ViTTower | FeatureTower
    if hasattr(visual, "transformer") and hasattr(visual, "positional_embedding"):
        if visual.attn_pool is not None:
            raise ArgumentError("model", name, "image towers with attentional pooling (CoCa) have no patch projection")
        tower = ViTTower(visual, layers)
    elif hasattr(visual, "forward_intermediates"):
        if layers:
            raise ArgumentError("layers", list(layers), f"the image tower of {name} returns final features only")
        tower = FeatureTower(visual)
    else:
        raise ArgumentError("model", name, f"its image tower {type(visual).__name__} has no patch features")
    tower.quick_gelu = loaded.quick_gelu
    tower.architecture = architecture_of(loaded.acting_settings("embed_dim", "vision_cfg"))
    return tower


class ViTTower(ImageTower):
    """Patch tokens of an open_clip ``VisionTransformer``, in any dense variant, at any size and stride.

    Args:
        visual: the ``VisionTransformer``.
        layers: indices of blocks before the last; their outputs after ``ln_post`` come before the final features.

    Raises:
        UserError: no such blocks.
    """

    visual: Any

    def __init__(self, visual: Any, layers: Sequence[int] = ()) -> None:
        super().__init__()
        self.visual = visual
        self.patch = int(visual.patch_size[0])
        self.size = _side(visual)
        self.preprocessing = dict(visual.preprocess_cfg)
        blocks = visual.transformer.resblocks
        self.layers = layer_indices(layers, len(blocks), f"the ViT's {len(blocks)} blocks", usable=len(blocks) - 1)
        self.width = int(visual.conv1.out_channels) * (1 + len(self.layers))
        self.variants = dense.VARIANTS if dense.supports_variants(blocks[-1]) else ("clip",)
        self._positions = TensorCache(POSITIONS_BYTES)

    @property
    def projection(self) -> Tensor | None:
        """CLIP's visual projection ``[W, D]``; zero for the features of earlier layers."""
        own: Tensor | None = self.visual.proj
        return own if own is None or not self.layers else F.pad(own.detach(), (0, 0, self.width - len(own), 0))

    def forward(
        self, images: Tensor, variants: Sequence[str], stride: int | None = None, positions: str = "centres"
    ) -> tuple[list[Tensor], PatchGrid]:
        """Normalised images ``[B, 3, H, W]`` -> for each variant, tokens ``[B, P, W]`` after ``ln_post``; their grid.

        All blocks but the last are the same for every variant and are computed once. Images that the patches do not
        tile exactly are padded at the right and bottom by repeating the border.
        """
        x, earlier, grid = self.before_last(images, stride, positions)
        tokens = self.finish(x, grid, variants)
        return [torch.cat([*earlier, final], dim=-1) for final in tokens] if earlier else tokens, grid

    def before_last(
        self, images: Tensor, stride: int | None = None, positions: str = "centres"
    ) -> tuple[Tensor, list[Tensor], PatchGrid]:
        """All blocks but the last.

        Args:
            images: normalised ``[B, 3, H, W]``.
            stride: pixels between patches; ``None`` is the patch size.
            positions: as in `ImageTower.forward`.

        Returns:
            The last block's input ``[B, 1+P, W]``, the features ``[B, P, W]`` of each of ``layers``, and the grid.
        """
        v = self.visual
        grid = PatchGrid.cover(images.shape[-2], images.shape[-1], self.patch, stride or self.patch)
        images = pad_to(images, grid.extent)
        x = F.conv2d(images, v.conv1.weight, v.conv1.bias, stride=grid.stride)
        x = rearrange(x, "b width h w -> b (h w) width")
        cls = v.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        # Positions are float32, and so are all sums from here on, under autocast too.
        x = torch.cat([cls, x], dim=1) + self.positions(grid, positions)  # [B, 1+P, W]
        x = v.ln_pre(x)
        earlier = []
        for index, block in enumerate(v.transformer.resblocks[:-1]):
            x = dense.residual_block(block, x)
            if index in self.layers:
                earlier.append(v.ln_post(x[:, 1:]))
        return x, earlier, grid

    def finish(self, x: Tensor, grid: PatchGrid, variants: Sequence[str]) -> list[Tensor]:
        """The last block's input ``[B, 1+P, W]`` -> its tokens in each variant, ``[B, P, W]`` after ``ln_post``."""
        last = self.visual.transformer.resblocks[-1]
        return [self.visual.ln_post(dense.dense_block(last, x, grid, variant)) for variant in variants]

    def pooled(self, images: Tensor) -> Tensor:
        """CLIP's own image embedding ``[B, D]``."""
        x, _, _ = self.before_last(self._whole_patches(images))
        return self._pool(x)

    def pooled_and_tokens(self, images: Tensor, variant: str) -> tuple[Tensor, Tensor]:
        """`pooled` and tokens in one pass through the blocks before the last."""
        x, earlier, grid = self.before_last(self._whole_patches(images))
        (tokens,) = self.finish(x, grid, [variant])
        pooled = self._pool(x)
        return pooled, torch.cat([*earlier, tokens], dim=-1) if earlier else tokens

    def _whole_patches(self, images: Tensor) -> Tensor:
        """Images cropped to a multiple of the patch size, as open_clip's patch embedding does implicitly."""
        return images[..., : images.shape[-2] // self.patch * self.patch, : images.shape[-1] // self.patch * self.patch]

    def _pool(self, x: Tensor) -> Tensor:
        """The last block's input ``[B, 1+P, W]`` -> CLIP's embedding ``[B, D]``, with open_clip's pooling."""
        v = self.visual
        x = dense.residual_block(v.transformer.resblocks[-1], x)

        def pool(x: Tensor) -> Tensor:
            return x[:, 1:].mean(dim=1) if v.pool_type == "avg" else x[:, 0]

        x = v.ln_post(pool(x)) if v.final_ln_after_pool else pool(v.ln_post(x))
        return x if v.proj is None else x @ v.proj

    def weights(self) -> Mapping[str, Tensor]:
        """The image tower's weights, by their names in the CLIP."""
        return self.state_dict()

    def positions(self, grid: PatchGrid, how: str = "centres") -> Tensor:
        """Position embedding ``[1+P, W]`` for a grid: bicubic, sampled at the true patch centres or as published.

        The native grid is stretched over the image, as usual; at the native size it is returned unchanged. With
        overlapping patches, plain resizing would misplace every embedding by up to half a patch.
        """
        native: Tensor = self.visual.positional_embedding
        rows, columns = self.visual.grid_size
        margin = PUBLISHED_MARGIN if how == "published" else 0.0
        if is_exporting():
            return torch.cat([native[:1], resample_positions(native[1:], (rows, columns), grid, margin)])
        if (grid.h, grid.w, grid.stride) == (rows, columns, grid.patch):
            return native

        def sample() -> Tensor:
            sampled = resample_positions(native[1:].detach(), (rows, columns), grid, margin)
            return torch.cat([native[:1].detach(), sampled])

        # Other weights may be loaded into the tower; what is compiled cannot mark them.
        state = tensor_state(native) if torch.compiler.is_compiling() else weight_state(native)
        return self._positions.get((grid, margin, native.device, native.dtype, state), sample)


class FeatureTower(ImageTower):
    """Patch tokens of timm models and ResNets: the unchanged final features, at the tower's own stride."""

    visual: Any
    fixed_stride = True

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual
        self.preprocessing = dict(visual.preprocess_cfg)
        accept_any_size(getattr(visual, "trunk", None))
        self.size = _side(visual)
        with torch.inference_mode():
            features = self._features(torch.zeros(1, 3, self.size, self.size))
        self.width = features.shape[1]
        self.patch = self.size // features.shape[2]

    def forward(
        self, images: Tensor, variants: Sequence[str], stride: int | None = None, positions: str = "centres"
    ) -> tuple[list[Tensor], PatchGrid]:
        """Normalised images ``[B, 3, H, W]`` -> tokens ``[B, P, W]``, the same for every variant; their grid."""
        self.check_stride(stride)
        grid = PatchGrid.cover(images.shape[-2], images.shape[-1], self.patch, self.patch)
        images = pad_to(images, grid.extent)
        with size_errors(images, self.size):
            features = self._features(images)  # [B, W, h, w]
        tokens = rearrange(features, "b width h w -> b (h w) width")
        return [tokens] * len(variants), grid

    def pooled(self, images: Tensor) -> Tensor:
        """CLIP's own image embedding ``[B, D]``."""
        return self.visual(images)

    def weights(self) -> Mapping[str, Tensor]:
        """The image tower's weights, by their names in the CLIP."""
        return self.state_dict()

    def _features(self, images: Tensor) -> Tensor:
        out = self.visual.forward_intermediates(
            images, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NCHW"
        )
        return out["image_intermediates"][-1]


class OpenClipText(TextTower):
    """The text tower of an open_clip model.

    Args:
        loaded: the model. Its image tower ``visual`` is removed from it.
    """

    clip: Any

    def __init__(self, loaded: LoadedClip) -> None:
        import open_clip

        super().__init__()
        self.clip = clip = loaded.clip
        self.tokenizer = tokenizer = loaded.tokenizer
        self.quick_gelu = loaded.quick_gelu
        self.architecture = architecture_of(loaded.acting_settings(*(loaded.settings.keys() - {"vision_cfg"})))
        self.vocabulary = None if loaded.vocabulary is None else frozenset(loaded.vocabulary)
        self.contrast = None if loaded.contrast is None else tuple(loaded.contrast)
        clip.visual = None
        self.context_length = int(tokenizer.context_length)
        # With causal attention, the padding after the end of a text has no effect and can be removed.
        causal = isinstance(clip, open_clip.CLIP) and clip.attn_mask is not None
        self._causal = causal and clip.text_pool_type == "argmax"
        with torch.no_grad():
            self.dim = self.encode(["a"]).shape[1]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """CLIP's own text embeddings ``[T, D]``, not normalised."""
        tokens = self.tokenizer(list(texts)).to(next(self.parameters()).device)
        return self._encode_causal(tokens) if self._causal else self.clip.encode_text(tokens)

    def _encode_causal(self, tokens: Tensor) -> Tensor:
        """open_clip's ``encode_text`` of tokens ``[T, L]``, without most of the padding: [T, D]."""
        clip = self.clip
        end = tokens.argmax(dim=-1)  # the end-of-text token has the highest id
        length = self._rounded(int(end.max()) + 1)
        x = clip.token_embedding(tokens[:, :length]) + clip.positional_embedding[:length]  # [T, length, text width]
        x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
        x = clip.ln_final(x[torch.arange(len(x), device=x.device), end])
        projection = clip.text_projection
        return projection(x) if callable(projection) else x if projection is None else x @ projection

    def bucket(self, text: str) -> Hashable:
        """The rounded length for causal towers; other towers process the whole padding."""
        return self._rounded(self.count_tokens(text)) if self._causal else None

    def _rounded(self, tokens: int) -> int:
        """A number of tokens, rounded up to a multiple of `TEXT_STEP`."""
        return min(self.context_length, -(-tokens // TEXT_STEP) * TEXT_STEP)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, start and end included."""
        if hasattr(self.tokenizer, "encode"):
            return len(self.tokenizer.encode(text)) + 2
        return len(self.tokenizer.tokenizer(text)["input_ids"])

    def weights(self) -> Mapping[str, Tensor]:
        """All weights of the CLIP without its image tower, by their names there."""
        return self.clip.state_dict()


def _side(visual: Any) -> int:
    side = visual.image_size
    return int(side[0] if isinstance(side, (tuple, list)) else side)
