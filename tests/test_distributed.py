"""Two and three processes against a dense float64 computation that knows nothing of processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.functional import normalize

from pacl.distributed import (
    gather_rows,
    gather_texts,
    max_over_ranks,
    mean_over_ranks,
    on_first_process,
    rank_count,
    sum_over_ranks,
    sums_over_ranks,
)
from pacl.errors import ArgumentError, UserError
from pacl.models.compatibility import compatibility
from pacl.training.loss import contrastive_loss

WORDS = ("a dog", "grass", "a boat", "sky", "snow", "a red star", "two people", "ünïcode \udcff", "")


def run(rank: int, ranks: int, file: str, work: Callable[[int, int], None]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=ranks)
    try:
        work(rank, ranks)
        dist.barrier()  # gloo of older versions may hang where one leaves while another still sends
    finally:
        dist.destroy_process_group()


# ---------------------------------------------------------------- the dense truth, in float64


def pairs_of(sizes: tuple[int, ...]) -> list[tuple[Tensor, list[str], Tensor]]:
    """Of each rank: patch embeddings [B, P, D], texts and right pairs; texts recur on other ranks."""
    made = []
    for rank, images in enumerate(sizes):
        rng = torch.Generator().manual_seed(rank)
        texts = [WORDS[(rank + 2 * i) % len(WORDS)] for i in range(images + 1)] if images else []
        texts = list(dict.fromkeys(texts))
        positives = torch.rand(images, len(texts), generator=rng) < 0.4
        positives[range(images), [i % len(texts) for i in range(images)]] = True
        made.append((torch.randn(images, 5, 4, generator=rng), texts, positives))
    return made


def embedding(text: str) -> Tensor:
    """Of a text: the same wherever it is computed."""
    return torch.randn(4, generator=torch.Generator().manual_seed(100 + WORDS.index(text)))


def dense_loss(matrix: Tensor, scale: Tensor, tau: Tensor, text_matrix: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """The formula over all images and all different texts, written with loops."""
    everything = pairs_of(sizes)
    texts = sorted({text for _, own, _ in everything for text in own})
    t = normalize(torch.stack([embedding(text).double() for text in texts]) @ text_matrix, dim=-1)
    rows, right = [], []
    for patches, own, positives in everything:
        for image, mine in zip(patches.double(), positives, strict=True):
            v = normalize(image @ matrix, dim=-1)
            s = v @ t.T  # [P, T]
            pooled = torch.einsum("pt,pd->td", (s / tau).softmax(0), v)
            rows.append(scale * torch.cosine_similarity(pooled, t, dim=-1))
            right.append({own[j] for j in mine.nonzero().flatten().tolist()})
    logits = torch.stack(rows)  # [B, T]
    of_images = [
        -torch.stack([logits[i].log_softmax(0)[texts.index(text)] for text in right[i]]).mean()
        for i in range(len(rows))
    ]
    of_texts = []
    for j, text in enumerate(texts):
        mine = [i for i in range(len(rows)) if text in right[i]]
        if mine:
            of_texts.append(-logits[:, j].log_softmax(0)[mine].mean())
    return (torch.stack(of_images).mean() + torch.stack(of_texts).mean()) / 2


def parameters(dtype: torch.dtype) -> list[Tensor]:
    rng = torch.Generator().manual_seed(7)
    values = [torch.randn(4, 4, generator=rng), torch.tensor(9.0), torch.tensor(0.3), torch.randn(4, 4, generator=rng)]
    return [value.to(dtype).requires_grad_() for value in values]


def check_loss(rank: int, sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    """What `pacl.training.module` does on one process, and the comparison."""
    matrix, scale, tau, text_matrix = parameters(dtype)
    patches, texts, positives = pairs_of(sizes)[rank]
    own = torch.stack([embedding(text) for text in texts]) if texts else torch.empty(0, 4)
    t, positives = gather_texts(texts, normalize(own.to(dtype) @ text_matrix, dim=-1), positives)
    v = normalize(patches.to(dtype) @ matrix, dim=-1)
    loss = contrastive_loss(scale * compatibility(v, t, temperature=tau), positives, over_ranks=True)
    loss.backward()
    mine = [p.grad if p.grad is not None else torch.zeros_like(p) for p in (matrix, scale, tau, text_matrix)]
    for grad in mine:
        dist.all_reduce(grad)

    exact = parameters(torch.float64)
    truth = dense_loss(*exact, sizes)
    truth.backward()
    tolerance = {"rtol": 1e-9, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 2e-5, "atol": 2e-6}
    torch.testing.assert_close(loss.detach().double(), truth.detach(), **tolerance)
    for grad, parameter in zip(mine, exact, strict=True):
        torch.testing.assert_close(grad.double(), parameter.grad, **tolerance)


SIZES = {2: [(3, 3), (4, 1), (5, 0)], 3: [(2, 4, 3), (1, 0, 6)]}  # images of each rank


# ---------------------------------------------------------------- the pieces


def check_pieces(rank: int, ranks: int) -> None:
    assert rank_count() == ranks
    own = torch.tensor([rank + 1.0, -float("inf"), -1000.0 * rank], requires_grad=True)
    assert max_over_ranks(own).tolist() == [ranks, -float("inf"), 0]
    assert not max_over_ranks(own).requires_grad

    x = torch.full((2,), float(rank), requires_grad=True)
    total = sum_over_ranks(x)
    assert total.tolist() == [sum(range(ranks))] * 2
    total.sum().backward()
    assert x.grad.tolist() == [1, 1]

    mean = torch.tensor(float(rank)) if rank else None  # as many items as its rank
    whole = sum(each * each for each in range(ranks)) / sum(range(ranks))
    assert float(mean_over_ranks(mean, rank, x.device)) == pytest.approx(whole)

    first, count = torch.full((2, 1), 2.0 * rank, requires_grad=True), torch.tensor(rank)
    one, other = sums_over_ranks(first, count)
    assert one.tolist() == [[2 * sum(range(ranks))]] * 2
    assert other == sum(range(ranks))
    (one.sum() * 3).backward()
    assert first.grad.tolist() == [[3], [3]]

    rows = torch.full((rank, 2), float(rank), requires_grad=True)
    gathered = gather_rows(rows)
    assert gathered[:, 0].tolist() == [r for r in range(ranks) for _ in range(r)]
    (gathered * (rank + 1)).sum().backward()  # every process uses all rows
    assert rows.grad.tolist() == [[sum(range(1, ranks + 1))] * 2] * rank


def check_all(rank: int, ranks: int) -> None:
    """One start of the processes for everything: starting them is what costs."""
    check_pieces(rank, ranks)
    for sizes in SIZES[ranks]:
        for dtype in (torch.float64, torch.float32):
            check_loss(rank, sizes, dtype)


@pytest.mark.parametrize("ranks", [2, 3])
def test_pieces_loss_and_gradients_are_those_of_the_whole_batch(ranks, tmp_path):
    mp.spawn(run, (ranks, str(tmp_path / "rendezvous"), check_all), nprocs=ranks)


def test_alone_nothing_is_communicated():
    x = torch.randn(3)
    assert sum_over_ranks(x) is sums_over_ranks(x)[0] is gather_rows(x) is x
    assert max_over_ranks(x).equal(x)
    positives = torch.eye(2, dtype=torch.bool)
    assert gather_texts(["a", "b"], x, positives) == (x, positives)
    assert gather_texts(["a", "b"], x)[1].equal(positives)
    assert rank_count() == 1
    assert "RANK" not in os.environ


def test_the_dense_truth_is_the_loss_of_one_process():
    patches, texts, positives = pairs_of((4,))[0]
    matrix, scale, tau, text_matrix = parameters(torch.float64)
    t = normalize(torch.stack([embedding(text) for text in texts]).double() @ text_matrix, dim=-1)
    phi = compatibility(normalize(patches.double() @ matrix, dim=-1), t, temperature=tau)
    torch.testing.assert_close(
        contrastive_loss(scale * phi, positives), dense_loss(matrix, scale, tau, text_matrix, (4,))
    )


# ---------------------------------------------------------------- work of the first process


def late(result: object) -> object:
    """Later than other operations wait for it, see `check_first_process`."""
    assert dist.get_rank() == 0
    time.sleep(4)
    if isinstance(result, Exception):
        raise result
    return result


def check_first_process(rank: int, ranks: int, file: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=ranks, timeout=timedelta(seconds=2)
    )
    try:
        assert on_first_process(partial(late, {"miou": 0.5})) == {"miou": 0.5}
        with pytest.raises(ArgumentError) as argument:
            on_first_process(partial(late, ArgumentError("cache", "folder", "is full")))
        assert (argument.value.argument, argument.value.value) == ("cache", "folder")
        with pytest.raises(UserError, match=r"^no such file$"):
            on_first_process(partial(late, UserError("no such file")))
    finally:
        dist.destroy_process_group()


def test_the_first_process_works_alone_and_the_others_wait(tmp_path: Path) -> None:
    mp.spawn(check_first_process, args=(2, str(tmp_path / "rendezvous")), nprocs=2)


def test_one_process_works_itself() -> None:
    assert on_first_process(lambda: 3) == 3
