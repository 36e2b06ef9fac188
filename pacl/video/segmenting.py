"""Frames through the segmenter, in batches, with labels that are steady over time."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pacl.errors import VideoWarning, check_count
from pacl.image_batches import BATCH_PIXELS
from pacl.models.precision import inference
from pacl.prompts import Label
from pacl.segmentation.query import EncodedQuery
from pacl.segmentation.result import Segmentation
from pacl.video.reading import Frame, Video, open_video, read_ahead, read_frames
from pacl.video.settings import DEFAULT_SMOOTH, check_smooth
from pacl.video.smoothing import Smoother

if TYPE_CHECKING:
    from pacl.segmentation.encode import EncodedImage
    from pacl.segmentation.segmenter import Segmenter


class SegmentedFrame(NamedTuple):
    """A frame of a video and its labels.

    Attributes:
        number: counts all frames of the video from 0.
        time: seconds since the first frame.
        found: its labels; `found.source` is the frame, RGB uint8 [H, W, 3].
    """

    number: int
    time: float
    found: Segmentation


def segment_video(
    path: str | Path,
    labels: Iterable[str | Label] | EncodedQuery,
    *,
    segmenter: Segmenter,
    step: int = 1,
    smooth: float = DEFAULT_SMOOTH,
) -> Iterator[SegmentedFrame]:
    """Segment a video by words.

    Frames are decoded, segmented and handed over as you iterate, so a video of any length fits in memory. Each result
    holds its frame: keep what you need of it, not the result.

    Args:
        path: a video file that OpenCV's FFmpeg reads: MP4, MOV, AVI, MKV, WebM and others.
        labels: as for `Segmenter.predict`; all labels compete for every pixel of every frame.
        segmenter: segments the frames; at most its ``window_batch`` frames go through the image tower at once.
        step: distance, in frames, between those that are segmented, from the first on; 1 takes all.
        smooth: time constant, in seconds, of the average of the scores over time, which keeps labels from flickering;
            0 is off. See `pacl.video.smoothing.Smoother`.

    Returns:
        An iterator of `(number, time, found)`, see `SegmentedFrame`.

    Raises:
        UserError: the file is missing, or no video that can be read; ``labels`` make no sense.
        ArgumentError: ``step`` is below 1 or ``smooth`` below 0.

    Warns:
        VideoWarning: the video ends before the number of frames that it promises.

    Example:
        >>> for number, time, found in segment_video("clip.mp4", ["a dog", "grass"], segmenter=segmenter, step=5):
        ...     print(f"{time:.1f} s: {found.shares}")
    """
    check_count("step", step)
    check_smooth(smooth)
    video, query = open_video(path), segmenter.prepare(labels)
    return _segment_video(video, query, segmenter, step, smooth)


def _segment_video(
    video: Video, query: EncodedQuery, segmenter: Segmenter, step: int, smooth: float
) -> Iterator[SegmentedFrame]:
    # What a record of a single image does not know: the labels of a frame depend on the frames before it.
    about = {"step": int(step), "smooth": float(smooth)} if smooth else {}
    number, time = 0, 0.0
    for frame, found in segment_frames(read_frames(video, step), query, segmenter, step=step, smooth=smooth):
        number, time = frame.number, frame.time
        yield SegmentedFrame(frame.number, frame.time, replace(found, contents={**found.contents, **about}))
    if video.is_cut_off(number + step, time + step / video.fps):
        read = number + 1 if step == 1 else f"{number + 1} to {number + step}"
        message = f"{video.path} ends after {read} of {video.count} frames: it is damaged or cut off"
        warnings.warn(message, VideoWarning, stacklevel=2)


def segment_frames(
    frames: Iterator[Frame], query: EncodedQuery, segmenter: Segmenter, *, step: int = 1, smooth: float = DEFAULT_SMOOTH
) -> Iterator[tuple[Frame, Segmentation]]:
    """Segment every ``step``-th frame; the frames between have the labels of the one before them.

    The next frames are decoded meanwhile.

    Args:
        frames: in order, the first of them with a number that is a multiple of ``step``.
        query: see `Segmenter.prepare`.
        segmenter: at most its ``window_batch`` frames go through the tower at once.
        step: see `segment_video`.
        smooth: see `Smoother`.

    Yields:
        Each frame and its labels, the same object for frames that share them.
    """
    smoother = Smoother(smooth)
    found: Segmentation | None = None
    for batch in batches(read_ahead(frames), step, segmenter.settings.window_batch):
        encoded = iter(_encode([frame for frame in batch if frame.number % step == 0], segmenter))
        for frame in batch:
            if frame.number % step == 0:
                found = _label(next(encoded), frame, query, segmenter, smoother)
            assert found is not None, "the first frame is one that is segmented"
            yield frame, found


def batches(frames: Iterable[Frame], step: int, size: int) -> Iterator[list[Frame]]:
    """Lists of frames, in order, with at most ``size`` to segment and about `BATCH_PIXELS` pixels each."""
    batch: list[Frame] = []
    pixels = wanted = 0
    for frame in frames:
        area, is_wanted = frame.image.shape[0] * frame.image.shape[1], frame.number % step == 0
        if batch and (wanted + is_wanted > size or pixels + area > BATCH_PIXELS):
            yield batch
            batch, pixels, wanted = [], 0, 0
        batch.append(frame)
        pixels, wanted = pixels + area, wanted + is_wanted
    if batch:
        yield batch


@inference()
def _encode(frames: list[Frame], segmenter: Segmenter) -> list[EncodedImage]:
    images = [frame.image for frame in frames]
    return segmenter.encode(images, [f"frame {frame.number}" for frame in frames]) if images else []


@inference()
def _label(
    encoded: EncodedImage, frame: Frame, query: EncodedQuery, segmenter: Segmenter, smoother: Smoother
) -> Segmentation:
    evidence = smoother(segmenter.evidence(encoded, query), frame.time)
    return segmenter.label(evidence, encoded)
