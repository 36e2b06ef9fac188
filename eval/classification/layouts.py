"""The official folder layouts of image classification data sets.

Each layout has a finder, a function (benchmark, root, split, download) -> `Found`, the images and the keys of their
classes. If files are missing, it raises a `UserError` that says which files are expected where. Where torchvision can
read a data set, the finder uses torchvision.
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
from pacl.data.readers import read_list
from pacl.errors import ArgumentError, UserError
from pacl.image_folders import IMAGE_SUFFIXES
from pacl.printing import counted

SYNSET = re.compile(r"(?:^|_)(n\d{8})(?=_|\.|$)")

Images = Sequence[Path] | np.ndarray
Found = tuple[Images, list[str]]
"""Images, as files or uint8 [I, H, W, 3], and the key of each image's class."""


@dataclass(frozen=True)
class ImageBenchmark:
    """Description of a data set.

    Attributes:
        name: its name in commands.
        title: its name in tables.
        splits: name of the split -> number of images, None if unknown. The first split is the default.
        layout: the expected files, relative to the data folder, in words.
        source: its official page.
        find: its finder.
        main: the score that the literature reports, ``top1`` or ``mean_per_class``.
        probe: the splits on which a linear probe is trained and tested; None without training images.
        split_sizes: for data sets without official splits, the number of training and of test images per class, see
            `eval.classification.image_sets.random_split`.
        published: for data sets without official splits, the images that the literature uses, in words.
        torchvision: the class of torchvision that can download it, if there is one.
    """

    name: str
    title: str
    splits: dict[str, int | None]
    layout: str
    source: str
    find: Callable[[ImageBenchmark, Path, str, bool], Found]
    main: str = "top1"
    probe: tuple[str, str] | None = None
    split_sizes: tuple[int, int | None] | None = None
    published: str = ""
    torchvision: str | None = None

    def missing(self, root: Path, what: str) -> UserError:
        """An error that says that ``what`` is missing in ``root`` and how to get it."""
        hint = f", or set download (torchvision's {self.torchvision})" if self.torchvision else ""
        return UserError(f"{self.name}: {root} contains no {what}; expected {self.layout} ({self.source}){hint}")


def _first_folder(root: Path, candidates: Sequence[str]) -> Path | None:
    return next((root / folder for folder in candidates if (root / folder).is_dir()), None)


def _class_folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise _unreadable(error) from None


def _by_folder(folder: Path, excluded: Sequence[str] = ()) -> Found:
    """Images in one folder per class, whose name is the key; folders named in ``excluded`` are skipped."""
    images: list[Path] = []
    keys: list[str] = []
    for sub in _class_folders(folder):
        if sub.name not in excluded:
            files = sorted(_images_below(sub))
            images += files
            keys += [sub.name] * len(files)
    return images, keys


def _images_below(folder: Path) -> Iterator[Path]:
    """All image files in a folder and its subfolders, in no particular order; hidden files and folders are skipped.

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
    """One folder per class, named by WordNet id, or a single folder with files named by WordNet id.

    ``folders`` are the possible folders of each split.
    """
    itself = (
        ["."] if split == next(iter(benchmark.splits)) else []
    )  # root may itself be the folder of the default split
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
                f"{benchmark.name}: the name of {files[0]} does not contain its class; sort the images into one folder "
                "per class, such as val/n01440764/, as torchvision's ImageNet does with the official archives"
            )
    raise benchmark.missing(root, " or ".join(folders[split]))


def find_imagenet_v2(benchmark: ImageBenchmark, root: Path, split: str, _: bool) -> Found:
    """Folders named by class number, 0 to 999; sorting them as text (0, 1, 10, 100, ...) would give wrong classes."""
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
    benchmark: ImageBenchmark, root: Path, _: str, download: bool, folders: Sequence[str], excluded: Sequence[str] = ()
) -> Found:
    """One folder per class, without splits; ``folders`` are the possible folders of the data set."""
    if download:
        _torchvision(benchmark, root, download=True)
    folder = _first_folder(root, folders)
    if folder is None:
        raise benchmark.missing(root, folders[0])
    return _by_folder(folder, excluded)


def find_food101(benchmark: ImageBenchmark, root: Path, split: str, download: bool) -> Found:
    """torchvision's layout; the key is the name of the folder."""
    data = _torchvision(benchmark, root, "food-101/meta", split=split, download=download)
    return data._image_files, [path.parent.name for path in data._image_files]


def find_cars(benchmark: ImageBenchmark, root: Path, split: str, _: bool) -> Found:
    """torchvision's layout; annotations contain class numbers."""
    data = _torchvision(benchmark, root, "stanford_cars/devkit", reads="StanfordCars", split=split)
    keys = class_keys(benchmark.name)
    return [Path(path) for path, _ in data._samples], [keys[number] for _, number in data._samples]


def find_pets(benchmark: ImageBenchmark, root: Path, split: str, download: bool) -> Found:
    """torchvision's layout; the class is in the name of the file, such as ``american_bulldog_7.jpg``."""
    data = _torchvision(benchmark, root, "oxford-iiit-pet/annotations", split=split, download=download)
    return data._images, [path.stem.rpartition("_")[0].lower() for path in data._images]


def find_sun397(benchmark: ImageBenchmark, root: Path, split: str, download: bool) -> Found:
    """Folders by first letter, then by class, which may be a path; the first official partition, or all images."""
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
            reason = f"{folder} contains no {name}; unpack Partitions.zip ({benchmark.source}) into it"
            raise ArgumentError("split", split, f"{reason}, or choose all, with 108,754 images")
        files = [folder / line.lstrip("/") for line in read_list(listed)]
    return files, ["/".join(path.relative_to(folder).parts[1:-1]) for path in files]


def find_cifar(benchmark: ImageBenchmark, root: Path, split: str, download: bool, folder: str) -> Found:
    """torchvision's layout, in ``folder``; torchvision verifies the checksums of the files before it unpickles them."""
    data = _torchvision(benchmark, root, folder, train=split == "train", download=download)
    return data.data, [data.classes[label] for label in data.targets]


def _torchvision(
    benchmark: ImageBenchmark, root: Path, needed: str | None = None, reads: str | None = None, **options: Any
) -> Any:
    """Open a data set with torchvision.

    Args:
        benchmark: the data set.
        root: the data folder.
        needed: a folder below root that must exist, unless files are to be downloaded.
        reads: torchvision's class, if it is not ``benchmark.torchvision``.
        **options: further arguments of the class.

    Raises:
        UserError: the folder is missing, or torchvision cannot read the data set.
    """
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
    """One folder per class in a folder named by the split; the split ``all`` is root itself."""
    if split in ("", ".", "..") or Path(split).name != split:
        raise ArgumentError("split", repr(split), f"must be all, or the name of a folder in {root}, such as test")
    folder = root if split == "all" else root / split
    if not folder.is_dir():
        raise ArgumentError("split", split, f"{root} has no folder of that name")
    return _by_folder(folder)


def custom_split(root: Path) -> str:
    """The default split: the first of ``test`` and ``val`` that exists, else ``all``."""
    return next((split for split in ("test", "val") if (root / split).is_dir()), "all")


def custom_keys(root: Path, split: str) -> tuple[str, ...]:
    """The classes of all splits together, so that classes have the same numbers in training and test images."""
    if split == "all":
        folders = [root]
    else:
        folders = [path for part in ("train", "test", "val", split) if (path := root / part).is_dir()]
    classes = (sub for folder in folders for sub in _class_folders(folder))
    keys = sorted({sub.name for sub in classes if next(_images_below(sub), None) is not None})
    if len(keys) < 2:
        raise UserError(
            f"custom: {folders[0]} contains {counted(len(keys), 'folder')} with images; expected one folder per class"
        )
    if odd := next((key for key in keys if not is_utf8(key)), None):
        raise UserError(f"custom: the name of the class folder {odd!a} is not UTF-8; rename it")
    return tuple(keys)
