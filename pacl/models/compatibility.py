"""The compatibility phi(x, y) of every (image, text) pair.

    s_p = <v_p, t>,   a = softmax_p(s / temperature),   pooled = sum_p a_p v_p,   phi = cos(pooled, t)

(Mukhoti et al., "Open Vocabulary Semantic Segmentation with Patch Aligned Contrastive Learning", CVPR 2023.)
The weights a depend on the text, so every pair has its own pooled vector. Pooling each image only once, with the
weights of its own caption, would be a different function: the vector would contain information about the caption.

Shapes: B images, T texts, P patches, D embedding; b and t are the sizes of a chunk of images and of texts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IMPLEMENTATIONS = ("auto", "reference", "chunked", "triton")

MAX_PATCHES = 256  # of the Triton kernel

# Lower bound of a pooled vector's norm: opposite patches may cancel, and the cosine of a zero vector is undefined.
MIN_NORM = 1e-6

# Working memory of the chunked implementation, beside its inputs and results. On CPUs chunks near the size of the
# cache are the fastest; GPUs need fewer and larger kernels.
CPU_CHUNK_BYTES = 16 * 2**20
GPU_CHUNK_BYTES = 1024 * 2**20

# What the chunked implementation may keep for its backward pass beside phi, instead of computing it again: two numbers
# for each patch and text, or one and a pooled vector for each text. Larger batches keep nothing.
KEPT_BYTES = 256 * 2**20

# Below this number of bytes of B x T x (P + D) the reference is as fast, and its memory is negligible.
SMALL_BYTES = 8 * 2**20


def compatibility(
    patches: Tensor,
    texts: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    cosine: bool = True,
    impl: str = "auto",
) -> Tensor:
    """Compatibility phi of every image with every text.

    Args:
        patches: patch embeddings v, [B, P, D] floating, P >= 1, unit norm. They are not normalised again: for other
            norms the formula is computed as written, but phi is not a cosine.
        texts: text embeddings t, [T, D] floating on the same device, unit norm. T and B may differ.
        temperature: temperature of the softmax over patches, > 0. 1.0 is the published formula, ``math.inf`` is mean
            pooling. It may be a tensor with one element, with gradient; its value is then not checked, since that would
            synchronise the GPU.
        cosine: if True, phi = <pooled, t> / |pooled|, in [-1, 1]; if False, phi = <pooled, t>.
        impl: ``"reference"`` computes the formula as written above, in O(B T (P + D)) memory.
            ``"chunked"`` gives the same values and gradients in O(B T) memory, since the backward pass of large batches
            computes the similarities again, chunk by chunk; second derivatives are not supported. ``"triton"`` is a GPU
            kernel with the same memory, for up to 256 patches on a Hopper GPU (H100, H200); it multiplies in the dtype
            of the inputs (see `pacl.models.compatibility_triton`). ``"auto"`` is the reference for small inputs, for
            which it is as fast, else ``"chunked"``.

    Returns:
        phi, [B, T]; float64 if an input is float64, else float32. Except with ``"triton"``, half-precision inputs
        are multiplied and summed in float32, also under ``torch.autocast``, since the loss multiplies the rounding
        error of phi by the logit scale. Each gradient has the dtype of its input.

    Raises:
        ValueError: shapes, dtypes or devices do not match, the temperature is <= 0, or ``impl`` is unknown or
            cannot be used.
    """
    _check(patches, texts)
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl is {impl!r}, must be one of {', '.join(map(repr, IMPLEMENTATIONS))}")
    tau = _as_temperature(temperature, patches, texts)
    (B, P, D), T = patches.shape, len(texts)
    with torch.autocast(patches.device.type, enabled=False):
        if impl == "triton" and B * T:
            return _triton(patches, texts, tau, cosine)
        texts = texts.to(tau.dtype)
        if impl == "auto":
            impl = "reference" if B * T * (P + D) * tau.itemsize <= SMALL_BYTES else "chunked"
        if impl == "reference" or not B * T:
            return _reference(patches.to(tau.dtype), texts, tau, cosine)
        if isinstance(temperature, float) and math.isinf(temperature):
            return _mean_pooled(patches, texts, cosine)
        backward = torch.is_grad_enabled() and any(each.requires_grad for each in (patches, texts, tau))
        gram = _has_gram(P, D, T, backward)
        keep = backward and B * T * (P + (P if gram else D)) * tau.itemsize <= KEPT_BYTES
        phi: Tensor = _Chunked.apply(patches, texts, tau, cosine, gram, keep)
        return phi


@torch.no_grad()
def pooling_entropy(patches: Tensor, texts: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Mean entropy of the pooling weights of matching pairs, divided by its maximum ln P; without gradient.

    1 means that all patches have the same weight, 0 that only one patch counts. ``P ** entropy`` is the effective
    number of patches.

    Args:
        patches: [B, P, D] unit vectors.
        texts: [B, D] unit vectors, one matching text per image.
        temperature: as in `compatibility`.

    Returns:
        A scalar in [0, 1], float32 (float64 if an input is); 1 where P is 1.

    Raises:
        ValueError: the numbers of images and texts differ, or as in `compatibility`.
    """
    _check(patches, texts)
    if len(texts) != len(patches):
        raise ValueError(f"pooling_entropy needs one text per image, got {len(patches)} images, {len(texts)} texts")
    tau = _as_temperature(temperature, patches, texts)
    with torch.autocast(patches.device.type, enabled=False):
        s = torch.einsum("bpd,bd->bp", patches.to(tau.dtype), texts.to(tau.dtype))
        entropy = torch.special.entr((s / tau).softmax(dim=-1)).sum(dim=-1).mean()
    P = patches.shape[1]
    return entropy / math.log(P) if P > 1 else torch.ones_like(entropy)


def _check(patches: Tensor, texts: Tensor) -> None:
    if patches.ndim != 3 or texts.ndim != 2 or patches.shape[2] != texts.shape[1] or patches.shape[1] == 0:
        raise ValueError(
            "patches must be [B, P, D] with P >= 1, and texts [T, D]; "
            f"got {list(patches.shape)} and {list(texts.shape)}"
        )
    if not (patches.is_floating_point() and texts.is_floating_point()):
        raise ValueError(f"patches and texts must be floating, got {patches.dtype} and {texts.dtype}")
    if patches.device != texts.device:
        raise ValueError(f"patches are on {patches.device} but texts on {texts.device}")


def _as_temperature(temperature: float | Tensor, patches: Tensor, texts: Tensor) -> Tensor:
    """The temperature as a scalar tensor on the patches' device, in the dtype of the computation."""
    dtype = torch.promote_types(torch.promote_types(patches.dtype, texts.dtype), torch.float32)
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1 or not temperature.is_floating_point():
            raise ValueError(
                f"temperature must be one floating number, got {list(temperature.shape)} {temperature.dtype}"
            )
        return temperature.reshape(()).to(patches.device, dtype)
    if not temperature > 0:  # catches nan as well
        raise ValueError(f"temperature must be > 0 (math.inf: mean pooling), got {temperature}")
    return torch.tensor(temperature, device=patches.device, dtype=dtype)


def _reference(patches: Tensor, texts: Tensor, tau: Tensor, cosine: bool) -> Tensor:
    s = torch.einsum("bpd,td->btp", patches, texts)
    a = (s / tau).softmax(dim=-1)
    pooled = torch.einsum("btp,bpd->btd", a, patches)
    inner = torch.einsum("btd,td->bt", pooled, texts)
    return inner / pooled.norm(dim=-1).clamp_min(MIN_NORM) if cosine else inner


def why_not_triton(device: torch.device, dtype: torch.dtype, P: int) -> str | None:
    """Why ``impl="triton"`` cannot compute phi of P patches in a dtype on a device; None where it can."""
    try:
        from pacl.models import compatibility_triton as kernel  # (Triton is there where torch has CUDA)
    except ImportError as error:
        return f"needs the package triton 3.4 or later ({error})"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major != kernel.CAPABILITY:
            return f"is for GPUs of compute capability {kernel.CAPABILITY} (H100, H200), {device} has {major}.{minor}"
    elif not kernel.INTERPRETED:
        return f"needs a GPU, the patches are on {device}"
    if dtype not in kernel.DTYPES or P > MAX_PATCHES:
        return f"takes up to {MAX_PATCHES} patches in float32, bfloat16 or float16; got {P} in {dtype}"
    return None


def _triton(patches: Tensor, texts: Tensor, tau: Tensor, cosine: bool) -> Tensor:
    dtype = torch.promote_types(patches.dtype, texts.dtype)
    if reason := why_not_triton(patches.device, dtype, patches.shape[1]):
        raise ValueError(f"impl 'triton' {reason}")
    from pacl.models.compatibility_triton import compatibility_triton

    return compatibility_triton(patches.to(dtype), texts.to(dtype), tau, cosine=cosine, min_norm=MIN_NORM)


def _mean_pooled(patches: Tensor, texts: Tensor, cosine: bool) -> Tensor:
    """phi with mean pooling: the weights do not depend on the text, so each image needs only one pooled vector."""
    pooled = patches.mean(dim=1, dtype=texts.dtype)
    if cosine:
        pooled = pooled / pooled.norm(dim=-1, keepdim=True).clamp_min(MIN_NORM)
    return pooled @ texts.T


class _Chunked(torch.autograd.Function):
    """phi and its gradient in closed form, without B x T x P or B x T x D tensors beyond `KEPT_BYTES`.

    With G_pq = <v_p, v_q> the Gram matrix of an image's patches, inner = <pooled, t> = sum_p a_p s_p and
    n = |pooled| = sqrt(a' G a): phi = inner / n needs no pooled vectors (n = 1 where phi is no cosine). Then

        dphi/dz_p = a_p (s_p - inner - phi/n ((G a)_p - n^2)) / n    of the softmax's argument z = s / tau
        dphi/ds_p = a_p / n + dphi/dz_p / tau                         with G held fixed
        dphi/dv   = (dphi/ds) t' - phi/n^2 a pooled'                  whose second term is G's

    where the terms with phi/n come from the gradient of n, and are absent where n is constant. G a is computed as
    (v v') a or v (v' a), the cheaper of both. Only `inner` and n are kept for the backward pass; with ``keep`` also s
    and G a (or the pooled vectors), half of its matrix products.

    Inside a chunk the layout is [b, t, P] and contiguous: the matrix products are batched over images without copies,
    and the softmax runs over contiguous memory.
    """

    @staticmethod
    def forward(ctx: Any, patches: Tensor, texts: Tensor, tau: Tensor, cosine: bool, gram: bool, keep: bool) -> Tensor:
        B, T = len(patches), len(texts)
        inner = texts.new_empty(B, T)
        norm = texts.new_empty(B, T) if cosine else None
        ctx.kept = [] if keep else None
        for images, text_chunks in _chunks(patches, texts):
            v = patches[images].to(texts.dtype).contiguous()
            G = v @ v.mT if cosine and gram else None
            for some in text_chunks:
                s = _similarities(v, texts[some])
                a = (s / tau).softmax(dim=-1)
                inner[images, some] = torch.linalg.vecdot(a, s)
                mixed = None
                if norm is not None:
                    mixed = a @ (v if G is None else G)
                    squared = torch.linalg.vecdot(mixed, mixed if G is None else a)
                    norm[images, some] = squared.clamp_min(0).sqrt().clamp_min(MIN_NORM)
                if ctx.kept is not None:
                    ctx.kept.append((s, mixed))
        ctx.cosine, ctx.gram = cosine, gram
        ctx.save_for_backward(patches, texts, tau, inner, norm)
        # (a copy, so that the caller may modify phi in place)
        return inner / norm if norm is not None else inner.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        patches, texts, tau, inner, norm = ctx.saved_tensors
        for_patches, for_texts, for_tau, *_ = ctx.needs_input_grad
        kept = iter(ctx.kept) if ctx.kept is not None else None
        d_patches = torch.empty_like(patches, memory_format=torch.contiguous_format) if for_patches else None
        d_texts = torch.zeros_like(texts) if for_texts else None
        d_tau: list[Tensor] = []  # one term per chunk, summed at the end: a running sum would round more
        with torch.autocast(patches.device.type, enabled=False):  # backward() may be called inside one
            for images, text_chunks in _chunks(patches, texts):
                v = patches[images].to(texts.dtype).contiguous()
                G = v @ v.mT if ctx.cosine and ctx.gram and kept is None else None
                d_v = torch.zeros_like(v)
                for some in text_chunks:
                    t = texts[some]
                    s, mixed = next(kept) if kept is not None else (_similarities(v, t), None)
                    a = (s / tau).softmax(dim=-1)
                    g = grad[images, some].unsqueeze(-1)  # [b, t, 1], like every scalar of a pair
                    dot = inner[images, some].unsqueeze(-1)
                    spread = centred = s - dot
                    if norm is not None:
                        n = norm[images, some].unsqueeze(-1)
                        g = g / n
                        bend = (dot / n**2).where(n > MIN_NORM, 0)  # phi / n; a clamped norm is constant
                        mixed = a @ (v if G is None else G) if mixed is None else mixed
                        Ga = mixed if ctx.gram else mixed @ v.mT
                        centred = torch.addcmul(spread + bend * n**2, bend, Ga, value=-1)
                    if for_tau:
                        # sum_p dphi/dz_p = 0, so a constant may be subtracted from s, which reduces rounding.
                        d_tau.append((g * a * centred * spread).sum())
                    ds = torch.addcmul(g, g / tau, centred).mul_(a)
                    if d_texts is not None:
                        for of_image, image in zip(ds, v, strict=True):
                            d_texts[some].addmm_(of_image, image)
                    if for_patches:
                        d_v.baddbmm_(ds.mT, t.expand(len(v), -1, -1))
                        if mixed is not None:
                            weighted = a * (-g * bend)
                            if ctx.gram:
                                d_v.baddbmm_(weighted.mT @ a, v)
                            else:
                                d_v.baddbmm_(weighted.mT, mixed)
                if d_patches is not None:
                    d_patches[images] = d_v
        total = torch.stack(d_tau).sum() / -(tau**2) if d_tau else None
        return d_patches, d_texts, total, None, None, None


def _similarities(v: Tensor, t: Tensor) -> Tensor:
    """Similarities [b, t, P] of patches v [b, P, D] and texts t [t, D]."""
    return t.expand(len(v), -1, -1) @ v.mT


def _has_gram(P: int, D: int, T: int, backward: bool) -> bool:
    """Whether the norms of T pooled vectors of an image cost less by its Gram matrix [P, P] than by the vectors."""
    by_gram, by_vectors = P * (D + T), T * D
    return 2 * by_gram < 3 * by_vectors if backward else by_gram < by_vectors


def _chunks(patches: Tensor, texts: Tensor) -> Iterator[tuple[slice, list[slice]]]:
    """Chunks of images, each with its chunks of texts: as large as the memory budget allows, at least one image."""
    budget = CPU_CHUNK_BYTES if patches.device.type == "cpu" else GPU_CHUNK_BYTES
    (B, P, D), T = patches.shape, len(texts)
    pair = texts.itemsize * (6 * P + D)  # s, a, G a and their products; a pooled vector
    image = texts.itemsize * P * (3 * D + 2 * min(P, D))  # v, its gradient and one term of it; G and a A'
    t = max(1, min(T, budget // pair))
    b = max(1, min(B, budget // (t * pair + image)))
    for first in range(0, B, b):
        yield slice(first, first + b), [slice(start, start + t) for start in range(0, T, t)]
