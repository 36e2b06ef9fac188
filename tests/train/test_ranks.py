"""The command on two processes: the same training as on one."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.paths import ROOT
from tests.tiny import save_tiny_clip


def pictures(folder: Path, count: int) -> Path:
    """A table of noise with captions, some of which recur."""
    rng = np.random.default_rng(0)
    with (folder / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{i}.png")
            table.writerow([f"{i}.png", f"a dog number {i % 7} on grass"])
    return folder / "pairs.csv"


@pytest.mark.slow
def test_two_processes_train_the_same_head_as_one(tmp_path):
    """An uneven batch of 7, recurring captions, one held-out picture for two processes: only sums round differently."""
    table = pictures(tmp_path, 31)
    common = [
        *("--config=configs/scenes.yaml", "--data=pacl.data.CaptionData", f"--data.pairs={table}"),
        *("--data.cache=null", "--data.batch_size=7", "--data.hold_out=1", "--data.nouns=true"),
        *(f"--model.backbone={save_tiny_clip(tmp_path / 'clip')}", "--model.patches=null", "--model.warmup=1"),
        *(
            "--model.text=linear",
            "--model.learn_temperature=true",
            "--trainer.max_steps=6",
            "--trainer.accelerator=cpu",
        ),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        *("--trainer.log_every_n_steps=1",),
    ]
    heads: list[dict[str, torch.Tensor]] = []
    figures: dict[str, list[list[float]]] = {"loss": [], "accuracy": [], "pooling_entropy": []}
    for ranks in (1, 2):
        out = tmp_path / str(ranks)
        more = [f"--trainer.devices={ranks}", "--trainer.strategy=" + ("ddp" if ranks > 1 else "auto"), f"--out={out}"]
        subprocess.run(
            [sys.executable, "-m", "pacl.train", *common, *more],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
            timeout=600,
        )
        heads.append(load_file(out / "model.safetensors"))
        with next(out.glob("logs/version_0/metrics.csv")).open() as file:
            rows = list(csv.DictReader(file))
        for name, every in figures.items():
            every.append([float(row[name]) for row in rows if row[name]])
        assert any(row["val_recall"] for row in rows)
        assert (out / "checkpoints" / "best.ckpt").is_file()
    for one, two in figures.values():
        assert len(one) == 6
        assert two == pytest.approx(one, rel=1e-4)
    for name, tensor in heads[0].items():
        torch.testing.assert_close(heads[1][name], tensor, rtol=1e-2, atol=2e-4)
