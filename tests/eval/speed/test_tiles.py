"""The Triton kernels are built for a GPU, which needs none: the interpreter of the other tests compiles nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tests.paths import ROOT

pytest.importorskip("pacl.models.compatibility_triton", exc_type=ImportError)
SHARED_KB = 227  # of a program on an H100


def tiles(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "eval.speed.tiles", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_tiles_in_use_fit_the_gpu() -> None:
    done = tiles("--build", "--used")
    assert done.returncode == 0, done.stderr
    header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines())
    found = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["kernel"] for row in found] == ["forward*", "backward*"]
    assert all(0 < int(row["shared KB"]) <= SHARED_KB for row in found)
    assert all(32 <= int(row["registers"]) <= 255 for row in found)  # (a kernel that does nothing has fewer)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_nothing_to_time() -> None:
    done = tiles()
    assert done.returncode == 2
    assert "--build" in done.stderr
