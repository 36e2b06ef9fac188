"""Where pictures with captions come from: tables, COCO's JSON and folders by class, all as one `FilePairs`.

A caption's noun phrases ride along with it: those that a source knows itself (class names, the scenes), else those
that a tagger finds once (`pacl.data.nouns`).
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import urlsplit

import numpy as np

from pacl.data.strings import Strings
from pacl.errors import UserError
from pacl.images import IMAGE_SUFFIXES, list_images, open_image

Description = tuple[str, Sequence[str]]  # a caption and its noun phrases

IMAGE_COLUMNS = ("image", "filename", "file_name", "filepath", "file", "path", "image_path", "image_name", "url")
CAPTION_COLUMNS = ("caption", "captions", "text", "title", "description", "comment", "sentence", "raw")
BESIDE = ("", "images", "Images")  # where a table's pictures are looked for, from its own folder
COCO_JSON = (
    'captions in COCO\'s format: {"images": [{"id": 1, "file_name": "a.jpg"}], '
    '"annotations": [{"image_id": 1, "caption": "a cat"}]}'
)
EXAMPLES = 100  # names that are looked for there: the first ones may be missing


class PairSource(Protocol):
    """Pictures with captions, by number."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What the picture is called in messages."""

    def image(self, index: int, short_side: int | None = None) -> np.ndarray:
        """The picture, uint8 RGB [H, W, 3]; ``short_side`` allows a smaller decoding that keeps as many pixels.

        Raises:
            UserError: it is missing or broken.
        """

    def descriptions(self, index: int) -> Sequence[Description]:
        """All its captions, each with its noun phrases; none for a picture without a caption."""


class FilePairs:
    """Picture files with their captions.

    Attributes:
        root: folder that the paths start from.
        paths: n paths.
        captions: the captions of all pictures, picture by picture.
        first: int64 [n + 1]; picture i has captions first[i] to first[i + 1].
        nouns: the noun phrases of each caption, tab-separated; None: nobody looked for them yet.
    """

    def __init__(self, root: Path, captions: dict[str, list[str]], nouns: dict[str, Sequence[str]] | None = None):
        """
        Args:
            root: folder that the paths start from.
            captions: path -> captions.
            nouns: caption -> its noun phrases, when the source knows them.
        """
        self.root = root
        self.paths = Strings(captions)
        self.captions = Strings(caption for own in captions.values() for caption in own)
        self.first = np.cumsum([0, *(len(own) for own in captions.values())], dtype=np.int64)
        self.nouns: Strings | None = None
        if nouns is not None:
            self.set_nouns([nouns[caption] for own in captions.values() for caption in own])

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.root / self.paths[index])

    def image(self, index: int, short_side: int | None = None) -> np.ndarray:
        return open_image(self.root / self.paths[index], short_side=short_side)

    def descriptions(self, index: int) -> list[Description]:
        own = range(self.first[index], self.first[index + 1])
        return [(self.captions[i], self._nouns(i)) for i in own]

    def _nouns(self, caption: int) -> tuple[str, ...]:
        return tuple(filter(None, self.nouns[caption].split("\t"))) if self.nouns else ()

    def set_nouns(self, nouns: Iterable[Sequence[str]]) -> None:
        """Set the noun phrases of every caption, in the order of `captions`."""
        self.nouns = Strings("\t".join(phrases) for phrases in nouns)


class Part:
    """Some pictures of a source.

    Args:
        source: the whole.
        indices: which of its pictures, in the order they get here.
    """

    def __init__(self, source: PairSource, indices: Sequence[int] | np.ndarray) -> None:
        self.source, self.indices = source, np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        return self.source.name(int(self.indices[index]))

    def image(self, index: int, short_side: int | None = None) -> np.ndarray:
        return self.source.image(int(self.indices[index]), short_side)

    def descriptions(self, index: int) -> Sequence[Description]:
        return self.source.descriptions(int(self.indices[index]))


def hold_out(source: PairSource, count: int) -> tuple[Part, Part]:
    """Split into a training part and ``count`` held-out pictures, whatever the order of the source.

    The pictures whose names have the smallest SHA-256 are held out: the same ones in every run, on every machine.
    Of a path its last part counts, so that the folder may move; what is before it orders equal ones.
    """

    def rank(index: int) -> tuple[bytes, str]:
        name = source.name(index)
        return hashlib.sha256(PurePosixPath(name).name.encode("utf-8", "surrogatepass")).digest(), name

    order = sorted(range(len(source)), key=rank)
    return Part(source, sorted(order[count:])), Part(source, sorted(order[:count]))


_NUMBER = re.compile(r"#\d+$")


def read_table(
    path: str | Path,
    images: str | Path | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
) -> FilePairs:
    """Read a CSV or TSV of pictures and captions; rows with the same picture are captions of one.

    Commas, tabs, semicolons and bars separate; the first line may name the columns. Without a header the column that
    looks like picture files (or URLs) is the pictures', and the last other one the captions'. ``name.jpg#3``, as
    Flickr's token files number their captions, is ``name.jpg``. A URL stands for the file of its last part: download
    first, this reads local files only.

    Args:
        path: the table, UTF-8.
        images: folder of the pictures; None looks beside the table, and in ``images/`` there.
        image_column: the pictures' column by name; None finds it.
        caption_column: the captions' column by name; None finds it.

    Raises:
        UserError: no such file, no such column, no rows, rows of another length than the first.
    """
    path = Path(path)
    rows = _rows(path)
    image, caption, header = _columns(path, rows, image_column, caption_column)
    captions: dict[str, list[str]] = {}
    urls: dict[str, str] = {}  # of each name, the one that it stands for
    for row in rows[header:]:
        name = _NUMBER.sub("", row[image].strip())
        if "://" in name:
            url, name = name, PurePosixPath(urlsplit(name).path).name
            if urls.setdefault(name, url) != url:
                raise UserError(f"{path}: {urls[name]} and {url} both stand for {name}; name local files instead")
        if not name:
            raise UserError(f"{path}: a row without a picture: {' '.join(row)[:80]!r}")
        name = str(PurePosixPath(name))  # ./a.jpg is a.jpg
        text = " ".join(row[caption].split())
        captions.setdefault(name, []).extend([text] if text else [])
    return FilePairs(_image_folder(path, images, captions), captions)


def read_coco(path: str | Path, images: str | Path | None = None) -> FilePairs:
    """Read captions in COCO's JSON format; pictures without captions are kept, and have none.

    Args:
        path: ``captions_*.json``.
        images: folder of the pictures; None looks beside the file, and in ``images/`` there.

    Raises:
        UserError: no such file, or not of that format.
    """
    path = Path(path)
    with parsing(path, COCO_JSON):
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        captions: dict[str, list[str]] = {name: [] for name in names.values()}
        for annotation in content["annotations"]:
            text = " ".join(annotation["caption"].split())
            captions[names[annotation["image_id"]]].extend([text] if text else [])
    if not captions:
        raise UserError(f"{path}: has no pictures")
    return FilePairs(_image_folder(path, images, captions), captions)


@contextmanager
def parsing(path: Path, what: str) -> Iterator[None]:
    """Tell in one line that a file cannot be read, or that it is not what it is to be.

    Args:
        path: the file.
        what: what it is to be, in words, an example included.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except KeyError as error:
        raise UserError(f"{path}: is not {what}; it lacks {error.args[0]}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: is not {what}; it is no JSON from line {error.lineno} on") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not {what}; it is no UTF-8 text") from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: is not {what}; it is built in another way") from None


def read_folders(path: str | Path, names: str | Path | None = None, template: str = "a photo of a {}.") -> FilePairs:
    """Read a folder with one folder of pictures (at any depth) a class; the caption names the class.

    Args:
        path: the folder.
        names: a file with a line ``folder: name; other name`` each, or WordNet's list (``n02123045<TAB>tabby, tabby
            cat``, as ``words.txt`` of Tiny-ImageNet); None takes the folders' names as they are. Folders without a
            line are left out.
        template: the caption's sentence, with one ``{}``.

    Raises:
        UserError: no such folder, nothing in it, a names file that does not fit, no {} in the template.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder")
    if template.count("{}") != 1:
        raise UserError(f"template {template!r}: a sentence with one {{}}, where the class name goes")
    known = _read_names(Path(names)) if names is not None else None
    captions: dict[str, list[str]] = {}
    nouns: dict[str, Sequence[str]] = {}
    for folder in sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")):
        own = [folder.name.replace("_", " ")] if known is None else known.get(folder.name, [])
        texts = [template.replace("{}", name) for name in own]
        # Of classes that share a name (WordNet's two cranes), only what both are called is sure.
        nouns.update({text: [name for name in own if name in nouns.get(text, own)] for text in texts})
        if texts:
            with contextlib.suppress(UserError):  # a class without pictures is none
                captions.update({str(file.relative_to(path)): texts for file in list_images(folder, recursive=True)})
    if not captions:
        raise UserError(f"{path}: has no folder of pictures" + (f" that {names} names" if names else ""))
    return FilePairs(path, captions, nouns)


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = next((line for line in file if line.strip()), "")
            file.seek(0)
            delimiter = max(
                "\t,;|", key=lambda sign: (sign in line, sign == "\t", _has_picture(line, sign), line.count(sign))
            )
            # Tab-separated captions hold quotation marks that quote nothing.
            quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
            csv.field_size_limit(1 << 24)
            reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
            rows: list[list[str]] = []
            for row in filter(any, reader):
                if rows and len(row) != len(rows[0]):
                    advice = "" if delimiter == "\t" else f"; captions with {delimiter!r} in them need quotation marks"
                    raise UserError(
                        f"{path} line {reader.line_num}: {len(row)} columns, but the first line has {len(rows[0])}"
                        f"{advice}"
                    )
                rows.append(row)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}: a quotation mark is left open or in the wrong place ({error})") from None
    if not rows or len(rows[0]) < 2:
        raise UserError(f"{path}: a table of pictures and captions has two columns or more and a row or more")
    return rows


def _columns(path: Path, rows: list[list[str]], image: str | None, caption: str | None) -> tuple[int, int, int]:
    """Places of the pictures' and captions' columns, and how many lines the header takes."""
    header = [cell.strip().lower() for cell in rows[0]]

    def named(wanted: str | None, known: Sequence[str]) -> int | None:
        if wanted is not None and wanted.lower() not in header:
            raise UserError(f"{path}: has no column {wanted!r}; its first line is {', '.join(rows[0])}")
        names = known if wanted is None else [wanted.lower()]
        return next((header.index(name) for name in names if name in header), None)

    places = named(image, IMAGE_COLUMNS), named(caption, CAPTION_COLUMNS)
    if places[0] is not None and places[1] is not None:
        if len(rows) == 1:
            raise UserError(f"{path}: has a header and no rows")
        return places[0], places[1], 1
    if image is None and caption is None:
        pictures = [i for i, cell in enumerate(rows[0]) if _is_picture(cell)]
        others = [i for i in range(len(rows[0])) if i not in pictures]
        if pictures and others:
            return pictures[0], others[-1], 0
    raise UserError(
        f"{path}: cannot tell its columns of pictures and captions from its first line ({', '.join(rows[0])[:80]}); "
        "name them in it as image,caption, or give image_column and caption_column (--data.image_column when training)"
    )


def _is_picture(cell: str) -> bool:
    cell = _NUMBER.sub("", cell.strip())
    return "://" in cell or PurePosixPath(cell).suffix.lower() in IMAGE_SUFFIXES


def _has_picture(line: str, sign: str) -> bool:
    """Whether a first line, divided by a sign, has a column of pictures."""
    return any(_is_picture(cell) or cell.strip().lower() in IMAGE_COLUMNS for cell in line.split(sign))


def _image_folder(path: Path, images: str | Path | None, names: Iterable[str]) -> Path:
    if images is not None:
        if not Path(images).is_dir():
            raise UserError(f"{images}: no such folder of pictures (for {path})")
        return Path(images)
    examples = list(islice(names, EXAMPLES))
    for folder in BESIDE:
        if any((path.parent / folder / example).is_file() for example in examples):
            return path.parent / folder
    raise UserError(
        f"{path}: its pictures are not beside it ({examples[0]} is not there); name their folder: --images DIR, or "
        "images in a configuration"
    )


def _read_names(path: Path) -> dict[str, list[str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as class names ({error})") from None
    named = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            between, comma = ("\t", ",") if "\t" in line else (":", ";")
            folder, found, rest = line.partition(between)
            own = [name.strip() for name in rest.split(comma) if name.strip()]
            if not found or not own:
                raise UserError(f"{path} line {number}: {line.strip()[:60]!r} is not 'folder: name; other name'")
            named[folder.strip()] = own
    return named
