"""Mistakes in the arguments of a training are refused before PyTorch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pacl.cli import early
from pacl.cli.early import check_pretraining, check_training, read_settings, say_default
from pacl.errors import ArgumentError, UserError
from pacl.models.config import CARD, CONFIG, PROBE
from pacl.results.kinds import DUAL_ENCODER_FILES, RUN_FILES
from pacl.training.run_files import PROBE_TABLE
from tests.paths import ROOT

OWN = ["--config", "configs/own_photos.yaml"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of a command on files that there are, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "my.csv").write_text("image,caption\na.jpg,a dog\n")
    return [*OWN, "--data.pairs", "my.csv", "--data.images=photos", "--out", "run"]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--data.images", "missing"], ["missing"]),
        (["--data.pairs=missing.csv"], ["missing.csv"]),
        (["--config=own_foto.yaml"], ["own_foto.yaml", "configs/own_photos.yaml'?"]),
        (["--model.lr", "fast"], ["--model.lr fast", "float"]),
        (["--trainer.max_steps", "3 000"], ["--trainer.max_steps 3 000", "int"]),
        (["--trainer.max_step", "30"], ["--trainer.max_step:", "--trainer.max_steps?"]),
        (["--max_steps=30"], ["--max_steps:", "--trainer.max_steps?"]),
        (["--data.init_args.batchsize", "3"], ["--data.batch_size?"]),
        (["--model.spce", "3"], ["--model.space?"]),
        (["--ckpt_path", "last"], ["last.ckpt"]),
        (["--model.lr", "-1"], ["model.lr -1"]),
        (["--model.patches=0"], ["model.patches 0"]),
    ],
)
def test_mistakes_in_a_training_are_found(photos: list[str], more: list[str], named: list[str]) -> None:
    check_training(photos)
    with pytest.raises(UserError) as error:
        check_training([*photos, *more])
    assert all(each in str(error.value) for each in named), error.value


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--model.lr=1"], "--model.learning_rate?"),
        (["--model.learning_rate=-1"], "model.learning_rate -1"),
        (["--config", "configs/flickr8k_dual.yaml", "--model.head_lr=-1"], "model.head_lr -1"),
        (["--config", "configs/flickr8k_dual.yaml", "--model.lr=1"], "--model.head_lr?"),
    ],
)
def test_settings_of_a_pretraining_are_those_of_its_class(
    words: list[str], meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early, "check_files", lambda settings: None)
    with pytest.raises(UserError) as error:
        check_pretraining(words)
    assert meant in str(error.value)
    check_pretraining(["--config", "configs/scenes_clip.yaml", "--model", "my.Module", *words])


def test_a_folder_in_use_is_refused_unless_it_is_replaced_or_resumed(photos: list[str], tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / CONFIG).touch()
    (tmp_path / "run" / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(ArgumentError) as error:
        check_training(photos)
    assert (error.value.argument, error.value.value) == ("out", Path("run"))
    check_training([*photos, "--overwrite"])
    check_training([*photos, "--ckpt_path", "last"])


def test_a_folder_named_before_the_configuration_is_the_one_that_is_checked(photos: list[str], tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / CONFIG).touch()
    with pytest.raises(ArgumentError) as error:
        check_training(["--out", "used", *photos[:-2]])
    assert error.value.value == Path("used")


def test_a_folder_with_a_model_of_another_kind_is_refused(photos: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / PROBE).touch()
    for check, words in ((check_training, photos), (check_pretraining, ["--export.folder", "run"])):
        with pytest.raises(ArgumentError, match=PROBE) as error:
            check([*words, "--overwrite"])
        assert error.value.value == Path("run")


@pytest.mark.parametrize("name", DUAL_ENCODER_FILES)
def test_a_pretrained_model_is_not_replaced_unasked(tmp_path: Path, name: str) -> None:
    words = ["--export.folder", str(tmp_path)]
    for own in ("captions.json", "weights.safetensors"):  # the user's, which no pretraining writes
        (tmp_path / own).touch()
    check_pretraining(words)
    (tmp_path / name).touch()
    with pytest.raises(ArgumentError) as error:
        check_pretraining(words)
    assert error.value.argument == "export.folder"
    check_pretraining([*words, "--overwrite"])


@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--ckpt_path", "last"]])
def test_a_readme_of_the_users_own_is_refused(photos: list[str], tmp_path: Path, more: list[str]) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    if "--ckpt_path" in more:
        (tmp_path / "run" / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "run" / CARD).write_text("# My photos\n")
    with pytest.raises(ArgumentError) as error:
        check_training([*photos, *more])
    assert error.value.value == Path("run", CARD)


@pytest.mark.parametrize(
    "more",
    [
        ["--trainer.limit_train_batches", "0.5", "--trainer.callbacks+=EarlyStopping", "--model.layers=[1]"],
        ["--data.cut.scale", "0.5", "--model.temperature", ".inf", "--trainer.gradient_clip_val", "null"],
        ["--data=SceneData", "--data.scenes", "3"],
        ["--data=SceneData", "--data.scenes", "3", "--data", "pacl.data.CaptionData"],
        ["--data.pairs", "data/{000..331}.tar", "--data.images", "null"],
        ["--data.images", "missing", "--print_config"],
        ["--data.images", "missing", "--data.help", "CaptionData"],
        ["--head", "best", "--save_every=3", "--seed_everything", "1"],
        ["--ckpt_path"],
        ["--data.images"],
        ["--config", "numbers.yaml"],
    ],
    ids=" ".join,
)
def test_what_is_right_or_not_understood_passes(photos: list[str], more: list[str]) -> None:
    Path("numbers.yaml").write_text("ckpt_path: 5\ndata: {init_args: {images: 2024}}\n")
    check_training([*photos, *more])


@pytest.mark.parametrize("source", ["", "no/such/file.py"])
def test_classes_whose_source_is_elsewhere_are_left_to_the_parser(
    photos: list[str], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early, "TRAINER", {"trainer": [("pacl" if source else "no_such_package", source, "Trainer")]})
    check_training([*photos, "--trainer.anything", "x"])


def test_a_folder_is_checked_by_the_first_process_alone(photos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("run").mkdir()
    (Path("run") / CONFIG).touch()
    monkeypatch.setenv("LOCAL_RANK", "1")
    check_training(photos)


def test_sources_of_a_configuration_are_looked_for(photos: list[str], tmp_path: Path) -> None:
    config = tmp_path / "two.yaml"
    config.write_text("data: {init_args: {train: [{pairs: my.csv}, {pairs: other.csv}]}}\n")
    with pytest.raises(UserError, match=r"other\.csv does not exist"):
        check_training([*photos, "--config", str(config)])


def test_later_words_win(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("out: a\ndata: {class_path: X, init_args: {pairs: a.csv, size: 3}}\n")
    second.write_text("data: {init_args: {pairs: b.csv}}\n")
    words = ["--config", str(first), "--out=c", "-c", str(second), "--overwrite", "--data.size", "null"]
    assert read_settings(words) == {
        "out": "c", "data.class_path": "X", "data.pairs": "b.csv", "data.size": None, "overwrite": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train", ["--config", "configs/own_photos.yaml", "--data.pairs", "missing.csv"]),
        ("pretrain", ["--config", "configs/flickr8k_clip.yaml", "--data.pairs", "missing.csv"]),
        ("distill", ["st:x", "--out", "new", "--words", "missing.csv"]),
    ],
)
def test_nothing_heavy_is_imported(command: str, words: list[str], tmp_path: Path) -> None:
    code = f"""
import sys
from pacl.{command} import main
from pacl.errors import UserError
try:
    main({words!r})
except UserError as error:
    assert "missing.csv" in str(error), error
    sys.exit(bool({{"torch", "jsonargparse", "pytorch_lightning"}} & sys.modules.keys()))
sys.exit("it is not refused")
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}).returncode == 0


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("probe {} --out used", PROBE),
        ("probe {} --out used", PROBE_TABLE),
        ("probe {} --out used --overwrite", CONFIG),
        ("calibrate photos {} --out used", PROBE),
        ("calibrate photos {} --out used", CONFIG),
        ("calibrate photos {} --out used --overwrite", RUN_FILES[0]),
        ("calibrate photos {} --out used", CARD),
    ],
)
def test_folders_in_use_are_refused_before_anything_heavy_is_imported(command: str, file: str, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / file).write_text('{"format": "pacl-head"}' if file == CONFIG else "mine")
    (tmp_path / "own").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "own" / "a.png")
    name, *words = command.format("own").split()
    code = f"""
import sys
from pacl.{name} import main
from pacl.errors import ArgumentError
try:
    main({words!r})
except ArgumentError as error:
    assert error.argument == "out", error
    sys.exit(bool({{"torch", "pytorch_lightning"}} & sys.modules.keys()))
sys.exit("it is not refused")
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}).returncode == 0


def test_another_class_does_not_get_the_settings_of_the_default_configuration() -> None:
    """jsonargparse would give it those of the same names."""
    with pytest.raises(ArgumentError) as error:
        check_pretraining(["--model", "DualEncoderModule"])
    assert error.value.argument == "model"
    check_pretraining(["--model", "CLIPModule"])
    with pytest.raises(ArgumentError) as error:
        check_training(["--data", "CaptionData", "--data.pairs", "my.csv"])
    assert error.value.argument == "data"
    check_pretraining(["--model", "DualEncoderModule", "--print_config"])  # only asks


def test_a_training_without_configuration_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert say_default([])
    assert say_default(["--trainer.max_steps", "3"])
    for words in (["--config=x.yaml"], ["-c", "x.yaml"], ["--print_config"], ["--help"]):
        assert say_default(words) is None
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert say_default([]) is None


def test_null_for_a_group_of_settings_is_refused(photos: list[str], tmp_path: Path) -> None:
    (tmp_path / "null.yaml").write_text("data: {init_args: {cut: null}}")
    for words in ([*photos, "--data.cut", "null"], [*photos, "--config", str(tmp_path / "null.yaml")]):
        with pytest.raises(ArgumentError) as error:
            check_training(words)
        assert error.value.argument == "data.cut"
        check_training([*words, "--data.cut", "{mode: pad}"])
    with pytest.raises(ArgumentError) as error:
        check_pretraining(["--model.towers=null"])
    assert error.value.argument == "model.towers"


@pytest.mark.parametrize("text", ["model: {warmup: 3}\nmodel: {lr: 1}", "data:\n  batch_size: 8\n  batch_size: 176"])
def test_a_setting_that_is_there_twice_is_refused(photos: list[str], text: str, tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text(text)
    with pytest.raises(UserError, match=r"twice\.yaml"):
        check_training(["--config", str(tmp_path / "twice.yaml"), *photos])
