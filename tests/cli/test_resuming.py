"""What is said of checkpoints that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacl.cli.resuming import advice_for


@pytest.mark.parametrize(
    ("checkpoints", "advice"),
    [(["best", "last"], "--ckpt_path last"), (["best"], "checkpoints/best.ckpt"), ([], "")],
)
def test_a_checkpoint_that_is_there_is_advised(tmp_path: Path, checkpoints: list[str], advice: str) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in checkpoints:
        (tmp_path / "checkpoints" / f"{name}.ckpt").touch()
    assert advice in advice_for(tmp_path)
    assert ("resume" in advice_for(tmp_path)) == bool(checkpoints)
