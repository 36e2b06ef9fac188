"""Readers of folders: one folder of images per class, caption files beside images, and Hugging Face's imagefolder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from pacl.data.caption_text import TEXT_SUFFIXES, captions_of_files
from pacl.data.class_folders import by_class, check_classes, class_names, is_code
from pacl.data.folder_files import files_below
from pacl.data.image_paths import EXAMPLES, normal_path, one_a_file
from pacl.data.pairs import FilePairs
from pacl.data.readers import read_json, read_table
from pacl.data.shards import SHARD_SUFFIXES
from pacl.data.tables import TABLE_SUFFIXES
from pacl.errors import ArgumentError, UserError, unreadable
from pacl.files import read_text, split_lines
from pacl.image_folders import IMAGE_SUFFIXES
from pacl.printing import counted

FolderFormat = Literal["folders", "caption_files", "metadata", "shards"]

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
TABLES = 20  # files of a folder that are tried as tables


@dataclass
class Contents:
    """The files of a folder and of the folders in it, by their paths relative to it; hidden ones are left out.

    Attributes:
        images: images, sorted.
        texts: the files that may hold captions of images, each by the `key` of its path without suffix, then by its
            suffix.
        key: how paths of images and of these files are compared, see `_comparison`.
        tables: tables of images and captions as Hugging Face names them, sorted.
        others: other files, sorted.
    """

    images: list[str] = field(default_factory=list)
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    key: Callable[[str], str] = str.casefold

    @classmethod
    def of(cls, path: Path) -> Contents:
        """List a folder; links to folders are followed, but not into a folder that they lie in.

        Raises:
            UserError: there is no such folder.
        """
        if not path.is_dir():
            raise UserError(f"{path}: no such folder")
        contents = cls()
        texts = []
        for name in files_below(path):
            file = PurePosixPath(name)
            suffix = file.suffix.lower()
            if suffix in IMAGE_SUFFIXES:
                contents.images.append(name)
            elif file.name.lower() in METADATA:
                contents.tables.append(name)
            elif suffix[1:] in TEXT_SUFFIXES:
                texts.append(name)
            else:
                contents.others.append(name)
        images = [name for image in contents.images for name in (image, _stem(image))]
        contents.key = _comparison(images, map(_stem, texts))
        for name in texts:
            own, suffix = (
                contents.texts.setdefault(contents.key(_stem(name)), {}),
                PurePosixPath(name).suffix.lower()[1:],
            )
            if suffix in own:  # a.TXT beside a.txt, which is the later one
                contents.others.append(own[suffix])
            own[suffix] = name
        contents.images.sort(key=lambda name: PurePosixPath(name).parts)
        contents.tables.sort()
        return contents

    def beside(self, image: str) -> dict[str, str]:
        """The caption files of an image, by suffix: a.txt or a.jpg.txt beside a.jpg."""
        return self.texts.get(self.key(_stem(image))) or self.texts.get(self.key(image)) or {}

    def in_parallel(self) -> dict[str, list[dict[str, str]]]:
        """The caption files of each image, where they lie in folders of their own: captions/a.txt for images/a.jpg.

        If several of these folders have files of that name, any may be the image's: there is an entry for each.
        """
        tops = {PurePosixPath(image).parts[0] for image in self.images}
        texts = [(_stem(next(iter(files.values()))), files) for files in self.texts.values()]
        below = [(stem.partition("/")[2], files) for stem, files in texts if stem.partition("/")[0] not in tops]
        images = {image: _stem(image).partition("/")[2] for image in self.images}
        key = _comparison(images.values(), (rest for rest, _ in below))
        apart: dict[str, list[dict[str, str]]] = {}
        for rest, files in below:
            if rest:
                apart.setdefault(key(rest), []).append(files)
        return {image: apart[key(rest)] for image, rest in images.items() if key(rest) in apart}

    def unused(self, used: set[str]) -> dict[str, int]:
        """The number of caption files that are not among the used ones, and of other files."""
        texts = [name for files in self.texts.values() for name in files.values() if name not in used]
        spare = Counter(PurePosixPath(name).suffix or "without a suffix" for name in texts + self.others)
        names = ", ".join(f"{suffix} {count}" for suffix, count in spare.most_common(5))
        return {f"files that are no images ({names})": spare.total()}


def _stem(name: str) -> str:
    """A path without its suffix."""
    return str(PurePosixPath(name).with_suffix(""))


def _comparison(images: Iterable[str], texts: Iterable[str]) -> Callable[[str], str]:
    """How names of images and of their captions are compared: in lower case.

    Names that differ from others of their side in their case alone are compared as they are written.
    """
    alike: set[str] = set()
    for side in (images, texts):
        spelled = Counter(name.casefold() for name in set(side))
        alike |= {name for name, count in spelled.items() if count > 1}
    return lambda name: name if name.casefold() in alike else name.casefold()


def folder_format(path: str | Path) -> FolderFormat:
    """How a folder is read, by what lies in it.

    Raises:
        UserError: the folder holds shards and images, text files beside its images that hold no captions, or a table
            of images and captions.
    """
    path = Path(path)
    contents = Contents.of(path)
    if any(name.endswith(SHARD_SUFFIXES) for name in contents.others):
        if contents.images:
            raise UserError(f"{path}: holds shards and images; name the shards, such as {path}/*.tar")
        return "shards"
    if contents.tables:
        return "metadata"
    beside = [(image, files) for image in contents.images if (files := contents.beside(image))]
    beside = beside or [(image, files) for image, own in contents.in_parallel().items() for files in own]
    for image, files in beside:
        if _captions(path, image, files)[0]:
            return "caption_files"
    texts = [files for _, files in beside if set(files) - {"json"}]
    if texts:
        name = next(file for suffix, file in texts[0].items() if suffix != "json")
        raise UserError(
            f"{path}: the text files of its images, such as {name}, hold no captions; to read its folders as "
            "classes, set format to folders",
            "format",
        )
    if table := _table(path, contents):
        raise UserError(
            f"{path}: {table} has captions of its images; name that, and set images to their folder", "images"
        )
    return "folders"


def _table(path: Path, contents: Contents) -> Path | None:
    """A table in a folder that has captions of its images."""
    texts = [name for files in contents.texts.values() for name in files.values()]
    folders = dict.fromkeys(path / PurePosixPath(image).parts[0] for image in contents.images if "/" in image)
    for name in [name for name in texts + contents.others if name.count("/") < 2][:TABLES]:
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in (*TABLE_SUFFIXES, ".json"):
            for images in (None, path, *list(folders)[:TABLES]):
                with suppress(UserError):
                    pairs = (read_json if suffix == ".json" else read_table)(path / name, images)
                    if any(os.path.isfile(pairs.root / pairs.paths[i]) for i in range(min(len(pairs), EXAMPLES))):
                        return path / name
    return None


def _captions(path: Path, image: str, files: dict[str, str]) -> tuple[list[str], list[str]]:
    """The captions in the first of an image's files that has some, and the names of the files that were read.

    A text file has a caption in each line.

    Raises:
        UserError: a file cannot be read, or is not UTF-8.
    """
    read: list[str] = []
    for suffix in TEXT_SUFFIXES:
        if suffix in files:
            read.append(files[suffix])
            try:
                content = (path / files[suffix]).read_bytes()
            except OSError as error:
                raise unreadable(error.filename, error) from None
            try:
                found = captions_of_files({suffix: content}, image)
            except UnicodeDecodeError:
                raise UserError(f"{path / files[suffix]}: is not a UTF-8 text file; save it as UTF-8") from None
            if found:
                return found, read
    return [], read


def read_caption_files(path: str | Path) -> FilePairs:
    """Read a folder whose images have a caption file each, in any folders below: ``a.txt``, ``.caption`` or ``.json``.

    The files lie beside the images, or in a folder of their own with the same folders in it (``captions/x/a.txt`` for
    ``images/x/a.jpg``). Each line of a text file is a caption; a JSON has captions in a field such as "caption".
    Images without a caption file are kept, without a caption. Of several files of an image the first that has a caption
    is used, in the order of `pacl.data.caption_text.TEXT_SUFFIXES`; the others are counted.

    Raises:
        UserError: the folder does not exist, has no images, a file cannot be read, or files in folders of their own
            may be captions of several images, as train_captions/0.txt and val_captions/0.txt of train/0.jpg and
            val/0.jpg, or 0.txt of 0.jpg and 0.png.
    """
    path = Path(path)
    contents = Contents.of(path)
    if not contents.images:
        raise UserError(f"{path}: has no images")
    apart = {} if any(map(contents.beside, contents.images)) else _only_ones(path, contents.in_parallel())
    files = {image: contents.beside(image) or apart.get(image, {}) for image in contents.images}
    _check_owners(path, files)
    found = {image: _captions(path, image, own) for image, own in files.items()}
    used = {name for _, read in found.values() for name in read}
    return FilePairs(path, {image: own for image, (own, _) in found.items()}, unused=contents.unused(used))


def _check_owners(path: Path, files: dict[str, dict[str, str]]) -> None:
    """Refuse captions of two images, of which one may be a mask or a preview: ``a.txt`` beside ``a.jpg`` and ``a.png``.

    Raises:
        UserError: two images have the same caption files.
    """
    owners: dict[str, str] = {}
    shared: list[tuple[str, str, str]] = []
    for image, own in files.items():
        if own and (owner := owners.setdefault(name := next(iter(own.values())), image)) != image:
            shared.append((name, owner, image))
    if shared:
        name, one, other = shared[0]
        more = f" (and {counted(len(shared) - 1, 'more such file')})" if len(shared) > 1 else ""
        raise UserError(f"{path}: {name} may be captions of {one} and of {other}{more}; move one of them elsewhere")


def _only_ones(path: Path, claims: dict[str, list[dict[str, str]]]) -> dict[str, dict[str, str]]:
    """The only caption files that each image may have, see `Contents.in_parallel`.

    Raises:
        UserError: an image may have others, as of tags/ beside captions/, or another folder has an image of that name.
    """
    owners: dict[str, str] = {}
    several: tuple[str, str, str] | None = None
    for image, own in claims.items():
        names = [next(iter(files.values())) for files in own]
        owner = owners.setdefault(names[0], image)
        if PurePosixPath(owner).parent != PurePosixPath(image).parent:
            raise UserError(
                f"{path}: {names[0]} may be captions of {owner} and of {image}; put caption files beside their images, "
                "or name the same folders in both, as captions/train/0.txt and images/train/0.jpg"
            )
        if len(names) > 1 and several is None:
            several = names[0], names[1], image
    if several is not None:
        one, other, image = several
        raise UserError(
            f"{path}: {one} and {other} may both be captions of {image}; keep one of these folders there, and move the "
            "other elsewhere"
        )
    return {image: own[0] for image, own in claims.items()}


def read_metadata(path: str | Path, image_column: str | None = None, caption_column: str | None = None) -> FilePairs:
    """Read a folder with ``metadata.jsonl``, ``.csv`` or ``.parquet`` in it or below it (Hugging Face's imagefolder).

    Args:
        path: the folder; file names in a table are relative to the table's own folder.
        image_column: name of the column with the images; None detects it.
        caption_column: name of the column with the captions; None detects it.

    Raises:
        UserError: a folder has several such tables, or an error of `pacl.data.readers.read_table`.
    """
    path = Path(path)
    contents = Contents.of(path)
    first: dict[PurePosixPath, str] = {}
    for own in map(PurePosixPath, contents.tables):
        if (other := first.setdefault(own.parent, own.name)) != own.name:
            both = f"{path / own.parent}: has {other} and {own.name}"
            raise UserError(f"{both}, whose captions may differ; keep one of them")
    captions: dict[str, list[str]] = {}
    unused: Counter[str] = Counter()
    for table in contents.tables:
        folder = (path / table).parent
        pairs = read_table(path / table, folder, image_column, caption_column)
        for i in range(len(pairs)):
            name = str(PurePosixPath(table).parent / pairs.paths[i])
            captions.setdefault(name, []).extend(caption for caption, _ in pairs.descriptions(i))
        unused.update(pairs.unused)
    captions = one_a_file(path, captions)
    listed = {normal_path(path, name) for name in captions}
    unused["images without a row in the metadata"] = sum(
        normal_path(path, name) not in listed for name in contents.images
    )
    return FilePairs(path, captions, unused={**unused, **contents.unused(set())})


def read_folders(path: str | Path, names: str | Path | None = None, template: str = "a photo of a {}.") -> FilePairs:
    """Read a folder that has one folder of images (at any depth) per class; the captions name the class.

    A number or a WordNet ID at the beginning of all folder names, as in ``001.Laysan_Albatross``, is no part of the
    class names.

    Args:
        path: the folder.
        names: file of class names, with lines ``folder: name; other name``, or in WordNet's format
            (``n02123045<TAB>tabby, tabby cat``, as ``words.txt`` of Tiny-ImageNet). Folders without a line are left
            out. None uses the folder names.
        template: sentence for the captions, with one ``{}`` for the class name.

    Raises:
        UserError: the folder does not exist or has no images, its folders are no classes, or the names file is invalid.
        ArgumentError: ``template``: not exactly one ``{}``.
    """
    path = Path(path)
    contents = Contents.of(path)
    if template.count("{}") != 1:
        raise ArgumentError("template", repr(template), "must have exactly one {}, for the class name")
    known = _read_names(Path(names)) if names is not None else None
    members, loose = by_class(contents.images)
    if known is None:
        example = next(iter(members), "dog")
        advice = f"to read its folders as classes, write lines such as {example}: name to a file, and set names to it"
        check_classes(path, members, advice, "names")
        if members and all(map(is_code, members)):
            listed = ", ".join(list(members)[:3])
            raise UserError(f"{path}: its folders ({listed}) have numbers for names; {advice}", "names")
        known = {folder: [name] for folder, name in class_names(members).items()}
    captions: dict[str, list[str]] = {}
    nouns: dict[str, Sequence[str]] = {}
    for folder, images in members.items():
        own = known.get(folder, [])
        texts = [template.replace("{}", name) for name in own]
        # When classes share a name (WordNet has two cranes), only the names that all of them have are certain.
        nouns.update({text: [name for name in own if name in nouns.get(text, own)] for text in texts})
        captions.update(dict.fromkeys(images, texts) if texts else {})
    if not captions:
        if loose:
            advice = (
                "write one for each (a.txt for a.jpg), name a table, or sort the images into a folder for each class"
            )
            raise UserError(f"{path}: its images have no caption files; {advice}")
        listed = f" that is listed in {names}" if names else ""
        raise UserError(f"{path}: has no folder of images{listed}")
    unnamed = sum(len(images) for folder, images in members.items() if not known.get(folder))
    empty = [entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] != "." and entry.name not in members]
    unused = {
        "images outside the class folders": len(loose),
        f"images in folders that {names} does not list": unnamed,
        "folders without images": len(empty),
        **contents.unused(set()),
    }
    return FilePairs(path, captions, nouns, unused)


def _read_names(path: Path) -> dict[str, list[str]]:
    named = {}
    for number, line in enumerate(split_lines(read_text(path, "file of class names")), 1):
        if line.strip() and not line.startswith("#"):
            between, comma = ("\t", ",") if "\t" in line else (":", ";")
            folder, found, rest = line.partition(between)
            own = [name.strip() for name in rest.split(comma) if name.strip()]
            if not found or not own:
                raise UserError(f"{path} line {number}: {line.strip()[:60]!r} is not 'folder: name; other name'")
            if folder.strip() in named:
                raise UserError(f"{path} line {number}: {folder.strip()!r} is there twice; put its names in one line")
            named[folder.strip()] = own
    return named
