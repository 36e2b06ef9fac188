"""What is in the batches of training and of validation."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pacl.data.caption_data import CaptionData
from pacl.data.crop import SquareCrop
from pacl.data.sources import Source
from tests.data.caption_data.fitting import COUNT, captions, fit, numbers, stub


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_comes_once_an_epoch_with_a_caption_of_its_own(here, workers):
    module = fit(CaptionData("t.csv", batch_size=7, workers=workers), epochs=2)
    assert len(module.seen) == 4
    for epoch in (module.seen[:2], module.seen[2:]):
        assert sorted(n for batch in epoch for n in numbers(batch)) == list(range(COUNT))
    assert numbers(module.seen[0]) != numbers(module.seen[2])
    for batch in module.seen:
        assert batch["images"].shape == (7, 3, 8, 8)
        assert set(batch) == {"images", "positives", "seed", "skipped", "texts"}
        assert torch.equal(batch["positives"], torch.eye(7, dtype=torch.bool))
        for number, text in zip(numbers(batch), batch["texts"], strict=True):
            assert text.startswith(f"image {number} has")


def test_the_run_s_seed_decides_and_nothing_else(here):
    settings = {"batch_size": 7, "cut": SquareCrop("random", flip=0.5, colour=0.5)}
    runs = [fit(CaptionData("t.csv", **settings), seed=seed).seen for seed in (3, 3, 4)]
    assert captions(runs[0]) == captions(runs[1]) != captions(runs[2])
    for one, other in zip(*runs[:2], strict=True):
        assert torch.equal(one["images"], other["images"])


@pytest.mark.parametrize("cache", ["memory", "folder"])
def test_kept_tokens_come_where_images_would(here, cache):
    plain = fit(CaptionData("t.csv", batch_size=5, hold_out=4, cut=SquareCrop("pad")), epochs=2)
    for again in range(2):
        kept = fit(CaptionData("t.csv", batch_size=5, hold_out=4, cut=SquareCrop("pad"), cache=cache), epochs=2)
        assert kept.encoded == (COUNT if cache == "memory" or not again else 0)
        for own, other in ((plain.seen, kept.seen), (plain.validated, kept.validated)):
            assert captions(own) == captions(other)
            for with_images, with_tokens in zip(own, other, strict=True):
                assert torch.equal(with_tokens["tokens"].float(), plain.frozen_tokens(with_images["images"]))
                assert torch.equal(with_tokens["positives"], with_images["positives"])


def test_weights_reach_the_draws(here):
    Path("few.csv").write_text("image,caption\n0.png,few\n1.png,few")
    data = CaptionData(train=[Source("t.csv", weight=1.0), Source("few.csv", weight=3.0)], batch_size=16)
    (batch,) = stub(data).train_dataloader()
    assert batch["positives"][:, batch["texts"].index("few")].sum() == 12


def test_validation_has_all_captions_of_what_was_held_out(here):
    Path("few.csv").write_text("image,caption\n0.png,one\n0.png,two\n1.png,three")
    cut = SquareCrop("random", colour=0.5)
    data = CaptionData(train=[Source("t.csv", hold_out=5)], val=[Source("few.csv")], batch_size=4, cut=cut)
    module = fit(data)
    assert [len(batch["images"]) for batch in module.validated[-2:]] == [4, 3]  # after two of the sanity check
    images = [n for batch in module.validated[-2:] for n in numbers(batch)]
    held = images[:5]
    assert images[5:] == [0, 1]
    trained = {int(text.split()[1]) for text in captions(module.seen)}
    assert len(trained) == 8  # two steps of four of the other nine
    assert not trained & set(held)
    expected = [f"image {n} has a word{c}" for n in held for c in range(2)] + ["one", "two", "three"]
    assert captions(module.validated[-2:]) == expected
    assert sum(int(batch["positives"].sum()) for batch in module.validated[-2:]) == len(expected)


def test_a_batch_larger_than_the_set_takes_it_all_with_a_warning(here):
    with pytest.warns(UserWarning, match="batch_size 256.* 14 "):
        module = fit(CaptionData("t.csv"), epochs=2)
    assert [sorted(numbers(batch)) for batch in module.seen] == [list(range(COUNT))] * 2


def test_processes_divide_the_batches(here):
    def rank(number):
        data = stub(CaptionData("t.csv", batch_size=5))
        data.trainer.global_rank, data.trainer.world_size = number, 2
        return list(data.train_dataloader())

    whole = list(stub(CaptionData("t.csv", batch_size=5)).train_dataloader())
    for one, other, both in zip(rank(0), rank(1), whole, strict=True):
        assert (len(one["images"]), len(other["images"])) == (3, 2)
        assert sorted(numbers(one) + numbers(other)) == sorted(numbers(both))
        assert sorted(one["texts"] + other["texts"]) == sorted(both["texts"])


@pytest.mark.parametrize(("images", "told"), [(27, True), (33, False)])  # 11 of 27 and 1 of 33 fill no batch of 16
def test_many_images_that_fill_no_batch_are_told_of(images: int, told: bool) -> None:
    data = CaptionData(batch_size=16)
    data.trainer = SimpleNamespace(global_rank=0, world_size=1)
    batches = SimpleNamespace(sources=[range(images)], stores=None)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        loader = data._loader(batches, [None], shuffle=True)
    assert len(loader) * 16 < images
    assert [f"{images}" in str(each.message) for each in found] == [True] * told
