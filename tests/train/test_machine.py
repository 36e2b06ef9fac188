"""What the machine does not allow is one line that says what is kept."""

from __future__ import annotations

import pytest
import torch

from pacl.errors import ArgumentError, UserError
from pacl.training.module import PACLModule
from tests.train.command import run


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("strategy", name) for name in ("ddp_spawn", "ddp_fork", "fsdp", "deepspeed", "foo")),
        *(("devices", number) for number in ("[0]", "0,1", "0", "-2")),
        *(("accelerator", name) for name in ("cuda", "gpu", "mps", "tpu", "foo")),
        *(("num_nodes", number) for number in ("0", "2")),
        *(("precision", name) for name in ("16-mixed", "64-true", "transformer-engine")),
    ],
)
def test_trainer_settings_that_do_not_work_here_name_their_flag(tiny_clip, tmp_path, flag, value, monkeypatch):
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    more = ["--trainer.devices=2"] if flag == "strategy" and value.startswith("ddp") else []
    cpu = [] if flag == "accelerator" else ["--trainer.accelerator=cpu"]
    with pytest.raises(ArgumentError) as error:
        run(tiny_clip, tmp_path, "--trainer.max_steps=1", *cpu, f"--trainer.{flag}={value}", *more)
    assert error.value.argument == f"trainer.{flag}"
    assert "None" not in error.value.reason
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "--model.images_at_once 8"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "--model.patches 49"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "--data.workers"),
        (torch.distributed.DistNetworkError("failed to bind (errno: 98 - EADDRINUSE)"), "MASTER_PORT"),
        (RuntimeError("[gloo/pair.cc:534] Connection closed by peer [127.0.0.1]"), "processes"),
        (OSError(28, "No space left on device", "metrics.csv"), "metrics.csv"),
    ],
)
@pytest.mark.parametrize("saved", [False, True])
def test_what_the_machine_does_is_one_line_with_what_is_kept(tiny_clip, tmp_path, monkeypatch, error, advice, saved):
    original = PACLModule.training_step

    def fail(self, batch, index):
        if self.global_step == 2:
            raise error
        return original(self, batch, index)

    monkeypatch.setattr(PACLModule, "training_step", fail)
    big = ["--data.batch_size=16"]
    with pytest.raises(UserError) as found:
        run(tiny_clip, tmp_path, "--trainer.max_steps=4", f"--save_every={1 if saved else 9}", *big)
    assert advice in str(found.value)
    assert ("--ckpt_path last" in str(found.value)) == saved == (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_an_error_of_the_program_keeps_its_traceback(tiny_clip, tmp_path, monkeypatch):
    monkeypatch.setattr(PACLModule, "training_step", lambda *_: {}["no key"])
    with pytest.raises(KeyError):
        run(tiny_clip, tmp_path, "--trainer.max_steps=1")
