"""The image files of a folder, by suffix, and those in formats that are not read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pacl.errors import UserError, first_few
from pacl.printing import counted

File = TypeVar("File")


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


IMAGE_SUFFIXES = _suffixes(
    "jpg jpeg jpe jfif jif pjpeg pjp png apng webp gif bmp dib tif tiff mpo ppm pgm pbm pnm pfm "
    "jp2 j2k j2c jpc jpf jpx avif avifs ico tga icb vda vst qoi"
)
UNREAD_SUFFIXES = _suffixes(
    "heic heif hif heics jxl jxr wdp svg svgz eps psd psb xcf exr hdr dds pcx sgi cur icns "
    "dng cr2 cr3 crw nef nrw arw srf sr2 orf rw2 raf pef srw x3f 3fr iiq erf kdc dcr mrw rwl raw"
)
"""Of image files in formats that are not read: phones' HEIC, JPEG XL, camera raw and files of drawing programs."""
VIDEO_SUFFIXES = _suffixes("mp4 mov avi mkv webm m4v mpg mpeg wmv flv 3gp mts m2ts ogv")
READABLE = "ordinary JPEG, PNG, WebP, GIF, BMP and TIFF files work"


@dataclass
class FolderContent:
    """What `search_folder` found, each sorted by path.

    Attributes:
        images: files with a suffix of `IMAGE_SUFFIXES`.
        unread: image files in other formats, image files whose suffix does not say so, and folders that cannot be
            opened.
        videos: files with a suffix of `VIDEO_SUFFIXES`.
    """

    images: list[Path] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)


def search_folder(folder: str | Path, recursive: bool = False, *, look_inside: bool = True) -> FolderContent:
    """The image files of a folder; hidden ones and those in hidden folders are left out.

    Links to files and folders are followed, except where a folder would then contain itself. A link with the suffix of
    an image that leads nowhere counts as an image: reading it fails and names it.

    Args:
        folder: to search.
        recursive: whether its subfolders are searched, too.
        look_inside: whether files with other suffixes are opened to see if they are images. (A training set may have a
            text beside each of a million images.)

    Raises:
        UserError: the folder is missing or not a folder.
    """
    folder = Path(folder)
    if not folder.exists():
        raise UserError(f"{folder} does not exist")
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    found = FolderContent()
    _search(folder, recursive, look_inside, found, frozenset())
    return FolderContent(sorted(found.images), sorted(found.unread), sorted(found.videos))


def _search(folder: Path, recursive: bool, look_inside: bool, found: FolderContent, above: frozenset[str]) -> None:
    """Add the files of a folder to ``found``; ``above`` are the real paths of the folders that lead to it."""
    above |= {os.path.realpath(folder)}
    try:
        with os.scandir(folder) as entries:
            files = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        found.unread.append(folder)
        return
    for entry in files:
        path, suffix = folder / entry.name, os.path.splitext(entry.name)[1].lower()
        if os.path.isdir(path):
            if recursive and os.path.realpath(path) not in above:
                _search(path, recursive, look_inside, found, above)
        elif not (os.path.isfile(path) or _leads_nowhere(path)):
            continue
        elif suffix in IMAGE_SUFFIXES:
            found.images.append(path)
        elif suffix in VIDEO_SUFFIXES:
            found.videos.append(path)
        elif suffix in UNREAD_SUFFIXES or (look_inside and _holds_an_image(path)):
            found.unread.append(path)


def _leads_nowhere(path: Path) -> bool:
    """Whether a path is a link to a file that is missing, or to itself."""
    return os.path.islink(path) and not os.path.exists(path)


_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1")
"""Of images in the container of MP4."""


def starts_like_an_image(start: bytes) -> bool:
    """Whether bytes start as JPEG, PNG, GIF, WebP, AVIF and HEIC files do; twelve are enough."""
    in_box = start[4:8] == b"ftyp" and start[8:12] in _BRANDS
    return start.startswith(_SIGNATURES) or (start[:4], start[8:12]) == (b"RIFF", b"WEBP") or in_box


def _holds_an_image(path: Path) -> bool:
    """Whether a file of an unknown suffix is an image by its first bytes."""
    try:
        with path.open("rb") as file:
            return starts_like_an_image(file.read(12))
    except OSError:
        return False


def list_images(folder: str | Path, recursive: bool = False) -> list[Path]:
    """The image files of a folder, by suffix (see `IMAGE_SUFFIXES`), sorted by path; see `search_folder`.

    Raises:
        UserError: the folder is missing, not a folder, or has no images that can be read.
    """
    found = search_folder(folder, recursive, look_inside=False)
    if not found.images:
        raise no_images(folder, found.unread)
    return found.images


def spread(files: Sequence[File], limit: int | None) -> Sequence[File]:
    """At most ``limit`` of the files, evenly spread and always the same, since folders are often sorted by content.

    >>> spread("abcdefg", 3)
    ['a', 'c', 'e']
    """
    if limit is None or limit >= len(files):
        return files
    return [files[i * len(files) // limit] for i in range(limit)]


def are_first(paths: Iterable[Path]) -> list[bool]:
    """For each path, whether no earlier one leads to the same file, by another spelling or a symbolic link."""
    files: set[str] = set()
    first = []
    for file in map(os.path.realpath, paths):
        first.append(file not in files)
        files.add(file)
    return first


def no_images(folder: str | Path, unread: list[Path]) -> UserError:
    """The error for a folder that has none that can be read."""
    if unread:
        return UserError(f"{folder} has no images that can be read; {say_unread(unread)}")
    return UserError(f"{folder} has no images: {READABLE}")


def say_unread(unread: list[Path]) -> str:
    """How many files have names of images of other formats, the names of some, and what would work."""
    names = first_few([path.name for path in unread], 5)
    return f"{counted(len(unread), 'file')} not read, by their names: {names}; save as JPEG or PNG, named .jpg or .png"


def say_repeated(repeated: list[Path]) -> str:
    """A note on further paths to the same images, which are left out, see `are_first`."""
    return f"left out {counted(len(repeated), 'path')} to an image that is there already ({first_few(repeated)})"
