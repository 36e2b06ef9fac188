"""When a run is validated, and what its card says of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from pacl import load_model, train
from pacl.cli.training_run import learned_nothing
from pacl.data.caption_data import CaptionData
from pacl.errors import ArgumentError, UserError
from tests.train.command import QUIET, captioned, run


def test_the_last_weights_are_saved_if_the_run_ends_before_a_validation(tiny_clip, tmp_path, capsys):
    for i in range(6):
        Image.new("RGB", (32, 32), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
    table = "".join(f"{i}.png,a dog number {i}\n" for i in range(6))
    (tmp_path / "pairs.csv").write_text("image,caption\n" + table)
    settings = [
        "--config=configs/scenes.yaml",
        "--data=pacl.data.CaptionData",
        f"--data.pairs={tmp_path / 'pairs.csv'}",
        "--data.hold_out=2",
    ]
    settings += [
        "--data.batch_size=2",
        "--head=best",
        "--trainer.max_steps=1",
        "--trainer.val_check_interval=2",
        f"--out={tmp_path / 'out'}",
    ]
    assert train.main([*settings, *QUIET, f"--model.backbone={tiny_clip}"]) == 0
    assert (tmp_path / "out" / "config.json").exists()
    err = capsys.readouterr().err
    assert "training on 4 images, holding out 2" in err
    assert "last weights" in err


def test_an_interval_of_validation_may_be_longer_than_an_epoch(tiny_clip, tmp_path):
    """Of 12 images that train, of which a batch has 8; Lightning's error has a traceback."""
    data = [*captioned(tmp_path, 20), "--data.batch_size=8", "--trainer.max_epochs=4", "--trainer.max_steps=-1"]
    run(tiny_clip, tmp_path / "out", *data, "--trainer.val_check_interval=2")
    assert (tmp_path / "out" / "checkpoints" / "best.ckpt").is_file()
    with pytest.raises(UserError, match=r"--trainer\.check_val_every_n_epoch null"):
        run(
            tiny_clip,
            tmp_path / "other",
            *data,
            "--trainer.val_check_interval=2",
            "--trainer.check_val_every_n_epoch=2",
        )


def test_the_baseline_of_a_resumed_run_is_that_of_its_first_step(tiny_clip, tmp_path):
    data, out = captioned(tmp_path, 20), tmp_path / "out"
    run(tiny_clip, out, *data, "--data.batch_size=4", "--trainer.max_steps=3", "--model.lr=0.1")
    first = [line for line in (out / "README.md").read_text().splitlines() if "before the first step" in line]
    run(tiny_clip, out, *data, "--data.batch_size=4", "--trainer.max_steps=6", "--model.lr=0.1", "--ckpt_path=last")
    assert [line for line in (out / "README.md").read_text().splitlines() if "before the first step" in line] == first
    recalls = [line for line in (out / "README.md").read_text().splitlines() if line.startswith("| val_")]
    assert len(recalls) == 1 + 7
    assert all(float(line.split("|")[3]) > 0 for line in recalls)  # by chance
    assert Image.open(out / "training.png").size[0] > 300


def test_the_card_of_a_resumed_run_has_its_last_validation(tiny_clip, tmp_path):
    data, out = captioned(tmp_path, 20), tmp_path / "out"
    run(tiny_clip, out, *data, "--data.batch_size=4", "--trainer.max_steps=3")
    first = [line for line in (out / "README.md").read_text().splitlines() if line.startswith("| val_")]
    never = ["--trainer.val_check_interval=9", "--trainer.check_val_every_n_epoch=null"]
    run(tiny_clip, out, *data, "--data.batch_size=4", "--trainer.max_steps=4", *never, "--ckpt_path=last")
    card = (out / "README.md").read_text().replace(" after step 3", "")
    assert [line for line in card.splitlines() if line.startswith("| val_")] == first
    assert all(float(line.split("|")[3]) > 0 for line in first)  # by chance


def best_of_all(folder: Path) -> bytes:
    """Give the best checkpoint of a run a score that no validation exceeds; the file."""
    path = folder / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    state["last_figures"]["val_recall"] = 1.5
    torch.save(state, path)
    return path.read_bytes()


@pytest.mark.parametrize("way", ["moved", "copied", "other folder"])
def test_the_best_weights_go_along_with_a_run(tiny_clip, tmp_path, way):
    settings = [*captioned(tmp_path, 20), "--data.batch_size=4", "--trainer.val_check_interval=2", "--head=best"]
    first, second = tmp_path / "first", tmp_path / "second"
    run(tiny_clip, first, *settings, "--trainer.max_steps=2")
    best, last = best_of_all(first), "last"
    match way:
        case "moved":
            first.rename(second)
        case "copied":
            shutil.copytree(first, second)
        case _:
            last = str(first / "checkpoints" / "last.ckpt")
    run(tiny_clip, second, *settings, "--trainer.max_steps=4", f"--ckpt_path={last}")
    run(tiny_clip, second, *settings, "--trainer.max_steps=6", "--ckpt_path=last")
    assert (second / "checkpoints" / "best.ckpt").read_bytes() == best
    state = torch.load(second / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(load_model(str(second)).embedder.skip.weight, state["pacl.embedder.skip.weight"])
    card = (second / "README.md").read_text()
    assert "after step 2" in card
    assert "| val_recall | 1.5 |" in card


def test_a_head_of_steps_that_are_done_replaces_the_files_of_the_run_before(tiny_clip, tmp_path):
    settings = [*captioned(tmp_path, 20), "--data.batch_size=4", "--trainer.val_check_interval=2", "--head=best"]
    first, second = tmp_path / "first", tmp_path / "second"
    run(tiny_clip, first, *settings, "--trainer.max_steps=2")
    best = best_of_all(first)
    run(tiny_clip, second, *settings, "--trainer.max_steps=4")
    (second / "config.json").unlink()  # it was killed before its end
    last = first / "checkpoints" / "last.ckpt"
    run(tiny_clip, second, *settings, "--trainer.max_steps=2", f"--ckpt_path={last}", "--overwrite")
    assert [path.name for path in (second / "checkpoints").iterdir()] == ["best.ckpt"]
    assert (second / "checkpoints" / "best.ckpt").read_bytes() == best
    assert not (second / "training.png").exists()
    assert "| val_recall | 1.5 |" in (second / "README.md").read_text()
    assert last.is_file()


def test_the_best_weights_of_a_finished_run_are_saved_without_more_steps(tiny_clip, tmp_path, capsys):
    settings = [*captioned(tmp_path, 20), "--data.batch_size=4", "--trainer.val_check_interval=2", "--model.lr=0.1"]
    settings += ["--trainer.max_steps=4", "--trainer.logger=true"]
    out = run(tiny_clip, tmp_path / "out", *settings, "--model.warmup=1")
    best = out / "checkpoints" / "best.ckpt"
    state = torch.load(best, weights_only=True)
    state["state_dict"]["pacl.embedder.skip.weight"] += 1
    state["last_figures"]["val_recall"] = 1.5
    torch.save(state, best)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ArgumentError, match=r"--head best"):
        run(tiny_clip, out, *settings, "--ckpt_path=last")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    capsys.readouterr()
    run(tiny_clip, out, *settings, "--ckpt_path=last", "--head=best")
    assert "logs:" not in capsys.readouterr().out
    assert {path for path in out.rglob("*") if path.is_file()} == set(before)
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed == {"README.md", "model.safetensors"}
    weight = state["state_dict"]["pacl.embedder.skip.weight"]
    assert torch.equal(load_model(str(out)).embedder.skip.weight, weight)
    assert "| val_recall | 1.5 |" in (out / "README.md").read_text()
    best.unlink()
    with pytest.raises(ArgumentError) as error:
        run(tiny_clip, out, *settings, "--ckpt_path=last", "--head=best")
    assert error.value.argument == "ckpt_path"


def test_the_best_weights_of_a_killed_run_may_be_later_than_its_last(tiny_clip, tmp_path, capsys):
    """Killed between a validation and the next save. Step and score are those of the weights that are used."""
    out, checkpoints = tmp_path / "out", tmp_path / "out" / "checkpoints"
    settings = [*captioned(tmp_path, 20), "--data.batch_size=4", "--trainer.val_check_interval=2", "--head=best"]
    run(tiny_clip, out, *settings, "--trainer.max_steps=2")
    earlier = (checkpoints / "last.ckpt").read_bytes()
    run(tiny_clip, out, *settings, "--trainer.max_steps=4", "--ckpt_path=last")
    (checkpoints / "last.ckpt").replace(checkpoints / "best.ckpt")
    best_of_all(out)
    (checkpoints / "last.ckpt").write_bytes(earlier)
    (out / "config.json").unlink()
    run(tiny_clip, out, *settings, "--trainer.max_steps=1", "--ckpt_path=last")
    card = (out / "README.md").read_text()
    for words in ("4 steps over 16 images", "after step 4", "| val_recall | 1.5 |"):
        assert words in card
    assert str(checkpoints / "best.ckpt") in capsys.readouterr().err


def test_a_damaged_best_checkpoint_is_one_line(tiny_clip, tmp_path):
    settings = [*captioned(tmp_path, 20), "--data.batch_size=4"]
    out = run(tiny_clip, tmp_path / "out", *settings, "--trainer.max_steps=2")
    (out / "checkpoints" / "best.ckpt").write_bytes(b"broken")
    with pytest.raises(ArgumentError, match=r"best\.ckpt"):
        run(tiny_clip, out, *settings, "--trainer.max_steps=3", "--ckpt_path=last")


def test_a_better_validation_before_the_end_is_said(tiny_clip, tmp_path, capsys):
    settings = [*captioned(tmp_path, 20), "--data.batch_size=4", "--trainer.val_check_interval=2"]
    out = run(tiny_clip, tmp_path / "out", *settings, "--trainer.max_steps=2")
    assert "--head best" not in capsys.readouterr().err
    best_of_all(out)
    run(tiny_clip, out, *settings, "--trainer.max_steps=4", "--ckpt_path=last")
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "--head best" in line)
    assert "1.500 after step 2" in line
    assert "--ckpt_path last" in line


@pytest.mark.parametrize(("best", "is_said"), [(0.2, True), (0.25, True), (0.3, False), (None, False)])
def test_a_run_that_finds_no_more_than_chance_says_so(best, is_said):
    best = None if best is None else torch.tensor(best)
    cli = SimpleNamespace(
        best=SimpleNamespace(monitors="val_recall", best_model_score=best),
        model=SimpleNamespace(chance={"val_recall": 0.25}),
    )
    assert (learned_nothing(cli) is not None) == is_said


def test_figures_of_an_earlier_step_than_the_last_are_said_to_be(tiny_clip, tmp_path, capsys):
    settings = [*captioned(tmp_path, 20), "--data.batch_size=4", "--trainer.val_check_interval=2"]
    for steps, late in ((3, True), (4, False)):
        out = run(tiny_clip, tmp_path / str(steps), *settings, f"--trainer.max_steps={steps}")
        card = (out / "README.md").read_text()
        assert card.count("val_recall after step 2") == 2 * late  # in the table and for the hub
        assert ("the last validation was after step 2" in capsys.readouterr().err) is late
    (tmp_path / "3" / "config.json").unlink()  # as of a run that was stopped, whose head is written without training
    run(tiny_clip, tmp_path / "3", *settings, "--trainer.max_steps=1", "--ckpt_path=last")
    assert "the last validation was" not in capsys.readouterr().err
    out = run(tiny_clip, tmp_path / "3", *settings, "--trainer.max_steps=4", "--ckpt_path=last")
    assert "val_recall after" not in (out / "README.md").read_text()
    out = run(tiny_clip, tmp_path / "1", *settings, "--trainer.max_steps=1")
    assert "no validation was after the first step" in capsys.readouterr().err
    card = ModelCard.load(out / "README.md")
    assert card.data.eval_results is None  # the recall of an untrained head is no figure of this one
    assert "| val_recall before the first step |" in card.text


def test_a_score_that_was_not_measured_after_the_last_step_states_its_own(tiny_clip, tmp_path):
    """Every other validation is measured, from the first."""
    data = captioned(tmp_path, 12)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        Image.new("L", (32, 32), 1).save(tmp_path / kind / "a.png")
    (tmp_path / "names.txt").write_text("a dog\na cat\n")
    masks = {"images": "images", "masks": "masks", "names": "names.txt"}
    score = {
        "class_path": "pacl.training.callbacks.SegmentationValidator",
        "init_args": {
            "every_n_validations": 2,
            "data": {name: str(tmp_path / file) for name, file in masks.items()},
        },
    }
    settings = [*data, "--data.hold_out=4", "--data.batch_size=4", "--trainer.val_check_interval=1"]
    settings += [f"--trainer.callbacks={json.dumps([score])}"]
    for steps, late in ((4, True), (5, False)):
        length = [f"--trainer.max_steps={steps}", "--trainer.max_epochs=9"]
        out = run(tiny_clip, tmp_path / str(steps), *settings, *length)
        card = (out / "README.md").read_text()
        assert ("| miou after step 3 |" in card) is late
        assert ("| miou |" in card) is not late
        assert "| val_recall |" in card


def test_a_card_says_that_held_out_images_also_train(tiny_clip, tmp_path):
    data = captioned(tmp_path, 12)
    settings = ["--data.batch_size=4", "--trainer.max_steps=1", "--data.hold_out=4"]
    (tmp_path / "seen.csv").write_text("image,caption\n0.png,a dog\n1.png,a cat\n")
    for val, said in ((f"[{{pairs: {tmp_path / 'seen.csv'}}}]", True), ("[]", False)):
        out = run(tiny_clip, tmp_path / f"out-{said}", *data, *settings, f"--data.val={val}")
        (row,) = (line for line in (out / "README.md").read_text().splitlines() if line.startswith("| data |"))
        assert f"validation on {6 if said else 4} images" in row
        assert ("of these are also in training" in row) is said
        assert ("copies of others" in row) is said  # one of the two is held out of the table, too


def test_a_run_and_its_card_say_how_many_held_out_images_the_figures_lack(tiny_clip, tmp_path, capsys):
    data = captioned(tmp_path, 20)
    (held,) = CaptionData(str(tmp_path / "t.csv"), hold_out=8).parts()[1]
    for i in range(3):
        Path(held.name(i)).write_bytes(b"no image %d" % i)
    settings = [*data, "--data.batch_size=4", "--trainer.max_steps=1", "--trainer.val_check_interval=1"]
    out = run(tiny_clip, tmp_path / "out", *settings, "--data.max_skipped=0.5")
    (row,) = (line for line in (out / "README.md").read_text().splitlines() if line.startswith("| data |"))
    assert "validation on 8 images; 3 of these could not be used" in row
    assert "note: 3 held-out images could not be used" in capsys.readouterr().err
    run(tiny_clip, out, *settings, "--data.max_skipped=0.5", "--ckpt_path=last", "--trainer.max_steps=2")
    assert "validation on 8 images; 3 of these could not be used" in (out / "README.md").read_text()
    with pytest.raises(ArgumentError, match="3 of 8 held-out images"):
        run(tiny_clip, tmp_path / "other", *settings)


def test_a_card_says_that_held_out_images_are_there_twice(tiny_clip, tmp_path):
    """Recall of text to image can then be 0 only: an image with the same score ranks before."""
    data = captioned(tmp_path, 12)
    (tmp_path / "u.csv").write_text((tmp_path / "t.csv").read_text().replace("a dog", "a cat"))
    data = [each for each in data if "hold_out" not in each]
    settings = ["--data.batch_size=4", "--trainer.max_steps=1"]
    table = f"[{{pairs: {tmp_path / 't.csv'}, hold_out: 4}}, {{pairs: {tmp_path / 'u.csv'}, hold_out: 4}}]"
    out = run(tiny_clip, tmp_path / "out", *data[:2], f"--data.train={table}", *settings)
    (row,) = (line for line in (out / "README.md").read_text().splitlines() if line.startswith("| data |"))
    assert "validation on 8 images; 4 of these are copies of others of them" in row
