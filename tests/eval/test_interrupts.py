"""Ctrl-C at moments at which `pacl.cli.messages.run_verb` alone does not make it one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from pytorch_lightning import LightningDataModule, LightningModule, Trainer

from eval.common import head_training
from tests.paths import ROOT


def test_while_a_command_is_imported() -> None:
    """Then Python itself ends: as a shell expects of Ctrl-C, and without a traceback."""
    code = "import sys; sys.argv = ['-m']; import eval; raise KeyboardInterrupt"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGINT
    assert len(ended.stderr.splitlines()) == 1


def test_while_a_head_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning makes an exit with code 1 of it."""

    def stopped(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "_run", stopped)
    monkeypatch.setattr(head_training, "PACLModule", LightningModule)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            head_training.train_head(None, {}, LightningDataModule(), {"max_steps": 1}, seed=0)  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGINT, before)
