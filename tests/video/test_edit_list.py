from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from pacl.video.edit_list import shown_seconds
from pacl.video.reading import open_video, read_frames
from tests.video.clips import moving_scene, trim_clip, write_clip


def test_a_trimmed_clip_is_whole_where_its_edit_list_ends(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", moving_scene(60))
    every = list(read_frames(open_video(clip)))
    assert shown_seconds(clip) == pytest.approx(6)
    trim_clip(clip, 24, 12)
    assert shown_seconds(clip) == pytest.approx(1.2)
    video = open_video(clip)
    frames = list(read_frames(video))
    assert video.count == len(frames) == 12
    np.testing.assert_array_equal(frames[0].image, every[24].image)
    assert not video.is_cut_off(12, 1.2)
    assert video.is_cut_off(4, 0.4)


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_other_containers_have_none(suffix: str, tmp_path: Path) -> None:
    assert shown_seconds(write_clip(tmp_path / f"clip{suffix}", moving_scene(3))) is None
    assert shown_seconds(tmp_path / "missing.mp4") is None


def test_of_a_damaged_file_there_is_none_or_a_number(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", moving_scene(5))
    content, rng = clip.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(content)
        for at in rng.integers(len(broken) - 1000, len(broken), 8):
            broken[at] = rng.integers(256)
        clip.write_bytes(broken[: rng.integers(len(broken))] if rng.random() < 0.5 else broken)
        seconds = shown_seconds(clip)
        assert seconds is None or seconds > 0
    clip.write_bytes(struct.pack(">I4s", 8, b"free") * 3 + struct.pack(">I4sQ", 1, b"moov", 2**63))
    assert shown_seconds(clip) is None
