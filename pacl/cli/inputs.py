"""Which words of a command line are images, and the names of their results."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress, pairwise
from pathlib import Path

from pacl.class_files import LIST_SUFFIXES, has_file_suffix
from pacl.errors import ArgumentError, UserError, did_you_mean, first_few
from pacl.image_folders import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    are_first,
    no_images,
    say_repeated,
    say_unread,
    search_folder,
)
from pacl.printing import counted
from pacl.results.kinds import is_model
from pacl.results.names import Names
from pacl.results.own import is_result
from pacl.video.containers import is_video

_FILE_NAME = re.compile(r"\S+\.(?=[a-z0-9]*[a-z])[a-z0-9]{2,4}", re.IGNORECASE)
"""The form of a file name: no spaces, and an ending of two to four letters and digits."""


ARTICLES = ("a", "an", "the")
"""Words that are no label alone: quotes were forgotten."""


@dataclass(frozen=True)
class ImageFile:
    """An image file, or a video, and its names.

    Attributes:
        path: of the file.
        name: of its results: relative, without a suffix, unique in its run.
        relative: its path inside the folder that was given, or its name if it was given itself; where two images share
            that, the path as given. It stands in files of the whole run.
    """

    path: Path
    name: str
    relative: str = ""


@dataclass
class FoundImages:
    """The images of files and folders, in the order given, and what was left out of the folders.

    Attributes:
        files: to segment.
        videos: videos that were named.
        left_out: videos in folders.
        unread: image files in formats that are not read, and folders that cannot be opened.
        results: images that an earlier run wrote.
        repeated: further paths of images that are in ``files``, also the same path given again.
    """

    files: list[ImageFile] = field(default_factory=list)
    videos: list[ImageFile] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)
    results: list[Path] = field(default_factory=list)
    repeated: list[Path] = field(default_factory=list)

    def notes(self) -> Iterator[str]:
        """What was left out, a line for each kind."""
        if self.results:
            yield f"left out {counted(len(self.results), 'result')} of earlier runs ({first_few(self.results)})"
        if self.repeated:
            yield say_repeated(self.repeated)
        if self.unread:
            yield say_unread(self.unread)
        if self.left_out:
            some = first_few(self.left_out)
            yield f"left out {counted(len(self.left_out), 'video')} in folders ({some}); videos must be named"


def looks_like_a_file(word: str) -> bool:
    """Whether a word of a command line has a path separator, or the form of a file's name."""
    is_path = any(mark in word for mark in (os.sep, os.altsep) if mark)
    return is_path or has_file_suffix(word) or _FILE_NAME.fullmatch(word) is not None


def images_and_prompts(words: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Sort the words of a command line into images (or folders of them) and prompts.

    A word is an image when it looks like a file's name, contains a path separator, or names something that exists in
    the current folder; else it is a prompt.

    Returns:
        Images, prompts, and the images that may have been meant as prompts: plain names that exist but follow an
        image, such as ``dog`` in ``photo.jpg dog`` where a folder has that name.

    Raises:
        UserError: quotes were forgotten around a text of several words.
    """
    images: list[str] = []
    prompts: list[str] = []
    doubtful: list[str] = []
    for word in words:
        if looks_like_a_file(word):
            images.append(word)
        elif os.path.exists(word):
            doubtful += [word] if images else []
            images.append(word)
        else:
            prompts.append(word)
    for word, following in pairwise(prompts):
        if word.lower() in ARTICLES:
            raise UserError(f'"{word}" alone is no label; a text of several words needs quotes: "{word} {following}"')
    return images, prompts, doubtful


def find_images(
    words: Sequence[str],
    out: Path | None = None,
    *,
    joined: Path | None = None,
    prompts: bool = True,
    videos: bool = False,
) -> FoundImages:
    """The images of files and folders (with their subfolders), in the order given.

    Args:
        words: paths of images and of folders.
        out: the folder of results; images in it are left out.
        joined: the same folder, where names must differ from those of other images' results in it.
        prompts: whether a word may have been meant as a prompt, for the errors.
        videos: whether words may be videos. Those in folders are left out, and counted: a phone's folder of photos has
            many short ones.

    Raises:
        UserError: a path is missing or no image, a folder contains no image, or ``out`` is one of the folders.
    """
    found = FoundImages()
    images: list[tuple[Path, Path]] = []  # (path, what the results are named after)
    results = os.path.realpath(out) if out else None
    for word in words:
        path = Path(word)
        if os.path.isdir(word):
            if os.path.realpath(word) == results:
                raise ArgumentError("out", out, "holds the images to segment; choose another folder for results")
            if is_model(path):
                raise UserError(f"{word}: is a model, not a folder of images; give it as --model")
            content = search_folder(path, recursive=True)
            clips = [clip for clip in content.videos if not is_result(clip)] if videos else []
            if clips and not content.images:
                raise UserError(
                    f"{word} has no images, only videos ({first_few(clips)}); name these instead of the folder"
                )
            if not content.images:
                raise no_images(word, content.unread)
            own = [p for p in content.images if _lies_in(p, results) or is_result(p)]
            others = set(content.images) - set(own)
            if not others:
                raise UserError(f"{word}: contains no images but the results of an earlier run ({first_few(own)})")
            images += [(image, image.relative_to(path)) for image in content.images if image in others]
            found.results += own
            found.unread += content.unread
            found.left_out += clips
        elif os.path.isfile(word):
            if not (videos and is_video(word)):
                _check_kind(word, prompts)
            images.append((path, Path(path.name)))
        elif os.path.exists(word):
            raise UserError(f"{word}: is neither a file nor a folder")
        elif re.match(r"\w+://", word):
            raise UserError(f"{word}: is a URL; download the image first and name the file")
        else:
            if glob.has_magic(word):
                raise UserError(
                    f"{word}: no such image or folder; write it without quotes, so that the shell expands it"
                )
            hint = f"; if it is a prompt, write --prompt {word!r}" if prompts else ""
            alike = [name for name in _names_beside(path) if did_you_mean(path.stem, [Path(name).stem])]
            meant = did_you_mean(path.name, alike)  # (endings alone are alike in most names)
            raise UserError(f"{word}: no such image or folder{meant and f'; {meant}'}{hint}")
    _name(images, Names(joined), found)
    if videos:
        found.videos = [file for file in found.files if is_video(file.path)]
        found.files = [file for file in found.files if file not in found.videos]
    return found


def _names_beside(path: Path) -> list[str]:
    """The names of images, videos and folders in the folder of a path; none if it cannot be read."""
    kinds = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    try:
        with os.scandir(path.parent) as entries:
            return sorted(e.name for e in entries if os.path.splitext(e.name)[1].lower() in kinds or e.is_dir())
    except OSError:
        return []


def frames_command(video: str | Path) -> str:
    """What writes the frames of a video as images; ffmpeg makes no folder."""
    return f"mkdir -p frames && ffmpeg -i {video} frames/%05d.png"


def _check_kind(word: str, prompts: bool) -> None:
    """Refuse files of other kinds, before the model is loaded.

    Raises:
        UserError: a PDF or a list, or a video where none can be used.
    """
    suffix = os.path.splitext(word)[1].lower()
    if suffix in VIDEO_SUFFIXES:
        raise UserError(f"{word}: is a video; write its frames as images first, as in {frames_command(word)}")
    if suffix == ".pdf":
        raise UserError(f"{word}: is a PDF; write its pages as images first, as in pdftoppm -png {word} page")
    if suffix in LIST_SUFFIXES:
        hint = f"; if it lists labels, write --classes {word}" if prompts else ""
        raise UserError(f"{word}: is not an image{hint}")


def _lies_in(path: Path, folder: str | None) -> bool:
    """Whether a file, its links followed, lies below a folder (a real path)."""
    return folder is not None and os.path.realpath(path).startswith(os.path.join(folder, ""))


def _name(images: Sequence[tuple[Path, Path]], names: Names, found: FoundImages) -> None:
    """Keep each image once and name its results after it."""
    first = are_first(path for path, _ in images)
    found.repeated += [path for (path, _), is_first in zip(images, first, strict=True) if not is_first]
    once = list(compress(images, first))
    places = Counter(relative for _, relative in once)
    for path, relative in once:
        name, place = names.add(path, relative, is_shared=places[relative] > 1)
        found.files.append(ImageFile(path, name, place))
