"""Features of whole images for a linear classifier.

Images are preprocessed by open_clip's transform for the CLIP, as in published evaluations, and not as for segmentation.

Shapes: B images in a batch, P patches, D embedding, W token width, S side of the square images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from pacl.models import identity
from pacl.models.precision import inference, tower_autocast
from pacl.models.towers.open_clip_towers import ViTTower

if TYPE_CHECKING:
    from pacl.models.model import PACL

Kind = Literal["pooled", "patches"]
KINDS: tuple[str, ...] = get_args(Kind)


@inference()
def embed(model: PACL, images: Tensor, precision: str = "fp32") -> tuple[Tensor, Tensor]:
    """Encode images in one pass of the image tower.

    Args:
        model: the model.
        images: normalised images [B, 3, S, S] at the CLIP's native size.
        precision: precision of the image tower: ``fp32``, ``bf16`` or ``auto``.

    Returns:
        CLIP's pooled embeddings, float32 [B, D], and PACL's patch embeddings, float32 [B, P, D], of unit norm.
    """
    with tower_autocast(precision, model.clip):
        pooled, tokens = model.clip.encode_image_and_tokens(images, model.config.dense)
    return F.normalize(pooled.float(), dim=-1), model.embed_tokens(tokens.float())


def made_by(model: PACL, kind: Kind) -> dict[str, Any]:
    """What `features` of a kind depend on, JSON-serialisable. The precision changes their last digits only."""
    pooled = identity.pooled(model.clip)
    if kind == "patches":
        return {**pooled, **identity.patches(model, smoothed=False)}
    return pooled if model.clip.shared else {**pooled, "dense": model.config.dense}


@inference()
def features(model: PACL, images: Tensor, precision: str = "fp32") -> dict[str, Tensor]:
    """Features for a linear classifier.

    Args:
        model: the model.
        images: normalised images [B, 3, S, S] at the CLIP's native size.
        precision: precision of the image tower: ``fp32``, ``bf16`` or ``auto``.

    Returns:
        ``pooled``, float32 [B, W], the feature that the CLIP paper uses for linear probes (Radford et al., 2021,
        appendix A.3): the class token after the last layer norm and before the projection, not normalised. For other
        image towers of CLIPs (ResNets, timm's models) it is the pooled embedding [B, D], of unit norm; for towers that
        were trained apart from the texts, the mean of the patch tokens [B, W], which a convolutional network's own
        classifier reads.
        ``patches``, float32 [B, D], the mean of PACL's patch embeddings, normalised to unit norm.
    """
    if not model.clip.shared:
        with tower_autocast(precision, model.clip):
            tokens = model.clip.patch_tokens(images, model.config.dense)[0].float()
        return {"pooled": tokens.mean(dim=1), "patches": F.normalize(model.embed_tokens(tokens).mean(dim=1), dim=-1)}
    tower = model.clip.image
    class_tokens: list[Tensor] = []
    hooks = []
    if isinstance(tower, ViTTower) and tower.visual.pool_type == "tok":
        ln_post = tower.visual.ln_post
        hooks.append(ln_post.register_forward_hook(lambda module, inputs, output: class_tokens.append(output)))
    try:
        pooled, patches = embed(model, images, precision)
    finally:
        for hook in hooks:
            hook.remove()
    if class_tokens:  # the tower's pooling is the last call of the layer norm
        pooled = class_tokens[-1] if class_tokens[-1].ndim == 2 else class_tokens[-1][:, 0]
    return {"pooled": pooled.float(), "patches": F.normalize(patches.mean(dim=1), dim=-1)}
