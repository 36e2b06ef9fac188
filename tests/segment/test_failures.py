"""Images that cannot be read, and what the machine does not allow."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pacl.files import atomic_write
from pacl.segment import main
from tests.commands import Run
from tests.paths import ROOT


def test_a_folder_goes_on_after_a_bad_file_and_counts(run: Run, here: Path) -> None:
    (here / "photos" / "sub").mkdir(parents=True)
    shutil.copy("photo.png", "photos/a.png")
    Path("photos/b.png").write_bytes(Path("photo.png").read_bytes()[:500])
    shutil.copy("photo.png", "photos/sub/a.png")
    code, out, err = run("photos", "a dog", "grass")
    assert code == 1
    assert err.splitlines()[0].startswith("pacl segment: error: [2/3] photos/b.png is broken or truncated")
    assert len(err.splitlines()) == 1
    assert out.splitlines()[0].startswith("[1/3] photos/a.png: ")
    assert out.splitlines()[-1] == "2 of 3 images segmented, 1 failed; results in out"
    assert Path("out/a.json").exists()
    assert Path("out/sub/a.json").exists()
    assert not list((here / "out").glob("b.*"))


def test_a_full_disk_stops_the_run_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(6):
        shutil.copy("photo.png", f"{i}.png")
    tried = []

    def full(path: Path, index: np.ndarray) -> None:
        tried.append(path)
        with atomic_write(path):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("pacl.results.formats.save_mask", full)
    images = [f"{i}.png" for i in range(6)]
    code, out, err = run(*images, "a dog", "grass", "--window_batch", "1")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "No space left on device" in err
    assert len(tried) < 4
    assert not list(Path("out").iterdir())


def test_images_that_are_not_read_are_counted_and_fail(run: Run) -> None:
    Path("photos").mkdir()
    shutil.copy("photo.png", "photos/a.png")
    shutil.copy("photo.png", "photos/b.jfif")
    Path("photos/c.HEIC").write_bytes(b"1234ftypheic")
    code, out, err = run("photos", "a dog", "grass")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "c.HEIC" in err
    assert out.splitlines()[-1].startswith("2 of 2 images segmented, 0 failed, 1 not read")


def truncated(path: Path) -> None:
    path.write_bytes(Path("photo.png").read_bytes()[:1000])


def not_a_picture(path: Path) -> None:
    path.write_text("hello")


def bomb(path: Path) -> None:
    """A PNG whose header promises 90,000 x 90,000 pixels."""
    data = Path("photo.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", 90_000, 90_000) + data[24:29]
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (truncated, "bad.png is broken or truncated"),
        (not_a_picture, "bad.png is not an image"),
        (bomb, "bad.png is too large"),
        (Path.touch, "is empty"),
    ],
)
def test_pictures_that_cannot_be_read(run: Run, make: Callable[[Path], None], message: str) -> None:
    make(Path("bad.png"))
    code, out, err = run("bad.png", "a dog", "grass")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err
    assert not list(Path("out").iterdir())


def test_out_of_memory_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr("pacl.segmentation.segmenter.Segmenter.predict_batch", exhausted)
    code, _, err = run("photo.png", "a dog", "grass")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "photo.png: out of memory; try a smaller --size" in err


def test_programming_errors_keep_their_traceback(tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr("pacl.segmentation.segmenter.Segmenter.predict_batch", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        main(["photo.png", "a dog", "grass", "--model", tiny_clip])


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_reader_that_has_enough_is_no_error(tiny_clip: str, here: Path) -> None:
    command = f"{sys.executable} -m pacl.segment photo.png sky sea --model {tiny_clip} --json --format mask"
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
