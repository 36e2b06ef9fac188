"""The state of the data in a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacl.data.caption_data import CaptionData
from pacl.errors import UserError
from tests.data.caption_data.fitting import captions, stub


def test_a_state_brings_the_seed_the_place_and_the_counts(here):
    expected = captions(stub(CaptionData("t.csv", batch_size=7), seed=1).train_dataloader())[7:]
    data = stub(CaptionData("t.csv", batch_size=7), seed=1)
    next(iter(data.train_dataloader()))
    data.seen, data.skipped = 70, 2
    resumed = stub(CaptionData("t.csv", batch_size=7), seed=2)
    resumed.load_state_dict(data.state_dict())
    assert captions(resumed.train_dataloader()) == expected
    assert (resumed.seen, resumed.skipped) == (70, 2)


def test_a_state_fits_the_same_table_by_another_path(here):
    data = stub(CaptionData(str(here / "t.csv"), batch_size=7), seed=1)
    next(iter(data.train_dataloader()))
    stub(CaptionData("t.csv", batch_size=7)).load_state_dict(data.state_dict())
    Path("u.csv").write_text(Path("t.csv").read_text())
    with pytest.raises(UserError, match=r"u\.csv"):
        stub(CaptionData("u.csv", batch_size=7)).load_state_dict(data.state_dict())


def test_a_state_of_an_older_version_is_named_as_such(here):
    data = stub(CaptionData("t.csv", batch_size=7), seed=1)
    next(iter(data.train_dataloader()))
    state = data.state_dict()
    del state["settings"]["content"]
    resumed = stub(CaptionData("t.csv", batch_size=7), seed=2)
    with pytest.warns(UserWarning, match="older version"):
        resumed.load_state_dict(state)
    assert resumed.seed == 1
    del state["seed"]
    with pytest.raises(UserError, match=r"older version .* seed"):
        resumed.load_state_dict(state)
