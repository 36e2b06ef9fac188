from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import pacl.video.writing
from pacl.errors import UserError
from pacl.video.writing import CODECS, Codec, VideoWriter, find_codec
from tests.video.clips import moving_scene, read_clip


def write(path: Path, frames: list[np.ndarray], times: list[float], fps: float = 10.0) -> VideoWriter:
    codec = next(codec for codec in CODECS if codec.suffix == path.suffix)
    writer = VideoWriter(path, codec, (frames[0].shape[0], frames[0].shape[1]), fps)
    for frame, time in zip(frames, times, strict=True):
        writer.write(frame, time)
    writer.close()
    return writer


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="all names are Unicode there")
def test_a_folder_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """OpenCV crashes the program."""
    folder = tmp_path / "bad\udcff"
    folder.mkdir()
    with pytest.raises(UserError, match="UTF-8"):
        find_codec(folder, (48, 64), 10.0)


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
@pytest.mark.parametrize("size", [(48, 64), (47, 63), (2, 2), (1, 1), (33, 2000)])
def test_frames_and_rate_are_kept_and_odd_sizes_padded(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    frames = [np.full((*size, 3), (250, 20 * i, 10), np.uint8) for i in range(6)]
    write(tmp_path / f"a{suffix}", frames, [i / 10 for i in range(6)])
    found, fps = read_clip(tmp_path / f"a{suffix}")
    assert (len(found), fps) == (6, pytest.approx(10))
    assert found[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert np.abs(found[2].mean((0, 1)) - (250, 40, 10)).max() < 30  # RGB, not BGR


@pytest.mark.parametrize("fps", [0.5, 12.5, 24000 / 1001, 30000 / 1001, 59.94, 240])
def test_frame_rates(tmp_path: Path, fps: float) -> None:
    frames = moving_scene(5)
    writer = write(tmp_path / "a.mp4", frames, [i / fps for i in range(5)], fps)
    assert writer.written == 5
    assert read_clip(tmp_path / "a.mp4")[1] == pytest.approx(fps, rel=1e-3)


def test_a_variable_rate_becomes_constant_and_plays_as_long(tmp_path: Path) -> None:
    frames = moving_scene(5)
    writer = write(tmp_path / "a.mp4", frames, [0, 0.1, 0.5, 0.52, 0.6])
    assert writer.written == 7  # 0.2 to 0.4 repeat the second frame, 0.52 comes within the slot of 0.5


@pytest.mark.parametrize(("fps", "gap"), [(10.0, 100_000.0), (0.01, 1e7)])
def test_a_jump_in_time_is_left_out(tmp_path: Path, fps: float, gap: float) -> None:
    times = [0, 1 / fps, 1 / fps + gap, 2 / fps + gap, 4 / fps + gap]
    writer = write(tmp_path / "a.mp4", moving_scene(5), times, fps)
    assert writer.written <= 6
    assert writer.left_out == pytest.approx(gap, rel=0.01)


def test_a_pause_is_kept(tmp_path: Path) -> None:
    assert write(tmp_path / "a.mp4", moving_scene(2), [0, 50]).written == 501
    assert write(tmp_path / "b.mp4", moving_scene(2), [0, 900], fps=0.01).written == 10


def test_a_frame_is_not_repeated_where_the_command_is_to_end(tmp_path: Path) -> None:
    stopped = False
    writer = VideoWriter(tmp_path / "a.mp4", CODECS[0], (48, 64), 10, lambda: stopped)
    first, second = moving_scene(2)
    writer.write(first, 0)
    stopped = True
    writer.write(second, 30)
    writer.close()
    assert writer.written == 2


def test_the_next_codec_where_one_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_codec(tmp_path, (48, 64), 10).suffix == ".mp4"
    missing = Codec("avc1", ".xyz")
    monkeypatch.setattr(pacl.video.writing, "CODECS", (missing, CODECS[1]))
    assert find_codec(tmp_path, (48, 64), 10) == CODECS[1]
    monkeypatch.setattr(pacl.video.writing, "CODECS", (missing,))
    with pytest.raises(UserError, match="avc1"):
        find_codec(tmp_path, (48, 64), 10)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_complete_is_an_error(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", CODECS[0], (48, 64), 10)
    writer.write(moving_scene(1)[0], 0)
    writer.written += 1  # as if a frame had got lost
    with pytest.raises(OSError, match="disk"):
        writer.close()
