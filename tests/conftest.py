"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # processes side by side, each on several threads, slow each other down
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, and by the commands that tests start

import numpy as np
import pytest
import torch
from PIL import Image

from pacl.models.backbone import Backbone, load_backbone
from tests.tiny import save_tiny_clip

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # runs GPU kernels on the CPU; Triton reads it when it is imported

# A shell that runs the tests in the background has them ignore Ctrl-C, and so would the commands that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg reads it once, perhaps before pacl sets it


@pytest.fixture(autouse=True)
def auto_is_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same digits on every machine: ``--precision auto`` finds no bfloat16 in a test's own process."""
    monkeypatch.setattr("pacl.models.precision.has_bf16", lambda kind: False)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name, for `load_model` and ``--model``, of a randomly initialised CLIP of a few thousand weights."""
    return save_tiny_clip(tmp_path_factory.mktemp("tiny-clip"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A random CLIP for the tests of one file, in a folder of its own."""
    return load_backbone(save_tiny_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of 48 x 32 pixels in an empty folder: red on the left, noise on the right."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    pixels[:, :24] = (200, 30, 30)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path
