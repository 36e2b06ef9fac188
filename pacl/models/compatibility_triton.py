"""phi on a GPU: the products, the softmax and the norm of many pairs in one Triton kernel.

The formulas are those of `pacl.models.compatibility`, whose reference is what this is tested against. A program of the
grid takes one image and `BLOCK_T` texts. It holds their similarities with all patches on chip, so that nothing of size
B x T x P is written in the forward pass, and recomputes them in the backward pass. There, the gradients are sums over
all texts or over all images of the gradient ds of the similarities: chunks of ds are written to a workspace of bounded
size, and the sums are plain matrix products.

Work in multiply-adds: 2 B T P D in the forward pass, for similarities and pooled vectors; B T P (5 D + P) in the
backward pass, for both again, the pooled vectors' similarities with the patches, and the sums for texts and patches.

Shapes: B images, T texts, P patches, D embedding; b is the size of a chunk of images.
"""

# The parameters of kernels are pointers and numbers that only Triton's compiler types.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# With TRITON_INTERPRET=1 the kernels run on a CPU, for tests; Triton tells what it read of it since version 3.4 only.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")
MAX_GRID = 65535  # images of a launch: CUDA's limit of a grid's second dimension
WORKSPACE_BYTES = 256 * 2**20  # per tensor of size T x b x P, of which the backward pass has up to three

# Texts x patches of a program: float32 similarities, and as many gradients of the norm, share the registers.
TILE = 64 * 256


def compatibility_triton(patches: Tensor, texts: Tensor, tau: Tensor, *, cosine: bool, min_norm: float) -> Tensor:
    """phi of every image with every text, differentiable once by patches, texts and temperature.

    Args:
        patches: v, [B, P, D], float32, bfloat16 or float16, with P <= 1024. Matrix products multiply in this
            dtype and sum in float32.
        texts: t, [T, D] of the same dtype, on the same GPU.
        tau: the temperature, a float32 scalar on that GPU.
        cosine: divide by the norm of the pooled vector.
        min_norm: lower bound of that norm.

    Returns:
        phi, float32 [B, T].
    """
    phi: Tensor = _Fused.apply(patches.contiguous(), texts.contiguous(), tau, cosine, min_norm)
    return phi


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, t: Tensor, tau: Tensor, cosine: bool, min_norm: float) -> Tensor:
        inner = torch.empty(len(v), len(t), dtype=torch.float32, device=v.device)
        norm = torch.ones_like(inner)
        for images in _chunks(v, t):
            some = v[images]
            _forward[_grid(some, t)](
                some, t, tau, inner[images], norm[images], min_norm, *_sizes(some, t), **_constants(some, cosine)
            )
        ctx.save_for_backward(v, t, tau, inner, norm)
        ctx.cosine, ctx.min_norm = cosine, min_norm
        return inner / norm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(grad.device.type, enabled=False):  # backward() may be called inside one
            return _Fused._backward(ctx, grad)

    @staticmethod
    def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        v, t, tau, inner, norm = ctx.saved_tensors
        for_v, for_t, for_tau = ctx.needs_input_grad[:3]
        # ds is written in the inputs' dtype: a common factor keeps it in the range of float16.
        scale = grad.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
        grad = (grad / scale).float().contiguous()
        d_v = torch.empty_like(v) if for_v else None
        d_t = torch.zeros_like(t, dtype=torch.float32) if for_t else None
        d_tau = torch.empty_like(inner)
        for images in _chunks(v, t):
            some = v[images]
            b, P, D = some.shape
            ds = torch.empty(len(t), b, P, dtype=v.dtype, device=v.device)
            # The norm's own gradient: -sum over texts of (c a) a', applied to v; c is a scalar for each pair.
            a, ca = (torch.empty_like(ds), torch.empty_like(ds)) if ctx.cosine and for_v else (ds, ds)
            _backward[_grid(some, t)](
                some, t, tau, inner[images], norm[images], grad[images], ds, a, ca, d_tau[images], ctx.min_norm,
                *_sizes(some, t), **_constants(some, ctx.cosine), STORE_A=ctx.cosine and for_v,
            )  # fmt: skip
            rows = ds.view(len(t), b * P)
            if d_t is not None:
                d_t += rows @ some.view(b * P, D)
            if d_v is not None:
                d_some = (rows.T @ t).view(b, P, D).float()
                if ctx.cosine:
                    d_some -= torch.einsum("tbp,tbq->bpq", ca, a) @ some
                d_v[images] = d_some * scale
        return (
            d_v,
            (d_t * scale).to(t.dtype) if d_t is not None else None,
            d_tau.sum() * scale / -(tau**2) if for_tau else None,
            None,
            None,
        )


def _chunks(v: Tensor, t: Tensor) -> list[slice]:
    """Chunks of images whose workspace is at most `WORKSPACE_BYTES`, at least one image each."""
    size = max(1, min(MAX_GRID, WORKSPACE_BYTES // (len(t) * v.shape[1] * v.itemsize)))
    return [slice(first, first + size) for first in range(0, len(v), size)]


def _block_t(P: int) -> int:
    return max(16, min(64, TILE // _block_p(P)))  # tensor cores need 16 rows


def _block_p(P: int) -> int:
    return max(16, triton.next_power_of_2(P))


def _grid(v: Tensor, t: Tensor) -> tuple[int, int]:
    return triton.cdiv(len(t), _block_t(v.shape[1])), len(v)  # texts vary fastest: an image's patches stay in the cache


def _sizes(v: Tensor, t: Tensor) -> tuple[int, int, int, int]:
    return len(v), len(t), v.shape[1], v.shape[2]


def _constants(v: Tensor, cosine: bool) -> dict[str, Any]:
    P = v.shape[1]
    return {
        "COSINE": cosine,
        "BLOCK_T": _block_t(P),
        "BLOCK_P": _block_p(P),
        "BLOCK_D": 64,
        "PRECISION": "ieee",  # float32 is not rounded to TF32; half precision is as it is
        "num_warps": 8,
    }


@triton.jit
def _dot(x, x_stride, rows, rows_end, y, y_stride, columns, columns_end, K, BLOCK_K: tl.constexpr,
         PRECISION: tl.constexpr):  # fmt: skip
    """Rows of x times rows of y, both K wide: float32 [rows, columns], 0 beyond their ends."""
    total = tl.zeros((rows.shape[0], columns.shape[0]), dtype=tl.float32)
    for first in range(0, K, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        left = tl.load(
            x + rows[:, None] * x_stride + k[None, :], mask=(rows < rows_end)[:, None] & (k < K)[None, :], other=0.0
        )
        right = tl.load(
            y + columns[None, :] * y_stride + k[:, None],
            mask=(columns < columns_end)[None, :] & (k < K)[:, None],
            other=0.0,
        )
        total = tl.dot(left, right, total, input_precision=PRECISION)
    return total


@triton.jit
def _normaliser(s, tau, patches, P):
    """Logarithm of the softmax's denominator, float32 [texts]."""
    z = tl.where((patches < P)[None, :], s / tau, float("-inf"))
    top = tl.max(z, axis=1)
    return top + tl.log(tl.sum(tl.exp(z - top[:, None]), axis=1))


@triton.jit
def _weights(s, tau, normaliser, patches, P):
    """Pooling weights, float32 [texts, patches]; 0 beyond the last patch."""
    return tl.where((patches < P)[None, :], tl.exp(s / tau - normaliser[:, None]), 0.0)


@triton.jit
def _pool(a, v, patches, P, D, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr, SIMILARITIES: tl.constexpr):
    """Squared norms of the pooled vectors a v, float32 [texts], and their similarities with the patches.

    The pooled vectors are made BLOCK_D columns at a time and never whole.
    """
    squared = tl.zeros((a.shape[0],), dtype=tl.float32)
    similarities = tl.zeros((a.shape[0], a.shape[1]), dtype=tl.float32)
    for first in range(0, D, BLOCK_D):
        d = first + tl.arange(0, BLOCK_D)
        some = tl.load(v + patches[:, None] * D + d[None, :], mask=(patches < P)[:, None] & (d < D)[None, :], other=0.0)
        pooled = tl.dot(a, some, input_precision=PRECISION)
        squared += tl.sum(pooled * pooled, axis=1)
        if SIMILARITIES:
            similarities = tl.dot(pooled.to(some.dtype), tl.trans(some), similarities, input_precision=PRECISION)
    return squared, similarities


@triton.jit
def _forward(v, t, tau_pointer, inner_out, norm_out, min_norm, B, T, P: tl.constexpr, D: tl.constexpr,
             COSINE: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_D: tl.constexpr,
             PRECISION: tl.constexpr):  # fmt: skip
    """<pooled, t> and |pooled| of one image and BLOCK_T texts."""
    image = tl.program_id(1)
    texts = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    patches = tl.arange(0, BLOCK_P)
    v += image.to(tl.int64) * P * D
    tau = tl.load(tau_pointer)
    s = _dot(t, D, texts, T, v, D, patches, P, D, BLOCK_D, PRECISION)
    a = _weights(s, tau, _normaliser(s, tau, patches, P), patches, P)
    pair = image.to(tl.int64) * T + texts
    tl.store(inner_out + pair, tl.sum(a * s, axis=1), mask=texts < T)
    if COSINE:
        squared, _ = _pool(a.to(v.dtype.element_ty), v, patches, P, D, BLOCK_D, PRECISION, False)
        norm = tl.maximum(tl.sqrt(squared), min_norm)
        tl.store(norm_out + pair, norm, mask=texts < T)


@triton.jit
def _backward(v, t, tau_pointer, inner_in, norm_in, grad_in, ds_out, a_out, ca_out, d_tau_out, min_norm, B, T,
              P: tl.constexpr, D: tl.constexpr, COSINE: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_P: tl.constexpr,
              BLOCK_D: tl.constexpr, PRECISION: tl.constexpr, STORE_A: tl.constexpr):  # fmt: skip
    """ds [T, b, P] of one image and BLOCK_T texts, a and c a of the norm's gradient, and the temperature's terms."""
    image = tl.program_id(1)
    texts = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    patches = tl.arange(0, BLOCK_P)
    tau = tl.load(tau_pointer)
    v += image.to(tl.int64) * P * D
    s = _dot(t, D, texts, T, v, D, patches, P, D, BLOCK_D, PRECISION)
    normaliser = _normaliser(s, tau, patches, P)
    if COSINE:
        # Registers are scarce here: the float32 weights are computed again after this.
        a = _weights(s, tau, normaliser, patches, P).to(v.dtype.element_ty)
        _, pooled_similarities = _pool(a, v, patches, P, D, BLOCK_D, PRECISION, True)
    a = _weights(s, tau, normaliser, patches, P)
    pair = image.to(tl.int64) * T + texts
    inner = tl.load(inner_in + pair, mask=texts < T, other=0.0)
    n = tl.load(norm_in + pair, mask=texts < T, other=1.0)
    g = tl.load(grad_in + pair, mask=texts < T, other=0.0) / n
    spread = s - inner[:, None]
    centred = spread
    out = image * P + texts[:, None] * (B * P) + patches[None, :]
    inside = (texts < T)[:, None] & (patches < P)[None, :]
    ga = g[:, None] * a
    if COSINE:
        bend = tl.where(n > min_norm, inner / (n * n), 0.0)  # phi / n; a clamped norm is constant
        centred = spread - bend[:, None] * (pooled_similarities - (n * n)[:, None])
        if STORE_A:
            tl.store(a_out + out, a, mask=inside)
            tl.store(ca_out + out, ga * bend[:, None], mask=inside)
    dz = ga * centred
    tl.store(d_tau_out + pair, tl.sum(tl.where(inside, dz * spread, 0.0), axis=1), mask=texts < T)
    tl.store(ds_out + out, ga + dz / tau, mask=inside)
