from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest

from pacl.errors import UserError
from pacl.video.containers import is_video
from pacl.video.reading import Video, open_video, read_ahead, read_frames
from tests.paths import ROOT
from tests.video.clips import moving_scene, read_clip, rotate_clip, stretch_clip, write_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", moving_scene(10))


def test_frames_are_numbered_timed_and_rgb(clip: Path) -> None:
    video = open_video(clip)
    assert (video.fps, video.size, video.count) == (pytest.approx(10), (48, 64), 10)
    frames = list(read_frames(video))
    assert [frame.number for frame in frames] == list(range(10))
    assert [frame.time for frame in frames] == pytest.approx([i / 10 for i in range(10)])
    for frame, image in zip(frames, read_clip(clip)[0], strict=True):
        np.testing.assert_array_equal(frame.image, image)


def test_every_third_frame(clip: Path) -> None:
    video = open_video(clip)
    frames, every = list(read_frames(video)), list(read_frames(video, 3))
    assert [(frame.number, frame.time) for frame in every] == [(f.number, f.time) for f in frames[::3]]
    np.testing.assert_array_equal(every[1].image, frames[3].image)


def test_a_turned_video_is_upright(clip: Path) -> None:
    lying = [frame.image for frame in read_frames(open_video(clip))]
    rotate_clip(clip)
    video = open_video(clip)
    assert video.size == (64, 48)
    upright = next(read_frames(video)).image
    np.testing.assert_array_equal(upright, np.rot90(lying[0], k=-1))


def test_times_of_a_variable_frame_rate_are_those_of_the_file(clip: Path) -> None:
    stretch_clip(clip, long=5, factor=3)
    times = [frame.time for frame in read_frames(open_video(clip))]
    assert times == pytest.approx([0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.6, 1.7, 1.8, 1.9])


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_other_containers(tmp_path: Path, suffix: str) -> None:
    clip = write_clip(tmp_path / f"clip{suffix}", moving_scene(4), fourcc="MJPG")
    assert len(list(read_frames(open_video(clip)))) == 4


def test_names_that_ffmpeg_would_take_for_something_else(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a:b.mp4", "clip%03d.mp4", "-i.mp4"):
        clip = clip.rename(tmp_path / name)
        assert open_video(name).count == 10


def test_what_is_no_video_is_one_line(tmp_path: Path, clip: Path) -> None:
    content = clip.read_bytes()
    cases = {"no.mp4": None, "empty.mp4": b"", "text.mp4": b"not a video" * 50, "cut.mp4": content[: len(content) // 2]}
    for name, data in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=name) as error:
            open_video(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError):
        open_video(tmp_path)


def test_an_image_is_no_video(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(UserError):
        open_video(tmp_path / "photo.jpg")


def test_opencv_and_ffmpeg_print_nothing(tmp_path: Path, clip: Path) -> None:
    clip.write_bytes(clip.read_bytes()[:500])
    code = "import sys; from pacl.video.reading import open_video; open_video(sys.argv[1])"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("OPENCV_FFMPEG_LOGLEVEL", None)
    done = subprocess.run([sys.executable, "-c", code, clip], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1
    assert "moov" not in done.stderr
    assert done.stderr.startswith("Traceback")
    assert "UserError" in done.stderr


def test_without_ffmpeg_it_says_so(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.videoio_registry, "getBackends", lambda: [])
    with pytest.raises(UserError, match="FFmpeg"):
        open_video(clip)


def test_a_cut_off_file_is_noticed_but_not_an_estimate() -> None:
    video = Video(Path("a.mp4"), 25, (4, 4), 100)
    assert not video.is_cut_off(100, 4)
    assert not video.is_cut_off(94, 3.76)
    assert video.is_cut_off(60, 2.4)
    assert not video.is_cut_off(6, 4)  # of a varying rate
    assert not Video(Path("a.mp4"), 25, (4, 4), None).is_cut_off(1, 0)


def test_reading_ahead_is_bounded_in_order_and_ends() -> None:
    taken = []

    def numbers():  # type: ignore[no-untyped-def]
        for i in range(20):
            taken.append(i)
            yield i

    found = []
    for item in read_ahead(numbers(), 3):
        found.append(item)
        assert len(taken) <= len(found) + 4
    assert found == list(range(20))
    before = threading.active_count()
    ahead = read_ahead(numbers(), 3)
    next(ahead)
    ahead.close()
    assert threading.active_count() == before


def test_errors_while_reading_ahead_reach_the_caller() -> None:
    def failing():  # type: ignore[no-untyped-def]
        yield 1
        raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        list(read_ahead(failing()))


def test_videos_are_known_by_suffix_or_first_bytes(clip: Path, tmp_path: Path) -> None:
    assert is_video("no.MOV")
    plain = tmp_path / "plain"
    plain.write_bytes(clip.read_bytes())
    assert is_video(plain)
    avi = write_clip(tmp_path / "a.avi", moving_scene(2), fourcc="MJPG").rename(tmp_path / "b")
    assert is_video(avi)
    for name, content in (("a.jpg", clip.read_bytes()), ("c", b"\x00\x00\x00\x1cftypavif"), ("d", b"text"), ("e", b"")):
        (tmp_path / name).write_bytes(content)
        assert not is_video(tmp_path / name)
    assert not is_video(tmp_path / "missing")


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([0.0, 0.1, 100_000.0, 100_000.1], [0, 0.1, 100_000, 100_000.1]),
        ([5.0, 5.1, 1.0, 5.3], [0, 0.1, 0.2, 0.3]),
        ([-2.0, -1.9, math.nan, -1.7], [0, 0.1, 0.2, 0.3]),
        ([0.0, math.inf, -math.inf, 0.3], [0, 0.1, 0.2, 0.3]),
        ([math.nan, math.nan, 0.2, 0.3], [0, 0.1, 0.2, 0.3]),
    ],
)
def test_times_are_those_of_the_file_where_these_make_sense(
    clip: Path, stamps: list[float], times: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    video, left = open_video(clip), iter(stamps)

    class Capture:
        def __init__(self) -> None:
            self.stamp = 0.0

        def grab(self) -> bool:
            self.stamp = next(left, -1e9)
            return self.stamp != -1e9

        def get(self, name: int) -> float:
            return 1000 * self.stamp

        def retrieve(self) -> tuple[bool, np.ndarray]:
            return True, np.zeros((*video.size, 3), np.uint8)

    monkeypatch.setattr("pacl.video.reading._capture", lambda path: nullcontext(Capture()))
    assert [frame.time for frame in read_frames(video)] == pytest.approx(times)
