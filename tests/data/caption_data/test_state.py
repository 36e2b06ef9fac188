"""The state of the data in a checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pacl.data.caption_data import CaptionData
from pacl.data.crop import SquareCrop
from pacl.data.sources import Source
from pacl.errors import ArgumentError, UserError
from tests.data.caption_data.fitting import captions, stub


def refused(data: CaptionData, state: dict[str, Any]) -> str | None:
    """The setting by which a state does not fit; None: it fits."""
    try:
        data.load_state_dict(state)
    except ArgumentError as error:
        return error.argument
    return None


def test_a_state_brings_the_seed_the_place_and_the_counts(here):
    expected = captions(stub(CaptionData("t.csv", batch_size=7), seed=1).train_dataloader())[7:]
    data = stub(CaptionData("t.csv", batch_size=7), seed=1)
    next(iter(data.train_dataloader()))
    data.seen, data.skipped, data.unmeasured = 70, 2, 3
    resumed = stub(CaptionData("t.csv", batch_size=7), seed=2)
    resumed.load_state_dict(data.state_dict())
    assert captions(resumed.train_dataloader()) == expected
    assert (resumed.seen, resumed.skipped, resumed.unmeasured) == (70, 2, 3)
    older = {key: value for key, value in data.state_dict().items() if key != "unmeasured"}
    resumed.load_state_dict(older)
    assert resumed.unmeasured == 0


def test_a_state_fits_the_same_table_by_another_path(here):
    data = stub(CaptionData(str(here / "t.csv"), batch_size=7), seed=1)
    next(iter(data.train_dataloader()))
    stub(CaptionData("t.csv", batch_size=7)).load_state_dict(data.state_dict())
    Path("u.csv").write_text(Path("t.csv").read_text())
    with pytest.raises(UserError, match=r"u\.csv"):
        stub(CaptionData("u.csv", batch_size=7)).load_state_dict(data.state_dict())


@pytest.mark.parametrize("cache", [None, "memory"])
def test_a_state_fits_the_same_photos_in_another_folder_and_no_others(here, cache):
    state = stub(CaptionData("t.csv", ".", batch_size=7, hold_out=2, cache=cache)).state_dict()
    for name in ("moved", "others"):
        shutil.copytree(here, here / name, ignore=shutil.ignore_patterns("moved"))
    stub(CaptionData("t.csv", "moved", batch_size=7, hold_out=2, cache=cache)).load_state_dict(state)
    for path in Path("others").glob("*.png"):
        Image.fromarray(np.full((12, 10, 3), 5, np.uint8)).save(path)
    resumed = stub(CaptionData("t.csv", "others", batch_size=7, hold_out=2, cache=cache))
    with pytest.raises(UserError, match=r"t\.csv"):
        resumed.load_state_dict(state)
    del state["settings"]["files"]  # a version that did not record it
    resumed.load_state_dict(state)


@pytest.mark.parametrize(
    ("settings", "change", "argument"),
    [
        ({}, {"cut": SquareCrop("pad")}, "cut.mode"),
        ({"cut": SquareCrop("random")}, {"cut": SquareCrop("random", area=(0.1, 1.0))}, "cut.area"),
        ({}, {"cut": SquareCrop(area=(0.1, 1.0))}, None),  # without effect
        ({"cache": "memory"}, {"cache_dtype": "bfloat16"}, "cache_dtype"),
        ({"cache": "memory"}, {"cache": None}, "cache"),
        ({"cache": "memory"}, {"cache": "tokens"}, None),
        ({}, {"cache_dtype": "bfloat16", "workers": 2, "shuffle_buffer": 3}, None),
    ],
)
def test_a_state_fits_the_settings_that_batches_depend_on(here, settings, change, argument):
    same = {"pairs": "t.csv", "batch_size": 7, **settings}
    state = stub(CaptionData(**same)).state_dict()
    resumed = stub(CaptionData(**{**same, **change}))
    assert refused(resumed, state) == argument


def test_a_state_fits_the_texts_of_a_file_of_templates(here):
    Path("templates.txt").write_text("a photo of a {}\n")
    settings = {"pairs": "t.csv", "batch_size": 7, "nouns": True, "templates": "templates.txt"}
    state = stub(CaptionData(**settings)).state_dict()
    stub(CaptionData(**settings)).load_state_dict(state)
    Path("templates.txt").write_text("a drawing of a {}\n")
    with pytest.raises(ArgumentError) as error:
        stub(CaptionData(**settings)).load_state_dict(state)
    assert (error.value.argument, error.value.value) == ("templates", "templates.txt")


def test_templates_are_compared_by_their_texts_where_they_are_used(here):
    for name in ("templates.txt", "moved.txt"):
        Path(name).write_text("a photo of a {}\n")
    same = {"pairs": "t.csv", "batch_size": 7}
    state = stub(CaptionData(**same, nouns=True, templates="templates.txt")).state_dict()
    moved = stub(CaptionData(**same, nouns=True, templates="moved.txt"))
    moved.load_state_dict(state)
    stub(CaptionData(**same, templates="photo")).load_state_dict(stub(CaptionData(**same)).state_dict())


def test_templates_of_an_older_version_are_compared_by_their_name(here):
    """It recorded that alone."""
    same = {"pairs": "t.csv", "batch_size": 7}
    for nouns in (True, False):
        state = stub(CaptionData(**same, nouns=nouns, templates="photo")).state_dict()
        del state["settings"]["texts"]
        state["settings"]["templates"] = "photo"
        stub(CaptionData(**same, nouns=nouns, templates="photo")).load_state_dict(state)
        other = stub(CaptionData(**same, nouns=nouns, templates="paper"))
        if not nouns:
            other.load_state_dict(state)  # they act on nothing
            continue
        with pytest.raises(ArgumentError) as error:
            other.load_state_dict(state)
        assert (error.value.argument, error.value.value) == ("templates", "paper")


@pytest.mark.parametrize(
    ("change", "argument"),
    [({"shuffle_buffer": 3}, "shuffle_buffer"), ({"workers": 2}, "workers"), ({"workers": 1}, None)],
)
def test_a_state_of_shards_fits_what_their_order_depends_on(change, argument):
    """One worker reads as the training process does."""
    source = [Source("s-{000..001}.tar", size=9)]
    state = stub(CaptionData(train=source, batch_size=3)).state_dict()
    resumed = stub(CaptionData(train=source, batch_size=3, **change))
    assert refused(resumed, state) == argument


def test_a_state_fits_the_weights_of_the_sources(here):
    sources = [Source("t.csv", weight=1.0), Source("t.csv", weight=None)]
    state = stub(CaptionData(train=sources, batch_size=7)).state_dict()
    sources[1].weight = 0.0
    assert refused(stub(CaptionData(train=sources, batch_size=7)), state) == "weight"


def test_a_state_of_an_older_version_that_called_held_out_images_other_images_fits(here):
    state = stub(CaptionData("t.csv", batch_size=7, hold_out=2)).state_dict()
    state["settings"]["data"] = state["settings"]["data"].replace("on 2 images", "on 2 other images")
    assert "other" in state["settings"]["data"]
    stub(CaptionData("t.csv", batch_size=7, hold_out=2)).load_state_dict(state)


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
