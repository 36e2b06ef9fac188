import math
import statistics
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pacl.metrics import retrieval
from pacl.metrics.retrieval import Recalls, chance, recalls, score_all_pairs
from pacl.models.compatibility import compatibility


def brute_force_ranks(scores: list[list[float]], positives: list[list[bool]]) -> list[int]:
    """Rank of the first positive in each sorted row; of equal scores, negatives come first."""
    ranks = []
    for row, positive in zip(scores, positives, strict=True):
        order = sorted(range(len(row)), key=lambda i: (-row[i], positive[i]))
        ranks += [place for place, i in enumerate(order, 1) if positive[i]][:1]
    return ranks


def brute_force(scores: Tensor, positives: Tensor) -> Recalls:
    ways = [brute_force_ranks(s.tolist(), p.tolist()) for s, p in ((scores, positives), (scores.T, positives.T))]
    shares = [{k: sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)} for ranks in ways]
    return Recalls(*shares, *(float(statistics.median(ranks)) for ranks in ways))


def assert_same(found: Recalls, expected: Recalls) -> None:
    for name in ("image_to_text", "text_to_image", "image_to_text_rank", "text_to_image_rank"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name


def random_case(images: int, texts: int, levels: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Random scores, with ties if there are few levels; rows and columns have no, one or several positives."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(images, texts, generator=generator)
    if levels:
        scores = (scores * levels).round()
    positives = torch.rand(images, texts, generator=generator) < 2 / texts
    positives[0, 0] = True
    return scores, positives


# ---------------------------------------------------------------- recall at k


@pytest.mark.parametrize("levels", [None, 1, 4])
@pytest.mark.parametrize("size", [(1, 1), (7, 30), (40, 13), (30, 150)])
def test_equals_a_brute_force_count(size, levels, monkeypatch):
    monkeypatch.setattr(retrieval, "CHUNK_BYTES", 4 * 150 * 4)  # several chunks, the last one ragged
    for seed in range(4):
        scores, positives = random_case(*size, levels, seed)
        assert_same(recalls(scores, positives), brute_force(scores, positives))


def test_hand_computed():
    """Two images with two captions each; the images have ranks 1 and 2, the captions 1, 2, 2 and 1."""
    scores = torch.tensor([[0.9, 0.2, 0.4, 0.1], [0.3, 0.8, 0.3, 0.5]])
    positives = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]], dtype=torch.bool)
    found = recalls(scores, positives, ks=(1, 2))
    assert found.image_to_text == {1: 0.5, 2: 1.0}
    assert found.text_to_image == {1: 0.5, 2: 1.0}
    assert (found.image_to_text_rank, found.text_to_image_rank) == (1.5, 1.5)
    assert found.mean == 0.75


def test_any_caption_of_an_image_counts_and_other_positives_do_not_lower_its_rank():
    scores = torch.tensor([[5.0, 4, 3, 2, 1, 0]])
    positives = torch.tensor([[0, 1, 1, 1, 1, 1]], dtype=torch.bool)
    assert recalls(scores, positives, ks=(1, 2)).image_to_text == {1: 0.0, 2: 1.0}
    assert recalls(scores, ~positives, ks=(1,)).image_to_text == {1: 1.0}


def test_one_text_of_several_images():
    scores = torch.tensor([[3.0], [2.0], [1.0]])
    positives = torch.tensor([[False], [True], [True]])
    found = recalls(scores, positives, ks=(1, 2))
    assert found.text_to_image == {1: 0.0, 2: 1.0}
    assert found.image_to_text == {1: 1.0, 2: 1.0}  # the image without a text is not a query


def test_a_perfect_and_a_reversed_ranking():
    scores = torch.eye(30)
    positive = torch.eye(30, dtype=torch.bool)
    assert recalls(scores, positive).mean == 1
    worst = recalls(-scores, positive)
    assert worst.mean == 0
    assert worst.image_to_text_rank == worst.text_to_image_rank == 30


def test_ties_do_not_improve_the_result():
    positives = torch.eye(50, dtype=torch.bool)
    constant = recalls(torch.zeros(50, 50), positives)
    assert constant.mean == 0
    assert constant.text_to_image_rank == 50
    scores = torch.zeros(50, 50)
    scores[0, :2] = 1  # image 0 has the same score with its own text and with one negative
    assert recalls(scores, positives, ks=(1, 2)).image_to_text == {1: 0.0, 2: 1 / 50}


def test_ties_between_positives_do_not_count():
    scores = torch.tensor([[1.0, 1.0, 0.0]])
    assert recalls(scores, torch.tensor([[True, True, False]]), ks=(1,)).image_to_text == {1: 1.0}


def test_half_precision_and_other_layouts():
    scores, positives = random_case(20, 30, None, 0)
    half = scores.half()
    assert_same(recalls(half, positives), brute_force(half.float(), positives))
    assert_same(recalls(scores.T.contiguous().T, positives), brute_force(scores, positives))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(value):
    scores, positives = random_case(6, 9, None, 0)
    scores[4, 7] = value
    with pytest.raises(ValueError, match="finite"):
        recalls(scores, positives)


@pytest.mark.parametrize(
    ("scores", "positives", "ks", "message"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.bool), (1,), "scores"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bool), (1,), "scores"),
        (torch.zeros(2, 3), torch.ones(3, 2, dtype=torch.bool), (1,), "positives"),
        (torch.zeros(2, 3), torch.ones(2, 3), (1,), "positives"),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool), (1,), "positives"),
        (torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool), (0, 1), "ks"),
        (torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool), (), "ks"),
        (torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.bool), (1,), "positives"),
    ],
)
def test_invalid_arguments(scores, positives, ks, message):
    with pytest.raises(ValueError, match=message):
        recalls(scores, positives, ks)


# ---------------------------------------------------------------- all pairs


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("temperature", [1.0, 0.1, math.inf, torch.tensor(0.3, requires_grad=True)])
@pytest.mark.parametrize("cosine", [True, False])
def test_all_pairs_equal_phi_for_any_batch(temperature, cosine):
    patches, texts = vectors(11, 7, 16), vectors(5, 16, seed=1)
    expected = compatibility(patches, texts, temperature=temperature, cosine=cosine, impl="reference").detach()
    for batch in (1, 4, 11, 100):
        phi = score_all_pairs(patches, texts, temperature=temperature, cosine=cosine, batch=batch)
        assert not phi.requires_grad
        torch.testing.assert_close(phi, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_all_pairs_of_patches_in_other_dtypes_are_float32(dtype):
    patches, texts = vectors(5, 7, 16).to(dtype), vectors(6, 16, seed=1)
    phi = score_all_pairs(patches, texts, temperature=0.1, batch=2, device="cpu")
    assert phi.dtype == torch.float32
    torch.testing.assert_close(phi, compatibility(patches.float(), texts, temperature=0.1))


def test_all_pairs_of_memory_mapped_patches(tmp_path: Path):
    patches, texts = vectors(9, 7, 16).half(), vectors(6, 16, seed=1)
    (tmp_path / "patches").write_bytes(patches.numpy().tobytes())
    mapped = torch.from_file(str(tmp_path / "patches"), size=patches.numel(), dtype=torch.half).view_as(patches)
    torch.testing.assert_close(score_all_pairs(mapped, texts, batch=2), score_all_pairs(patches, texts, batch=9))


def test_all_pairs_are_computed_in_batches(monkeypatch):
    seen = []

    def spy(patches: Tensor, texts: Tensor, **settings: object) -> Tensor:
        seen.append(len(patches))
        return torch.zeros(len(patches), len(texts))

    monkeypatch.setattr(retrieval, "compatibility", spy)
    score_all_pairs(vectors(10, 3, 4), vectors(2, 4), batch=4)
    assert seen == [4, 4, 2]


def test_a_low_temperature_finds_texts_that_match_one_patch():
    """Each text equals one patch of its image: a low temperature finds it, mean pooling finds fewer."""
    patches = vectors(40, 50, 8)
    texts, positives = patches[:, 3], torch.eye(40, dtype=torch.bool)
    sharp = recalls(score_all_pairs(patches, texts, temperature=0.01), positives)
    flat = recalls(score_all_pairs(patches, texts, temperature=math.inf), positives)
    assert sharp.image_to_text[1] > 0.9
    assert flat.mean < 0.7 * sharp.mean


def test_an_invalid_batch():
    with pytest.raises(ValueError, match="batch 0"):
        score_all_pairs(vectors(2, 3, 4), vectors(2, 4), batch=0)


# ---------------------------------------------------------------- chance


def test_chance_is_the_mean_over_random_orders():
    positives = torch.zeros(6, 14, dtype=torch.bool)
    positives[torch.arange(14) % 5, torch.arange(14)] = True  # two or three texts an image, none for the last
    positives[0, 13] = True  # a text of two images
    rng = torch.Generator().manual_seed(0)
    drawn = [recalls(torch.rand(6, 14, generator=rng), positives).figures() for _ in range(3000)]
    expected = chance(positives.sum(1).tolist(), positives.sum(0).tolist()).figures()
    assert expected.keys() == drawn[0].keys()
    for name, share in expected.items():
        assert share == pytest.approx(sum(each[name] for each in drawn) / len(drawn), abs=0.015), name
    assert expected["text_to_image_R10"] == 1  # k is larger than the gallery


def test_figures_are_the_recalls_and_their_mean():
    found = recalls(torch.eye(4), torch.eye(4, dtype=torch.bool), ks=(1, 2))
    assert found.figures() == {
        **dict.fromkeys(("recall", "image_to_text_R1", "image_to_text_R2"), 1.0),
        **dict.fromkeys(("text_to_image_R1", "text_to_image_R2"), 1.0),
    }
