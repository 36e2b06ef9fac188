"""Two-stage retrieval against a sort of all items."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import Tensor

from eval.retrieval import reranking
from eval.retrieval.reranking import reranked_recalls, score_pairs
from pacl.metrics import retrieval
from pacl.metrics.retrieval import Recalls, recalls, score_all_pairs
from pacl.models.compatibility import compatibility
from tests.metrics.test_retrieval import assert_same, random_case, vectors


@pytest.mark.parametrize("cosine", [True, False])
def test_score_pairs_is_phi(cosine):
    patches, texts = vectors(6, 7, 16), vectors(9, 16, seed=1)
    phi = compatibility(patches, texts, temperature=0.1, cosine=cosine)
    pairs = torch.tensor([[5, 0], [0, 8], [5, 3], [2, 2], [0, 8], [3, 1]])  # not sorted, one pair twice
    found = score_pairs(patches.half(), texts, pairs, temperature=0.1, cosine=cosine)
    torch.testing.assert_close(found, phi[pairs[:, 0], pairs[:, 1]], atol=2e-3, rtol=0)
    torch.testing.assert_close(
        score_pairs(patches, texts, pairs, temperature=0.1, cosine=cosine), phi[pairs[:, 0], pairs[:, 1]]
    )
    assert len(score_pairs(patches, texts, pairs[:0])) == 0


def brute_force_reranked(scores: Tensor, phi: Tensor, positives: Tensor, first: int) -> Recalls:
    """Ranks of the first positives after sorting the candidates by phi and all other items by the cheap score."""
    ways = []
    for cheap, dear, positive in ((scores, phi, positives), (scores.T, phi.T, positives.T)):
        ranks = []
        for a, b, r in zip(cheap.tolist(), dear.tolist(), positive.tolist(), strict=True):
            order = sorted(range(len(a)), key=lambda i: -a[i])
            order = sorted(order[:first], key=lambda i: -b[i]) + order[first:]
            ranks += [place for place, i in enumerate(order, 1) if r[i]][:1]
        ways.append(ranks)
    shares = [{k: sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)} for ranks in ways]
    return Recalls(*shares, *(float(statistics.median(ranks)) for ranks in ways))


@pytest.mark.parametrize("first", [1, 3, 12, 30, 1000])
def test_reranking_equals_a_brute_force_sort(first, monkeypatch):
    monkeypatch.setattr(retrieval, "CHUNK_BYTES", 4 * 30 * 4)
    for seed in range(3):
        scores, positives = random_case(12, 30, None, seed)
        patches, texts = vectors(12, 7, 16, seed=seed), vectors(30, 16, seed=seed + 1)
        phi = compatibility(patches, texts, temperature=0.1)
        found = reranked_recalls(scores, positives, patches, texts, first, temperature=0.1)
        assert_same(found, brute_force_reranked(scores, phi, positives, first))


def test_with_all_candidates_reranking_is_phi():
    scores, positives = random_case(12, 30, None, 0)
    patches, texts = vectors(12, 7, 16), vectors(30, 16, seed=1)
    found = reranked_recalls(scores, positives, patches, texts, 30, temperature=0.1)
    assert_same(found, recalls(score_all_pairs(patches, texts, temperature=0.1), positives))
    assert found != recalls(scores, positives)


def test_reranking_hand_computed():
    """One patch per image, so phi is its cosine with the text. Of two candidates phi ranks the second one first."""
    patches = torch.eye(3)[:, None]  # the patches of images 0, 1, 2 are unit vectors
    texts = torch.eye(3)[[1, 0, 2]]  # text 0 equals the patch of image 1, text 1 that of image 0
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.8, 0.9, 0.1], [0.9, 0.8, 0.1]])
    positives = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.bool)
    assert recalls(scores, positives, ks=(1, 2)).image_to_text == {1: 0, 2: pytest.approx(2 / 3)}
    found = reranked_recalls(scores, positives, patches, texts, 2, ks=(1, 2, 3))
    assert found.image_to_text == {
        1: pytest.approx(2 / 3),
        2: pytest.approx(2 / 3),
        3: 1,
    }  # the text of image 2 is not a candidate
    assert found.image_to_text_rank == 1


def test_reranking_computes_few_pairs(monkeypatch):
    pairs_seen = []
    whole = reranking.compatibility

    def spy(patches: Tensor, texts: Tensor, **settings: object) -> Tensor:
        pairs_seen.append(len(patches) * len(texts))
        return whole(patches, texts)

    monkeypatch.setattr(reranking, "compatibility", spy)
    scores, positives = random_case(40, 60, None, 0)
    reranked_recalls(scores, positives, vectors(40, 3, 8), vectors(60, 8, seed=1), 4)
    assert sum(pairs_seen) == 4 * (40 + 60)


def test_reranking_patches_that_are_not_finite_is_an_error():
    scores, positives = random_case(4, 6, None, 0)
    patches = vectors(4, 3, 8)
    patches[2, 1, 0] = math.nan
    with pytest.raises(ValueError, match="finite"):
        reranked_recalls(scores, positives, patches, vectors(6, 8, seed=1), 6)


@pytest.mark.parametrize(("first", "shape", "message"), [(0, (2, 3), "candidates 0"), (1, (3, 2), "positives")])
def test_reranking_with_invalid_arguments(first, shape, message):
    with pytest.raises(ValueError, match=message):
        reranked_recalls(torch.zeros(2, 3), torch.ones(shape, dtype=torch.bool), vectors(2, 3, 4), vectors(3, 4), first)
