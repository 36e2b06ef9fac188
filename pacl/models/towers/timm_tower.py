"""Image towers from timm: ViT, DINOv2, DINOv3, EVA, ConvNeXt, EfficientNet, ResNet and others, at any size."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from pacl.errors import ArgumentError, UserError
from pacl.models.towers.base import (
    Classifier,
    ImageTower,
    architecture_of,
    layer_indices,
    local_path,
    pad_to,
    size_errors,
)
from pacl.models.towers.efficientnet_lite import LITE2, EfficientNetLite, imagenet_classes, load_lite2
from pacl.models.towers.grid import PatchGrid, is_exporting, resample_positions
from pacl.models.towers.hub import fail_fast, first_line
from pacl.models.towers.packaged import advice

CPU_PIXELS = 2 * 224 * 224
"""Pixels that a convolutional tower takes at once on a CPU: the maps of more leave its cache, and take longer."""

OUTPUT_STRIDE = 16  # pixels, of convolutional towers that can be dilated


class TimmTower(ImageTower):
    """Patch tokens of a timm model: its final features, at its own stride.

    The tokens are the output of the model's ``forward_features`` without class token and registers. `TimmViTTower`
    also supports overlapping patches, for plain ViTs.

    Args:
        model: the timm model.
        layers: indices of earlier layers in the model's ``forward_intermediates``. Their features (of transformers with
            the final norm) are pooled or interpolated to the final grid and come before the final features.

    Raises:
        UserError: no such layers, or a model without patch features.
    """

    model: Any
    fixed_stride = True

    def __init__(self, model: Any, layers: Sequence[int] = ()) -> None:
        super().__init__()
        self.model = model.eval()
        self.is_convolutional = getattr(model, "num_prefix_tokens", None) is None
        if self.is_convolutional:
            # Up to twice as fast on a CPU, mainly for large batches.
            model.to(memory_format=torch.channels_last)
        config = model.pretrained_cfg
        self.architecture = architecture_of(config.get("architecture", type(model).__name__))
        self.size = int(config["input_size"][-1])
        self.preprocessing = {
            "size": self.size,
            "mode": "RGB",
            "mean": tuple(config["mean"]),
            "std": tuple(config["std"]),
            "interpolation": config["interpolation"],
            "resize_mode": "shortest",
            "fill_color": 0,
        }
        if not hasattr(model, "forward_intermediates"):
            raise UserError(f"timm's {type(model).__name__} has no patch features")
        self.layers = layer_indices(layers, len(model.feature_info), f"the {type(model).__name__}'s layers")
        accept_any_size(model)
        self.patch = int(model.feature_info[-1]["reduction"])
        self.width = self._probe().shape[-1]
        self.classifier = self._classifier()

    def _classifier(self) -> Classifier | None:
        """The model's classifier, if it is a linear layer on the mean final feature and its classes are known."""
        head = self.model.get_classifier() if getattr(self.model, "num_classes", 0) else None
        names = class_names(self.model)
        if not isinstance(head, nn.Linear) or head.bias is None or names is None:
            return None
        return Classifier(head.weight, head.bias, *names) if self._is_linear(head) else None

    def forward(
        self, images: Tensor, variants: Sequence[str], stride: int | None = None, positions: str = "centres"
    ) -> tuple[list[Tensor], PatchGrid]:
        """Normalised images ``[B, 3, H, W]`` -> tokens ``[B, P, W]``, the same for every variant; their grid."""
        grid = self._grid(images, stride)
        images = pad_to(images, grid.extent)
        with size_errors(images, self.size):
            if self.is_convolutional and images.device.type == "cpu" and not is_exporting():
                some = images.split(max(1, CPU_PIXELS // (images.shape[-2] * images.shape[-1])))
                tokens = torch.cat([self._tokens(each, grid) for each in some])
            else:
                tokens = self._tokens(images, grid)
        return [tokens] * len(variants), grid

    def _tokens(self, images: Tensor, grid: PatchGrid) -> Tensor:
        """Tokens ``[B, P, W]`` of images that span the grid."""
        final, earlier = self._features(images, grid)
        maps = [_resized(features, (grid.h, grid.w)) for features in earlier]
        return rearrange(torch.cat([*maps, final], dim=1), "b w y x -> b (y x) w")

    def weights(self) -> Mapping[str, Tensor]:
        """The model's weights, by timm's names."""
        return self.model.state_dict()

    def _grid(self, images: Tensor, stride: int | None) -> PatchGrid:
        self.check_stride(stride)
        return PatchGrid.cover(images.shape[-2], images.shape[-1], self.patch, self.patch)

    def _features(self, images: Tensor, grid: PatchGrid) -> tuple[Tensor, list[Tensor]]:
        """Final features ``[B, F, h, w]`` and those of the earlier layers, which may have other grids."""
        earlier: list[Tensor] = []
        if self.layers:
            x, earlier = self.model.forward_intermediates(
                images, indices=list(self.layers), norm=True, output_fmt="NCHW"
            )
        else:
            x = self.model.forward_features(images)
        if x.ndim == 3:
            x = rearrange(x[:, -grid.patches :], "b (y x) w -> b w y x", y=grid.h)
        elif getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            x = rearrange(x, "b y x w -> b w y x")
        if x.shape[-2:] != (grid.h, grid.w):
            raise RuntimeError(f"its features are {x.shape[-2]} x {x.shape[-1]}, not {grid.h} x {grid.w}")
        return x, earlier

    @torch.inference_mode()
    def _probe(self) -> Tensor:
        """Tokens of a small image, or of one of the native size if the tower supports no other."""
        device = next(self.parameters()).device
        try:
            tokens, _ = self(torch.zeros(1, 3, 2 * self.patch, 2 * self.patch, device=device), self.variants)
        except UserError:
            tokens, _ = self(torch.zeros(1, 3, self.size, self.size, device=device), self.variants)
        return tokens[0]

    @torch.no_grad()
    def _is_linear(self, head: nn.Linear) -> bool:
        """Whether the model's logits are this layer applied to the mean of the final features."""
        width = head.in_features
        # The features are far from normalised, so that a layer between pooling and classifier changes the logits.
        features = 3 + torch.randn(2, width, 2, 2, generator=torch.Generator().manual_seed(0)).to(head.weight)
        given = features
        prefix = getattr(self.model, "num_prefix_tokens", None)
        if prefix is not None:
            given = F.pad(rearrange(features, "b w y x -> b (y x) w"), (0, 0, prefix, 0))
        elif getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            given = rearrange(features, "b w y x -> b y x w")
        try:
            logits = self.model.forward_head(given)
        except (RuntimeError, TypeError, AttributeError):
            return False
        expected = head(features.mean(dim=(2, 3)))
        return logits.shape == expected.shape and torch.allclose(logits, expected, rtol=1e-3, atol=1e-3)


class TimmViTTower(TimmTower):
    """A plain timm ``VisionTransformer``: patches may overlap, positions are sampled at the true patch centres."""

    fixed_stride = False

    def _grid(self, images: Tensor, stride: int | None) -> PatchGrid:
        return PatchGrid.cover(images.shape[-2], images.shape[-1], self.patch, stride or self.patch)

    def _features(self, images: Tensor, grid: PatchGrid) -> tuple[Tensor, list[Tensor]]:
        m = self.model
        embed = m.patch_embed
        x = F.conv2d(images, embed.proj.weight, embed.proj.bias, stride=grid.stride)
        x = embed.norm(rearrange(x, "b w y x -> b (y x) w"))
        x = m.norm_pre(self._with_positions(x, grid))
        earlier = []
        for index, block in enumerate(m.blocks):
            x = block(x)
            if index in self.layers:
                earlier.append(self._as_map(m.norm(x), grid))
        return self._as_map(m.norm(x), grid), earlier

    def _with_positions(self, x: Tensor, grid: PatchGrid) -> Tensor:
        """Prefix tokens and positions for embedded patches, ``[B, P, W]`` -> ``[B, N, W]`` (timm: ``_pos_embed``)."""
        m = self.model
        prefix = [token.expand(len(x), -1, -1) for token in (m.cls_token, m.reg_token) if token is not None]
        if m.pos_embed is None:
            return torch.cat([*prefix, x], dim=1)
        own = 0 if m.no_embed_class else m.num_prefix_tokens  # positions of prefix tokens
        positions = m.pos_embed[0]
        if is_exporting() or (grid.h, grid.w, grid.stride) != (*m.patch_embed.grid_size, grid.patch):
            sampled = resample_positions(positions[own:], m.patch_embed.grid_size, grid)
            positions = torch.cat([positions[:own], sampled])
        if own:
            return torch.cat([*prefix, x], dim=1) + positions
        return torch.cat([*prefix, x + positions], dim=1)

    def _as_map(self, x: Tensor, grid: PatchGrid) -> Tensor:
        return rearrange(x[:, self.model.num_prefix_tokens :], "b (y x) w -> b w y x", y=grid.h)


def timm_tower(model: Any, layers: Sequence[int] = ()) -> TimmTower:
    """The tower for a timm model."""
    if isinstance(model, EfficientNetLite):
        return TimmTower(model, layers)
    from timm.layers.patch_embed import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    plain = type(model) is VisionTransformer and type(model.patch_embed) is PatchEmbed
    return (TimmViTTower if plain else TimmTower)(model, layers)


def load_timm(name: str, layers: Sequence[int] = ()) -> tuple[TimmTower, str]:
    """Load ``timm:NAME[.TAG]``, ``timm:NAME/random`` or ``timm:NAME/FILE``.

    Weights come from an installed package (see `pacl.models.towers.packaged`), else from the hub's cache or a download.

    Args:
        name: the tower's name.
        layers: see `TimmTower`.

    Returns:
        The tower and its name, in which a file's path is absolute.

    Raises:
        UserError: no such model or tag, or weights that cannot be found, downloaded or loaded.
    """
    if name in (LITE2, LITE2.partition(".")[0]) and (lite2 := load_lite2()) is not None:
        return timm_tower(lite2, layers), name
    import timm

    architecture, _, source = name.removeprefix("timm:").partition("/")
    _check_name(name, architecture)
    hint = ""
    try:
        if source == "random":
            with torch.random.fork_rng(devices=[]):  # a fixed seed
                torch.manual_seed(0)
                model = _create(architecture)
        elif source:
            path = local_path(source, name).resolve()  # a head that names it must work from elsewhere too
            if not path.is_file():
                raise ArgumentError("model", name, f"{source!r} is neither a weight file nor 'random'")
            name = f"timm:{architecture}/{path}"
            model = _create(architecture, timm.models.load_state_dict(str(path), use_ema=False, weights_only=True))
        else:
            full = f"timm:{architecture.partition('.')[0]}.{timm.get_pretrained_cfg(architecture).tag}"
            hint = (
                "; connect once so that its weights are cached, or give a weight file as "
                f"timm:{architecture}/PATH{advice(full)}"
            )
            with fail_fast():
                model = _create(architecture, pretrained=True)
    except UserError:
        raise
    except Exception as error:  # network, missing files, damaged checkpoints: the libraries raise many types
        raise ArgumentError("model", name, f"{first_line(error)}{hint}") from error
    return timm_tower(model, layers), name


def _check_name(name: str, architecture: str) -> None:
    import timm

    base, _, tag = architecture.partition(".")
    if not timm.is_model(base):
        raise ArgumentError("model", name, f"timm has no model {base!r}; see timm.list_models()")
    tags = [known.partition(".")[2] for known in timm.models.get_arch_pretrained_cfgs(base)]
    if tag and tag not in tags:
        raise ArgumentError("model", name, f"timm's {base} has no tag {tag!r} (tags: {', '.join(filter(None, tags))})")


def _create(architecture: str, state: Mapping[str, Tensor] | None = None, pretrained: bool = False) -> Any:
    """timm's factory, with an output stride of 16 by dilation or with dynamic image sizes if the model supports it."""
    import timm

    options: dict[str, Any] = {"pretrained": pretrained}
    if state is not None:  # timm converts the checkpoint where needed
        options = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(state)}}
    for special in ({"output_stride": OUTPUT_STRIDE}, {"dynamic_img_size": True}):
        try:
            model = timm.create_model(architecture, **special, **options)
            break
        except (TypeError, AssertionError, NotImplementedError):  # the model does not support the option
            continue
    else:
        model = timm.create_model(architecture, **options)
    model.pretrained_cfg.pop("state_dict", None)
    return model


def accept_any_size(model: Any) -> None:
    """Let a timm transformer interpolate its position embedding at run time, if supported."""
    embed: Any = getattr(model, "patch_embed", None)
    if hasattr(model, "dynamic_img_size") and hasattr(embed, "strict_img_size"):
        model.dynamic_img_size = True
        embed.strict_img_size = False
        embed.flatten = False
        embed.output_fmt = type(embed.output_fmt)("NHWC")


def class_names(model: Any) -> tuple[list[tuple[str, ...]], list[str]] | None:
    """Names and definitions of a timm classifier's classes, if they are one of ImageNet's label sets."""
    if isinstance(model, EfficientNetLite):
        with contextlib.suppress(FileNotFoundError):
            return imagenet_classes()
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(model)
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    names, definitions = [], []
    for label in info.label_names():
        lemmas = info.label_name_to_description(label)
        names.append(tuple(lemmas.split(", ")))
        definitions.append(info.label_name_to_description(label, detailed=True).removeprefix(f"{lemmas}: "))
    return names, definitions


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps ``[B, W, h, w]`` on another grid over the same pixels: averaged if that is coarser, else interpolated."""
    if maps.shape[-2] >= size[0] and maps.shape[-1] >= size[1]:
        return F.adaptive_avg_pool2d(maps, size)
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
