"""Sources that train and those that validate; their vocabulary and nouns."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

import pacl.data.nouns
import pacl.data.splits
from pacl.data.caption_data import CaptionData
from pacl.data.sources import Source
from pacl.errors import ArgumentError, UserError
from tests.data.caption_data.fitting import COUNT, TEMPLATES, fit, numbers, stub


def test_one_file_or_a_list(here):
    for data in (
        CaptionData("t.csv", str(here), hold_out=3),
        CaptionData("t.csv", hold_out=3),
        CaptionData(train=[Source("t.csv", hold_out=3)]),
    ):
        (train,), (val,) = data.parts()
        assert (len(train), len(val)) == (COUNT - 3, 3)
        assert data.validates
        names = {part.name(i) for part in (train, val) for i in range(len(part))}
        assert {Path(name).name for name in names} == {f"{n}.png" for n in range(COUNT)}
    assert not CaptionData("t.csv").validates
    assert CaptionData("t.csv").parts()[1] == []


def test_several_sources_and_those_to_validate_on(here):
    Path("few.csv").write_text("image,caption\n0.png,one\n1.png,two\n2.png,three")
    data = CaptionData(train=[Source("t.csv", hold_out=2), Source("few.csv")], val=[Source("few.csv")])
    train, val = data.parts()
    assert [len(each) for each in train] == [COUNT - 2, 3]
    assert [len(each) for each in val] == [2, 3]
    assert CaptionData("few.csv", val=[Source("t.csv")]).validates


def test_validation_has_the_images_that_its_list_names(here):
    Path("train.txt").write_text("".join(f"{n}.png\n" for n in range(10)))
    Path("val.txt").write_text("".join(f"{n}.png\n" for n in range(10, COUNT)))
    data = CaptionData(train=[Source("t.csv", only="train.txt")], val=[Source("t.csv", only="val.txt")], batch_size=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of held-out images that are also in training
        assert data.extent() == f"training on 10 images, holding out {COUNT - 10}"
    images = [n for batch in fit(data).validated for n in numbers(batch)]
    assert set(images) == set(range(10, COUNT))
    with pytest.raises(UserError, match="hold_out"):
        CaptionData("t.csv", val=[Source("t.csv", hold_out=2)]).parts()


def test_a_source_of_weight_0_does_not_train(here):
    """Nor does it count in anything that is said of the training data."""
    rows = "".join(f"{n}.png,a zebra\n" for n in range(COUNT))
    Path("off.csv").write_text(f"image,caption\n{rows}")
    sources = [Source("off.csv", weight=0.0, hold_out=4), Source("t.csv", weight=1.0, hold_out=2)]
    for train in (sources, sources[::-1]):
        data = CaptionData(train=train, batch_size=4, nouns=True)
        assert data.extent() == f"training on {COUNT - 2} images, holding out 6"
        assert any("(0 images, weight 0)" in line for line in data.summary())
        assert "zebra" not in {*data.count_nouns(), *(data.vocabulary or ())}
        assert (data.copies, data.twice) == (2, 2)  # not those that only the source that is off would train on
        for cache in (None, "memory"):
            trained = fit(CaptionData(train=train, batch_size=4, cache=cache))
            assert len(trained.seen) == (COUNT - 2) // 4
            assert not any("zebra" in text for batch in trained.seen for text in batch["texts"])
            assert sum(len(numbers(batch)) for batch in trained.validated) == 2 * 6  # before and after the epoch


def test_null_is_no_source():
    data = CaptionData(pairs="a.csv", images="images", train=None, val=None, cut=None)
    assert [source.pairs for source in data.train] == ["a.csv"]
    assert data.val == []
    assert data.cut == CaptionData("a.csv").cut


def test_templates_that_do_not_exist_are_refused_before_any_image_is_read(monkeypatch):
    monkeypatch.setattr(CaptionData, "read", lambda self: pytest.fail("read"))
    with pytest.raises(ArgumentError) as error:
        CaptionData("a.csv", nouns=True, templates="phot").parts()
    assert error.value.argument == "templates"


@pytest.mark.parametrize("weights", [(-1.0, 1.0), (0.0, 0.0), (float("nan"), None)])
def test_weights_are_checked_before_anything_is_read(here, weights):
    with pytest.raises(UserError, match="weight"):
        CaptionData(train=[Source("missing.csv", weight=weight) for weight in weights]).parts()


def test_words_that_a_model_lacks_are_looked_for_in_all_sources(here):
    """The first of them may be small, or of weight 0."""
    Path("few.csv").write_text("image,caption\n0.png,one\n1.png,two\n")
    data = stub(CaptionData(train=[Source("few.csv"), Source("t.csv")], batch_size=4))
    data.trainer.lightning_module.pacl.clip.vocabulary = frozenset(["one", "two"])
    with pytest.warns(UserWarning, match="knows 2 words"):
        data.setup("fit")


def test_words_of_shards_are_those_of_their_first_batch(here):
    data = stub(CaptionData("0.tar", batch_size=4))
    data.trainer.lightning_module.pacl.clip.vocabulary = frozenset(["one", "two"])
    data.setup("fit")  # the shard is not read

    def moved(text):
        positives = torch.ones(1, 1, dtype=torch.bool)
        return data.on_before_batch_transfer({"texts": [text], "positives": positives, "skipped": []}, 0)

    with pytest.warns(UserWarning, match="the first batch"):
        moved("three")  # others may have known ones
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved("three")


def test_names_that_a_source_lacks_are_a_warning(here):
    Path("only.txt").write_text("1.png\n2.png\n3.jpg\n")
    with pytest.warns(UserWarning, match=r"1 names in only\.txt .*3\.jpg"):
        CaptionData(train=[Source("t.csv", only="only.txt")]).parts()


def test_settings_of_one_source_are_refused_without_it(here):
    with pytest.raises(ArgumentError) as error:
        CaptionData(train=[Source("t.csv")], hold_out=3).parts()
    assert error.value.argument == "hold_out"


def test_what_a_source_does_not_use_is_a_warning(here):
    data = CaptionData("t.csv", batch_size=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.parts()
    Path("spare.csv").write_text(Path("t.csv").read_text().replace("image,", "image,text,").replace(".png,", ".png,x,"))
    with pytest.warns(UserWarning, match=r"spare\.csv: .*1 columns \(text\)"):
        CaptionData("spare.csv", batch_size=4).parts()


def test_shards_and_files_do_not_mix(here):
    with pytest.raises(UserError, match="train"):
        CaptionData(train=[Source("0.tar"), Source("t.csv")]).parts()


def test_the_vocabulary_is_of_words_and_signs(here):
    captions = ["A dog, in a t-shirt.", "dog's", "the dog"]
    Path("t.csv").write_text("\n".join(["image,caption", *(f'{n}.png,"{c}"' for n in range(3) for c in captions)]))
    assert CaptionData("t.csv").vocabulary == ("'s", ",", "-", ".", "a", "dog", "in", "shirt", "t", "the")


def test_the_vocabulary_is_what_comes_three_times(here):
    assert CaptionData("t.csv").vocabulary == ("a", "has", "image", "word0", "word1")


def test_nouns_are_counted(here):
    Path("t.csv").write_text("image,caption\n0.png,a boy\n1.png,a boy and a dog\n2.png,a boy\n")
    assert CaptionData("t.csv", nouns=True).count_nouns() == {"boy": 3, "person": 3, "dog": 1}
    assert CaptionData("t.csv", nouns=True, hold_out=1).count_nouns()["person"] == 2
    assert CaptionData("t.csv").count_nouns() == {}
    assert CaptionData("{0..3}.tar", nouns=True).count_nouns() == {}


def test_nouns_are_looked_for_once_and_kept_with_the_cache(here, monkeypatch):
    calls = []

    def tag_all(captions, cache, tracked):
        calls.append((len(captions), cache))
        return [(caption.split()[-1],) for caption in captions]

    monkeypatch.setattr(pacl.data.nouns, "tag_all", tag_all)
    for cache, folder in (("memory", None), (None, None), ("kept", Path("kept"))):
        for batch in fit(CaptionData("t.csv", batch_size=7, cache=cache, **TEMPLATES), epochs=2).seen:
            for right in batch["positives"]:
                caption, noun = (batch["texts"][t] for t in right.nonzero().flatten().tolist())
                assert noun == f"a photo of a {caption.split()[-1]}."
        assert calls == [(2 * COUNT, folder)]
        calls.clear()
    list(stub(CaptionData("t.csv", batch_size=7)).train_dataloader())
    assert calls == []
