import itertools
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from pacl.data.sampling import StepSampler, epoch_counts
from pacl.errors import UserError


def epoch(number=0, sizes=(7, 30), weights=(None, None), batch=5, **settings):
    sampler = StepSampler(sizes, weights, batch, **settings)
    sampler.set_epoch(number)
    draws = list(sampler)
    assert len(draws) == len(sampler)
    return draws


def images(draws):
    return [(int(k), int(i)) for draw in draws for k, i in zip(draw.sources, draw.indices, strict=True)]


def same(draws, others):
    return len(draws) == len(others) and all(
        (one.epoch, one.step) == (other.epoch, other.step)
        and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("slots", "sources", "indices"))
        for one, other in zip(draws, others, strict=True)
    )


ALL = list(itertools.product((0,), range(7))) + list(itertools.product((1,), range(30)))


def test_every_image_comes_once_an_epoch():
    draws = epoch(drop_last=False)
    assert [len(draw) for draw in draws] == [5] * 7 + [2]
    assert [draw.step for draw in draws] == list(range(8))
    assert sorted(images(draws)) == ALL
    assert np.concatenate([draw.slots for draw in draws]).tolist() == list(range(37))


def test_an_incomplete_last_step_is_left_out():
    draws = epoch()
    assert [len(draw) for draw in draws] == [5] * 7
    assert len(set(images(draws))) == 35
    assert epoch(batch=38) == []
    assert len(epoch(batch=37)) == 1


def test_every_epoch_and_every_seed_has_its_order():
    orders = [images(epoch(number, seed=seed)) for number, seed in ((0, 0), (1, 0), (2, 0), (0, 1))]
    assert len({tuple(order) for order in orders}) == 4
    assert {draw.epoch for draw in epoch(3)} == {3}
    # Of the first images as many are of the large source as chance wants: mixed, not one after the other.
    assert 20 < sum(k for k, _ in orders[0][:31]) < 31


def test_without_shuffling_the_order_is_the_sources():
    for number in (0, 3):
        assert images(epoch(number, shuffle=False, drop_last=False)) == ALL


def test_a_draw_is_a_function_of_the_arguments_alone():
    settings = {"weights": (2.0, 1.0), "seed": 3, "number": 4}
    first = epoch(**settings)
    np.random.seed(1)  # noqa: NPY002
    assert same(first, epoch(**settings))
    sampler = StepSampler((7, 30), (2.0, 1.0), 5, seed=3)
    list(sampler)
    sampler.set_epoch(4)
    assert same(first, list(sampler))
    assert not same(first, epoch(**{**settings, "seed": 4}))


@pytest.mark.parametrize("ranks", [2, 3, 7])
@pytest.mark.parametrize("weights", [(None, None), (3.0, 1.0)])
def test_processes_divide_every_step(ranks, weights):
    settings = {"weights": weights, "drop_last": False, "number": 2}
    whole = epoch(**settings)
    parts = [epoch(**settings, rank=rank, ranks=ranks) for rank in range(ranks)]
    for step, draw in enumerate(whole):
        own = [part[step] for part in parts]
        assert max(map(len, own)) - min(map(len, own)) <= 1
        assert all((part.epoch, part.step) == (2, step) for part in own)
        order = np.argsort(np.concatenate([part.slots for part in own]))
        for name in ("slots", "sources", "indices"):
            together = np.concatenate([getattr(part, name) for part in own])[order]
            assert together.tolist() == getattr(draw, name).tolist()


@pytest.mark.parametrize("start", [0, 1, 6, 7])
def test_an_epoch_can_start_anywhere_and_the_next_is_whole_again(start):
    sampler = StepSampler((7, 30), (None, None), 5)
    sampler.epoch, sampler.start = 1, start
    assert same(list(sampler), epoch(1)[start:])
    sampler.set_epoch(2)
    assert same(list(sampler), epoch(2))


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_the_next_iteration_is_the_next_epoch_wherever_one_stopped(steps):
    sampler = StepSampler((7, 30), (None, None), 5)
    for number in range(3):
        assert same(list(islice(sampler, steps)), epoch(number)[:steps])


@pytest.mark.parametrize(
    ("sizes", "weights", "counts"),
    [
        ((10, 30), (None, None), [10, 30]),
        ((10, 30), (1.0, 1.0), [20, 20]),
        ((10, 30), (3.0, None), [30, 10]),
        ((10, 30), (0.0, 2.0), [0, 40]),
        ((5, 5, 5), (1.0, 1.0, 5.0), [2, 2, 11]),
        ((1, 1, 1), (1.0, 1.0, 0.0), [2, 1, 0]),
        ((4,), (0.5,), [4]),
    ],
)
def test_an_epoch_is_divided_by_the_weights(sizes, weights, counts):
    assert epoch_counts(sizes, weights) == counts
    assert sum(counts) == sum(sizes)
    drawn = Counter(k for k, _ in images(epoch(3, sizes, weights, batch=1)))
    assert [drawn[k] for k in range(len(sizes))] == counts


@pytest.mark.parametrize("weights", [(-1.0, 2.0), (0.0, 0.0), (float("nan"), 1.0), (float("inf"), None)])
def test_weights_that_divide_nothing(weights):
    with pytest.raises(UserError, match=f"weight {weights[0]}, {weights[1]}:"):
        epoch_counts((3, 4), weights)


def test_every_pass_over_a_source_has_its_order():
    halves = [images(epoch(number, (8, 8), (1.0, 3.0), 16)) for number in range(0, 12, 2)]
    assert len({frozenset(index for k, index in half if k == 0) for half in halves}) > 2


def test_no_image_comes_again_before_all_of_its_source_were_seen():
    weights = (5.0, 1.0)  # of 37 a step 31 and 6: the small source comes four times an epoch, a fifth of the other
    row = [image for number in range(12) for image in images(epoch(number, weights=weights, batch=37))]
    for k, size in enumerate((7, 30)):
        own = [index for source, index in row if source == k]
        assert len(own) >= 2 * size
    # An epoch mixes its own draws: across its borders only whole passes can be told apart by their counts.
    for number in range(1, 13):
        seen = Counter(row[: 37 * number])
        for k, size in enumerate((7, 30)):
            counts = [seen[k, index] for index in range(size)]
            assert max(counts) - min(counts) <= 1
