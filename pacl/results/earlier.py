"""Results that earlier runs left in a folder: what they are of, and their files.

A folder of results may have another one below it, such as ``out`` and ``out/mine``: each was named by some run. The
`name` in a record tells whose it is: ``out/mine/cat.json`` with the name ``cat`` belongs to ``out/mine``, with the name
``mine/cat`` to ``out``.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pacl.errors import ArgumentError, UserError
from pacl.files import file_stamp, parse_json
from pacl.images import SOFTWARE, is_written_here, open_image
from pacl.printing import printable
from pacl.results.paths import paths_of

LOOKED_AT = 100
"""Records that are read to find results of another kind: a folder may hold many thousands."""

RECORD_KEYS = frozenset({"image", "model", "settings", "labels", "files"})

OWN_ENDING = re.compile(r"\.(overlay|mask|heat-\d+-[^/]*)\.png$")
"""Of the drawings and masks of one image."""


VIDEO_ENDINGS = (".overlay.mp4", ".overlay.avi")
MASKS = ".masks"
"""Ending of the folder with the masks of a video's frames."""
FRAME_MASK = re.compile(r"\d{6,}\.mask\.png")
VIDEO_FRAME = re.compile(rf"{re.escape(MASKS)}/\d{{6,}}$", re.IGNORECASE)
"""Names that results of images do not have: their masks could be those of a video's frames."""


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of an image, as `pacl.results.writer.Writer` writes it; None if the file is missing or another.

    Of a video, ``NAME.jsonl``, it is that of the first frame.
    """
    try:
        with path.open(encoding="utf-8") as file:
            record = parse_json(file.readline() if path.suffix == ".jsonl" else file.read())
    except (OSError, ValueError):
        return None
    is_record = isinstance(record, dict) and record.keys() >= RECORD_KEYS and isinstance(record["files"], dict)
    is_record = is_record and isinstance(record["image"], str)
    return record if is_record and names_of(record) is not None else None


def names_of(record: Mapping[str, Any]) -> list[str] | None:
    """The labels of a record; None if it has none that can be read."""
    try:
        return [str(each["label"]) for each in record["labels"]]
    except (TypeError, KeyError):
        return None


def owner(path: Path, record: Mapping[str, Any]) -> Path:
    """The folder of results that a record belongs to, which is above its path."""
    name = record.get("name")  # older records have none: they count as written to their own folder
    levels = name.count("/") if isinstance(name, str) else 0
    return path.parents[min(levels, len(path.parents) - 1)]


def records(out: Path, others: set[Path] | None = None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The records of images and videos in a folder of results, with their paths.

    Args:
        out: the folder; its subfolders are searched, too.
        others: the folders of results of their own below it are added to this set; their records are left out.
    """
    others = set() if others is None else others
    for ending in ("*.jsonl", "*.json"):  # there are fewer videos
        for path in out.rglob(ending):
            if others.isdisjoint(path.parents) and (record := read_record(path)):
                if out in (folder := owner(path, record)).parents:
                    others.add(folder)
                else:
                    yield path, record


def own_results(out: Path) -> dict[Path, list[Path]]:
    """All results in a folder: the record of each, or an image without one -> its files.

    Folders of results of their own below it are left out.
    """
    others: set[Path] = set()
    found = {path: files_of(out, path, record) for path, record in records(out, others)}
    of_records = {file for files in found.values() for file in files}
    for image in own_images(out):
        if image not in of_records and others.isdisjoint(image.parents):
            found[image] = [image]
    return found


def check_free(out: Path, names: Iterable[str], argument: str = "out") -> None:
    """Check that results in subfolders do not replace those of another folder of results.

    Args:
        out: the folder of results.
        names: of the results; the first `LOOKED_AT` in subfolders are checked.
        argument: the caller's name for the folder, in the error.

    Raises:
        ArgumentError: they do.
    """
    nested = (out / f"{name}{ending}" for name in names if "/" in name for ending in (".json", ".jsonl"))
    for path in islice(nested, 2 * LOOKED_AT):
        record = read_record(path)
        if record and "name" in record and out in (folder := owner(path, record)).parents:
            reason = f"{path} belongs to {folder}, a folder of results of its own; choose another folder"
            raise ArgumentError(argument, out, reason)


def check_replaceable(
    out: Path,
    names: Iterable[str],
    formats: Collection[str],
    labels: Sequence[str],
    argument: str = "out",
    *,
    videos: bool = False,
) -> None:
    """Check that results replace no file that was not written here, or that was changed since.

    Drawings, masks and files for labelme are known by a mark in them, other files by the record that names them.

    Args:
        out: the folder of results.
        names: of the results.
        formats: of the results.
        labels: names of the labels.
        argument: the caller's name for the folder, in the error.
        videos: whether they are results of videos, or else of images.

    Raises:
        ArgumentError: they do.
    """
    for name in names:
        for file in _of_others_at(out, name, formats, labels, videos):
            what = f"has {file.relative_to(out)}, which was not written by pacl or was changed since"
            raise ArgumentError(argument, out, f"{what}; choose another folder, leave that image out or move the file")


def _of_others_at(
    out: Path, name: str, formats: Collection[str], labels: Sequence[str], is_video: bool
) -> Iterator[Path]:
    """The files that are where results are to be written and were not written here, see `check_replaceable`."""
    path = out / (f"{name}.jsonl" if is_video else f"{name}.json")
    record = read_record(path)
    if record is None and os.path.lexists(path):
        yield path
    if is_video:
        target = path.with_suffix("")
        yield from _overlays(target) if "overlay" in formats and record is None else []
        yield from (mask for mask in _frame_masks(target) if "mask" in formats and not is_written_here(mask))
        return
    for kind in formats:
        named = _names_of_files(record, kind)
        for file, is_own in paths_of(out, name, kind, labels):
            if os.path.lexists(file) and not (printable(file.name) in named if is_own is None else is_own(file)):
                yield file


def _names_of_files(record: Mapping[str, Any] | None, kind: str) -> set[str]:
    """The names of the files that a record states of a format, without their folders."""
    listed = None if record is None else record["files"].get(kind)
    return {Path(str(file)).name for file in listed} if isinstance(listed, list) else set()


def of_other_labels(
    out: Path, labels: Sequence[str], replaced: Collection[Path] = (), looked_at: int = LOOKED_AT
) -> tuple[Path, dict[str, Any]] | None:
    """A record in a folder of results that has other labels.

    Args:
        out: the folder.
        labels: names of the labels.
        replaced: paths of records that do not count.
        looked_at: so many records are read.
    """
    for path, record in islice(records(out), looked_at):
        if path not in replaced and names_of(record) != list(labels):
            return path, record
    return None


def of_other_model(
    out: Path,
    labels: Sequence[str],
    model: Mapping[str, Any],
    replaced: Collection[Path] = (),
    looked_at: int = LOOKED_AT,
) -> tuple[Path, str] | None:
    """A record in a folder of results that has these labels, by another model.

    Args:
        out: the folder.
        labels: names of the labels.
        model: what is known of the model, some of what records state.
        replaced: paths of records that do not count.
        looked_at: so many records are read.

    Returns:
        The path of the record, and what tells its model from this one, in words.
    """
    for path, record in islice(records(out), looked_at):
        if path in replaced or names_of(record) != list(labels):
            continue
        theirs = record["model"] if isinstance(record["model"], dict) else {}
        if different := [key for key, value in model.items() if theirs.get(key) != value]:
            if different != ["weights"]:
                return path, "another model"
            return path, "other weights of the model" if "weights" in theirs else "a model of weights not stated there"
    return None


def place_of(record: Mapping[str, Any]) -> str:
    """The path of a record's image in files of the whole run."""
    place = record.get("place")
    return place if isinstance(place, str) else Path(record["image"]).name


def source_from(out: Path, source: Path) -> str:
    """The path of an image or video as seen from the folder of results, `source` in its record.

    It is the same whatever folder a command is started in, and stays right where both are moved together. Both paths
    are real ones. On Windows it is absolute for a file on another drive.
    """
    real = os.path.realpath(source)
    with suppress(ValueError):  # another drive
        real = os.path.relpath(real, os.path.realpath(out))
    return printable(Path(real).as_posix())


def is_image_of(
    record: Mapping[str, Any], out: Path, source: Path | None, pixels: str | None = None, *, moved: bool = True
) -> bool:
    """Whether a record is of an image or video: by its path, or by its content where no file is there any more.

    Older records, which do not state the path from their folder, are compared by their content, too.

    Args:
        record: see `read_record`.
        out: the folder of results that the record is in.
        source: path of the image or video; None: it has no file.
        pixels: the checksum of an image without a file, which its record states, too.
        moved: False: only by its path, so that an image that was moved is another one.
    """
    if source is None or pixels is not None or "pixels" in record:
        return pixels is not None and record.get("pixels") == pixels
    stated = record.get("source")
    if isinstance(stated, str):
        if stated == source_from(out, source):
            return True
        with suppress(OSError, ValueError):
            return os.path.samefile(out / stated, source)
    return moved and "content" in record and record["content"] == _content_at(source, record)


def check_name_is_free(target: Path, out: Path, source: Path, pixels: str | None = None) -> None:
    """Refuse results that would replace those of another image, which got the same name from another run meanwhile.

    Args:
        target: path of the results without an ending, such as ``OUT/NAME``.
        out: the folder of results.
        source: path of the image or video.
        pixels: see `is_image_of`.

    Raises:
        UserError: they would.
    """
    for ending in (".json", ".jsonl"):
        record = read_record(target.with_name(target.name + ending))
        if record is not None and not is_image_of(record, out, source, pixels):
            theirs = f"{target}{ending} is of {record['image']}, by another run meanwhile"
            raise UserError(f"{source}: its results are not written, because {theirs}; run the command again")


def files_of(out: Path, path: Path, record: Mapping[str, Any]) -> list[Path]:
    """The files of one image or video and its record itself; files of data sets belong to their `RunFile`.

    They are looked for from the folder of results, because the paths in the record depend on the folder that the
    command ran in. A file that was changed since is not among them, where that can be told.
    """
    if path.suffix == ".jsonl":
        return [*video_files(path.with_suffix("")), path]
    name, found = path.relative_to(out).as_posix().removesuffix(".json"), []
    for kind in record["files"]:
        names = _names_of_files(record, kind)
        for file, is_own in paths_of(out, name, kind, names_of(record) or []):
            if printable(file.name) in names and (is_own is None or is_own(file)):
                found.append(file)
    return [*found, path]


def join(out: Path, path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a result that was written again in other formats: it keeps what the earlier formats left.

    Args:
        out: folder of the results.
        path: of the record.
        old: the earlier record; see `is_same_result`.
        new: the record of what was written now.

    Returns:
        ``new``, with the files of ``old`` that are still there, and what its labels say besides.
    """
    kept = {kind: files for kind, paths in old["files"].items() if (files := _still_there(out, path, old, paths))}
    pairs = zip(new["labels"], old["labels"], strict=True)
    labels = [now | {key: value for key, value in before.items() if key not in now} for now, before in pairs]
    return {**new, "labels": labels, "files": {**kept, **new["files"]}}


def _still_there(out: Path, path: Path, record: Mapping[str, Any], paths: Any) -> list[str]:
    """Those of the paths in a record that lead to files now, as seen from the folder that this command runs in."""
    name = str(path.relative_to(out).with_suffix(""))
    levels = len(path.relative_to(out).parts)
    try:
        then = Path(record["files"]["json"][0]).parents[levels - 1]
        files = [out / str(Path(file).relative_to(then)).replace(printable(name), name) for file in paths]
    except (LookupError, TypeError, ValueError):
        return []
    return [printable(file) for file in files if file.is_file()]


def video_files(target: Path) -> list[Path]:
    """The overlay and the masks of a video, whose results are ``TARGET.jsonl`` and so on; those that exist.

    A mask that was changed since it was written is not among them.
    """
    return [*_overlays(target), *filter(is_written_here, _frame_masks(target))]


def _overlays(target: Path) -> list[Path]:
    paths = [target.with_name(target.name + ending) for ending in VIDEO_ENDINGS]
    return [path for path in paths if path.is_file()]


def _frame_masks(target: Path) -> list[Path]:
    folder = target.with_name(target.name + MASKS)
    return sorted(path for path in folder.iterdir() if FRAME_MASK.fullmatch(path.name)) if folder.is_dir() else []


def own_images(out: Path) -> Iterator[Path]:
    """Drawings and masks in a folder of results, by the name of this program in them; those without a record, too."""
    for path in out.rglob("*.png"):
        if OWN_ENDING.search(path.name):
            with suppress(OSError, ValueError, SyntaxError), Image.open(path) as image:
                if image.info.get("Software") == SOFTWARE:
                    yield path


def content_of(image: np.ndarray) -> str:
    """Checksum of an image, uint8 [H, W, 3]: `content` in its record tells it from another one of that path.

    Of a video it is `content_of_video`.
    """
    height, width = image.shape[:2]
    pixels = np.ascontiguousarray(image).data
    return hashlib.blake2b(pixels, digest_size=8, person=f"{width}x{height}".encode()).hexdigest()


def content_of_video(path: Path) -> str:
    """The size and the time of the last change of its file."""
    return "-".join(map(str, file_stamp(path) or ()))


def _content_at(path: Path, record: Mapping[str, Any]) -> str | None:
    """`content` of an image file or a video; None if it cannot be read, or cannot be that of a record by its size."""
    if "video" in record:
        return content_of_video(path)
    with suppress(UserError, OSError, ValueError, Image.DecompressionBombError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is read again to be segmented
        with Image.open(path) as image:
            if "width" in record and set(image.size) != {record["width"], record["height"]}:  # it may be turned
                return None
        return content_of(open_image(path))
    return None


def is_same_result(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two records are of the same content, labels, model and settings, so that their files go together.

    A record of an earlier version, which does not state all of these, is of another result.
    """

    def what(record: Mapping[str, Any]) -> Any:
        labels = [(each["label"], list(each.get("prompts", ()))) for each in record["labels"]]
        settings = {key: list(v) if isinstance(v, tuple) else v for key, v in record["settings"].items()}
        rest = [record.get(key) for key in ("content", "video", "model", "width", "height")]  # `video`: of videos only
        return labels, settings, record["background"]["rule"], rest

    try:
        return bool(what(old) == what(new))
    except (TypeError, KeyError, AttributeError):
        return False


@dataclass
class Removed:
    """What a run has deleted of the results of earlier runs, and has not written anew.

    Attributes:
        images: names of the results.
        files: of single images.
        datasets: files of whole runs that have lost images.
    """

    images: set[str] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)
    datasets: set[Path] = field(default_factory=set)

    def add(self, name: str, files: Iterable[Path] = (), dataset: Path | None = None) -> None:
        """Add results of an image or a video: files that were deleted, and a data set that it was removed from."""
        before = len(self.files)
        self.files.extend(files)
        if dataset is not None:
            self.datasets.add(dataset)
        if dataset is not None or len(self.files) > before:
            self.images.add(name)


def remove(paths: Collection[Path], kept: Collection[Path] = (), below: Path | None = None) -> list[Path]:
    """Delete files and the folders that this leaves empty; what cannot be deleted stays.

    Args:
        paths: of the files.
        kept: those of them that stay; also as they are `printable`, in records.
        below: folders below this one are deleted; None: only those of the masks of a video.

    Returns:
        The files that were deleted.
    """
    spared, deleted = {printable(os.path.abspath(path)) for path in kept}, []
    for path in paths:
        if printable(os.path.abspath(path)) not in spared:
            with suppress(OSError):
                path.unlink()
                deleted.append(path)
    for folder in {path.parent for path in deleted}:
        with suppress(OSError):  # it is not empty
            while folder.suffix == MASKS if below is None else below in folder.parents:
                folder.rmdir()
                folder = folder.parent
    return deleted
