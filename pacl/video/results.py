"""The files of one segmented video; they get their names when they are complete."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pacl.errors import UserError
from pacl.printing import printable
from pacl.results.formats import FORMATS
from pacl.results.joining import is_same_result
from pacl.results.palette import save_mask
from pacl.results.paths import FRAME_MASK, FRAME_MASK_NAME, masks_folder, overlays_of, video_files
from pacl.results.records import read_record
from pacl.results.removing import remove
from pacl.results.result import Result
from pacl.results.same_image import check_name_is_free, content_of_video, source_from
from pacl.results.writer import describe
from pacl.video.drawing import draw_frame
from pacl.video.reading import Frame, Video
from pacl.video.settings import DEFAULT_SMOOTH
from pacl.video.writing import VideoWriter, find_codec


class VideoResults:
    """Writes the results of one video while its frames come, in a hidden folder next to where they will be.

    As a context manager, it deletes what `finish` has not given its name. Files of an earlier run are replaced when
    this one is finished.

    Args:
        out: folder of the results.
        name: of the files, relative to it, without a suffix.
        video: what is segmented.
        formats: keys of `VIDEO_FORMATS`.
        model: description of the model for the records.
        is_stopped: see `VideoWriter`.
        step: of the frames, see `pacl.video.segmenting.segment_video`; the records state it.
        smooth: likewise.
        overwrite: nothing of an earlier run stays, also of the same video, labels and settings.

    Raises:
        UserError: the folder cannot be written to.
    """

    def __init__(
        self,
        out: Path,
        name: str,
        video: Video,
        formats: Collection[str],
        model: Mapping[str, Any],
        is_stopped: Callable[[], bool] = lambda: False,
        *,
        step: int = 1,
        smooth: float = DEFAULT_SMOOTH,
        overwrite: bool = False,
    ) -> None:
        self.video, self.formats, self.model, self._is_stopped = video, formats, model, is_stopped
        self._about = {"step": step, "smooth": smooth}
        self._overwrite = overwrite
        self._keeps_masks = False
        self.frames = self.segmented = 0
        """Frames so far, and the segmented ones among them."""
        self._name, self._target = printable(name), out / name
        self._out, self._content = out, content_of_video(video.path)
        self._entries = {key: each for key in formats if (each := FORMATS[key].entry)}
        self._overlay: VideoWriter | None = None
        self._first: dict[str, Any] | None = None  # record
        self._old = read_record(self._path("jsonl"))
        self.removed: list[Path] = []
        """Files of an earlier run that `finish` deleted and did not write anew."""
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=".", dir=self._target.parent))
            self._masks = self._folder / "masks"
            self._masks.mkdir()
            self._records = (self._folder / "records.jsonl").open("w", encoding="utf-8")
        except OSError as error:
            raise self._cannot_write(error) from error

    def add(self, frame: Frame, found: Result, *, is_new: bool) -> dict[str, Any] | None:
        """Add the next frame.

        Args:
            frame: the frame.
            found: its labels.
            is_new: whether it was segmented itself, and is not one between two of those that are.

        Returns:
            The record of a frame that was segmented: frame number, time, and what the record of an image has.

        Raises:
            UserError: a file cannot be written.
        """
        if "overlay" in self.formats:
            drawn = draw_frame(frame.image, found)
            if self._overlay is None:
                size, fps = (drawn.shape[0], drawn.shape[1]), self.video.fps
                codec = find_codec(self._folder, size, fps)
                self._overlay = VideoWriter(self._folder / f"overlay{codec.suffix}", codec, size, fps, self._is_stopped)
            self._overlay.write(drawn, frame.time)
        self.frames += 1
        return self._add_record(frame, found) if is_new else None

    def _add_record(self, frame: Frame, found: Result) -> dict[str, Any]:
        if "mask" in self.formats:
            save_mask(self._masks / FRAME_MASK_NAME.format(frame.number), found.index)
        record = self._record(frame, found)
        if self._first is None:
            if self._is_same(record):  # its masks stay, so the records keep what they say of them
                self._keeps_masks = True
                self._entries |= {key: each.entry for key, each in FORMATS.items() if each.entry and self._had(key)}
                record = self._record(frame, found)
            self._first = record
        try:
            self._records.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            raise self._cannot_write(error) from error
        self.segmented += 1
        return record

    def _record(self, frame: Frame, found: Result) -> dict[str, Any]:
        mask = masks_folder(self._target) / FRAME_MASK_NAME.format(frame.number)
        has_mask = "mask" in self.formats or (self._keeps_masks and mask.is_file())
        files = {"mask": [printable(mask)]} if has_mask else {}
        source = printable(self.video.path)
        return {
            "frame": frame.number,
            "time": round(frame.time, 6),
            "name": self._name,
            "source": source_from(self._out, self.video.path),
            "content": self._content,
            "video": self._about,
            **describe(source, found, self.model, self._entries, files),
        }

    def _is_same(self, record: Mapping[str, Any]) -> bool:
        """Whether this run joins the results of an earlier one, by the first record of each."""
        return self._old is not None and not self._overwrite and is_same_result(self._old, record)

    def _had(self, entry: str) -> bool:
        """Whether the earlier run's records have masks in a format."""
        return self._old is not None and any(entry in label for label in self._old["labels"])

    @property
    def left_out(self) -> float:
        """Seconds in which the video has no frame and that its overlay does not have, see `VideoWriter`."""
        return self._overlay.left_out if self._overlay is not None else 0.0

    def finish(self) -> dict[str, Path]:
        """Complete the files with the frames so far, and give them their names.

        Returns:
            The path of each format's file or folder, and of the records, `jsonl`.

        Raises:
            UserError: a file cannot be written, or another run has given the name to another video or image meanwhile.
        """
        if not self._overwrite:
            check_name_is_free(self._target, self._out, self.video.path)
        paths: dict[str, Path] = {}
        try:
            self._records.close()
            self._remove_others()
            if self._overlay is not None:
                self._overlay.close()
                paths["overlay"] = self._path(f"overlay{self._overlay.path.suffix}")
                for path in overlays_of(self._target):  # of an earlier run
                    path.unlink()
                os.replace(self._overlay.path, paths["overlay"])
            if "mask" in self.formats:
                paths["mask"] = masks_folder(self._target)
                self._move_masks(paths["mask"])
            paths["jsonl"] = self._path("jsonl")  # last: once it exists, the others are complete
            os.replace(self._records.name, paths["jsonl"])
            self.removed = [path for path in self.removed if not path.exists()]
        except OSError as error:
            raise self._cannot_write(error) from error
        return paths

    def _remove_others(self) -> None:
        """Remove an earlier run's overlay and masks of another video, or with other labels, settings or model."""
        if self._old is not None and not (self._first and self._is_same(self._first)):
            self.removed = remove(video_files(self._target))

    def _move_masks(self, folder: Path) -> None:
        """Move the masks into a folder, in place of those of an earlier run."""
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if FRAME_MASK.fullmatch(path.name):
                path.unlink()
        for path in self._masks.iterdir():
            os.replace(path, folder / path.name)

    def _path(self, ending: str) -> Path:
        return self._target.with_name(f"{self._target.name}.{ending}")

    def _cannot_write(self, error: OSError) -> UserError:
        return UserError(f"{self._target}: results cannot be written ({error.strerror or error})")

    def __enter__(self) -> VideoResults:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._records.close()
        if self._overlay is not None:
            self._overlay.release()
        shutil.rmtree(self._folder, ignore_errors=True)
