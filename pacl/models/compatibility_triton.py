"""phi on a GPU: products, softmax and norms of many pairs in one Triton kernel, without tensors of B x T x P.

The formulas are those of `pacl.models.compatibility`, whose reference is what this is tested against; norms of pooled
vectors come from the Gram matrices G of the patches, n^2 = a' G a. A program of the grid takes one image and a tile of
texts, holds their similarities with all patches on chip, and writes three numbers a pair. The backward pass computes
the similarities again. Its gradients are sums over all texts or all images of the gradient ds of the similarities:
chunks of ds are written to a workspace of bounded size, and the sums are plain matrix products.

Work in multiply-adds: B T P (D + P) in the forward pass; B T P (D + P) again in the backward pass, and B T P D for
the texts and B T P (D + P) for the patches; B P^2 D twice for the Gram matrices.

Shapes: B images, T texts, P patches, D embedding; b is the size of a chunk of images.
"""

# The parameters of kernels are pointers and numbers that only Triton's compiler types.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad
from triton.tools.tensor_descriptor import TensorDescriptor  # since Triton 3.4

CAPABILITY = 9  # Hopper, whose tensor cores, copies of blocks and shared memory the tiles are made for
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# With TRITON_INTERPRET=1 the kernels run on a CPU, for tests.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")
MAX_GRID = 65535  # images of a launch: CUDA's limit of a grid's second dimension
WORKSPACE_BYTES = 128 * 2**20  # per tensor of size T x b x P, of which the backward pass has up to three
ALIGNMENT = 16  # bytes that the address and the strides of a tensor are multiples of, for its blocks to be copied


class Tile(NamedTuple):
    """What a program takes at a time: texts, and numbers of the embedding; its warps and its pipeline's depth."""

    texts: int
    width: int
    warps: int
    stages: int


# By the bytes of a number; `python -m eval.speed.tiles` compares tiles.
FORWARD = {2: Tile(128, 64, 8, 3), 4: Tile(64, 32, 4, 2)}
BACKWARD = {2: Tile(64, 64, 4, 2), 4: Tile(64, 32, 4, 2)}
PRECISION = "tf32x3"  # of float32 products: three TF32 products, nearly as exact as float32


def compatibility_triton(patches: Tensor, texts: Tensor, tau: Tensor, *, cosine: bool, min_norm: float) -> Tensor:
    """phi of every image with every text, differentiable once by patches, texts and temperature.

    Args:
        patches: v, [B, P, D], float32, bfloat16 or float16, with P <= 256. Matrix products multiply in this
            dtype and sum in float32. The products of an image's patches are kept in this dtype, too, so that norms of
            patches must be below 256 in float16, and the norms of pooled vectors lose digits where patches cancel.
        texts: t, [T, D] of the same dtype, on the same GPU.
        tau: the temperature, a float32 scalar on that GPU.
        cosine: divide by the norm of the pooled vector.
        min_norm: lower bound of that norm.

    Returns:
        phi, float32 [B, T].
    """
    more = -patches.shape[2] % (ALIGNMENT // patches.itemsize)
    if more:
        patches, texts = pad(patches, (0, more)), pad(texts, (0, more))  # zeros add nothing to a product
    v, t = (x.contiguous() for x in (patches, texts))
    v, t = (x.clone() if x.data_ptr() % ALIGNMENT else x for x in (v, t))
    phi: Tensor = _Fused.apply(v, t, tau, cosine, min_norm)
    return phi


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, t: Tensor, tau: Tensor, cosine: bool, min_norm: float) -> Tensor:
        inner = torch.empty(len(v), len(t), dtype=torch.float32, device=v.device)
        norm = torch.empty_like(inner) if cosine else None
        normaliser = torch.empty_like(inner)
        tile = FORWARD[v.itemsize]
        for images in _chunks(v, t):
            some = v[images]
            forward_kernel[_grid(tile, some, t)](
                *_inputs(tile, some, t, cosine), tau, inner[images], normaliser[images],
                inner if norm is None else norm[images], min_norm, len(t), **constants(tile, some, cosine),
            )  # fmt: skip
        ctx.save_for_backward(v, t, tau, inner, normaliser, norm)
        ctx.cosine, ctx.min_norm = cosine, min_norm
        return inner.clone() if norm is None else inner / norm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(grad.device.type, enabled=False):  # backward() may be called inside one
            return _Fused._backward(ctx, grad)

    @staticmethod
    def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        v, t, tau, inner, normaliser, norm = ctx.saved_tensors
        for_v, for_t, for_tau = ctx.needs_input_grad[:3]
        # ds is written in the inputs' dtype: a common factor keeps it in the range of float16, exact as a power of 2.
        largest = grad.abs().amax().float().clamp_min(torch.finfo(torch.float32).tiny)
        scale = torch.exp2(torch.floor(torch.log2(largest)))
        grad = (grad / scale).float().contiguous()
        d_v = torch.empty_like(v) if for_v else None
        d_t = torch.zeros_like(t, dtype=torch.float32) if for_t else None
        d_tau = torch.empty_like(inner) if for_tau else None
        store_a = norm is not None and for_v  # for the norm's own gradient: -sum over texts of (c a) a', applied to v
        tile = BACKWARD[v.itemsize]
        for images in _chunks(v, t):
            some = v[images]
            b, P, D = some.shape
            ds = torch.empty(len(t), b, _aligned(P, v), dtype=v.dtype, device=v.device)
            a, ca = (torch.empty_like(ds), torch.empty_like(ds)) if store_a else (ds, ds)
            outputs = [TensorDescriptor.from_tensor(x, [tile.texts, 1, _block_p(P) // 2]) for x in (ds, a, ca)]
            backward_kernel[_grid(tile, some, t)](
                *_inputs(tile, some, t, ctx.cosine), tau, inner[images], normaliser[images],
                inner if norm is None else norm[images], grad[images], *outputs,
                inner if d_tau is None else d_tau[images], ctx.min_norm, len(t),
                **constants(tile, some, ctx.cosine), STORE_A=store_a, FOR_TAU=for_tau,
            )  # fmt: skip
            if d_t is not None:
                d_t += ds.flatten(1) @ pad(some, (0, 0, 0, ds.shape[2] - P)).flatten(0, 1)
            if d_v is not None:
                d_some = (ds.flatten(1).T @ t).view(b, -1, D)[:, :P]
                if store_a:
                    gram = (ca.permute(1, 2, 0) @ a.transpose(0, 1))[:, :P, :P]
                    d_some = torch.baddbmm(d_some, gram, some, alpha=-1)
                torch.mul(d_some, scale, out=d_v[images])
        return (
            d_v,
            (d_t * scale).to(t.dtype) if d_t is not None else None,
            d_tau.sum() * scale / -(tau**2) if d_tau is not None else None,
            None,
            None,
        )


def _chunks(v: Tensor, t: Tensor) -> list[slice]:
    """Chunks of images whose workspace is at most `WORKSPACE_BYTES`, at least one image each."""
    P = _block_p(v.shape[1])
    size = max(1, min(MAX_GRID, WORKSPACE_BYTES // (max(len(t), P) * P * v.itemsize)))
    return [slice(first, first + size) for first in range(0, len(v), size)]


def _aligned(P: int, v: Tensor) -> int:
    """The least number of columns from P on whose rows are aligned."""
    return P + -P % (ALIGNMENT // v.itemsize)


def _block_p(P: int) -> int:
    return max(32, triton.next_power_of_2(P))  # (tensor cores need 16 columns, and a program takes two halves)


def _grid(tile: Tile, v: Tensor, t: Tensor) -> tuple[int, int]:
    return triton.cdiv(len(t), tile.texts), len(v)  # texts vary fastest: an image's patches stay in the cache


def _inputs(tile: Tile, v: Tensor, t: Tensor, cosine: bool) -> list[TensorDescriptor]:
    """Patches, texts and Gram matrices, from which a kernel copies blocks that are 0 beyond P."""
    P = v.shape[1]
    half = _block_p(P) // 2
    gram = pad(v @ v.mT, (0, _aligned(P, v) - P)) if cosine else v
    blocks = ((v, [1, half, tile.width]), (t, [tile.texts, tile.width]), (gram, [1, half, half]))
    return [TensorDescriptor.from_tensor(x, shape) for x, shape in blocks]


def constants(tile: Tile, v: Tensor, cosine: bool) -> dict[str, Any]:
    P, D = v.shape[1:]
    precision = PRECISION if v.itemsize == 4 else "ieee"
    sizes = {"P": P, "D": D, "HALF": _block_p(P) // 2, "BLOCK_T": tile.texts, "BLOCK_D": tile.width}
    return sizes | {
        "COSINE": cosine, "PRECISION": precision, "num_warps": tile.warps, "num_stages": tile.stages
    }  # fmt: skip


# Patches are taken in two halves. The registers hold all similarities, but only one half of G a at a time.


@triton.jit
def _similarities(v, t, image, text, D: tl.constexpr, HALF: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
                  PRECISION: tl.constexpr):  # fmt: skip
    """Similarities of BLOCK_T texts with each half of an image's patches, float32 [BLOCK_T, HALF]."""
    s0 = tl.zeros((BLOCK_T, HALF), dtype=tl.float32)
    s1 = tl.zeros((BLOCK_T, HALF), dtype=tl.float32)
    for d in range(0, D, BLOCK_D):
        some = t.load([text, d])
        s0 = tl.dot(some, v.load([image, 0, d]).reshape(HALF, BLOCK_D).T, s0, input_precision=PRECISION)
        s1 = tl.dot(some, v.load([image, HALF, d]).reshape(HALF, BLOCK_D).T, s1, input_precision=PRECISION)
    return s0, s1


@triton.jit
def _mixed(a0, a1, gram, image, column, HALF: tl.constexpr, PRECISION: tl.constexpr):
    """One half of the columns of G a, float32 [BLOCK_T, HALF]."""
    total = tl.dot(a0, gram.load([image, 0, column]).reshape(HALF, HALF), input_precision=PRECISION)
    return tl.dot(a1, gram.load([image, HALF, column]).reshape(HALF, HALF), total, input_precision=PRECISION)


@triton.jit
def forward_kernel(v, t, gram, tau_pointer, inner_out, normaliser_out, norm_out, min_norm, T, P: tl.constexpr,
                   D: tl.constexpr, HALF: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
                   COSINE: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """<pooled, t>, log2 of the softmax's denominator and |pooled| of one image and BLOCK_T texts."""
    image = tl.program_id(1)
    text = tl.program_id(0) * BLOCK_T
    real0 = (tl.arange(0, HALF) < P)[None, :]
    real1 = (HALF + tl.arange(0, HALF) < P)[None, :]
    scale = 1.4426950408889634 / tl.load(tau_pointer)  # exp(x) = 2^(x log2(e))
    s0, s1 = _similarities(v, t, image, text, D, HALF, BLOCK_T, BLOCK_D, PRECISION)
    top = tl.max(tl.where(real0, s0, float("-inf")), axis=1)
    top = tl.maximum(top, tl.max(tl.where(real1, s1, float("-inf")), axis=1))
    a0 = tl.where(real0, tl.exp2((s0 - top[:, None]) * scale), 0.0)  # not divided by their sum yet
    a1 = tl.where(real1, tl.exp2((s1 - top[:, None]) * scale), 0.0)
    total = tl.sum(a0, axis=1) + tl.sum(a1, axis=1)
    texts = text + tl.arange(0, BLOCK_T)
    pair = image.to(tl.int64) * T + texts
    tl.store(inner_out + pair, (tl.sum(a0 * s0, axis=1) + tl.sum(a1 * s1, axis=1)) / total, mask=texts < T)
    tl.store(normaliser_out + pair, top * scale + tl.log2(total), mask=texts < T)
    if COSINE:
        a0 = a0.to(t.dtype)
        a1 = a1.to(t.dtype)
        squared = tl.sum(_mixed(a0, a1, gram, image, 0, HALF, PRECISION) * a0.to(tl.float32), axis=1)
        squared += tl.sum(_mixed(a0, a1, gram, image, HALF, HALF, PRECISION) * a1.to(tl.float32), axis=1)
        norm = tl.sqrt(tl.maximum(squared, 0.0)) / total
        tl.store(norm_out + pair, tl.maximum(norm, min_norm), mask=texts < T)


@triton.jit
def backward_kernel(v, t, gram, tau_pointer, inner_in, normaliser_in, norm_in, grad_in, ds_out, a_out, ca_out,
                    d_tau_out, min_norm, T, P: tl.constexpr, D: tl.constexpr, HALF: tl.constexpr,
                    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr, COSINE: tl.constexpr, PRECISION: tl.constexpr,
                    STORE_A: tl.constexpr, FOR_TAU: tl.constexpr):  # fmt: skip
    """ds [T, b, P] of one image and BLOCK_T texts, a and c a of the norm's gradient, and the temperature's terms."""
    image = tl.program_id(1)
    text = tl.program_id(0) * BLOCK_T
    tau = tl.load(tau_pointer)
    scale = 1.4426950408889634 / tau
    texts = text + tl.arange(0, BLOCK_T)
    pair = image.to(tl.int64) * T + texts
    inner = tl.load(inner_in + pair, mask=texts < T, other=0.0)
    normaliser = tl.load(normaliser_in + pair, mask=texts < T, other=0.0)
    g = tl.load(grad_in + pair, mask=texts < T, other=0.0)
    bend = tl.zeros_like(g)
    shift = -inner
    if COSINE:
        n = tl.load(norm_in + pair, mask=texts < T, other=1.0)
        g = g / n
        bend = tl.where(n > min_norm, inner / (n * n), 0.0)  # phi / n; a clamped norm is constant
        shift = tl.where(n > min_norm, 0.0, -inner)  # bend n^2 - inner
    s0, s1 = _similarities(v, t, image, text, D, HALF, BLOCK_T, BLOCK_D, PRECISION)
    real0 = (tl.arange(0, HALF) < P)[None, :]
    real1 = (HALF + tl.arange(0, HALF) < P)[None, :]
    a0 = tl.where(real0, tl.exp2(s0 * scale - normaliser[:, None]), 0.0).to(t.dtype)
    a1 = tl.where(real1, tl.exp2(s1 * scale - normaliser[:, None]), 0.0).to(t.dtype)
    c0, c1 = s0 + shift[:, None], s1 + shift[:, None]
    if COSINE:
        c0 -= bend[:, None] * _mixed(a0, a1, gram, image, 0, HALF, PRECISION)
    d_tau = _half(s0, a0, c0, g, bend, inner, tau, ds_out, a_out, ca_out, text, image, 0, BLOCK_T, HALF, STORE_A)
    if COSINE:
        c1 -= bend[:, None] * _mixed(a0, a1, gram, image, HALF, HALF, PRECISION)
    d_tau += _half(s1, a1, c1, g, bend, inner, tau, ds_out, a_out, ca_out, text, image, HALF, BLOCK_T, HALF, STORE_A)
    if FOR_TAU:
        tl.store(d_tau_out + pair, d_tau, mask=texts < T)


@triton.jit
def _half(s, half, centred, g, bend, inner, tau, ds_out, a_out, ca_out, text, image, column, BLOCK_T: tl.constexpr,
          HALF: tl.constexpr, STORE_A: tl.constexpr):  # fmt: skip
    """Write one half's columns of ds, a and c a; the terms of the temperature, float32 [BLOCK_T]."""
    ga = half.to(tl.float32) * g[:, None]
    dz = ga * centred
    ds_out.store([text, image, column], (ga + dz / tau).to(half.dtype).reshape(BLOCK_T, 1, HALF))
    if STORE_A:
        a_out.store([text, image, column], half.reshape(BLOCK_T, 1, HALF))
        ca_out.store([text, image, column], (ga * bend[:, None]).to(half.dtype).reshape(BLOCK_T, 1, HALF))
    return tl.sum(dz * (s - inner[:, None]), axis=1)
