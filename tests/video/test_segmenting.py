from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pacl.errors import ArgumentError
from pacl.models.loading import load_model
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from pacl.video.reading import open_video, read_frames
from pacl.video.segmenting import SegmentedFrame, batches, segment_frames, segment_video
from pacl.video.smoothing import Smoother
from tests.video.clips import moving_scene, write_clip

LABELS = ["a dog", "grass", "sky"]


@pytest.fixture(scope="module")
def segmenter(tiny_clip: str) -> Segmenter:
    return Segmenter(load_model(tiny_clip), SegmenterSettings(window_batch=3, prior=-1))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", moving_scene(12, noise=30))


def flicker(frames: list[SegmentedFrame]) -> float:
    """Mean share of pixels whose label changes from one frame to the next."""
    indices = [frame.found.index for frame in frames]
    return float(np.mean([(a != b).mean() for a, b in pairwise(indices)]))


def run(segmenter: Segmenter, clip: Path, **more: float) -> list[SegmentedFrame]:
    return list(segment_video(clip, LABELS, segmenter=segmenter, **more))  # type: ignore[arg-type]


def test_without_smoothing_frames_are_segmented_like_images(segmenter: Segmenter, clip: Path) -> None:
    for number, time, found in run(segmenter, clip, smooth=0):
        segmenter.set_image(found.source)
        alone = segmenter.predict(LABELS)
        np.testing.assert_array_equal(found.index, alone.index)
        assert found.scores == pytest.approx(alone.scores, abs=1e-5)
        assert time == pytest.approx(number / 10)


def test_smoothing_calms_the_labels(segmenter: Segmenter, clip: Path) -> None:
    rough, calm, still = (flicker(run(segmenter, clip, smooth=s)) for s in (0, 0.5, 100))
    assert rough > 0.05
    assert calm < 0.7 * rough
    assert still < 0.3 * rough


def test_the_average_is_exponential_in_time(segmenter: Segmenter, clip: Path) -> None:
    frames = run(segmenter, clip, smooth=0)[:4]
    times = [0.0, 0.1, 0.5, 0.6]
    smoother, expected = Smoother(0.3), frames[0].found.cosines.values
    for i, (frame, time) in enumerate(zip(frames, times, strict=True)):
        if i:
            keep = math.exp(-(time - times[i - 1]) / 0.3)
            expected = keep * expected + (1 - keep) * frame.found.cosines.values
        torch.testing.assert_close(smoother(frame.found.evidence, time).cosines.values, expected)


def test_the_first_frame_is_its_own_average(segmenter: Segmenter, clip: Path) -> None:
    evidence = run(segmenter, clip, smooth=0)[0].found.evidence
    assert Smoother(1)(evidence, 0) is evidence


@pytest.mark.parametrize("settings", [SegmenterSettings(refine=2), SegmenterSettings(refine=2, refine_on="cosines")])
def test_refinement_and_the_prior_are_averaged_too(tiny_clip: str, clip: Path, settings: SegmenterSettings) -> None:
    segmenter = Segmenter(load_model(tiny_clip), settings)
    found = run(segmenter, clip, smooth=0.2, step=4)
    assert [frame.number for frame in found] == [0, 4, 8]
    assert all(np.isfinite(frame.found.probabilities).all() for frame in found)


def test_results_of_other_averages_are_told_apart(segmenter: Segmenter, clip: Path, tmp_path: Path) -> None:
    def last(smooth: float, formats: str) -> dict[str, Any]:
        *_, (_, _, found) = segment_video(clip, ["red", "blue"], segmenter=segmenter, smooth=smooth)
        return found.save(tmp_path / "out", "frame", formats=formats)

    assert last(np.float32(1), "rle,mask")["settings"]["smooth"] == 1
    assert set(last(1, "overlay")["files"]) == {"json", "mask", "overlay"}
    calm = last(0, "npz")
    assert set(calm["files"]) == {"json", "npz"}
    assert "smooth" not in calm["settings"]
    assert not (tmp_path / "out/frame.mask.png").exists()


def test_steps(segmenter: Segmenter, clip: Path) -> None:
    every, some = run(segmenter, clip, smooth=0), run(segmenter, clip, smooth=0, step=5)
    assert [frame.number for frame in some] == [0, 5, 10]
    for frame in some:
        np.testing.assert_array_equal(frame.found.index, every[frame.number].found.index)


def test_frames_between_have_the_labels_of_the_last(segmenter: Segmenter, clip: Path) -> None:
    query = segmenter.prepare(LABELS)
    found = list(segment_frames(read_frames(open_video(clip)), query, segmenter, step=5))
    assert [frame.number for frame, _ in found] == list(range(12))
    for frame, labels in found:
        assert labels is found[frame.number // 5 * 5][1]


def test_wrong_values_are_refused_before_the_video_is_read(segmenter: Segmenter, clip: Path) -> None:
    for name, values in (("step", (0, -1, 1.5, "2")), ("smooth", (-1, math.nan, math.inf, "1"))):
        for value in values:
            with pytest.raises(ArgumentError) as error:
                segment_video(clip, LABELS, segmenter=segmenter, **{name: value})  # type: ignore[arg-type]
            assert error.value.argument == name


def test_numbers_of_numpy_are_numbers() -> None:
    assert Smoother(np.float32(0.5)).seconds == 0.5  # type: ignore[arg-type]


def test_few_frames_are_held_however_long_the_video_is(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import weakref

    import pacl.video.segmenting

    clip = write_clip(tmp_path / "long.mp4", moving_scene(60))
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0
    original = pacl.video.segmenting.read_frames

    def counted(*args: object) -> object:
        for frame in original(*args):  # type: ignore[arg-type]
            alive.append(weakref.ref(frame.image))
            yield frame

    monkeypatch.setattr(pacl.video.segmenting, "read_frames", counted)
    for _ in segment_video(clip, LABELS, segmenter=segmenter):
        most = max(most, sum(ref() is not None for ref in alive))
    assert len(alive) == 60
    assert most <= 3 + 3 + 6  # a batch, the next, and those that are read ahead


def test_a_batch_is_bounded_by_frames_to_segment_and_by_pixels(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = list(read_frames(open_video(clip)))
    assert [len(batch) for batch in batches(frames, 1, 5)] == [5, 5, 2]
    assert [len(batch) for batch in batches(frames, 4, 2)] == [8, 4]
    monkeypatch.setattr("pacl.video.segmenting.BATCH_PIXELS", 2 * 48 * 64)
    assert [len(batch) for batch in batches(frames, 4, 2)] == [2] * 6
