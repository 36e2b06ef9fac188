"""Which words of a command line are pictures, and what their results are called."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pacl.errors import UserError
from pacl.images import IMAGE_SUFFIXES, list_images


@dataclass(frozen=True)
class Picture:
    """A picture to work on and the name its results get: relative, without a suffix, unique in its run."""

    path: Path
    name: str


def split_words(words: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Sort the words of a command line into pictures (or folders of them) and prompts.

    A word is a picture when it ends in an image suffix, holds a path separator, or is the name of something that
    exists here; else it is a prompt.

    Returns:
        Pictures, prompts, and those of the pictures that the rule may have got wrong: plain names that exist but
        come after a picture, such as ``dog`` in ``photo.jpg dog`` where a folder has that name.
    """
    pictures: list[str] = []
    prompts: list[str] = []
    doubtful: list[str] = []
    for word in words:
        is_path = any(mark in word for mark in (os.sep, os.altsep) if mark)
        if is_path or Path(word).suffix.lower() in IMAGE_SUFFIXES:
            pictures.append(word)
        elif os.path.exists(word):
            doubtful += [word] if pictures else []
            pictures.append(word)
        else:
            prompts.append(word)
    return pictures, prompts, doubtful


def find_pictures(words: Sequence[str], out: Path) -> list[Picture]:
    """The pictures that files and folders (with their subfolders) stand for, in the order given.

    Args:
        words: Paths of pictures and of folders.
        out: The folder of results; what lies in it is never taken for a picture of another folder.

    Raises:
        UserError: A path is missing, a folder holds no picture, or ``out`` is such a folder itself.
    """
    found: list[tuple[Path, Path]] = []  # (path, what the results are named after)
    results = out.resolve()
    for word in words:
        path = Path(word)
        if os.path.isdir(word):
            if path.resolve() == results:
                raise UserError(f"--out {out}: holds the pictures to segment; choose another folder for results")
            inside = [p for p in list_images(path, recursive=True) if results not in p.resolve().parents]
            if not inside:
                raise UserError(f"{word}: holds no pictures but the results in --out {out}")
            found += [(picture, picture.relative_to(path)) for picture in inside]
        elif os.path.isfile(word):
            found.append((path, Path(path.name)))
        elif os.path.exists(word):
            raise UserError(f"{word}: is neither a file nor a folder")
        else:
            raise UserError(f"{word}: no such picture or folder; if it is a prompt, write --prompt {word!r}")
    return _with_unique_names(found)


def _with_unique_names(found: Sequence[tuple[Path, Path]]) -> list[Picture]:
    """Drop pictures given twice and name results after their pictures.

    Where a name is taken the picture's suffix is added, then a number. Names are compared without case,
    because some file systems do not regard it either.
    """
    once = {os.path.realpath(path): (path, relative) for path, relative in reversed(found)}
    taken: set[str] = set()
    pictures = []
    for path, relative in reversed(once.values()):
        is_suffix = relative.suffix.lower() in IMAGE_SUFFIXES
        name = (relative.with_suffix("") if is_suffix else relative).as_posix()
        if name.casefold() in taken:
            name = f"{name}_{relative.suffix.lstrip('.')}"
        number, stem = 2, name
        while name.casefold() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        pictures.append(Picture(path, name))
    return pictures
