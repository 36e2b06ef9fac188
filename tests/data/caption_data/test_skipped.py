"""Images that are missing or cannot be read."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from pacl.data.caption_data import CaptionData
from pacl.data.sources import Source
from pacl.data.splits import MEND
from pacl.errors import ArgumentError, UserError
from tests.data.caption_data.fitting import COUNT, Module, fit, numbers


def spoil(*which):
    for n in which:
        Path(f"{n}.png").write_bytes(b"no image")


def test_a_repaired_image_gets_its_tokens(here, monkeypatch):
    """Of the same size, and not one whose content the stamp knows. The tower is asked for no empty batch."""
    monkeypatch.setattr("pacl.data.token_stamp.SAMPLED", 2)
    whole = Path("3.png").read_bytes()
    Path("3.png").write_bytes(bytes(len(whole)))
    frozen = Module.frozen_tokens
    monkeypatch.setattr(Module, "frozen_tokens", lambda self, images: frozen(self, images) if len(images) else 1 / 0)
    rest = [n for n in range(COUNT) if n != 3]
    for expected, encoded in ((rest, 13), (rest, 0), (range(COUNT), 1 + COUNT), (range(COUNT), 0)):
        if len(expected) == COUNT:
            Path("3.png").write_bytes(whole)
        module = fit(CaptionData("t.csv", batch_size=COUNT, max_skipped=0.5, cache="tokens"))
        assert sorted(n for batch in module.seen for n in numbers(batch)) == list(expected)
        assert module.encoded == encoded


def test_bad_samples_are_skipped_named_and_counted(here):
    spoil(3, 5)
    Path("t.csv").write_text(Path("t.csv").read_text() + "\nlost.png,a lost one\n0.png,\n")
    data = CaptionData("t.csv", batch_size=5, max_skipped=0.3)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        module = fit(data, epochs=4)
    named = [str(each.message) for each in said if str(each.message).startswith("skipped: ")]
    assert len(named) == 5  # of twelve
    assert {name.split()[1].rpartition("/")[2] for name in named} == {"3.png", "5.png", "lost.png"}
    assert (data.seen, data.skipped) == (60, 12)
    for epoch in range(4):
        found = sorted(n for batch in module.seen[3 * epoch : 3 * epoch + 3] for n in numbers(batch))
        assert found == [n for n in range(COUNT) if n not in (3, 5)]


@pytest.mark.parametrize("cache", [None, "memory"])
def test_too_many_bad_ones_stop_the_run(here, cache):
    spoil(*range(1, COUNT, 2))
    data = CaptionData("t.csv", batch_size=7, max_skipped=0.4, cache=cache)
    with pytest.raises(ArgumentError, match=r"7 of 14 .*png") as error:
        fit(data)
    assert (error.value.argument, error.value.value) == ("max_skipped", 0.4)
    spared = CaptionData("t.csv", batch_size=7, max_skipped=0.5, cache=cache)
    assert len(fit(spared).seen) == 2


@pytest.mark.parametrize("cache", [None, "memory"])
def test_bad_ones_that_are_held_out_are_counted_once_and_may_stop_the_run(here, cache):
    """No validation can use them, and each tries again."""
    held = CaptionData("t.csv", hold_out=5).parts()[1][0]
    names = [Path(held.name(i)).name for i in range(5)]
    Path(names[0]).write_bytes(b"no image")
    Path("t.csv").write_text("".join(f"{line}\n" for line in _lines() if not line.startswith(names[1])))
    Path("t.csv").write_text(Path("t.csv").read_text() + f"{names[1]},\n")  # without a caption
    settings = {"hold_out": 5, "batch_size": 4, "cache": cache}
    data = CaptionData("t.csv", max_skipped=0.4, **settings)
    module = fit(data, epochs=3)
    assert sum(len(numbers(batch)) for batch in module.validated) == (1 + 3) * 3  # before and after each epoch
    assert (data.unmeasured, data.skipped) == (2, 0)
    with pytest.raises(ArgumentError, match=r"2 of 5 held-out images .*png") as error:
        fit(CaptionData("t.csv", max_skipped=0.3, **settings))
    assert (error.value.argument, error.value.value) == ("max_skipped", 0.3)


def _lines() -> list[str]:
    return Path("t.csv").read_text().splitlines()


def test_images_are_looked_for_before_any_is_read(here):
    for n in range(4):
        Path(f"{n}.png").unlink()
    with pytest.raises(ArgumentError, match=r"4 of 14 images of t\.csv.*\(first: \d\.png\)") as error:
        CaptionData("t.csv", max_skipped=0.2, hold_out=2).parts()
    assert MEND in str(error.value)
    assert (error.value.argument, error.value.value) == ("max_skipped", 0.2)
    with pytest.warns(match=r"4 of 14 images of t\.csv"):
        CaptionData("t.csv", max_skipped=0.3, hold_out=2).parts()
    Path("a.csv").write_text("image,caption\n5.png,one\n6.png,two\n")
    with pytest.raises(ArgumentError, match="4 of 14"):
        CaptionData("a.csv", val=[Source("t.csv")], max_skipped=0.2).parts()


@pytest.mark.parametrize("looked_for", [3, 1000])
def test_a_folder_with_none_of_the_images_is_one_line(here, looked_for, monkeypatch):
    monkeypatch.setattr("pacl.data.image_paths.LOOKED_FOR", looked_for)
    Path("holiday").mkdir()
    with pytest.raises(UserError, match=r"^holiday: has none of the 14 images of t\.csv \(first: \d+\.png\)"):
        CaptionData("t.csv", "holiday", max_skipped=1.0, hold_out=2).parts()
