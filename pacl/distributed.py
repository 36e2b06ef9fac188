"""What the processes of one run tell each other, so that a loss over all their pairs is exact.

One convention holds throughout: every process computes the same global loss, and its gradients are the loss's with
respect to that process's own inputs. Gradients of shared parameters are therefore to be SUMMED over the processes;
where an engine averages them (DDP does), multiply the loss by their number. In a run of one process all of this does
nothing. Collectives are called by all processes, in the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def rank_count() -> int:
    """Processes of this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(x: Tensor) -> Tensor:
    """Sum of all processes' ``x``, of any one shape."""
    return x if rank_count() == 1 else _Sum.apply(x)


def logsumexp_over_ranks(x: Tensor) -> Tensor:
    """log of the sum of exp(x) over the processes, elementwise; -inf counts as nothing."""
    return x if rank_count() == 1 else _LogSumExp.apply(x)


def gather_rows(x: Tensor) -> Tensor:
    """All processes' rows, rank by rank: [n, ...] -> [n of all, ...]; the numbers n may differ."""
    return x if rank_count() == 1 else _GatherRows.apply(x)


def merge_texts(texts: Sequence[str], positives: Tensor) -> tuple[Tensor | None, Tensor]:
    """Columns for the texts of all processes, equal texts in one.

    Args:
        texts: this process's T_r texts, each once.
        positives: bool [B_r, T_r], which of them are right for its images.

    Returns:
        Rows of ``gather_rows`` of the text embeddings that make the T columns, int64 [T] (None: all of them as they
        are), and bool [B_r, T], the columns that are right for this process's images.
    """
    if rank_count() == 1:
        return None, positives
    digests = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts]
    own = torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests], dtype=torch.int64)
    keys = gather_rows(own.to(positives.device))
    columns, column = keys.unique(return_inverse=True)  # [T], [T of all]
    rows = torch.full_like(columns, len(keys)).scatter_reduce(
        0, column, torch.arange(len(keys), device=keys.device), "amin"
    )
    merged = torch.zeros(len(positives), len(columns), dtype=torch.bool, device=positives.device)
    merged[:, torch.searchsorted(columns, own.to(columns.device))] = positives
    return rows, merged


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        top = x.clone()
        dist.all_reduce(top, dist.ReduceOp.MAX)
        top = top.masked_fill(top.isneginf(), 0)
        total = (x - top).exp()
        dist.all_reduce(total)
        result = total.log() + top
        ctx.save_for_backward((x - result).exp())  # the own part of the sum
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (share,) = ctx.saved_tensors
        return grad * share


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        count = torch.tensor([len(x)], device=x.device)
        counts = [torch.empty_like(count) for _ in range(rank_count())]
        dist.all_gather(counts, count)
        sizes = [int(n) for n in counts]
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        gathered = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(gathered, padded)
        ctx.start, ctx.size = sum(sizes[: dist.get_rank()]), len(x)
        return torch.cat([rows[:n] for rows, n in zip(gathered, sizes, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[ctx.start : ctx.start + ctx.size]
