"""The caption data sets for retrieval, read from the folders and files that their authors publish.

``flickr8k`` (Hodosh, Young and Hockenmaier, JAIR 2013), ``flickr30k`` (Young et al., TACL 2014) and ``coco`` (Lin et
al., ECCV 2014; Chen et al., arXiv 1504.00325). Their usual test splits are those of Karpathy and Fei-Fei (CVPR 2015),
with 1,000, 1,000 and 5,000 images and five captions per image.

To add a data set whose captions are a table or have a file of Karpathy's, add a `CaptionLayout` to `LAYOUTS`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from eval.common.files import count_equal, files_digest
from pacl.data.pairs import FilePairs, PairSource, Subset, hold_out
from pacl.data.readers import parsing, read_coco, read_list, read_table
from pacl.data.sources import Source
from pacl.errors import ArgumentError, UserError
from pacl.files import parse_json
from pacl.printing import counted

CAPTIONS = 5  # captions per image; some images of COCO have more, of which the first five are used
KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent/"
KARPATHY_JSON = (
    'a file with Karpathy\'s splits: {"images": [{"filename": "a.jpg", "split": "test", '
    '"sentences": [{"raw": "a cat"}]}]}'
)


@dataclass(frozen=True)
class CaptionLayout:
    """The files of a caption data set. Where there are several possible paths, the first one that exists is used.

    Attributes:
        title: its name in text.
        source: its official page.
        bases: possible folders of the data set, relative to the data folder. All other paths are relative to it.
        images: possible folders of the images.
        tables: possible files with the captions of all images, for `pacl.data.readers.read_table` (COCO: JSON).
        karpathy: the file with Karpathy's splits and captions.
        list: possible files with the official list of test images; empty if there is none.
        full: split -> number of images, if known.
    """

    title: str
    source: str
    bases: tuple[str, ...]
    images: tuple[str, ...]
    tables: tuple[str, ...]
    karpathy: str
    list: tuple[str, ...]
    full: dict[str, int]


LAYOUTS = {
    "flickr8k": CaptionLayout(
        "Flickr8k",
        "https://hockenmaier.cs.illinois.edu/8k-pictures.html",
        (".", "flickr8k", "Flickr8k"),
        ("Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset"),  # (official spelling)
        ("captions.txt", "Flickr8k.token.txt", "Flickr8k_text/Flickr8k.token.txt"),
        "dataset_flickr8k.json",
        ("Flickr_8k.testImages.txt", "Flickr8k_text/Flickr_8k.testImages.txt"),
        {"test": 1000},
    ),
    "flickr30k": CaptionLayout(
        "Flickr30k",
        "https://shannon.cs.illinois.edu/DenotationGraph/",
        (".", "flickr30k", "Flickr30k"),
        ("flickr30k-images", "flickr30k_images", "Images", "images"),
        ("results_20130124.token", "captions.txt", "results.csv"),
        "dataset_flickr30k.json",
        (),
        {"test": 1000, "all": 31783},
    ),
    "coco": CaptionLayout(
        "COCO captions",
        "https://cocodataset.org/#download",
        (".", "coco"),
        (".", "images"),
        ("annotations/captions_val2017.json", "captions_val2017.json"),
        "dataset_coco.json",
        (),
        {"test": 5000, "val2017": 5000},
    ),
}


@dataclass(frozen=True)
class CaptionSet:
    """Images and their captions.

    Attributes:
        name: name of the data set.
        split: ``test``, ``val2017`` or ``all``.
        annotations: name of the file with the captions.
        source: the I images, which are read on demand.
        captions: captions of each image.
        full: number of images in the whole split.
        unused: what of the file of ``custom`` is not read, its split among it: how many of each kind.
    """

    name: str
    split: str
    annotations: str
    source: PairSource
    captions: list[list[str]]
    full: int
    unused: dict[str, int] = field(default_factory=dict)

    def digest(self) -> str:
        """SHA-256 of the paths, sizes and modification times of the images, and of the captions."""
        images = files_digest(Path(self.source.name(i)) for i in range(len(self.source)))
        return hashlib.sha256(json.dumps([images, self.captions]).encode("ascii")).hexdigest()

    def texts(self) -> tuple[list[str], list[int]]:
        """All T captions, image by image and including duplicates, and the index of the image of each caption."""
        owners = [i for i, own in enumerate(self.captions) for _ in own]
        return list(chain.from_iterable(self.captions)), owners

    def ambiguous(self) -> int:
        """How many captions have the text of a caption of another image, so that no model can tell whose they are."""
        images = Counter(text for own in self.captions for text in set(own))
        return sum(images[text] > 1 for own in self.captions for text in own)

    @property
    def whole(self) -> bool:
        """Whether the split is all that its file has, of which training with ``hold_out`` takes its images."""
        return self.split != "test"

    def equal_images(self) -> int:
        """How many images have the bytes of another one, so that no model can tell whose captions they are."""
        return count_equal([self.source.name(i) for i in range(len(self.source))])


def open_captions(
    name: str,
    data: str | Path,
    split: str | None = None,
    *,
    limit: int | None = None,
    partial: bool = False,
    images: str | Path | None = None,
) -> CaptionSet:
    """Open a caption data set.

    Args:
        name: ``flickr8k``, ``flickr30k``, ``coco`` or ``custom``.
        data: the folder of the data set or the folder that contains it; for ``custom`` a table of captions or JSON.
        split: ``test`` (as in the literature), ``val2017`` (COCO only) or ``all``; None takes the first of these for
            which there are files.
        limit: take only this many images, the ones of the split that `pacl.data.pairs.hold_out` selects, which are
            always the same.
        partial: skip missing images of these instead of raising an error.
        images: folder of the images; None is the official one.

    Raises:
        UserError: files are missing; the message says where they are expected and where to get them.
        ArgumentError: an invalid ``data``, ``split``, ``limit`` or ``images``.
    """
    if images is not None and not Path(images).is_dir():
        raise ArgumentError("images", images, "no such folder")
    pairs: FilePairs | Subset
    if name == "custom":
        if split not in (None, "all"):
            raise ArgumentError(
                "split", split, "custom has no splits: leave it out, or write the images of the split to a table"
            )
        split, pairs, annotations = "all", _custom(Path(data), images), Path(data).name
    elif name in LAYOUTS:
        if not Path(data).is_dir():
            raise ArgumentError("data", data, f"no such folder; {LAYOUTS[name].title} is from {LAYOUTS[name].source}")
        data = _base(LAYOUTS[name], Path(data))
        split, pairs, annotations = _open(name, data, split, images, limit is not None)
    else:
        raise UserError(f"{name}: choose from {', '.join(LAYOUTS)} or custom")
    full = LAYOUTS[name].full.get(split, len(pairs)) if name in LAYOUTS else len(pairs)
    source: FilePairs | Subset = pairs
    if limit is not None:
        if limit < 1:
            raise ArgumentError("limit", limit, "must be at least 1")
        source = hold_out(pairs, min(limit, len(pairs)))[1]  # before any is looked for, as training does
    source = _present(source, partial, f"{data}" if name == "custom" else f"{Path(data) / annotations}")
    most = None if name == "custom" else CAPTIONS
    captions = [[text for text, _ in source.descriptions(i)][:most] for i in range(len(source))]
    if not any(captions):
        raise UserError(f"{annotations}: no image has a caption")
    unused = pairs.unused if isinstance(pairs, FilePairs) else {}
    return CaptionSet(name, split, Path(annotations).name, source, captions, max(full, len(source)), unused)


def _open(
    name: str, root: Path, split: str | None, images: str | Path | None, limited: bool
) -> tuple[str, FilePairs | Subset, str]:
    """Open a split of one of `LAYOUTS`; ``limited`` is whether only some images are needed.

    Returns:
        The split, its images and captions, and the path of the file that lists them, relative to ``root``.
    """
    layout = LAYOUTS[name]
    karpathy = _first(root, [layout.karpathy, f"annotations/{layout.karpathy}"])
    listed = _first(root, layout.list)
    table = _first(root, layout.tables)
    whole = "val2017" if name == "coco" else "all"
    splits = [*(["test"] if karpathy or (listed and table) else []), *([whole] if table else [])]
    if not splits:
        either = f"neither {layout.tables[0]} ({layout.title}: {layout.source})"
        raise ArgumentError("data", root, f"contains {either} nor {layout.karpathy} (splits and captions: {KARPATHY})")
    if split is None:
        if splits == ["all"] and not limited:
            lists = " or ".join([*layout.list[:1], layout.karpathy])
            reason = f"contains no {lists} ({KARPATHY}), which lists {layout.title}'s test images"
            raise ArgumentError("data", root, f"{reason}; or set split to all, or set limit", "split", "limit")
        split = splits[0]
    if split not in splits:
        where = f"; test needs {layout.karpathy} ({KARPATHY})" if split == "test" else ""
        raise ArgumentError("split", split, f"the files here are for {' and '.join(splits)}{where}")
    if split == "test" and karpathy:
        return split, _karpathy(name, karpathy, root, images), str(karpathy.relative_to(root))
    assert table is not None
    annotations = str(table.relative_to(root))
    if name == "coco":
        folders = [images] if images else [root / "val2017", root / "images" / "val2017"]
        return split, read_coco(table, _folder(layout, root, folders)), annotations
    pairs = read_table(table, _folder(layout, root, [images] if images else [root / each for each in layout.images]))
    if split == "all":
        return split, pairs, annotations
    assert listed is not None
    wanted = set(read_list(listed))
    if absent := wanted - set(map(pairs.paths.__getitem__, range(len(pairs)))):
        raise UserError(f"{listed}: {len(absent)} of its {len(wanted)} images have no captions in {table}")
    found = [i for i in range(len(pairs)) if pairs.paths[i] in wanted]
    return split, Subset(pairs, found), str(listed.relative_to(root))


def _base(layout: CaptionLayout, root: Path) -> Path:
    """The folder of the data set: the first that contains one of its files, else ``root``."""
    files = (*layout.tables, layout.karpathy, f"annotations/{layout.karpathy}")
    return next((root / base for base in layout.bases if _first(root / base, files)), root)


def _custom(path: Path, images: str | Path | None) -> FilePairs:
    """Images and captions of a table or JSON file."""
    if not path.is_file():
        raise ArgumentError("data", path, "must be a table of images and captions (CSV, TSV) or JSON as of COCO")
    return Source(str(path), str(images) if images else None).read()


def _karpathy(name: str, path: Path, root: Path, images: str | Path | None) -> FilePairs:
    """Images and captions of the test split in Karpathy's file."""
    layout = LAYOUTS[name]
    with parsing(path, KARPATHY_JSON):
        entries = parse_json(path.read_text(encoding="utf-8-sig"))["images"]
        test = [
            (_places(entry), [" ".join(str(sentence["raw"]).split()) for sentence in entry["sentences"]])
            for entry in entries
            if entry["split"] == "test"
        ]
    if not test:
        raise UserError(f"{path}: contains no image of the split test")
    folders = [Path(images)] if images else [root / each for each in layout.images]
    folder = next((each for each in folders for places, _ in test if _at(each, places)), None)
    if folder is None:
        raise ArgumentError("data", root, f"no image at {folders[0] / test[0][0][0]} ({layout.source})")
    captions: dict[str, list[str]] = {}
    for places, own in test:
        captions.setdefault(_at(folder, places) or places[0], own)
    return FilePairs(folder, captions)


def _places(entry: dict[str, object]) -> list[str]:
    """Possible paths of an image in Karpathy's file. In 2017 COCO published its images of 2014 again with new names."""
    name = str(entry["filename"])
    if "filepath" not in entry:
        return [name]
    places = [f"{entry['filepath']}/{name}", name]
    if "cocoid" in entry:
        places += [f"{part}2017/{int(str(entry['cocoid'])):012d}.jpg" for part in ("val", "train")]
    return places


def _at(folder: Path, places: Iterable[str]) -> str | None:
    """The first of these paths that exists in the folder."""
    return next((place for place in places if os.path.isfile(folder / place)), None)  # False for names too long


def _folder(layout: CaptionLayout, root: Path, folders: Iterable[str | Path]) -> Path:
    """The first of these folders of images that exists, else an `ArgumentError`."""
    places = list(map(Path, folders))
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise ArgumentError("data", root, f"{layout.title}'s images belong in {places[0]} ({layout.source})")
    return found


def _present(pairs: FilePairs | Subset, partial: bool, annotations: str) -> FilePairs | Subset:
    """The images that exist. A `UserError` if none does, or if some are missing and ``partial`` is False."""
    missing = {i for i in range(len(pairs)) if not Path(pairs.name(i)).is_file()}
    if not missing:
        return pairs
    first = pairs.name(min(missing))
    if len(missing) == len(pairs):
        raise UserError(f"{annotations}: none of its {counted(len(pairs), 'image')} exists, such as {first}")
    if not partial:
        raise UserError(
            f"{annotations}: {len(missing)} of the {len(pairs)} images are missing, such as {first}; "
            "set partial to skip them",
            "partial",
        )
    return Subset(pairs, [i for i in range(len(pairs)) if i not in missing])


def _first(root: Path, places: Iterable[str]) -> Path | None:
    """The first of these files that exists below ``root``."""
    return next((root / place for place in places if (root / place).is_file()), None)
