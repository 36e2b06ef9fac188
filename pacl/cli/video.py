"""`pacl segment` for videos: its flags, and its loop over the frames of each."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pacl.cli.batches import memory_saving
from pacl.cli.hints import rules_of, say_swallowed
from pacl.cli.inputs import FoundImages, ImageFile, frames_command
from pacl.cli.interruptions import Interruptions
from pacl.cli.messages import memory_advice, printing, prints_utf8
from pacl.cli.progress import ProgressMeter
from pacl.cli.table import record_line
from pacl.errors import ArgumentError, UserError, check_count
from pacl.files import is_out_of_space
from pacl.printing import counted, escaped
from pacl.results.paths import video_files
from pacl.segmentation.image_doubts import swallowed, unlike_drawn_scenes
from pacl.video.reading import Frame, Video, open_video, read_frames
from pacl.video.settings import DEFAULT_SMOOTH, VIDEO_FORMATS, check_smooth

if TYPE_CHECKING:
    from rich.console import Console

    from pacl.results.writer import Writer
    from pacl.segmentation.query import EncodedQuery
    from pacl.segmentation.result import Segmentation
    from pacl.segmentation.segmenter import Segmenter

Say = Callable[[object], None]


@dataclass(frozen=True)
class VideoRun:
    """What all videos of a run have in common.

    Attributes:
        out: folder of the results.
        formats: keys of `VIDEO_FORMATS`.
        step: see `pacl.video.segmenting.segment_video`.
        smooth: likewise.
        as_json: whether the records are printed.
    """

    out: Path
    formats: tuple[str, ...]
    step: int
    smooth: float
    as_json: bool


def add_video(group: argparse._ArgumentGroup) -> None:
    """Add the flags that are for videos."""
    group.add_argument("--step", metavar="N", type=int, help="segment every N-th frame (default: 1)")
    group.add_argument(
        "--smooth",
        metavar="SECONDS",
        type=float,
        help="average the scores over about this time, so that labels do not flicker; 0 is off "
        f"(default: {DEFAULT_SMOOTH:g})",
    )


def video_run(args: argparse.Namespace, found: FoundImages, formats: tuple[str, ...]) -> VideoRun | None:
    """The flags of videos, checked; None where there is no video.

    Raises:
        UserError: a format is not one of videos; the only source cannot be read.
        ArgumentError: a flag is out of range, or there is no video that it could apply to.
    """
    if not found.videos:
        for name in ("step", "smooth"):
            if (value := getattr(args, name)) is not None:
                raise ArgumentError(name, value, "is for videos, and none is named")
        return None
    first = found.videos[0].path
    if other := [name for name in formats if name not in VIDEO_FORMATS]:
        raise UserError(
            f"--format {','.join(other)}: not for a video such as {first}; choose from {', '.join(VIDEO_FORMATS)}, or "
            f"write its frames as images first: {frames_command(first)}"
        )
    step = check_count("step", 1 if args.step is None else args.step)
    smooth = check_smooth(DEFAULT_SMOOTH if args.smooth is None else args.smooth)
    if len(found.videos) == 1 and not found.files:
        open_video(first)  # before the model is loaded
    return VideoRun(args.out, formats, step, smooth, args.json)


def segment_videos(
    videos: Sequence[ImageFile],
    query: EncodedQuery,
    segmenter: Segmenter,
    run: VideoRun,
    writer: Writer,
    console: Console,
    say: Say,
    tell: Callable[[], None],
    *,
    alone: bool,
) -> int:
    """Segment videos one after the other, and print the outcome of each; a bad one is reported and skipped.

    Args:
        videos: the files.
        query: what to look for.
        segmenter: segments the frames.
        run: what all videos have in common.
        writer: describes the model, and deletes what earlier runs left.
        console: where results are printed.
        say: prints a line on standard error.
        tell: is called after each video.
        alone: whether nothing else is segmented, so that what is wrong with the only video stops the command.

    Returns:
        0, or 1 when a video failed or is cut off.

    Raises:
        UserError: the only video failed, or nothing more can be written.
    """
    code = 0
    for number, file in enumerate(videos, start=1):
        place = f"[{number}/{len(videos)}] " if len(videos) > 1 else ""
        try:
            code |= _segment_video(file, query, segmenter, run, writer, console, say, tell, place)
        except UserError as error:
            if (alone and len(videos) == 1) or is_out_of_space(error):
                raise
            say(f"error: {place}{error}")
            code = 1
    return code


def _segment_video(
    file: ImageFile,
    query: EncodedQuery,
    segmenter: Segmenter,
    run: VideoRun,
    writer: Writer,
    console: Console,
    say: Say,
    tell: Callable[[], None],
    place: str,
) -> int:
    from pacl.video.results import VideoResults
    from pacl.video.segmenting import segment_frames

    video = open_video(file.path)
    frames = read_frames(video, 1 if "overlay" in run.formats else run.step)
    shares = [0.0] * len(query.query.labels)
    last: Segmentation | None = None
    title = f"{place}{escaped(video.path)}"

    def tell_progress(line: str) -> None:
        with printing():
            console.print(line, markup=False)

    with (
        Interruptions() as interruptions,
        VideoResults(
            run.out,
            file.name,
            video,
            run.formats,
            writer.model,
            lambda: interruptions.is_pending,
            step=run.step,
            smooth=run.smooth,
            overwrite=writer.overwrite,
        ) as results,
        ProgressMeter(title, video.count, line=tell_progress, console=console) as meter,
        memory_advice(str(file.path), memory_saving(segmenter.settings)),
    ):
        meter.update(0)
        try:
            for frame, found in segment_frames(frames, query, segmenter, step=run.step, smooth=run.smooth):
                if (
                    last is None
                    and writer.model["name"] == "bundled"
                    and (unlike := unlike_drawn_scenes(segmenter.model, frame.image, file.path))
                ):
                    say(f"warning: {unlike}")
                with interruptions.held():
                    record = results.add(frame, found, is_new=found is not last)
                last = found
                if record is not None:
                    shares = [total + share for total, share in zip(shares, found.shares, strict=True)]
                    if run.as_json:
                        with printing():
                            print(json.dumps(record, ensure_ascii=not prints_utf8(), allow_nan=False), flush=True)
                    meter.update(frame.number + 1, title=f"{title} {frame.time:.1f} s: {record_line(record)}")
        except (KeyboardInterrupt, SystemExit):
            if results.frames:
                with interruptions.held():
                    results.finish()
                    say(
                        f"{file.path}: stopped after {results.frames} of {video.count or '?'} frames; "
                        f"their results are in {run.out}"
                    )
            raise
        with interruptions.held():
            paths = results.finish()
            writer.written.add(file.name)
            writer.removed.add(file.name, results.removed)
            writer.remove_earlier([*video_files(paths["jsonl"].with_suffix("")), paths["jsonl"]])
    if results.left_out:
        say(
            f"warning: {file.path} has no frames for {results.left_out:.1f} s, by its time stamps; its overlay leaves "
            "that out, the times of the records are those of the file"
        )
    tell()
    names = [label.name for label in query.query.labels]
    mean = {name: share / max(1, results.segmented) for name, share in zip(names, shares, strict=True)}
    labels = [{"label": name, "share": share} for name, share in mean.items()]
    seen = frame.number + (1 if "overlay" in run.formats else run.step)
    with printing():
        if not run.as_json:
            console.print(
                f"{place}{escaped(file.path)}: {_extent(video, results.segmented, frame, seen)}; "
                f"on average {record_line({'labels': labels})}",
                markup=False,
            )
            for path in paths.values():
                console.print(f"  {escaped(path)}", markup=False)
    prior = segmenter.resolved_settings().prior
    if what := swallowed(mean, prior):
        say(f"note: {say_swallowed({str(file.path): what}, 1, **rules_of(segmenter))}")
    if video.is_cut_off(seen, frame.time + (seen - frame.number) / video.fps):
        say(f"warning: {file.path} ends after {frame.number + 1} of {video.count} frames: it is damaged or cut off")
        return 1
    return 0


def _extent(video: Video, segmented: int, last: Frame, seen: int) -> str:
    """How much of a video was segmented: ``5 of 30 frames segmented, 3.0 s``.

    Args:
        video: the file.
        segmented: number of frames.
        last: the last frame that was read.
        seen: number of frames up to the next that would have been read.
    """
    frames = last.number + 1
    if video.count is not None and last.number < video.count <= seen:  # it was read to its end
        frames = video.count
    # The frames after the last one that was read, and how long the last of all is shown.
    seconds = last.time + (frames - last.number) / video.fps
    return f"{segmented:,} of {counted(frames, 'frame')} segmented, {seconds:.1f} s"
