"""Which image a record is of."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pacl.errors import ArgumentError, UserError
from pacl.files import file_stamp
from pacl.image_decoding import open_header
from pacl.images import open_image, pixel_checksum
from pacl.printing import printable
from pacl.results.records import ENDINGS, read_record

Identity = Path | str
"""What tells an image or video from others: its path, or of an image without a file its `pixel_checksum`."""


class NameTaken(UserError):
    """Another run has given the name of results to another image since it was free."""


class PlaceTaken(ArgumentError):
    """Another run has put another image in the place of one in a file of the whole run since it was free."""


def is_image_of(record: Mapping[str, Any], out: Path, image: Identity) -> bool:
    """Whether a record is of an image or video, also of one that was moved: then its content tells.

    `content` in the record of an image is its `pixel_checksum`, in that of a video `content_of_video`. That of an image
    without a file has the checksum as `pixels`, too, in place of a path.

    Args:
        record: see `read_record`. Older ones, which do not state the path from their folder, are compared by content.
        out: the folder of results that the record is in.
        image: the image or video.
    """
    known = _by_source(record, out, image)
    if known is None and isinstance(image, Path):
        return "content" in record and record["content"] == _content_at(image, record)
    return bool(known)


def is_same_source(record: Mapping[str, Any], out: Path, image: Identity) -> bool:
    """Whether a record is of an image or video of that very path or those pixels; arguments as for `is_image_of`."""
    return bool(_by_source(record, out, image))


def _by_source(record: Mapping[str, Any], out: Path, image: Identity) -> bool | None:
    """See `is_same_source`; None: no file is at the path that the record states any more, or it states none."""
    if isinstance(image, str) or "pixels" in record:
        return record.get("pixels") == image
    stated = record.get("source")
    if isinstance(stated, str):
        if stated == source_from(out, image):
            return True
        with suppress(OSError, ValueError):
            return os.path.samefile(out / stated, image)
    return None


def check_name_is_free(target: Path, out: Path, source: Path, pixels: str | None = None) -> None:
    """Refuse results that would replace those of another image, which got the same name from another run meanwhile.

    Args:
        target: path of the results without an ending, such as ``OUT/NAME``.
        out: the folder of results.
        source: path of the image or video.
        pixels: the `pixel_checksum` of an image without a file.

    Raises:
        NameTaken: they would.
    """
    for ending in ENDINGS:
        record = read_record(target.with_name(target.name + ending))
        if record is not None and not is_image_of(record, out, pixels or source):
            theirs = f"{target}{ending} is of {record['image']}, by another run meanwhile"
            raise NameTaken(f"{source}: its results are not written, because {theirs}; run the command again")


def source_from(out: Path, source: Path) -> str:
    """The path of an image or video as seen from the folder of results, `source` in its record.

    It is the same whatever folder a command is started in, and stays right where both are moved together. Links to
    folders are followed, but not a link to a file: where that leads elsewhere by now, the image has changed. On Windows
    the path is absolute for a file on another drive.
    """
    path = os.path.join(os.path.realpath(source.parent), source.name)
    with suppress(ValueError):  # another drive
        path = os.path.relpath(path, os.path.realpath(out))
    return printable(Path(path).as_posix())


def content_of_video(path: Path) -> str:
    """The size and the time of the last change of its file: `content` in its record; see `is_image_of`."""
    return "-".join(map(str, file_stamp(path) or ()))


def _content_at(path: Path, record: Mapping[str, Any]) -> str | None:
    """`content` of an image file or a video; None if it cannot be read, or cannot be that of a record by its size."""
    if "video" in record:
        return content_of_video(path)
    with suppress(UserError, OSError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is read again to be segmented
        with open_header(path) as image:
            if "width" in record and set(image.size) != {record["width"], record["height"]}:  # it may be turned
                return None
        return pixel_checksum(open_image(path))
    return None
