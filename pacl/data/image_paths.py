"""Where the images of a table are: names that were written on another computer, as URLs or without a suffix."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pacl.data.caption_text import is_url
from pacl.data.folder_files import files_below
from pacl.errors import UserError
from pacl.image_folders import IMAGE_SUFFIXES
from pacl.printing import counted

if TYPE_CHECKING:
    from pacl.data.pairs import PairSource

IMAGE_FOLDERS = ("", "images", "Images")
"""Where the images of a table are searched for, relative to its own folder."""

EXAMPLES = 100
"""Number of file names that are searched for there, spread over the table: some images may be missing."""

DEPTH = 12  # folders that may be dropped from the beginning of a path

LOOKED_FOR = 10_000
"""Image files that are looked for before they are read, spread over a source: on a network disk each takes a while."""

Rename = Callable[[str], str]


def check_images(images: str | Path | None, path: str | Path) -> None:
    """Refuse a folder of images that does not exist.

    Raises:
        UserError: it does not exist; the message names the table ``path``, too.
    """
    if images is not None and not Path(images).is_dir():
        raise UserError(f"{images}: no such folder (the images of {path})")


def find_missing(table: str, root: Path, parts: Sequence[PairSource]) -> tuple[list[str], int]:
    """Look for the image files of a source, of more than `LOOKED_FOR` for that many.

    Args:
        table: that names them.
        root: folder that they should be in.
        parts: the images.

    Returns:
        The names of those that are not there, and how many were looked for.

    Raises:
        UserError: all are missing.
    """
    images = sum(map(len, parts))
    step = max(1, -(-images // LOOKED_FOR))
    names = [part.name(i) for part in parts for i in range(0, len(part), step)]
    missing = [name for name in names if not os.path.exists(name)]
    if missing and len(missing) == len(names):
        where, first = place_of(missing[0], root)
        raise UserError(f"{where}: has none of the {counted(images, 'image')} of {table} (first: {first})")
    return missing, len(names)


def place_of(image: str, root: Path) -> tuple[str, PurePath]:
    """A folder of images in words, and the path of an image in it."""
    path = PurePath(image)
    inside = path.relative_to(root) if path.is_relative_to(root) else path
    return "this folder" if str(root) == "." else str(root), inside


def locate(path: Path, images: str | Path | None, captions: dict[str, list[str]]) -> tuple[Path, dict[str, list[str]]]:
    """Find the folder of a table's images, and their paths in it.

    Paths are tried as they are; with ``/`` for ``\\``; without their first folders, which another computer may have
    had; and, where they have no suffix of an image, with the suffix of the file of that name. What finds most of some
    examples is done to all.

    Args:
        path: the table.
        images: folder of the images; None tries `IMAGE_FOLDERS` beside the table.
        captions: the captions of each name in the table.

    Returns:
        The folder, and the captions of each file by its path relative to it (or absolute); spellings of the same file
        (`one_a_file`) are one.

    Raises:
        UserError: the folder does not exist, no image was found though ``images`` is None, an image is outside
            ``images``, two names would mean the same file, or a name without a suffix fits two files.
    """
    check_images(images, path)
    folders = [Path(images)] if images is not None else [path.parent / folder for folder in IMAGE_FOLDERS]
    names = list(captions)
    examples = names[:: max(1, len(names) // EXAMPLES)]
    ways = ((folder, rename) for rename in _renames(examples) for folder in folders)
    best = _best(ways, examples, below=images is not None)
    if best is None and not any(map(has_image_suffix, examples)):
        best = _best(
            ((folder, partial(_with_suffix, by_stem=_by_stem(folder), table=path)) for folder in folders), examples
        )
    if best is not None:
        captions = _renamed(path, best[0], one_a_file(best[0], captions), best[1])
    if images is not None:
        if outside := next((n for n in captions if _lies_outside(Path(images), n) and os.path.isfile(n)), None):
            raise UserError(f"{path}: {outside} lies outside {images}; leave images out to take such files", "images")
        return Path(images), captions
    if best is not None:
        return best[0], captions
    similar = next((file for folder in folders if (file := similar_file(folder / examples[0]))), None)
    advice = f"there is {similar}" if similar else f"{examples[0]} is not in the same folder"
    download = "; nothing is downloaded: fetch the URLs first" if is_url(examples[0]) else ""
    raise UserError(f"{path}: its images were not found ({advice}); set images to their folder{download}", "images")


def _best(
    ways: Iterable[tuple[Path, Rename]], examples: Sequence[str], below: bool = False
) -> tuple[Path, Rename] | None:
    """The folder and change of names that find most of the examples, the first of those; None if none finds any.

    ``below``: absolute paths count below the folder only.

    Raises:
        UserError: none finds any, but a name may be one of several files.
    """
    most, best, doubt = 0, None, None
    for folder, rename in ways:
        found = 0
        for name in examples:
            try:
                new = rename(name)
                if not (below and _lies_outside(folder, new)):
                    found += os.path.isfile(folder / new)  # a `Path` raises for a long name
            except UserError as error:  # in another folder it may be one file only
                doubt = doubt or error
        if found > most:
            most, best = found, (folder, rename)
        if most == len(examples):
            break
    if best is None and doubt is not None:
        raise doubt
    return best


def _lies_outside(folder: Path, name: str) -> bool:
    """Whether a name in a table is an absolute path of a file that is not below a folder."""
    return os.path.isabs(name) and not Path(os.path.abspath(name)).is_relative_to(os.path.abspath(folder))


def similar_file(path: Path) -> Path | None:
    """A file in the same folder whose name differs in its suffix or its case only."""
    name = _listing(str(path.parent)).get(PurePosixPath(path.name).stem.casefold())
    return path.parent / name if name else None


@lru_cache(8)
def _listing(folder: str) -> dict[str, str]:
    """The name of each image file in a folder, by its stem in lower case."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    return {PurePosixPath(name).stem.casefold(): name for name in names if has_image_suffix(name)}


def has_image_suffix(name: str) -> bool:
    """Whether a path ends as image files do."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _slashes(name: str) -> str:
    return name.replace("\\", "/")


def _without_first(name: str, dropped: int) -> str:
    parts = PurePosixPath(posixpath.normpath(_slashes(name))).parts
    return str(PurePosixPath(*parts[min(dropped, len(parts) - 1) :]))


def _with_suffix(name: str, by_stem: dict[str, list[str]], table: Path) -> str:
    files = by_stem.get(_slashes(name), [name])
    if len(files) > 1:
        one, other, *_ = sorted(files)
        raise UserError(f"{table}: {name} may be {one} or {other}; write folders and suffixes, too")
    return files[0]


def _of_url(name: str, quoted: bool) -> str:
    last = PurePosixPath(urlsplit(name).path).name if is_url(name) else name
    return last if quoted else unquote(last)


def _renames(examples: Sequence[str]) -> Iterable[Rename]:
    if any(map(is_url, examples)):
        return [partial(_of_url, quoted=True), partial(_of_url, quoted=False)]
    deepest = max((len(PurePosixPath(_slashes(name)).parts) for name in examples), default=1)
    dropped = [partial(_without_first, dropped=count) for count in range(1, min(deepest, DEPTH))]
    last = partial(_without_first, dropped=deepest)
    return [str, _slashes, *dropped, last]


def _by_stem(folder: Path) -> dict[str, list[str]]:
    """The image files below a folder: those of each path without suffix, and of each stem that is no such path."""
    paths: dict[str, list[str]] = {}
    stems: dict[str, list[str]] = {}
    for name in filter(has_image_suffix, files_below(folder, skip_unreadable=True)):
        file = PurePosixPath(name)
        paths.setdefault(str(file.with_suffix("")), []).append(name)
        stems.setdefault(file.stem, []).append(name)
    return stems | paths


def normal_path(root: str | Path, name: str) -> str:
    """The path of a file, which is the same for all its spellings: absolute, and without ``.``, ``..`` and ``//``."""
    return os.path.abspath(os.path.join(root, name))


def one_a_file(root: Path, captions: dict[str, list[str]]) -> dict[str, list[str]]:
    """Captions by image, in which different spellings of the same file are one image, under the first of them.

    ``train/a.jpg``, ``train/../train/a.jpg`` and the absolute path are the same file, by `normal_path`.

    Args:
        root: folder that names are relative to.
        captions: the captions of each name.
    """
    names: dict[str, str] = {}
    merged: dict[str, list[str]] = {}
    for name, own in captions.items():
        merged.setdefault(names.setdefault(normal_path(root, name), name), []).extend(own)
    return merged


def _renamed(path: Path, root: Path, captions: dict[str, list[str]], rename: Rename) -> dict[str, list[str]]:
    renamed: dict[str, list[str]] = {}
    sources: dict[str, str] = {}
    for name, own in captions.items():
        new = rename(name)
        if (other := sources.setdefault(normal_path(root, new), name)) != name:
            raise UserError(f"{path}: {other} and {name} both mean the file {new}; use names of local files instead")
        renamed[new] = own
    return renamed
