"""Settings and pairs that are refused or warned of."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import pacl.data.nouns
import pacl.data.splits
from pacl.data.caption_data import CaptionData
from pacl.data.crop import SquareCrop
from pacl.data.sources import Source
from pacl.errors import ArgumentError, UserError
from tests.data.caption_data.fitting import COUNT, fit, stub


def test_a_random_cut_keeps_no_tokens(here):
    with pytest.raises(UserError, match="random"):
        fit(CaptionData("t.csv", batch_size=5, cut=SquareCrop("random"), cache="memory"))


def test_tokens_of_other_images_name_the_whole_cache(here):
    fit(CaptionData("t.csv", batch_size=5, hold_out=2, cache="kept"))
    with pytest.raises(ArgumentError) as refused:
        fit(CaptionData("t.csv", batch_size=5, hold_out=3, cache="kept"))
    assert (refused.value.argument, str(refused.value.value)) == ("cache", "kept")


def test_holding_out_many_images_is_warned_of(here):
    data = CaptionData("t.csv", hold_out=5)
    with pytest.warns(UserWarning, match="hold_out 5: 5 of the 14"):
        data.parts()
    assert data.extent() == "training on 9 images, holding out 5"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CaptionData("t.csv", hold_out=4).parts()


def test_held_out_images_that_are_copies_of_those_in_training_are_warned_of(here):
    for n in range(COUNT):
        Path(f"copy-{n}.png").write_bytes(Path(f"{n}.png").read_bytes())
    Path("copies.csv").write_text("image,caption\n" + "".join(f"copy-{n}.png,image {n}\n" for n in range(COUNT)))
    with pytest.warns(UserWarning, match=f"{COUNT} of {COUNT} held-out images are also in training"):
        CaptionData("t.csv", val=[Source("copies.csv")]).parts()
    Path("few.csv").write_text("image,caption\n" + "".join(f"{n}.png,x\n" for n in range(4)))
    with pytest.warns(UserWarning, match=f"4 of {COUNT} held-out images are also in training"):
        CaptionData("few.csv", val=[Source("copies.csv")]).parts()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CaptionData("t.csv", hold_out=4).parts()


def test_held_out_images_that_are_there_twice_are_warned_of(here):
    Path("other.csv").write_text("image,caption\n" + "".join(f"{n}.png,again {n}\n" for n in range(COUNT)))
    data = CaptionData(train=[Source("t.csv", hold_out=4), Source("other.csv", hold_out=4)])
    with pytest.warns(UserWarning, match="4 of 8 held-out images are copies of others of them"):
        data.parts()
    assert (data.copies, data.twice) == (0, 4)
    with pytest.warns(UserWarning, match=f"{COUNT} of {2 * COUNT} held-out images are copies of others"):
        CaptionData("0.tar", val=[Source("t.csv"), Source("other.csv")]).parts()


def test_validation_beside_shards_is_stated_with_what_was_not_looked_for(here):
    data = CaptionData("0.tar", val=[Source("t.csv")])
    assert f"{COUNT} images, not compared" in data.extent()
    assert f"{COUNT} images, not compared" in data.summary()[-1]
    assert CaptionData("0.tar").extent() == ""


@pytest.mark.parametrize("alike", ["captions", "images"])
def test_pairs_that_are_all_alike_are_warned_of(here, alike):
    rows = [f"{n}.png,{'a dog' if alike == 'captions' else f'dog {n}'}" for n in range(COUNT)]
    Path("alike.csv").write_text("\n".join(["image,caption", *rows]))
    if alike == "images":
        for n in range(COUNT - 1):
            Path(f"{n}.png").write_bytes(Path(f"{COUNT - 1}.png").read_bytes())
    with pytest.warns(UserWarning, match=f"all {alike} that train are the same"):
        CaptionData("alike.csv").parts()


def test_a_wrong_hold_out_is_refused_before_nouns_are_found(here, monkeypatch):
    monkeypatch.setattr("pacl.data.nouns.tag_all", lambda *_, **__: pytest.fail("nouns were found"))
    with pytest.raises(ArgumentError, match="hold_out 200"):
        CaptionData("t.csv", nouns=True, hold_out=200).parts()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("images", "hold_out", "enough"), [(1, 0.1, 3), (2, 0.1, 3), (1, 0, 2), (5, 4, 6)])
def test_too_few_images_are_refused_before_nouns_are_found(here, monkeypatch, images, hold_out, enough):
    Path("few.csv").write_text("\n".join(["image,caption", *(f"{n}.png,x" for n in range(images))]))
    monkeypatch.setattr("pacl.data.nouns.tag_all", lambda *_, **__: pytest.fail("nouns were found"))
    before = sorted(here.rglob("*"))
    with pytest.raises(UserError, match=rf"few\.csv.* {enough} images"):
        CaptionData("few.csv", nouns=True, hold_out=hold_out, cache="tokens").parts()
    assert sorted(here.rglob("*")) == before


@pytest.mark.filterwarnings("ignore:hold_out")
@pytest.mark.parametrize(("images", "hold_out"), [(3, 0.1), (2, 0), (6, 4)])
def test_the_number_that_is_named_is_enough(here, images, hold_out):
    Path("few.csv").write_text("\n".join(["image,caption", *(f"{n}.png,image {n}" for n in range(images))]))
    stub(CaptionData("few.csv", hold_out=hold_out)).train_dataloader()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1}, "batch_size 1"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"max_skipped": 1.5}, r"max_skipped 1\.5"),
        ({"max_skipped": -0.1}, r"max_skipped -0\.1"),
        ({"cut": SquareCrop(flip=2.0)}, r"cut\.flip 2\.0"),
        ({"nouns": True, "templates": "no-such"}, "no-such"),
        ({"hold_out": 13}, "15 images"),
        ({"hold_out": 14}, "hold_out 14"),
        ({"images": "nowhere"}, "nowhere"),
        ({"pairs": "nowhere.csv"}, r"nowhere\.csv"),
        ({"pairs": None}, "pairs"),
    ],
)
def test_settings_that_make_no_sense(here, settings, message, monkeypatch):
    monkeypatch.setattr(pacl.data.nouns, "tag_all", lambda captions, cache, tracked: [()] * len(captions))
    with pytest.raises(UserError, match=message):
        stub(CaptionData(**{"pairs": "t.csv", **settings})).train_dataloader()
