import json
from itertools import islice

import pytest
from torch.utils.data import Dataset

from pacl.data.sampling import EpochLoader, StepSampler


class Echo(Dataset):
    """Batches that say which draw they were made from."""

    def __getitem__(self, draw):
        return {"at": (draw.epoch, draw.step), "from": draw.sources.tolist(), "images": draw.indices.tolist()}


STEPS = 5


def order(epoch=0):
    draws = StepSampler([7, 9], [2.0, 1.0], 3, seed=4)
    draws.set_epoch(epoch)
    return draws


def loader(workers=0):
    return EpochLoader(Echo(), order(), workers)


def epoch(number):
    return [Echo()[draw] for draw in order(number)]


def resumed(state, workers=0):
    fresh = loader(workers)
    fresh.restore(json.loads(json.dumps(state)))
    return fresh


@pytest.mark.parametrize("workers", [0, 2])
def test_every_iteration_is_the_next_epoch(workers):
    own = loader(workers)
    assert len(own) == STEPS
    for number in range(3):
        assert list(own) == epoch(number)


@pytest.mark.parametrize("workers", [0, 2])
def test_who_counts_the_steps_and_never_asks_for_the_end_gets_the_next_epoch_too(workers):
    own = loader(workers)
    for number in range(3):
        batches = iter(own)
        assert [next(batches) for _ in range(STEPS)] == epoch(number)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 3, STEPS])
def test_a_resumed_loader_yields_exactly_the_rest(workers, done):
    first = loader(workers)
    list(first)
    seen = list(islice(first, done))  # the workers have read ahead
    again = resumed(first.state(), workers)
    if done < STEPS:
        assert seen + list(again) == epoch(1)
    assert list(again) == epoch(2)


def test_a_state_can_be_taken_at_any_time():
    untouched = loader()
    assert list(resumed(untouched.state())) == epoch(0)
    middle = loader()
    list(middle)
    list(islice(middle, 2))
    again = resumed(resumed(middle.state()).state())  # resumed, and stopped before its first step
    assert list(again) == epoch(1)[2:]
    assert list(resumed(again.state())) == epoch(2)
