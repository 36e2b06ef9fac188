"""Differentiable collective operations for a loss over the pairs of all processes (ranks), and work of the first one.

Every process computes the same global loss, and its gradients with respect to its own inputs only. Gradients of shared
parameters must therefore be SUMMED over the processes; where they are averaged (DDP does), multiply the loss by
`rank_count`. With one process these functions return their input. All processes must call them in the same order.

Shapes: B images and T_r texts of this process (rank r), T different texts of all processes, D embedding.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from pacl.errors import ArgumentError, UserError

Result = TypeVar("Result")

PATIENCE = timedelta(days=7)
"""How long processes wait for the work of the first one; other operations end a run after minutes."""


def rank_count() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(x: Tensor) -> Tensor:
    """Sum of ``x`` over the processes; it has the same shape on all of them."""
    return x if rank_count() == 1 else _Sum.apply(x)


def sums_over_ranks(*tensors: Tensor) -> list[Tensor]:
    """Sums of several tensors over the processes in one operation.

    Args:
        tensors: each of the same shape on all processes. They are returned in the dtype that all of them promote to.
    """
    if rank_count() == 1:
        return list(tensors)
    together = sum_over_ranks(torch.cat([x.flatten() for x in tensors]))
    parts = together.split([x.numel() for x in tensors])
    return [part.view(x.shape) for part, x in zip(parts, tensors, strict=True)]


@torch.no_grad()
def mean_over_ranks(mean: Tensor | None, count: int, device: torch.device) -> Tensor:
    """Mean over the items of all processes, a float32 scalar.

    Args:
        mean: over the items of this process; None without any.
        count: number of these items; on some process there is one.
        device: of the result.
    """
    own = torch.zeros((), device=device) if mean is None else mean.float() * count
    total, items = sums_over_ranks(own, torch.tensor(float(count), device=device))
    return total / items


@torch.no_grad()
def max_over_ranks(x: Tensor) -> Tensor:
    """Elementwise maximum of ``x`` over the processes, without a gradient."""
    x = x.detach()
    if rank_count() > 1:
        x = x.clone()
        dist.all_reduce(x, dist.ReduceOp.MAX)
    return x


def gather_rows(x: Tensor) -> Tensor:
    """Concatenate the rows of all processes, in the order of ranks: [n_r, ...] -> [sum of n_r, ...]; n_r may differ."""
    return x if rank_count() == 1 else _GatherRows.apply(x)[0]


def gather_texts(texts: Sequence[str], embeddings: Tensor, positives: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Embeddings of the texts of all processes, and the positives of this process's images among them.

    A text that several processes have is returned once.

    Args:
        texts: the T_r texts of this process, no two of them equal.
        embeddings: [T_r, D], floating.
        positives: bool [B, T_r], True where the text belongs to the image. None: text i belongs to image i alone.

    Returns:
        Embeddings [T, D] and positives, bool [B, T].
    """
    if positives is None:
        positives = torch.eye(len(texts), dtype=torch.bool, device=embeddings.device)
    if rank_count() == 1:
        return embeddings, positives
    digests = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts]
    own = torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests], dtype=torch.int64)  # [T_r]
    embeddings, keys = _GatherRows.apply(embeddings, own.to(positives.device))  # [sum of T_r, D], [sum of T_r]
    columns, column = keys.unique(return_inverse=True)  # [T], [sum of T_r]
    first = torch.full_like(columns, len(keys)).scatter_reduce(
        0, column, torch.arange(len(keys), device=keys.device), "amin"
    )  # [T], row of each text among all gathered ones
    merged = torch.zeros(len(positives), len(columns), dtype=torch.bool, device=positives.device)
    merged[:, torch.searchsorted(columns, own.to(columns.device))] = positives
    return embeddings[first], merged


def on_first_process(work: Callable[[], Result]) -> Result:
    """Run a function on the first process only; the others wait, and return its result, too.

    They wait up to `PATIENCE`, but end at once if the first process does.

    Args:
        work: its result can be pickled.

    Raises:
        UserError: on every process, that of the function.
    """
    if rank_count() == 1:
        return work()
    group = _patient_group(dist.group.WORLD)
    sent: list[Any] = [None, None]  # the result, and the parts of an error: with arguments of its own it is not pickled
    if dist.get_rank() == 0:
        try:
            sent[0] = work()
        except ArgumentError as error:
            sent[1] = error.argument, error.value, error.reason
        except UserError as error:
            sent[1] = (str(error),)
    dist.broadcast_object_list(sent, 0, group)
    result, failure = sent
    if failure:
        raise (ArgumentError if len(failure) == 3 else UserError)(*failure)
    return result


@lru_cache(1)
def _patient_group(world: object) -> Any:
    """A group of all processes whose operations may wait; made once in a run."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)


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


class _GatherRows(torch.autograd.Function):
    """The rows of one differentiable tensor and of others with as many rows, as bytes in one operation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        own = torch.cat([_row_bytes(part) for part in (x, *others)], dim=1)  # uint8 [n, bytes of a row]
        count = torch.tensor([len(own)], device=x.device)
        counts = [torch.empty_like(count) for _ in range(rank_count())]
        dist.all_gather(counts, count)
        sizes = [int(n) for n in counts]
        padded = own.new_zeros(max(sizes), own.shape[1])
        padded[: len(own)] = own
        gathered = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(gathered, padded)
        every = torch.cat([rows[:n] for rows, n in zip(gathered, sizes, strict=True)])
        columns = every.split([_row_bytes(part).shape[1] for part in (x, *others)], dim=1)
        ctx.start, ctx.size = sum(sizes[: dist.get_rank()]), len(x)
        made = [
            column.contiguous().view(part.dtype).view(-1, *part.shape[1:])
            for column, part in zip(columns, (x, *others), strict=True)
        ]
        ctx.mark_non_differentiable(*made[1:])
        return tuple(made)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[ctx.start : ctx.start + ctx.size], *(None for _ in others)


def _row_bytes(x: Tensor) -> Tensor:
    """The bytes of each row: [n, ...] -> uint8 [n, bytes]."""
    return x.reshape(len(x), math.prod(x.shape[1:])).contiguous().view(torch.uint8)
