"""A run that was killed and resumed ends with the weights of an uninterrupted run, bit for bit."""

from __future__ import annotations

import csv
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pacl import train
from pacl.errors import ArgumentError, UserError
from pacl.training.module import PACLModule
from tests.paths import ROOT
from tests.tiny import save_tiny_clip

STEPS = 13  # two whole epochs of five steps and three more


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[str]:
    """The command's arguments: 22 images of which two are held out, with all kinds of randomness."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    with (folder / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for i in range(22):
            name = f"{i}.png"
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / name)
            table.writerows([[name, f"a dog number {i} on grass"], [name, f"star {i % 7} and a boat"]])
    (folder / "9.png").write_bytes(b"broken")
    settings = {
        "config": "configs/scenes.yaml",
        "model.backbone": save_tiny_clip(folder / "clip"),
        "model.patches": "9",
        "model.precision": "fp32",  # also in processes of their own, where "auto" may be bf16
        "model.learn_temperature": "true",
        "model.images_at_once": "3",
        "model.warmup": "2",
        "data": "pacl.data.CaptionData",
        "data.cache": "null",
        "data.pairs": str(folder / "pairs.csv"),
        "data.hold_out": "2",
        "data.cut.mode": "random",
        "data.cut.flip": "0.5",
        "data.cut.colour": "0.2",
        "data.nouns": "true",
        "data.batch_size": "4",
        "data.max_skipped": "0.2",
        "trainer.max_steps": str(STEPS),
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "save_every": "2",
    }
    return [f"--{key}={value}" for key, value in settings.items()]


def weights(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def never_killed(words, tmp_path_factory) -> bytes:
    out = tmp_path_factory.mktemp("whole")
    assert train.main([*words, f"--out={out}"]) == 0
    return weights(out)


def killed(words: list[str], out: Path, step: int, moment: str, number: int = signal.SIGKILL, more=()) -> int:
    """Run the command in a process of its own and let it be killed; its exit code."""
    callback = ["--trainer.callbacks=tests.killer.Killer"]
    callback += [
        f"--trainer.callbacks.{key}={value}"
        for key, value in (("step", step), ("moment", moment), ("number", int(number)))
    ]
    command = [sys.executable, "-m", "pacl.train", *words, f"--out={out}", *callback, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    root = ROOT
    return subprocess.run(command, env=environment, cwd=root, capture_output=True, check=False).returncode


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_weights(words, never_killed, tmp_path):
    assert killed(words, tmp_path, 3, "before") == -signal.SIGKILL
    last = ["--ckpt_path=last"]
    assert killed(words, tmp_path, 6, "saved", more=last) == -signal.SIGKILL  # the write of step 6 is lost
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
    assert killed(words, tmp_path, 11, "after", more=last) == -signal.SIGKILL
    assert train.main([*words, f"--out={tmp_path}", *last]) == 0
    assert weights(tmp_path) == never_killed


@pytest.mark.slow
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 0), (signal.SIGINT, 2)])
def test_signals_save_and_exit(words, never_killed, tmp_path, number, workers):
    more = [f"--data.workers={workers}"]
    assert killed(words, tmp_path, 7, "before", number, more) == 128 + number
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8
    assert not (tmp_path / "config.json").exists()
    assert train.main([*words, f"--out={tmp_path}", "--ckpt_path=last", *more]) == 0
    assert weights(tmp_path) == never_killed


@pytest.mark.parametrize("stop", [5, 7, 10])
def test_a_run_that_stopped_goes_on_to_the_same_weights(words, never_killed, tmp_path, stop):
    """At the end of an epoch and within one; the schedule is that of the whole run."""
    train.main(
        [*words, f"--out={tmp_path}", "--trainer.callbacks=tests.killer.Stopper", f"--trainer.callbacks.step={stop}"]
    )
    assert train.main([*words, f"--out={tmp_path}", "--ckpt_path=last"]) == 0
    assert weights(tmp_path) == never_killed


@pytest.mark.parametrize(
    ("room", "line"), [(12_000, r"(last\.ckpt|training\.png): .*File too large"), (1000, "--out .*File too large")]
)
def test_a_full_disk_is_one_line_and_the_old_checkpoint_stays(words, tmp_path, room, line):
    assert train.main([*words, f"--out={tmp_path}", "--trainer.max_steps=2"]) == 0
    last = tmp_path / "checkpoints" / "last.ckpt"
    before = {path.name: path.read_bytes() for path in last.parent.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(UserError, match=line):
            train.main([*words, f"--out={tmp_path}", "--ckpt_path=last"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    assert {path.name: path.read_bytes() for path in last.parent.iterdir()} == before


def test_without_an_older_checkpoint_a_full_disk_leaves_none(words, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))
    try:
        with pytest.raises(UserError) as error:
            train.main([*words, f"--out={tmp_path}"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    assert "--ckpt_path" not in str(error.value)
    assert list(tmp_path.glob("checkpoints/*")) == []


def test_a_run_with_other_settings_does_not_go_on(words, tmp_path):
    assert train.main([*words, f"--out={tmp_path}", "--trainer.max_steps=2"]) == 0
    head = weights(tmp_path)
    resume = [*words, f"--out={tmp_path}", "--ckpt_path=last"]
    with pytest.raises(UserError):
        train.main([*resume, "--data.hold_out=3"])
    for change in (
        *("model.dense=naclip", "model.hidden=7", "model.temperature=0.2", "model.learn_temperature=False"),
        *("model.cosine=False", "model.logit_scale=10.0", "model.patches=8", "model.lr=0.1", "model.weight_decay=0.1"),
        *("model.warmup=3", "model.eps=0.1", "model.scale_lr=0.1", "data.batch_size=5", "data.nouns=False"),
        *("data.templates=photo", "seed_everything=5", "model.precision=bf16", "data.cache=memory"),
        *("data.cut.mode=centre", "data.cut.flip=0.2", "data.cut.colour=0.1"),
        *("trainer.precision=bf16-mixed", "trainer.gradient_clip_val=0.5"),
    ):
        with pytest.raises(ArgumentError) as error:
            train.main([*resume, f"--{change}"])
        assert f"{error.value.argument}={error.value.value}" == change
    with pytest.raises(ArgumentError) as error:
        train.main([*resume, "--trainer.max_steps=2"])
    assert error.value.argument == "ckpt_path"
    assert weights(tmp_path) == head


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_before_the_first_step_a_signal_ends_the_run_at_once(words, tmp_path, number, monkeypatch):
    """For example while tokens are computed: there is nothing to save yet."""
    monkeypatch.setattr("pacl.data.caption_data.CaptionData.train_dataloader", lambda _: os.kill(os.getpid(), number))
    former = signal.getsignal(number)
    assert train.main([*words, f"--out={tmp_path}"]) == 128 + number
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()
    assert signal.getsignal(number) == former


def test_a_signal_at_the_end_of_an_epoch_saves_and_exits(words, tmp_path, monkeypatch):
    """Lightning looks for a SIGTERM there, too."""
    monkeypatch.setattr(PACLModule, "on_train_epoch_end", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert train.main([*words, f"--out={tmp_path}"]) == 128 + signal.SIGTERM
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6


def test_damaged_checkpoints_are_one_line(words, tmp_path):
    """A flipped bit in the weights, too, and what no run writes."""
    assert train.main([*words, f"--out={tmp_path}", "--trainer.max_steps=2"]) == 0
    path = tmp_path / "checkpoints" / "last.ckpt"
    sound, state = path.read_bytes(), torch.load(path, weights_only=True)
    weights = next(iter(state["state_dict"].values())).numpy().tobytes()
    flipped = bytearray(sound)
    flipped[sound.index(weights) + len(weights) // 2] ^= 1
    path.write_bytes(flipped)
    refused(words, tmp_path)
    for key in ("state_dict", "optimizer_states", "loops"):
        torch.save({**state, key: type(state[key])()}, path)
        refused(words, tmp_path)
        torch.save({name: value for name, value in state.items() if name != key}, path)
        refused(words, tmp_path)
    path.write_bytes(sound)
    with pytest.raises(ArgumentError, match=r"last\.ckpt"):  # a folder: the checkpoint in it is named
        train.main([*words, f"--out={tmp_path}", f"--ckpt_path={tmp_path}"])


def test_the_weights_of_another_head_are_one_line(words, tmp_path):
    assert train.main([*words, f"--out={tmp_path}", "--trainer.max_steps=2"]) == 0
    path = tmp_path / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)
    weights = state["state_dict"]
    for other in (
        {name: tensor[:1] for name, tensor in weights.items() if tensor.ndim},
        dict(list(weights.items())[1:]),
    ):
        torch.save({**state, "state_dict": other}, path)
        with pytest.raises(UserError, match="another head"):
            train.main([*words, f"--out={tmp_path}", "--ckpt_path=last"])


@pytest.mark.parametrize("change", ["caption", "order", "image"])
def test_changed_data_does_not_go_on(words, tmp_path, change):
    """With the same name and as many images, too: images that were held out would be trained on."""
    (pairs,) = (Path(word.partition("=")[2]) for word in words if word.startswith("--data.pairs="))
    folder = shutil.copytree(pairs.parent, tmp_path / "data")
    moved = [*words, f"--data.pairs={folder / pairs.name}", f"--out={tmp_path / 'out'}"]
    assert train.main([*moved, "--trainer.max_steps=2"]) == 0
    head = weights(tmp_path / "out")
    header, *rows = (folder / pairs.name).read_text().splitlines()
    match change:
        case "caption":
            rows[0] += "s"
        case "order":
            rows.reverse()
        case "image":
            (folder / "0.png").rename(folder / "new.png")
            rows = [row.replace("0.png", "new.png") if row.startswith("0.png") else row for row in rows]
    (folder / pairs.name).write_text("\n".join([header, *rows]) + "\n")
    with pytest.raises(UserError, match=r"pairs\.csv"):
        train.main([*moved, "--ckpt_path=last", "--trainer.max_steps=3"])
    assert weights(tmp_path / "out") == head


def test_a_refused_run_leaves_no_logs(words, tmp_path):
    run = [*words, f"--out={tmp_path}", "--trainer.logger=true"]
    assert train.main([*run, "--trainer.max_steps=2"]) == 0
    before = sorted(tmp_path.rglob("*"))
    for change in ("model.lr=0.1", "data.batch_size=5", "seed_everything=5", "trainer.max_steps=2"):
        with pytest.raises(ArgumentError):
            train.main([*run, "--ckpt_path=last", f"--{change}"])
    assert sorted(tmp_path.rglob("*")) == before
    assert train.main([*run, "--ckpt_path=last", "--trainer.max_steps=3"]) == 0
    assert (tmp_path / "logs" / "version_1" / "metrics.csv").is_file()


def refused(words: list[str], out: Path) -> None:
    with pytest.raises(ArgumentError) as error:
        train.main([*words, f"--out={out}", "--ckpt_path=last"])
    assert error.value.argument == "ckpt_path"
