"""Where the pictures of image data sets lie: each official layout read into pictures and the keys of their classes.

A finder takes (benchmark, root, split, download) and gives `Found`; what is missing is a `UserError` that says what
belongs where. torchvision reads what it has a reader for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.classification.names import class_keys, synsets
from eval.common.folders import is_utf8
from pacl.errors import UserError
from pacl.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from eval.classification.image_sets import ImageBenchmark

SYNSET = re.compile(r"(?:^|_)(n\d{8})(?=_|\.|$)")

Pictures = Sequence[Path] | np.ndarray
Found = tuple[Pictures, list[str]]
"""Pictures, as files or uint8 [I, H, W, 3], and the key of each one's class."""


def _first_folder(root: Path, candidates: Sequence[str]) -> Path | None:
    return next((root / folder for folder in candidates if (root / folder).is_dir()), None)


def _class_folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise _unreadable(error) from None


def _by_folder(folder: Path, but: Sequence[str] = ()) -> Found:
    """A folder a class, whose name is the key; empty ones and files beside them count for nothing."""
    pictures: list[Path] = []
    keys: list[str] = []
    for sub in _class_folders(folder):
        if sub.name not in but:
            files = sorted(_pictures_below(sub))
            pictures += files
            keys += [sub.name] * len(files)
    return pictures, keys


def _pictures_below(folder: Path) -> Iterator[Path]:
    """Pictures at any depth, by suffix, in no order; hidden ones are left out.

    Raises:
        UserError: A folder cannot be read, or a picture is a link to nothing.
    """
    for where, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(where, name)
            if path.suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                if path.is_symlink() and not path.exists():
                    raise UserError(f"{path} is a link to {os.readlink(path)}, which is not there: mend or remove it")
                yield path


def _refuse(error: OSError) -> None:
    raise _unreadable(error) from None


def _unreadable(error: OSError) -> UserError:
    return UserError(f"{error.filename}: cannot be read ({error.strerror})")


def find_imagenet(
    benchmark: ImageBenchmark, root: Path, split: str, _: bool, folders: dict[str, Sequence[str]]
) -> Found:
    """Synsets as folders, or in the names of files that all lie in one folder."""
    itself = ["."] if split == next(iter(benchmark.splits)) else []  # --data may be the measured folder, no other
    for folder in (root / name for name in (*folders[split], *itself)):
        if not folder.is_dir():
            continue
        if any(SYNSET.fullmatch(sub.name) for sub in _class_folders(folder)):
            return _by_folder(folder, [sub.name for sub in _class_folders(folder) if not SYNSET.fullmatch(sub.name)])
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        named = [(path, match[1]) for path in files if (match := SYNSET.search(path.stem))]
        if named:
            return [path for path, _ in named], [key for _, key in named]
        if files:
            raise UserError(
                f"{benchmark.name}: {files[0]} does not say its class; sort the pictures into a folder for each "
                "synset, such as val/n01440764/, as torchvision's ImageNet does with the official archives"
            )
    raise benchmark.missing(root, " or ".join(folders[split]))


def find_imagenet_v2(benchmark: ImageBenchmark, root: Path, split: str, _: bool) -> Found:
    """Folders 0 to 999: class NUMBERS. As strings they would sort 0, 1, 10, 100, ..."""
    name = f"imagenetv2-{split}-format-val"
    folder = _first_folder(root, (name, f"imagenet_v2/{name}"))
    if folder is None and (root / "0").is_dir():
        folder = root
    if folder is None:
        raise benchmark.missing(root, name)
    pictures, numbers = _by_folder(folder)
    wrong = next((n for n in numbers if not n.isdecimal() or int(n) >= len(synsets())), None)
    if wrong is not None:
        raise UserError(f"{benchmark.name}: folder {folder / wrong} is no class number from 0 to 999")
    return pictures, [synsets()[int(number)] for number in numbers]


def find_folders(
    benchmark: ImageBenchmark, root: Path, _: str, download: bool, folders: Sequence[str], but: Sequence[str] = ()
) -> Found:
    """One folder with a folder a class, whatever the split."""
    if download:
        _torchvision(benchmark, root, download=True)
    folder = _first_folder(root, folders)
    if folder is None:
        raise benchmark.missing(root, folders[0])
    return _by_folder(folder, but)


def find_food101(benchmark: ImageBenchmark, root: Path, split: str, download: bool) -> Found:
    data = _torchvision(benchmark, root, "food-101/meta", split=split, download=download)
    return data._image_files, [path.parent.name for path in data._image_files]


def find_cars(benchmark: ImageBenchmark, root: Path, split: str, _: bool) -> Found:
    data = _torchvision(benchmark, root, "stanford_cars/devkit", reads="StanfordCars", split=split)
    keys = class_keys(benchmark.name)
    return [Path(path) for path, _ in data._samples], [keys[number] for _, number in data._samples]


def find_pets(benchmark: ImageBenchmark, root: Path, split: str, download: bool) -> Found:
    """The class is in the file's name: ``Egyptian_Mau_14.jpg``, ``american_bulldog_7.jpg``."""
    data = _torchvision(benchmark, root, "oxford-iiit-pet/annotations", split=split, download=download)
    return data._images, [path.stem.rpartition("_")[0].lower() for path in data._images]


def find_sun397(benchmark: ImageBenchmark, root: Path, split: str, download: bool) -> Found:
    """Folders by first letter; a class may be two folders deep. The first official partition, or everything."""
    if download:
        _torchvision(benchmark, root, download=True)
    folder = root / "SUN397"
    if not folder.is_dir():
        raise benchmark.missing(root, "SUN397")
    if split == "all":
        files = sorted(folder.glob("?/**/sun_*.jpg"))
    else:
        name = {"train": "Training_01.txt", "test": "Testing_01.txt"}[split]
        listed = next(
            (path for sub in ("", "Partitions", "../Partitions") if (path := folder / sub / name).is_file()), None
        )
        if listed is None:
            raise UserError(
                f"--split {split}: {folder} holds no {name}; unpack Partitions.zip ({benchmark.source}) into it, or "
                "measure all 108,754 pictures with --split all"
            )
        files = [folder / line.strip().lstrip("/") for line in listed.read_text().splitlines() if line.strip()]
    return files, ["/".join(path.relative_to(folder).parts[1:-1]) for path in files]


def find_cifar(benchmark: ImageBenchmark, root: Path, split: str, download: bool, folder: str) -> Found:
    """torchvision compares the files with their published checksums before it unpickles them."""
    data = _torchvision(benchmark, root, folder, train=split == "train", download=download)
    return data.data, [data.classes[label] for label in data.targets]


def _torchvision(
    benchmark: ImageBenchmark, root: Path, needed: str | None = None, reads: str | None = None, **options: Any
) -> Any:
    """torchvision's data set, its failures in one line; ``needed`` is a folder without which it is not asked."""
    if needed is not None and not options.get("download") and not (root / needed).is_dir():
        raise benchmark.missing(root, needed)
    import torchvision.datasets  # takes seconds

    try:
        return getattr(torchvision.datasets, reads or str(benchmark.torchvision))(str(root), **options)
    except (RuntimeError, OSError, ValueError, KeyError, EOFError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"{benchmark.name}: {root} cannot be read ({reason}); expected {benchmark.layout} ({benchmark.source})"
        ) from error


def find_custom(_: ImageBenchmark, root: Path, split: str, __: bool) -> Found:
    if split in ("", ".", "..") or Path(split).name != split:
        raise UserError(f"--split {split!r}: not the name of a folder in {root}; such as test, or all")
    folder = root if split == "all" else root / split
    if not folder.is_dir():
        raise UserError(f"--split {split}: {root} has no folder {split}")
    return _by_folder(folder)


def custom_split(root: Path) -> str:
    """The test set, if the folder has such a part; else all of it."""
    return next((split for split in ("test", "val") if (root / split).is_dir()), "all")


def custom_keys(root: Path, split: str) -> tuple[str, ...]:
    """Classes are the folders of ALL parts, so that training and test pictures have the same numbers."""
    if split == "all":
        folders = [root]
    else:
        folders = [path for part in ("train", "test", "val", split) if (path := root / part).is_dir()]
    classes = (sub for folder in folders for sub in _class_folders(folder))
    keys = sorted({sub.name for sub in classes if next(_pictures_below(sub), None) is not None})
    if len(keys) < 2:
        raise UserError(f"custom: {folders[0]} holds {len(keys)} folders with pictures; expected one for each class")
    if odd := next((key for key in keys if not is_utf8(key)), None):
        raise UserError(f"custom: the name of the class folder {odd!a} is no UTF-8 text; rename it")
    return tuple(keys)
