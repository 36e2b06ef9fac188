"""Official folder layouts of image classification data sets, read into images and the keys of their classes.

A finder takes (benchmark, root, split, download) and returns `Found`; missing files are a `UserError` that says what is
expected where. Data sets that torchvision can read are read by torchvision.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.classification.names import class_keys, synsets
from eval.common.folders import is_utf8
from pacl.errors import ArgumentError, UserError
from pacl.image_folders import IMAGE_SUFFIXES

SYNSET = re.compile(r"(?:^|_)(n\d{8})(?=_|\.|$)")

Images = Sequence[Path] | np.ndarray
Found = tuple[Images, list[str]]
"""Images, as files or uint8 [I, H, W, 3], and the key of the class of each."""


@dataclass(frozen=True)
class ImageBenchmark:
    """A data set of the literature.

    Attributes:
        name: its name in commands.
        title: its name in tables.
        splits: name -> number of images, None if unknown; the first is the default.
        layout: the files that are expected, relative to the data folder.
        source: its official page.
        find: (benchmark, root, split, download) -> `Found`.
        main: the score that the literature reports: ``top1`` or ``mean_per_class``.
        probe: the splits that a probe is trained and measured on; None without training images.
        drawn: for data sets without official splits: training and test images of each class, None for all others.
        published: what the literature measured where there is no official split, in words.
        torchvision: torchvision's class that can download it, if there is one.
    """

    name: str
    title: str
    splits: dict[str, int | None]
    layout: str
    source: str
    find: Callable[[ImageBenchmark, Path, str, bool], Found]
    main: str = "top1"
    probe: tuple[str, str] | None = None
    drawn: tuple[int, int | None] | None = None
    published: str = ""
    torchvision: str | None = None

    def missing(self, root: Path, what: str) -> UserError:
        """The error that something is missing, with how to get it."""
        loads = f", or set download (torchvision's {self.torchvision})" if self.torchvision else ""
        return UserError(f"{self.name}: {root} holds no {what}; expected {self.layout} ({self.source}){loads}")


def _first_folder(root: Path, candidates: Sequence[str]) -> Path | None:
    return next((root / folder for folder in candidates if (root / folder).is_dir()), None)


def _class_folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise _unreadable(error) from None


def _by_folder(folder: Path, but: Sequence[str] = ()) -> Found:
    """A folder for each class, whose name is the key; empty folders, and files beside the folders, are ignored."""
    images: list[Path] = []
    keys: list[str] = []
    for sub in _class_folders(folder):
        if sub.name not in but:
            files = sorted(_images_below(sub))
            images += files
            keys += [sub.name] * len(files)
    return images, keys


def _images_below(folder: Path) -> Iterator[Path]:
    """Images at any depth, by suffix, in no order, without hidden ones.

    Raises:
        UserError: a folder cannot be read, or an image is a broken link.
    """
    for where, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(where, name)
            if path.suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                if path.is_symlink() and not path.exists():
                    raise UserError(f"{path} is a link to {os.readlink(path)}, which does not exist: remove it")
                yield path


def _refuse(error: OSError) -> None:
    raise _unreadable(error) from None


def _unreadable(error: OSError) -> UserError:
    return UserError(f"{error.filename}: cannot be read ({error.strerror})")


def find_imagenet(
    benchmark: ImageBenchmark, root: Path, split: str, _: bool, folders: dict[str, Sequence[str]]
) -> Found:
    """Folders named by synset, or one folder of files named by synset."""
    itself = ["."] if split == next(iter(benchmark.splits)) else []  # the data folder may be that of the default split
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
                f"{benchmark.name}: {files[0]} does not name its class; sort the images into a folder for each "
                "synset, such as val/n01440764/, as torchvision's ImageNet does with the official archives"
            )
    raise benchmark.missing(root, " or ".join(folders[split]))


def find_imagenet_v2(benchmark: ImageBenchmark, root: Path, split: str, _: bool) -> Found:
    """Folders 0 to 999, which are class NUMBERS: sorted as text they would be 0, 1, 10, 100, ..."""
    name = f"imagenetv2-{split}-format-val"
    folder = _first_folder(root, (name, f"imagenet_v2/{name}"))
    if folder is None and (root / "0").is_dir():
        folder = root
    if folder is None:
        raise benchmark.missing(root, name)
    images, numbers = _by_folder(folder)
    wrong = next((n for n in numbers if not n.isdecimal() or int(n) >= len(synsets())), None)
    if wrong is not None:
        raise UserError(f"{benchmark.name}: folder {folder / wrong} is not a class number from 0 to 999")
    return images, [synsets()[int(number)] for number in numbers]


def find_folders(
    benchmark: ImageBenchmark, root: Path, _: str, download: bool, folders: Sequence[str], but: Sequence[str] = ()
) -> Found:
    """One folder with a folder for each class, for any split."""
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
    """The class is in the name of the file: ``Egyptian_Mau_14.jpg``, ``american_bulldog_7.jpg``."""
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
            reason = f"{folder} holds no {name}; unpack Partitions.zip ({benchmark.source}) into it"
            raise ArgumentError("split", split, f"{reason}, or choose all, with 108,754 images")
        files = [folder / line.strip().lstrip("/") for line in listed.read_text().splitlines() if line.strip()]
    return files, ["/".join(path.relative_to(folder).parts[1:-1]) for path in files]


def find_cifar(benchmark: ImageBenchmark, root: Path, split: str, download: bool, folder: str) -> Found:
    """torchvision checks the published checksums of the files before it unpickles them."""
    data = _torchvision(benchmark, root, folder, train=split == "train", download=download)
    return data.data, [data.classes[label] for label in data.targets]


def _torchvision(
    benchmark: ImageBenchmark, root: Path, needed: str | None = None, reads: str | None = None, **options: Any
) -> Any:
    """torchvision's data set, with its errors in one line; ``needed`` is a folder that it cannot do without."""
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
        raise ArgumentError("split", repr(split), f"not the name of a folder in {root}, such as test, or all")
    folder = root if split == "all" else root / split
    if not folder.is_dir():
        raise ArgumentError("split", split, f"{root} has no folder of that name")
    return _by_folder(folder)


def custom_split(root: Path) -> str:
    """The default split: the test set if there is one, else all of the folder."""
    return next((split for split in ("test", "val") if (root / split).is_dir()), "all")


def custom_keys(root: Path, split: str) -> tuple[str, ...]:
    """The classes are the folders of ALL parts, so that training and test images have the same class numbers."""
    if split == "all":
        folders = [root]
    else:
        folders = [path for part in ("train", "test", "val", split) if (path := root / part).is_dir()]
    classes = (sub for folder in folders for sub in _class_folders(folder))
    keys = sorted({sub.name for sub in classes if next(_images_below(sub), None) is not None})
    if len(keys) < 2:
        raise UserError(f"custom: {folders[0]} holds {len(keys)} folders with images; expected one for each class")
    if odd := next((key for key in keys if not is_utf8(key)), None):
        raise UserError(f"custom: the name of the class folder {odd!a} is not UTF-8; rename it")
    return tuple(keys)
