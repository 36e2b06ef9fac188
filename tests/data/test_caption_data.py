import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_lightning import LightningModule, Trainer

import pacl.data.nouns
from pacl.data.caption_data import CaptionData
from pacl.data.crop import SquareCrop
from pacl.data.sources import Source
from pacl.data.token_stamp import Stamp
from pacl.errors import ArgumentError, UserError

COUNT = 14
TEMPLATES = {"nouns": True, "templates": "photo"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a table of 14 even images, each of its own grey and with two captions."""
    monkeypatch.chdir(tmp_path)
    for n in range(COUNT):
        Image.fromarray(np.full((10, 12, 3), 10 * n, np.uint8)).save(f"{n}.png")
    rows = [f"{n}.png,image {n} has a word{c}" for n in range(COUNT) for c in range(2)]
    Path("t.csv").write_text("\n".join(["image,caption", *rows]))
    return tmp_path


class Module(LightningModule):
    """Keeps the batches that it gets; its frozen tokens are the mean colours of four patches."""

    image_size = 8

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        clip = {"image_name": "none", "image_checksum": lambda: "0" * 16, "layers": ()}
        clip |= {"patch": 4, "width": 3, "image": SimpleNamespace(quick_gelu=False)}
        self.pacl = SimpleNamespace(clip=SimpleNamespace(**clip, mean=(0.5,) * 3, std=(0.5,) * 3))
        self.encoded = 0
        self.seen, self.validated = [], []

    def frozen_tokens(self, images):
        self.encoded += len(images)
        return F.avg_pool2d(images.float(), 4).flatten(2).transpose(1, 2)  # [B, 4, 3]

    def token_stamp(self, size, crop, source, dtype):
        return Stamp.of(self.pacl.clip, "value", size, crop, source, dtype)

    def training_step(self, batch, _):
        self.seen.append(batch)
        return self.weight * 0

    def validation_step(self, batch, _):
        self.validated.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(data, epochs=1, seed=0):
    """Train, and return what the module got."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(max_epochs=epochs, accelerator="cpu", use_distributed_sampler=False, **quiet)
    torch.manual_seed(seed)
    module = Module()
    trainer.fit(module, data)
    return module


def stub(data, seed=0):
    """As much of a trainer as the loaders ask for."""
    torch.manual_seed(seed)
    strategy = SimpleNamespace(
        broadcast=lambda value: value, barrier=lambda: None, is_global_zero=True, root_device="cpu"
    )
    data.trainer = SimpleNamespace(
        strategy=strategy, lightning_module=Module(), global_rank=0, world_size=1, current_epoch=0, training=True
    )
    return data


def captions(batches):
    return [text for batch in batches for text in batch["texts"]]


def numbers(batch):
    """Which images are in a batch, by their grey."""
    grey = batch["tokens"][:, 0, 0] if "tokens" in batch else batch["images"][:, 0, 0, 0]
    return (grey / 10).int().tolist()


# --- Sources ------------------------------------------------------------------------------------------------------


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
    Path("t.csv").write_text("image,caption\n0.png,a boy\n1.png,a boy and a dog\n")
    assert CaptionData("t.csv", nouns=True).count_nouns() == {"boy": 2, "person": 2, "dog": 1}
    assert CaptionData("t.csv", nouns=True, hold_out=1).count_nouns()["person"] == 1
    assert CaptionData("t.csv").count_nouns() == {}
    assert CaptionData("{0..3}.tar", nouns=True).count_nouns() == {}


def test_nouns_are_looked_for_once_and_kept_with_the_cache(here, monkeypatch):
    calls = []

    def tag_all(captions, cache):
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


# --- Batches ------------------------------------------------------------------------------------------------------


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


def test_a_random_cut_keeps_no_tokens(here):
    with pytest.raises(UserError, match="random"):
        fit(CaptionData("t.csv", batch_size=5, cut=SquareCrop("random"), cache="memory"))


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


# --- What is refused, and what is put up with ---------------------------------------------------------------------


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


def test_a_batch_larger_than_the_set_takes_it_all_with_a_warning(here):
    with pytest.warns(UserWarning, match="batch_size 256.* 14 "):
        module = fit(CaptionData("t.csv"), epochs=2)
    assert [sorted(numbers(batch)) for batch in module.seen] == [list(range(COUNT))] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1}, "batch_size 1"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"max_skipped": 1.5}, r"max_skipped 1\.5"),
        ({"max_skipped": -0.1}, r"max_skipped -0\.1"),
        ({"cut": SquareCrop(flip=2.0)}, r"cut\.flip 2\.0"),
        ({"nouns": True, "templates": "no-such"}, "no-such"),
        ({"hold_out": 13}, "1 training images"),
        ({"hold_out": 14}, "hold_out 14"),
        ({"images": "nowhere"}, "nowhere"),
        ({"pairs": "nowhere.csv"}, r"nowhere\.csv"),
        ({"pairs": None}, "pairs"),
    ],
)
def test_settings_that_make_no_sense(here, settings, message, monkeypatch):
    monkeypatch.setattr(pacl.data.nouns, "tag_all", lambda captions, cache: [()] * len(captions))
    with pytest.raises(UserError, match=message):
        stub(CaptionData(**{"pairs": "t.csv", **settings})).train_dataloader()


def spoil(*which):
    for n in which:
        Path(f"{n}.png").write_bytes(b"no image")


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


def test_images_are_looked_for_before_any_is_read(here):
    for n in range(4):
        Path(f"{n}.png").unlink()
    with pytest.raises(ArgumentError, match=r"4 of 14 images of t\.csv.*\(first: \d\.png\)") as error:
        CaptionData("t.csv", max_skipped=0.2, hold_out=2).parts()
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
