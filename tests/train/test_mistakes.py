"""Settings that cannot work are one line that names them."""

from __future__ import annotations

import pytest

from pacl import train
from pacl.errors import ArgumentError, UserError
from tests.train.command import captioned, run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.dense=none-such"], "none-such"),
        (["--model.start=middle"], "middle"),
        (["--no-such-flag=1"], "no-such-flag"),
        (["--data.batch_size=1"], "batch_size 1"),
        (["--model.temperature=-1"], "temperature -1"),
        (["--model.backbone=bundle"], "bundle"),
    ],
)
def test_mistakes_are_one_line(arguments, message, tiny_clip, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        run(tiny_clip, tmp_path, *arguments)
    assert len(str(error.value)) < 500


def test_a_folder_that_cannot_be_written_is_one_line(tiny_clip, tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ArgumentError) as error:
        run(tiny_clip, file / "below")
    assert error.value.argument == "out"


@pytest.mark.parametrize("content", [b"", b"no checkpoint" * 80])
def test_a_broken_checkpoint_is_one_line(tiny_clip, tmp_path, content):
    (tmp_path / "bad.ckpt").write_bytes(content)
    with pytest.raises(ArgumentError) as error:
        run(tiny_clip, tmp_path / "out", "--trainer.max_steps=1", f"--ckpt_path={tmp_path / 'bad.ckpt'}")
    assert (error.value.argument, error.value.value) == ("ckpt_path", str(tmp_path / "bad.ckpt"))
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_run_without_a_step_writes_no_head(tiny_clip, tmp_path):
    with pytest.raises(ArgumentError) as error:
        run(tiny_clip, tmp_path, "--trainer.max_steps=0")
    assert error.value.argument == "trainer.max_steps"
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    "argument",
    [
        *("head=best", "save_every=0", "ckpt_path=last", "ckpt_path=no.ckpt"),
        *("trainer.accumulate_grad_batches=2", "trainer.precision=bf16-true"),
        *("trainer.reload_dataloaders_every_n_epochs=1", "trainer.overfit_batches=1"),
        *("model.patches=0", "model.images_at_once=-1", "model.hidden=0", "model.warmup=-1", "model.lr=-1.0"),
    ],
)
def test_values_that_do_not_work_are_named(tiny_clip, tmp_path, argument):
    with pytest.raises(ArgumentError) as error:
        run(tiny_clip, tmp_path, "--trainer.max_steps=2", f"--{argument}")
    assert f"{error.value.argument}={error.value.value}" == argument


@pytest.mark.parametrize("limit", ["1", "2", "0.5", "1.0"])
def test_a_part_of_the_batches_is_refused(tiny_clip, tmp_path, limit):
    """Whether 1 is a whole number or a share depends on the order in which libraries are imported."""
    with pytest.raises(ArgumentError) as error:
        run(tiny_clip, tmp_path, "--trainer.max_steps=2", f"--trainer.limit_train_batches={limit}")
    assert error.value.argument == "trainer.limit_train_batches"


@pytest.mark.parametrize(
    "setting", ["fast_dev_run=True", "overfit_batches=2", "limit_val_batches=0.5", "limit_val_batches=0"]
)
def test_figures_of_a_part_of_the_held_out_images_are_refused(tiny_clip, tmp_path, setting):
    """The card would state all of them, and recall among fewer images is higher."""
    data = captioned(tmp_path, 20)
    with pytest.raises(ArgumentError) as error:
        run(tiny_clip, tmp_path / "out", *data, "--trainer.max_steps=1", f"--trainer.{setting}")
    assert error.value.argument == f"trainer.{setting.partition('=')[0]}"
    assert not (tmp_path / "out").exists()


def test_limits_of_validation_are_no_matter_where_all_or_none_validate(tiny_clip, tmp_path):
    data = captioned(tmp_path, 20)
    settings = ["--data.batch_size=4", "--trainer.max_steps=1"]
    run(tiny_clip, tmp_path / "all", *data, *settings, "--trainer.limit_val_batches=1.0")
    run(tiny_clip, tmp_path / "none", *data[:-1], *settings, "--trainer.limit_val_batches=0")


def test_a_schedule_of_accumulated_gradients_is_refused(tiny_clip, tmp_path):
    schedule = ["--trainer.callbacks=GradientAccumulationScheduler", "--trainer.callbacks.scheduling={0: 1, 1: 4}"]
    with pytest.raises(ArgumentError) as error:
        run(tiny_clip, tmp_path, "--trainer.max_steps=2", *schedule)
    assert (error.value.argument, error.value.value) == ("trainer.accumulate_grad_batches", 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.size=0"], "size 0"),
        (["--data.workers=-1"], "workers -1"),
        (["--trainer.strategy=foo"], "foo"),
        (["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val_recall"], "val_recall"),
    ],
)
def test_other_values_that_do_not_work(tiny_clip, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        run(tiny_clip, tmp_path, "--trainer.max_steps=2", *arguments)


@pytest.mark.parametrize(
    "setting",
    [
        *("max_steps=0", "max_epochs=0", "limit_train_batches=0", "limit_train_batches=0.0", "val_check_interval=0"),
        *("check_val_every_n_epoch=0", "gradient_clip_val=-1", "gradient_clip_val=.nan"),
    ],
)
def test_numbers_of_the_trainer_that_cannot_work_are_refused_at_once(tiny_clip, tmp_path, setting):
    with pytest.raises(ArgumentError) as error:
        run(tiny_clip, tmp_path / "out", f"--trainer.{setting}")
    assert error.value.argument == f"trainer.{setting.partition('=')[0]}"
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("[!.]*"))


@pytest.mark.parametrize("value", ["", "null"])
def test_a_value_that_was_changed_before_it_is_refused_has_its_flag(value, tiny_clip, tmp_path):
    words = [
        "--config=configs/scenes.yaml",
        f"--model.backbone={tiny_clip}",
        "--data=pacl.data.CaptionData",
        f"--data.pairs={value}",
    ]
    with pytest.raises(ArgumentError) as error:
        train.main([*words, f"--out={tmp_path / 'out'}", "--data.cache=null"])
    assert error.value.argument == "data.pairs"
