"""The official folder layouts of image classification data sets.

Each layout has a finder, a function (benchmark, root, split, download) -> `Found`, the images and the keys of their
classes. If files are missing, it raises a `UserError` that says which files are expected where. Where torchvision can
read a data set, the finder uses torchvision.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.classification.names import class_keys, synsets
from eval.common.files import is_utf8
from pacl.classification.class_folders import left_out
from pacl.data.class_folders import SPLITS, by_class, check_classes
from pacl.data.folders import Contents
from pacl.data.readers import read_list
from pacl.errors import ArgumentError, UserError, first_few, unreadable
from pacl.image_folders import IMAGE_SUFFIXES
from pacl.printing import counted

SYNSET = re.compile(r"(?:^|_)(n\d{8})(?=_|\.|$)")

Images = Sequence[Path] | np.ndarray


class Found(NamedTuple):
    """The images of a split.

    Attributes:
        images: files, or uint8 [I, H, W, 3].
        keys: of each image's class.
        notes: what is left out, a line for each kind.
    """

    images: Images
    keys: list[str]
    notes: list[str] = []  # noqa: RUF012


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
        main: the score that the literature reports, ``top1`` or ``mean_per_class``; ``top1`` for ``custom``.
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
        message = f"{self.name}: {root} contains no {what}; expected {self.layout} ({self.source}){hint}"
        return UserError(message, *(("download",) if hint else ()))


def _first_folder(root: Path, candidates: Sequence[str]) -> Path | None:
    return next((root / folder for folder in candidates if (root / folder).is_dir()), None)


def _class_folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from None


def _by_folder(folder: Path, excluded: Sequence[str] = ()) -> Found:
    """Images in one folder per class, whose name is the key; folders named in ``excluded`` are skipped.

    Raises:
        UserError: a folder cannot be read, or an image is a broken link.
    """
    contents = Contents.of(folder)
    members, loose = by_class(contents.images)
    notes = left_out(folder, contents, members, loose)
    images: list[Path] = []
    keys: list[str] = []
    for key, own in members.items():
        if key not in excluded:
            images += [folder / image for image in own]
            keys += [key] * len(own)
    for path in images:
        if path.is_symlink() and not path.exists():
            raise UserError(f"{path} is a link to {os.readlink(path)}, which does not exist: remove it")
    return Found(images, keys, notes)


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
            others = [sub.name for sub in _class_folders(folder) if not SYNSET.fullmatch(sub.name)]
            found = _by_folder(folder, others)
            return found._replace(notes=[*found.notes, *_without_id(folder, "folder", others)])
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        named = [(path, match[1]) for path in files if (match := SYNSET.search(path.stem))]
        if named:
            others = [path.name for path in files if not SYNSET.search(path.stem)]
            notes = _without_id(folder, "image", others)
            return Found([path for path, _ in named], [key for _, key in named], notes)
        if files:
            raise UserError(
                f"{benchmark.name}: the name of {files[0]} does not contain its class; sort the images into one folder "
                "per class, such as val/n01440764/, as torchvision's ImageNet does with the official archives"
            )
    raise benchmark.missing(root, " or ".join(folders[split]))


def _without_id(folder: Path, kind: str, names: Sequence[str]) -> list[str]:
    """The note on files or folders of ImageNet that are left out; empty without any."""
    if not names:
        return []
    return [f"{folder}: {counted(len(names), kind)} without a WordNet id in the name left out ({first_few(names)})"]


def find_imagenet_v2(benchmark: ImageBenchmark, root: Path, split: str, _: bool) -> Found:
    """Folders named by class number, 0 to 999; sorting them as text (0, 1, 10, 100, ...) would give wrong classes."""
    name = f"imagenetv2-{split}-format-val"
    folder = _first_folder(root, (name, f"imagenet_v2/{name}"))
    if folder is None and (root / "0").is_dir():
        folder = root
    if folder is None:
        raise benchmark.missing(root, name)
    images, numbers, notes = _by_folder(folder)
    wrong = next((n for n in numbers if not n.isdecimal() or int(n) >= len(synsets())), None)
    if wrong is not None:
        raise UserError(f"{benchmark.name}: folder {folder / wrong} is not a class number from 0 to 999")
    return Found(images, [synsets()[int(number)] for number in numbers], notes)


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
    return Found(data._image_files, [path.parent.name for path in data._image_files])


def find_cars(benchmark: ImageBenchmark, root: Path, split: str, _: bool) -> Found:
    """torchvision's layout; annotations contain class numbers."""
    data = _torchvision(benchmark, root, "stanford_cars/devkit", reads="StanfordCars", split=split)
    keys = class_keys(benchmark.name)
    return Found([Path(path) for path, _ in data._samples], [keys[number] for _, number in data._samples])


def find_pets(benchmark: ImageBenchmark, root: Path, split: str, download: bool) -> Found:
    """torchvision's layout; the class is in the name of the file, such as ``american_bulldog_7.jpg``."""
    data = _torchvision(benchmark, root, "oxford-iiit-pet/annotations", split=split, download=download)
    return Found(data._images, [path.stem.rpartition("_")[0].lower() for path in data._images])


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
    return Found(files, ["/".join(path.relative_to(folder).parts[1:-1]) for path in files])


def find_cifar(benchmark: ImageBenchmark, root: Path, split: str, download: bool, folder: str) -> Found:
    """torchvision's layout, in ``folder``; torchvision verifies the checksums of the files before it unpickles them."""
    data = _torchvision(benchmark, root, folder, train=split == "train", download=download)
    return Found(data.data, [data.classes[label] for label in data.targets])


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
    """The classes of all splits together, so that classes have the same numbers in training and test images.

    Raises:
        UserError: there are less than two, or the folders are something else than classes.
    """
    splits = [path for path in _class_folders(root) if path.name == split or path.name.lower() in SPLITS]
    found: set[str] = set()
    for folder in [root] if split == "all" else splits:
        members, _ = by_class(Contents.of(folder).images)
        check_classes(folder, members)
        found |= set(members)
    keys = sorted(found)
    if len(keys) < 2:
        where = root if split == "all" else root / split
        raise UserError(
            f"custom: {where} contains {counted(len(keys), 'folder')} with images; expected one folder per class"
        )
    if odd := next((key for key in keys if not is_utf8(key)), None):
        raise UserError(f"custom: the name of the class folder {odd!a} is not UTF-8; rename it")
    return tuple(keys)
