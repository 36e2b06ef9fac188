"""Time and memory of phi and its gradient, beside the matrix products that no way of computing them can avoid.

Gradients are those of the patches, as in training on frozen texts. Shapes: B images, T texts, P patches, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from eval.speed.floors import by_gram, by_pooled, multiply_adds
from eval.speed.measure import Options, Row, Way, compare, free
from pacl.models.compatibility import (
    CPU_CHUNK_BYTES,
    GPU_CHUNK_BYTES,
    IMPLEMENTATIONS,
    compatibility,
    why_not_triton,
)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TEMPERATURE = 0.1

# B = T; P = 196, D = 512 is ViT-B/16 at 224 pixels.
QUICK_BATCHES, CPU_BATCHES, GPU_BATCHES = (8,), (128, 256), (128, 256, 1024, 4096)
LARGEST = 16384  # on a GPU, for its peak memory
SHAPE, QUICK_SHAPE = (196, 512), (16, 32)


def rows(options: Options) -> Iterator[Row]:
    """All batches and dtypes, each with all implementations."""
    gpu = options.device.type == "cuda"
    P, D = QUICK_SHAPE if options.quick else SHAPE
    for B in QUICK_BATCHES if options.quick else GPU_BATCHES if gpu else CPU_BATCHES:
        for name in DTYPES:
            yield from compare("phi", case_of(B, B, P, D), ways(B, B, P, D, name, options.device), options)
            free(options.device)
    if gpu and not options.quick:
        some = [way for way in ways(LARGEST, LARGEST, P, D, "bf16", options.device) if way.method in LEAN]
        yield from compare("phi", case_of(LARGEST, LARGEST, P, D), some, options, once=True)


LEAN = ("chunked", "triton")  # their memory does not grow with B T P


def case_of(B: int, T: int, P: int, D: int) -> str:
    """The case's name."""
    return f"B={B}, T={T}, P={P}, D={D}"


def ways(B: int, T: int, P: int, D: int, precision: str, device: torch.device) -> list[Way]:
    """The bare products, and phi with its gradient by each implementation that runs on the device."""
    draw = torch.Generator().manual_seed(0)
    patches = normalize(torch.randn(B, P, D, generator=draw).to(device), dim=-1).to(DTYPES[precision])
    texts = normalize(torch.randn(T, D, generator=draw).to(device), dim=-1).to(DTYPES[precision])
    v, t = (patches.float(), texts.float()) if device.type == "cpu" else (patches, texts)  # as phi multiplies on CPUs
    leaf = patches.detach().requires_grad_()

    def step(impl: str) -> None:
        leaf.grad = None
        compatibility(leaf, texts, temperature=TEMPERATURE, impl=impl).sum().backward()
        leaf.grad = None

    sizes = {"B": B, "T": T, "P": P, "D": D, "gflop": 2e-9 * multiply_adds(B, T, P, D)}
    limit = Way("bare products", lambda: products(v, t), precision, sizes=sizes)
    reference = Way("reference", lambda: step("reference"), precision, limit=limit, sizes=sizes)
    others = [impl for impl in IMPLEMENTATIONS if impl not in ("auto", "reference")]
    if device.type != "cuda" or why_not_triton(device, DTYPES[precision], P):
        others.remove("triton")
    return [limit, reference] + [
        Way(impl, lambda impl=impl: step(impl), precision, reference, limit, sizes=sizes)  # type: ignore[misc]
        for impl in others
    ]


def products(v: Tensor, t: Tensor, backward: bool = True) -> None:
    """Only the matrix products of phi: no softmax, no norms, and without ``backward`` no gradient.

    Forward they are the similarities v t', and the norms of the pooled vectors: a v, or a' (v v') a by the Gram
    matrices of the patches where that is less work. Backward: the pooled vectors' similarities with the patches, and
    the two terms of the gradient, ds' t and a' (c a v). Chunks of images are as large as those of `compatibility`.

    Args:
        v: patches [B, P, D].
        t: texts [T, D] of the same dtype.
        backward: with those of the gradient by the patches.
    """
    (B, P, D), T = v.shape, len(t)
    gram = by_gram(B, T, P, D, backward) < by_pooled(B, T, P, D, backward)
    budget = CPU_CHUNK_BYTES if v.device.type == "cpu" else GPU_CHUNK_BYTES
    for some in v.split(max(1, budget // (v.itemsize * T * (3 * P + D)))):
        a = (some.flatten(0, 1) @ t.T).view(len(some), P, T)  # in the place of the similarities, a and ds alike
        if gram:
            matrix = some @ some.mT
            matrix @ a
            if backward:
                a.flatten(0, 1) @ t
                a @ a.mT @ some
        else:
            pooled = a.mT @ some
            if backward:
                some @ pooled.mT
                a.flatten(0, 1) @ t
                a @ pooled
