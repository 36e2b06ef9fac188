import io
import itertools
import json
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
import torch.multiprocessing
from PIL import Image
from pytorch_lightning import LightningDataModule, LightningModule, Trainer

from pacl.data.crop import SquareCrop
from pacl.data.shard_loader import UNUSED_SHOWN, ShardLoader, shard_range
from pacl.data.shards import read_shard
from pacl.data.sources import Source
from pacl.errors import UserError

SIDE = 8


def image(number):
    file = io.BytesIO()
    Image.fromarray(np.full((SIDE, SIDE + 2, 3), number, np.uint8)).save(file, "png")
    return file.getvalue()


def write_shard(path, numbers, **other):
    with tarfile.open(path, "w") as tar:
        files = {f"{n:04}.{suffix}": content for n in numbers for suffix, content in files_of(n).items()}
        for name, content in {**files, **other}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def files_of(number):
    return {"png": image(number % 256), "txt": str(number).encode()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards 0 to 7 with 12 pairs each, whose captions are 0, 1, ..., 95."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(8):
        write_shard(folder / f"{shard}.tar", range(12 * shard, 12 * shard + 12))
    return folder


def load(pairs, batch=8, size=None, weight=None, **settings):
    sources = pairs if isinstance(pairs, list) else [Source(str(pairs), size=size, weight=weight)]
    return ShardLoader(
        sources, **{"batch": batch, "size": SIDE, "crop": SquareCrop(), "seed": 0, "shuffle": 5, **settings}
    )


def texts(batches):
    return [text for batch in batches for text in batch["texts"]]


def all_ranks(pairs, ranks, **settings):
    return [list(load(pairs, rank=rank, ranks=ranks, **settings)) for rank in range(ranks)]


# --- Who reads what -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shards", "streams"), itertools.product((1, 2, 3, 7, 32), (1, 2, 3, 4, 7)))
def test_stretches_are_equal_and_meet_without_gap_or_overlap(shards, streams):
    parts = [shard_range(shards, stream, streams) for stream in range(streams)]
    units = [(place, unit) for part in parts for place, own in part for unit in own]
    assert units == list(itertools.product(range(shards), range(streams)))
    assert {sum(len(own) for _, own in part) for part in parts} == {shards}


# --- Batches ------------------------------------------------------------------------------------------------------


def test_batches_are_what_modules_take(folder):
    loader = load(f"{folder}/0.tar", batch=4)
    assert len(loader) == 3
    for batch in loader:
        assert set(batch) == {"images", "texts", "positives", "skipped", "seed"}
        assert batch["images"].shape == (4, 3, SIDE, SIDE)
        assert batch["images"].dtype == torch.uint8
        assert [str(int(image.max())) for image in batch["images"]] == batch["texts"]
        assert torch.equal(batch["positives"], torch.eye(4, dtype=torch.bool))
        assert batch["skipped"] == []


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (2, 0), (1, 2), (2, 2), (4, 0), (3, 0)])
def test_every_pair_comes_once_an_epoch_where_numbers_divide(folder, ranks, workers):
    runs = all_ranks(f"{folder}/{{0..7}}.tar", ranks, workers=workers, batch=12)
    assert [len(run) for run in runs] == [8] * ranks
    assert sorted(map(int, itertools.chain(*map(texts, runs)))) == list(range(96))


@pytest.mark.parametrize(("shards", "ranks", "workers"), [(3, 2, 2), (1, 2, 2), (5, 3, 0), (1, 1, 4)])
def test_no_process_hangs_or_starves_when_shards_do_not_divide(folder, shards, ranks, workers):
    runs = all_ranks(f"{folder}/{{0..{shards - 1}}}.tar", ranks, workers=workers, batch=6)
    assert {len(run) for run in runs} == {2 * shards}
    seen = Counter(itertools.chain(*map(texts, runs)))
    assert len(seen) >= 0.7 * 12 * shards
    assert sum(seen.values()) == 12 * shards


def test_more_streams_than_pairs_still_make_every_step(tmp_path):
    write_shard(tmp_path / "0.tar", range(2))
    runs = all_ranks(f"{tmp_path}/0.tar", 3, batch=3, size=9)
    assert [[len(batch["texts"]) for batch in run] for run in runs] == [[1, 1, 1]] * 3


def test_a_batch_is_split_over_processes_as_evenly_as_possible(folder):
    runs = all_ranks(f"{folder}/0.tar", 3, batch=4)
    assert [[len(batch["images"]) for batch in run] for run in runs] == [[2] * 3, [1] * 3, [1] * 3]


def test_the_seed_and_the_epoch_decide_the_order(folder):
    def run(epoch=0, **settings):
        loader = load(f"{folder}/{{0..7}}.tar", crop=SquareCrop("random", flip=0.5), **settings)
        loader.order.set_epoch(epoch)
        return list(loader)

    first, again = run(workers=2), run(workers=2)
    for one, other in zip(first, again, strict=True):
        assert one["texts"] == other["texts"]
        assert torch.equal(one["images"], other["images"])
    orders = [texts(run()), texts(run(epoch=1)), texts(run(seed=1)), texts(run(shuffle=0))]
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] != sorted(orders[0], key=int)


def test_workers_live_on_and_learn_the_epoch(folder):
    kept = load(f"{folder}/{{0..3}}.tar", workers=2)
    for epoch in (0, 1, 0):
        kept.order.set_epoch(epoch)
        fresh = load(f"{folder}/{{0..3}}.tar", workers=2)
        fresh.order.set_epoch(epoch)
        assert texts(kept) == texts(fresh)
        next(iter(kept))  # and leave in the middle


def test_the_shuffle_buffer_mixes_shards(folder):
    order = [int(text) // 12 for text in texts(load(f"{folder}/{{0..7}}.tar", shuffle=40))]
    changes = sum(a != b for a, b in itertools.pairwise(order))
    assert changes > 40  # 7 if shards came one after the other


def test_mixtures_follow_their_weights(folder):
    def mix(*weights):
        sources = [
            Source(f"{folder}/{{0..5}}.tar", weight=weights[0]),
            Source(f"{folder}/{{6..7}}.tar", weight=weights[1]),
        ]
        return [int(text) < 72 for text in texts(load(sources, batch=8, workers=2))]

    assert sum(mix(None, None)) == 72
    assert sum(mix(1, 1)) == 48
    assert sum(mix(1, 3)) == 24
    off = mix(0, 1)
    assert not any(off)
    assert 20 < len(off) <= 24  # an epoch is as long as what trains
    halves = mix(1, 1)
    assert 12 <= sum(halves[:48]) <= 36  # sample by sample, not one after the other
    assert mix(1, 3) == mix(1, 3)


def test_nouns_of_the_shard_stand_beside_the_captions(tmp_path):
    write_shard(
        tmp_path / "0.tar",
        [],
        **{
            "0.png": image(0),
            "0.json": json.dumps({"caption": "a dog on grass", "nouns": ["dog", "grass"]}).encode(),
            "1.png": image(1),
            "1.json": json.dumps({"caption": "green grass", "nouns": ["grass"]}).encode(),
        },
    )
    (batch,) = load(f"{tmp_path}/0.tar", batch=2, templates=["the {}"])
    right = {(batch["texts"][t], int(batch["images"][i].max())) for i, t in batch["positives"].nonzero().tolist()}
    assert right == {("a dog on grass", 0), ("green grass", 1), ("the dog", 0), ("the grass", 0), ("the grass", 1)}
    (batch,) = load(f"{tmp_path}/0.tar", batch=2)
    assert sorted(batch["texts"]) == ["a dog on grass", "green grass"]


def test_nouns_are_found_where_the_shard_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr("pacl.data.nouns.nouns", lambda caption: tuple(caption.split()[1:]))
    write_shard(tmp_path / "0.tar", [], **{"0.png": image(0), "0.txt": b"shaggy dog"})
    (batch,) = load(f"{tmp_path}/0.tar", batch=1, templates=["the {}"])
    assert batch["texts"] == ["shaggy dog", "the dog"]


# --- What is wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_samples_and_broken_shards_are_skipped_and_listed(folder, tmp_path, workers):
    write_shard(tmp_path / "0.tar", range(10), **{"bad.png": b"no image", "bad.txt": b"x", "mute.png": image(3)})
    content = (folder / "1.tar").read_bytes()
    (tmp_path / "1.tar").write_bytes(content[: len(content) // 3])
    batches = list(load(f"{tmp_path}/{{0..1}}.tar", batch=4, size=24, workers=workers, shuffle=0))
    skipped = [line for batch in batches for line in batch["skipped"]]
    assert len(batches) == 6
    assert any(line.startswith("0.tar/bad is not an image") for line in skipped)
    assert "0.tar/mute has no caption" in skipped
    assert any(f"{tmp_path}/1.tar ends after" in line for line in skipped)
    assert {"12", "13"} <= set(texts(batches))
    assert all(len(batch["images"]) == len(batch["positives"]) for batch in batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_without_any_image_end_in_one_line(tmp_path, workers):
    write_shard(tmp_path / "0.tar", [], **{"0.txt": b"a caption"})
    with pytest.raises(UserError, match=r"no image in any shard") as error:
        list(load(f"{tmp_path}/0.tar", batch=2, size=4, workers=workers))
    assert "\n" not in str(error.value)


def test_settings_that_do_not_fit_are_one_line(folder):
    for message, make in {
        r"/8\.tar: .*2 of the 10": lambda: load(f"{folder}/{{0..9}}.tar"),
        "example.org.*size": lambda: load("https://example.org/0.tar"),
        "batch_size 13": lambda: load(f"{folder}/0.tar", batch=13),
        "batch_size 1:": lambda: load(f"{folder}/0.tar", batch=1, ranks=2),
        "hold_out": lambda: load([Source(f"{folder}/0.tar", hold_out=3)]),
    }.items():
        with pytest.raises(UserError, match=message):
            make()


# --- Resume -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranks", "workers", "done"), [(1, 0, 1), (1, 0, 5), (2, 0, 3), (1, 2, 3), (2, 2, 1), (2, 2, 5)]
)
def test_a_resumed_epoch_repeats_nothing_and_misses_nothing(folder, ranks, workers, done):
    seen = []
    for rank in range(ranks):
        settings = {"rank": rank, "ranks": ranks, "workers": workers, "batch": 12, "shuffle": 30}
        loader = load(f"{folder}/{{0..7}}.tar", **settings)
        loader.order.set_epoch(3)
        before = list(itertools.islice(loader, done))
        state = torch_saved(loader.state())
        resumed = load(f"{folder}/{{0..7}}.tar", **settings)
        resumed.restore(state)
        after = list(resumed)
        assert len(before) + len(after) == len(loader) == 8
        seen += texts(before) + texts(after)
    assert sorted(map(int, seen)) == list(range(96))


def torch_saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_resumed_run_opens_no_shard_that_is_done(folder, monkeypatch):
    loader = load(f"{folder}/{{0..7}}.tar", batch=4, shuffle=3)
    list(itertools.islice(loader, 15))  # 60 of 96 samples: five of eight shards
    state = loader.state()
    resumed = load(f"{folder}/{{0..7}}.tar", batch=4, shuffle=3)
    resumed.restore(state)
    opened = []
    monkeypatch.setattr(
        "pacl.data.shard_loader.read_shard", lambda url, *rest: opened.append(url) or read_shard(url, *rest)
    )
    list(resumed)
    assert 3 <= len(opened) <= 4 + 1


@pytest.mark.parametrize("workers", [0, 2])
def test_what_of_the_first_shards_is_not_used_is_a_warning_and_no_skipped_sample(tmp_path, workers):
    for shard in range(6):
        write_shard(tmp_path / f"{shard}.tar", range(4), **{"2024.05.01.png": image(9), "0000.cls": b"1"})
    loader = load(f"{tmp_path}/{{0..5}}.tar", batch=4, workers=workers)
    with pytest.warns(UserWarning, match="not used") as told:
        batches = list(loader) + list(loader)
    lines = [str(each.message) for each in told if "not used" in str(each.message)]
    assert len(set(lines)) == len(lines) == UNUSED_SHOWN
    assert all("2024.05.01.png" in line and "0000.cls" in line for line in lines)
    assert not any(batch["skipped"] or "unused" in batch for batch in batches)


def test_a_mixture_resumes_with_its_shares(folder):
    sources = [Source(f"{folder}/{{0..5}}.tar", weight=1), Source(f"{folder}/{{6..7}}.tar", weight=1)]
    loader = load(sources)
    before = texts(itertools.islice(loader, 5))
    resumed = load(sources)
    resumed.restore(loader.state())
    seen = [int(text) for text in before + texts(resumed)]
    assert sum(number < 72 for number in seen) == 48
    assert Counter(seen).most_common(1)[0][1] == 2  # 24 pairs twice, for 48
    assert len({number for number in seen if number < 72}) == 48


def test_other_workers_start_the_shards_again_with_a_warning(folder):
    loader = load(f"{folder}/{{0..7}}.tar", workers=2)
    list(itertools.islice(loader, 5))
    resumed = load(f"{folder}/{{0..7}}.tar", workers=0)
    with pytest.warns(UserWarning, match="first shards again"):
        resumed.restore(loader.state())
    assert len(list(resumed)) == len(loader) - 5


def test_the_state_between_epochs_is_the_next_one(folder):
    loader = load(f"{folder}/0.tar", batch=4)
    list(loader)
    resumed = load(f"{folder}/0.tar", batch=4)
    resumed.restore(loader.state())
    assert resumed.order.epoch == 1
    assert resumed.state()["epoch"] == 1
    assert texts(loader) == texts(resumed)


def test_who_takes_a_number_of_steps_gets_one_epoch_after_the_other(folder):
    """Lightning never asks for the end of an epoch."""
    loader, other = (load(f"{folder}/0.tar", batch=4) for _ in range(2))
    first, second = (texts(list(itertools.islice(loader, len(loader)))) for _ in range(2))
    other.order.set_epoch(1)
    assert first != second == texts(other)


class Recorder(LightningModule):
    def __init__(self, stop=None):
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen, self.stop = [], stop

    def training_step(self, batch, _):
        self.optimizers().step()
        self.seen.append((self.current_epoch, batch["texts"]))

    def on_train_batch_end(self, *_):
        if len(self.seen) == self.stop:
            self.trainer.save_checkpoint(self.trainer.default_root_dir + "/stopped.ckpt")
            self.trainer.should_stop = True

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters())


@pytest.mark.filterwarnings("ignore::UserWarning")
class Placed(LightningDataModule):
    """Keeps the loader's place in the checkpoint, as `CaptionData` does."""

    def __init__(self, loader):
        super().__init__()
        self.loader = loader

    def train_dataloader(self):
        return self.loader

    def state_dict(self):
        return {"place": self.loader.state()}

    def load_state_dict(self, state_dict):
        self.loader.restore(state_dict["place"])


def test_lightning_resumes_in_the_middle_of_an_epoch(folder, tmp_path):
    def fit(stop=None, checkpoint=None):
        module = Recorder(stop)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(
            max_epochs=3, accelerator="cpu", default_root_dir=str(tmp_path), enable_checkpointing=False, **quiet
        )
        trainer.fit(module, Placed(load(f"{folder}/{{0..1}}.tar", batch=4, workers=1)), ckpt_path=checkpoint)
        return module.seen

    whole = fit()
    epochs = [sorted(int(text) for e, batch in whole if e == epoch for text in batch) for epoch in range(3)]
    assert epochs == [list(range(24))] * 3
    assert len({str([batch for e, batch in whole if e == epoch]) for epoch in range(3)}) == 3
    stopped = fit(stop=8)
    assert stopped == whole[:8]
    rest = fit(checkpoint=tmp_path / "stopped.ckpt")
    assert sorted(int(text) for e, batch in stopped + rest if e == 1 for text in batch) == list(range(24))
    assert [batch for e, batch in rest if e == 2] == [batch for e, batch in whole if e == 2]


def _process(rank, pairs, out):
    torch.distributed.init_process_group("gloo", f"file://{out}/store", rank=rank, world_size=2)
    loader = load(pairs, rank=rank, ranks=2, batch=12)
    before = texts(itertools.islice(loader, 3))
    state = loader.state()
    resumed = load(pairs, rank=rank, ranks=2, batch=12)
    resumed.restore(state)
    torch.save({"state": state, "texts": before + texts(resumed)}, f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_one_state_holds_the_streams_of_all_processes(folder, tmp_path):
    torch.multiprocessing.spawn(_process, (f"{folder}/{{0..7}}.tar", str(tmp_path)), nprocs=2)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert results[0]["state"] == results[1]["state"]
    assert set(results[0]["state"]["streams"]) == {0, 1}
    assert sorted(int(text) for result in results for text in result["texts"]) == list(range(96))
