"""Readers of image-caption files: tables (CSV, TSV), COCO captions JSON and folders by class."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pacl.data.pairs import FilePairs
from pacl.errors import ArgumentError, UserError
from pacl.image_folders import IMAGE_SUFFIXES, list_images

IMAGE_COLUMNS = ("image", "filename", "file_name", "filepath", "file", "path", "image_path", "image_name", "url")
CAPTION_COLUMNS = ("caption", "captions", "text", "title", "description", "comment", "sentence", "raw")
IMAGE_FOLDERS = ("", "images", "Images")
"""Where the images of a table are searched for, relative to its own folder."""

EXAMPLES = 100
"""Number of file names that are searched for there: the first ones may be missing."""

COCO_JSON = (
    'captions in COCO\'s format: {"images": [{"id": 1, "file_name": "a.jpg"}], '
    '"annotations": [{"image_id": 1, "caption": "a cat"}]}'
)

_NUMBER = re.compile(r"#\d+$")


def read_list(path: str | Path) -> list[str]:
    """The non-empty lines of a text file, without repetitions: a list of images, such as a split.

    Raises:
        UserError: the file cannot be read, or is empty.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"{path} cannot be read ({reason}): it should list images, one per line") from None
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise UserError(f"{path} is empty: it should list images, one per line")
    return names


def read_table(
    path: str | Path,
    images: str | Path | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
) -> FilePairs:
    """Read a CSV or TSV table of images and captions; several rows with the same image are several captions of it.

    Columns are separated by commas, tabs, semicolons or bars; the first line may be a header. Without a header, the
    column that looks like image files (or URLs) has the images, and the last of the others the captions.
    ``name.jpg#3``, the numbering of captions in Flickr's token files, means ``name.jpg``. A URL means a local file of
    the same name: nothing is downloaded.

    Args:
        path: the table, in UTF-8.
        images: folder of the images; None searches the folder of the table and ``images/`` in it.
        image_column: name of the column with the images; None detects it.
        caption_column: name of the column with the captions; None detects it.

    Raises:
        UserError: the file or a column does not exist, there are no rows, or rows differ in their number of columns.
    """
    path = Path(path)
    rows = _rows(path)
    image, caption, header = _columns(path, rows, image_column, caption_column)
    captions: dict[str, list[str]] = {}
    urls: dict[str, str] = {}  # of each name
    for row in rows[header:]:
        name = _NUMBER.sub("", row[image].strip())
        if "://" in name:
            url, name = name, PurePosixPath(urlsplit(name).path).name
            if urls.setdefault(name, url) != url:
                raise UserError(
                    f"{path}: {urls[name]} and {url} both mean the file {name}; use names of local files instead"
                )
        if not name:
            raise UserError(f"{path}: a row without an image: {' '.join(row)[:80]!r}")
        name = str(PurePosixPath(name))  # ./a.jpg is a.jpg
        text = " ".join(row[caption].split())
        captions.setdefault(name, []).extend([text] if text else [])
    return FilePairs(_image_folder(path, images, captions), captions)


def read_coco(path: str | Path, images: str | Path | None = None) -> FilePairs:
    """Read a captions JSON in COCO's format. Images without captions are kept.

    Args:
        path: ``captions_*.json``.
        images: folder of the images; None searches the folder of the file and ``images/`` in it.

    Raises:
        UserError: the file does not exist or has another format.
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
        raise UserError(f"{path}: has no images")
    return FilePairs(_image_folder(path, images, captions), captions)


@contextmanager
def parsing(path: Path, what: str) -> Iterator[None]:
    """Turn I/O and format errors in the block into a one-line `UserError`.

    Args:
        path: the file that is parsed.
        what: description of the expected format, with an example.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except KeyError as error:
        raise UserError(f"{path}: is not {what}; it lacks {error.args[0]}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: is not {what}; it is not valid JSON (line {error.lineno})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not {what}; it is not UTF-8 text") from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: is not {what}; its structure is different") from None


def read_folders(path: str | Path, names: str | Path | None = None, template: str = "a photo of a {}.") -> FilePairs:
    """Read a folder that has one folder of images (at any depth) per class; the captions name the class.

    Args:
        path: the folder.
        names: file of class names, with lines ``folder: name; other name``, or in WordNet's format
            (``n02123045<TAB>tabby, tabby cat``, as ``words.txt`` of Tiny-ImageNet). Folders without a line are left
            out. None uses the folder names.
        template: sentence for the captions, with one ``{}`` for the class name.

    Raises:
        UserError: the folder does not exist or has no images, or the names file is invalid.
        ArgumentError: ``template``: not exactly one ``{}``.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder")
    if template.count("{}") != 1:
        raise ArgumentError("template", repr(template), "must have exactly one {}, for the class name")
    known = _read_names(Path(names)) if names is not None else None
    captions: dict[str, list[str]] = {}
    nouns: dict[str, Sequence[str]] = {}
    for folder in sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")):
        own = [folder.name.replace("_", " ")] if known is None else known.get(folder.name, [])
        texts = [template.replace("{}", name) for name in own]
        # When classes share a name (WordNet has two cranes), only the names that all of them have are certain.
        nouns.update({text: [name for name in own if name in nouns.get(text, own)] for text in texts})
        if texts:
            with contextlib.suppress(UserError):  # classes without images are skipped
                captions.update({str(file.relative_to(path)): texts for file in list_images(folder, recursive=True)})
    if not captions:
        raise UserError(f"{path}: has no folder of images" + (f" that is listed in {names}" if names else ""))
    return FilePairs(path, captions, nouns)


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = next((line for line in file if line.strip()), "")
            file.seek(0)
            delimiter = max(
                "\t,;|", key=lambda sign: (sign in line, sign == "\t", _has_image(line, sign), line.count(sign))
            )
            # In tab-separated files, quotation marks are part of the captions.
            quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
            csv.field_size_limit(1 << 24)
            reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
            rows: list[list[str]] = []
            for row in filter(any, reader):
                if rows and len(row) != len(rows[0]):
                    advice = (
                        "" if delimiter == "\t" else f"; put captions that contain {delimiter!r} in quotation marks"
                    )
                    raise UserError(
                        f"{path} line {reader.line_num}: {len(row)} columns, but the first line has {len(rows[0])}"
                        f"{advice}"
                    )
                rows.append(row)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}: unbalanced quotation marks ({error})") from None
    if not rows or len(rows[0]) < 2:
        raise UserError(f"{path}: a table of images and captions needs at least two columns and one row")
    return rows


def _columns(path: Path, rows: list[list[str]], image: str | None, caption: str | None) -> tuple[int, int, int]:
    """Indices of the image and caption columns, and the number of header lines (0 or 1)."""
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
        images = [i for i, cell in enumerate(rows[0]) if _is_image(cell)]
        others = [i for i in range(len(rows[0])) if i not in images]
        if images and others:
            return images[0], others[-1], 0
    raise UserError(
        f"{path}: cannot find the image and caption columns in its first line ({', '.join(rows[0])[:80]}); "
        "add a header such as image,caption, or set image_column and caption_column"
    )


def _is_image(cell: str) -> bool:
    cell = _NUMBER.sub("", cell.strip())
    return "://" in cell or PurePosixPath(cell).suffix.lower() in IMAGE_SUFFIXES


def _has_image(line: str, sign: str) -> bool:
    """Whether a line, split at a delimiter, has a column of images."""
    return any(_is_image(cell) or cell.strip().lower() in IMAGE_COLUMNS for cell in line.split(sign))


def _image_folder(path: Path, images: str | Path | None, names: Iterable[str]) -> Path:
    if images is not None:
        if not Path(images).is_dir():
            raise UserError(f"{images}: no such folder (the images of {path})")
        return Path(images)
    examples = list(islice(names, EXAMPLES))
    for folder in IMAGE_FOLDERS:
        if any((path.parent / folder / example).is_file() for example in examples):
            return path.parent / folder
    raise UserError(
        f"{path}: its images were not found ({examples[0]} is not in the same folder); set images to their folder"
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
