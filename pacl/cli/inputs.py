"""Which words of a command line are images, and the names of their results."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pacl.errors import ArgumentError, UserError
from pacl.images import IMAGE_SUFFIXES, list_images


@dataclass(frozen=True)
class ImageFile:
    """An image file, and the name of its results: relative, without a suffix, unique in its run."""

    path: Path
    name: str


def split_words(words: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Sort the words of a command line into images (or folders of them) and prompts.

    A word is an image when it ends in an image suffix, contains a path separator, or names something that exists in
    the current folder; else it is a prompt.

    Returns:
        Images, prompts, and the images that may have been meant as prompts: plain names that exist but follow an
        image, such as ``dog`` in ``photo.jpg dog`` where a folder has that name.
    """
    images: list[str] = []
    prompts: list[str] = []
    doubtful: list[str] = []
    for word in words:
        is_path = any(mark in word for mark in (os.sep, os.altsep) if mark)
        if is_path or Path(word).suffix.lower() in IMAGE_SUFFIXES:
            images.append(word)
        elif os.path.exists(word):
            doubtful += [word] if images else []
            images.append(word)
        else:
            prompts.append(word)
    return images, prompts, doubtful


def find_images(words: Sequence[str], out: Path) -> list[ImageFile]:
    """The images of files and folders (with their subfolders), in the order given.

    Args:
        words: Paths of images and of folders.
        out: The folder of results; images in it are left out.

    Raises:
        UserError: A path is missing, a folder contains no image, or ``out`` is one of the folders.
    """
    found: list[tuple[Path, Path]] = []  # (path, what the results are named after)
    results = out.resolve()
    for word in words:
        path = Path(word)
        if os.path.isdir(word):
            if path.resolve() == results:
                raise ArgumentError("out", out, "holds the images to segment; choose another folder for results")
            inside = [p for p in list_images(path, recursive=True) if results not in p.resolve().parents]
            if not inside:
                raise UserError(f"{word}: contains no images but the results in {out}")
            found += [(image, image.relative_to(path)) for image in inside]
        elif os.path.isfile(word):
            found.append((path, Path(path.name)))
        elif os.path.exists(word):
            raise UserError(f"{word}: is neither a file nor a folder")
        else:
            raise UserError(f"{word}: no such image or folder; if it is a prompt, write --prompt {word!r}")
    return _with_unique_names(found)


def _with_unique_names(found: Sequence[tuple[Path, Path]]) -> list[ImageFile]:
    """Drop images given twice and name results after their images.

    Where a name is taken the image's suffix is added, then a number. Names are compared without case, because some
    file systems ignore it.
    """
    once = {os.path.realpath(path): (path, relative) for path, relative in reversed(found)}
    taken: set[str] = set()
    images = []
    for path, relative in reversed(once.values()):
        is_suffix = relative.suffix.lower() in IMAGE_SUFFIXES
        name = (relative.with_suffix("") if is_suffix else relative).as_posix()
        if name.casefold() in taken:
            name = f"{name}_{relative.suffix.lstrip('.')}"
        number, stem = 2, name
        while name.casefold() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        images.append(ImageFile(path, name))
    return images
