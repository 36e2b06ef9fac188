import json
from itertools import islice

import pytest
from torch.utils.data import Dataset

from pacl.data.loader import EpochLoader
from pacl.data.sampling import DrawSampler


class Echo(Dataset):
    """Batches that say which draw they were made from."""

    def __getitem__(self, draw):
        return {"at": (draw.epoch, draw.step), "pictures": [*zip(draw.sources.tolist(), draw.indices.tolist())]}  # noqa: B905


def loader(workers=0):
    return EpochLoader(Echo(), DrawSampler([7, 9], [2.0, 1.0], 3, seed=4), workers)  # 5 steps


def epochs(*numbers):
    made = []
    for number in numbers:
        fresh = loader()
        fresh.order.set_epoch(number)
        made += fresh
    return made


def test_an_epoch_is_its_sampler_s_and_the_workers_do_not_matter():
    assert len(loader()) == 5
    assert [batch["at"] for batch in epochs(0, 2)] == [(0, s) for s in range(5)] + [(2, s) for s in range(5)]
    with_workers = loader(workers=2)
    for number in (0, 1):  # they live on, and learn the epoch
        with_workers.order.set_epoch(number)
        assert list(with_workers) == epochs(number)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 3, 5])
def test_a_resumed_loader_yields_exactly_the_rest(workers, done):
    first = loader(workers)
    first.order.set_epoch(2)
    seen = list(islice(first, done))  # the workers have read ahead
    state = json.loads(json.dumps(first.state_dict()))

    resumed = loader(workers)
    resumed.load_state_dict(state)
    if done < 5:
        assert seen + list(resumed) == epochs(2)
        assert resumed.state_dict() == {"epoch": 2, "done": 5}
    resumed.order.set_epoch(3)
    assert list(resumed) == epochs(3)


def test_a_state_taken_between_two_epochs_begins_the_next():
    first = loader()
    list(first)
    ended = first.state_dict()
    first.order.set_epoch(1)
    begun = first.state_dict()
    for state in (ended, begun):
        resumed = loader()
        resumed.load_state_dict(state)
        assert list(resumed) == epochs(1)
