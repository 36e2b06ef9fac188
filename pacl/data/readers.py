"""Readers of image-caption files: tables, captions JSON and lists of images. Folders: `pacl.data.folders`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from pacl.data.caption_text import CAPTION_COLUMNS, IMAGE_COLUMNS, captions_in, has_words, is_url
from pacl.data.image_paths import has_image_suffix, locate
from pacl.data.pairs import FilePairs
from pacl.data.tables import read_rows, rows_of
from pacl.errors import UserError, unreadable
from pacl.files import RepeatedKey, read_text, split_lines, unique_keys_only
from pacl.printing import counted

COCO_JSON = (
    'captions in COCO\'s format: {"images": [{"id": 1, "file_name": "a.jpg"}], '
    '"annotations": [{"image_id": 1, "caption": "a cat"}]}'
)
CAPTIONS_JSON = (
    'captions in COCO\'s or Karpathy\'s format, a list of objects such as {"image": "a.jpg", "caption": "a cat"}, '
    'or one object {"a.jpg": "a cat"}'
)

_COUNT = re.compile(r"[\s_.-]*\d+$")


def read_list(path: str | Path) -> list[str]:
    """The non-empty lines of a text file, without repetitions: a list of images, such as a split.

    Raises:
        UserError: the file cannot be read, or is empty.
    """
    lines = split_lines(read_text(path, "list of images"))
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
    """Read a table of images and captions; several rows with the same image are several captions of it.

    The first line may be a header. The column with the images is the first of `pacl.data.caption_text.IMAGE_COLUMNS`
    that has names of image files, else the first that is there. Columns whose names differ only in a number at the end
    (``caption_1``, ``caption_2``) are all read as captions. Without a header, the column that looks like image files
    (or URLs) has the images, and the only other column with words has the captions. ``name.jpg#3``, the numbering of
    captions in Flickr's token files, means ``name.jpg``. A URL means a local file of the same name: nothing is
    downloaded. What counts as a caption: `pacl.data.caption_text.captions_in`. Where images are searched for:
    `pacl.data.image_paths.locate`.

    Args:
        path: the table, see `pacl.data.tables.read_rows`.
        images: folder of the images; None searches the folder of the table and ``images/`` in it.
        image_column: name of the column with the images; None detects it.
        caption_column: name of the column with the captions; None detects it.

    Raises:
        UserError: the file or a column does not exist, there are no rows, or rows differ in their number of columns.
    """
    path = Path(path)
    return _from_rows(path, read_rows(path), images, image_column, caption_column)


def _from_rows(
    path: Path,
    rows: list[list[Any]],
    images: str | Path | None,
    image_column: str | None,
    caption_column: str | None,
) -> FilePairs:
    image, texts, header = _columns(path, rows, image_column, caption_column)
    names = [str(cell).strip() for cell in rows[0]] if header else [str(i + 1) for i in range(len(rows[0]))]
    lower = [name.lower() for name in names]
    # img2dataset names its files by the key, and lists what it could not download.
    status = lower.index("status") if {"status", "key"} <= set(lower) else None
    if status is not None and image_column is None and is_url(str(rows[-1][image])):
        image = lower.index("key")
    captions: dict[str, list[str]] = {}
    failed = 0
    for number, row in enumerate(rows[header:], start=1):
        if status is not None and row[status] != "success":
            failed += 1
            continue
        name = _image_name(path, row[image])
        if not name:
            shown = " ".join(map(str, row))[:80]
            raise UserError(f"{path}: row {number:,} of {len(rows) - header:,} has no image: {shown!r}")
        captions.setdefault(name, []).extend(each for i in texts for each in captions_in(row[i], name))
    if not captions:
        raise UserError(f"{path}: none of its {counted(failed, 'image')} was downloaded")
    found = [caption for own in captions.values() for caption in own]
    if sum(map(has_words, found)) < len(found) / 2:
        shown = ", ".join(names[i] for i in texts)
        raise UserError(
            f"{path}: column {shown} holds numbers, such as {found[0]}; set caption_column", "caption_column"
        )
    spare = [name or "without a name" for i, name in enumerate(names) if i not in (image, *texts, status)]
    folder, captions = locate(path, images, captions)
    unused = {f"columns ({', '.join(spare)[:80]})": len(spare), "rows of failed downloads": failed}
    return FilePairs(folder, captions, unused=unused)


def _image_name(path: Path, cell: Any) -> str:
    """The name of an image in a cell; empty where it has none.

    Raises:
        UserError: the cell holds something else than a name.
    """
    if isinstance(cell, bytes) or (isinstance(cell, Mapping) and "bytes" in cell):
        raise UserError(f"{path}: holds images themselves, not their names; write them to files or to shards")
    if isinstance(cell, (Mapping, list)):
        advice = "write one object a row, as pandas does with orient='records'"
        raise UserError(f"{path}: {str(cell)[:80]} is not the name of an image; {advice}")
    name = _without_number(str(cell))
    return name if is_url(name) or not name else str(PurePosixPath(name))  # ./a.jpg is a.jpg


def read_coco(path: str | Path, images: str | Path | None = None) -> FilePairs:
    """Read a captions JSON in COCO's format. Images without captions are kept.

    Args:
        path: ``captions_*.json``.
        images: folder of the images; None searches the folder of the file and ``images/`` in it.

    Raises:
        UserError: the file does not exist, has another format, or one id for several images.
    """
    path = Path(path)
    with parsing(path, COCO_JSON):
        return _from_coco(path, _load_json(path.read_text(encoding="utf-8-sig")), images)


def _from_coco(path: Path, content: Any, images: str | Path | None) -> FilePairs:
    with parsing(path, COCO_JSON):
        names: dict[Any, str] = {}
        for image in content["images"]:
            name = str(image["file_name"])
            if (other := names.setdefault(image["id"], name)) != name:
                raise UserError(f"{path}: image id {image['id']} is there twice ({other}, {name}); give each its own")
        captions: dict[str, list[str]] = {name: [] for name in names.values()}
        for annotation in content["annotations"]:
            name = names[annotation["image_id"]]
            captions[name].extend(captions_in(str.strip(annotation["caption"]), name))
    if not captions:
        raise UserError(f"{path}: has no images")
    folder, captions = locate(path, images, captions)
    return FilePairs(folder, captions)


def read_json(
    path: str | Path,
    images: str | Path | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
) -> FilePairs:
    """Read a captions JSON: COCO's or Karpathy's format, a list of objects, JSON lines, or captions by image name.

    Args:
        path: the file.
        images: folder of the images; None searches the folder of the file and ``images/`` in it.
        image_column: field of an object that has the image; None detects it. Not for COCO's format.
        caption_column: field of an object that has the captions; None detects it. Not for COCO's format.

    Raises:
        UserError: the file does not exist, has another format, a key of an object twice, or an error of `read_coco`.
    """
    path = Path(path)
    with parsing(path, CAPTIONS_JSON):
        text = path.read_text(encoding="utf-8-sig")
        try:
            content = _load_json(text)
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Extra data"):
                raise
            return read_table(path, images, image_column, caption_column)  # JSON lines
        if isinstance(content, list) and content:
            rows = rows_of(content, path)
        elif _is_karpathy(content):
            rows = rows_of([_karpathy_record(image) for image in content["images"]], path)
        elif isinstance(content, dict) and content and "annotations" not in content:
            fields = {name.lower() for name in content}
            only = next(iter(content.values()))
            if fields & set(IMAGE_COLUMNS) and fields & set(CAPTION_COLUMNS):
                rows = rows_of([content], path)  # a single object
            elif len(content) == 1 and only and isinstance(only, list) and not _is_image(next(iter(content))):
                rows = rows_of(only, path)  # {"data": [...]}
            elif any(captions_in(value, name) for name, value in content.items()):
                rows = [["image", "caption"], *map(list, content.items())]
                image_column = caption_column = None
            else:
                return _from_coco(path, content, images)
        else:
            return _from_coco(path, content, images)
    return _from_rows(path, rows, images, image_column, caption_column)


def _load_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=unique_keys_only)


def _is_karpathy(content: Any) -> bool:
    images = content.get("images") if isinstance(content, dict) else None
    return bool(images) and isinstance(images, list) and isinstance(images[0], dict) and "sentences" in images[0]


def _karpathy_record(image: Mapping[str, Any]) -> dict[str, Any]:
    """The image, its captions, and the fields that are not used: its split among them."""
    name = PurePosixPath(image.get("filepath", ""), image["filename"])
    spare = {key: value for key, value in image.items() if key not in ("filepath", "filename", "sentences")}
    return {**spare, "image": str(name), "caption": [sentence["raw"] for sentence in image["sentences"]]}


@contextmanager
def parsing(path: Path, what: str) -> Iterator[None]:
    """Turn I/O and format errors in the block into a one-line `UserError`.

    Args:
        path: the file that is parsed.
        what: description of the expected format, with an example.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise unreadable(path, error) from None
    except KeyError as error:
        raise UserError(f"{path}: is not {what}; it lacks {error.args[0]}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: is not {what}; it is not valid JSON (line {error.lineno})") from None
    except RepeatedKey as error:
        raise UserError(f"{path}: {error} in one object, of which only the last could be read") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not {what}; it is not UTF-8 text") from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: is not {what}; its structure is different") from None


def _columns(path: Path, rows: list[list[Any]], image: str | None, caption: str | None) -> tuple[int, list[int], int]:
    """Index of the image column, indices of the caption columns, and the number of header lines (0 or 1)."""
    header = [str(cell).strip().lower() for cell in rows[0]]
    shown = ", ".join(map(str, rows[0]))[:80]

    def named(wanted: str | None, known: Sequence[str]) -> list[int]:
        if wanted is not None and wanted.lower() not in header:
            raise UserError(f"{path}: has no column {wanted!r}; its first line is {shown}")
        names = known if wanted is None else [wanted.lower()]
        exact = next(([header.index(name)] for name in names if name in header), [])
        if exact or wanted is not None:
            return exact
        bases = [_COUNT.sub("", name) for name in header]
        return next(([i for i, base in enumerate(bases) if base == name] for name in names if name in bases), [])

    places, texts = named(image, IMAGE_COLUMNS), named(caption, CAPTION_COLUMNS)
    if image is None:  # a column "image" may number the rows, beside a column "path"
        known = [header.index(name) for name in IMAGE_COLUMNS if name in header]
        places = [i for i in known if _holds_files(rows[1:], i)] or places
    if places and texts:
        if len(rows) == 1:
            raise UserError(f"{path}: has a header and no rows")
        if caption is None:  # caption, caption_2
            base = _COUNT.sub("", header[texts[0]])
            texts = [i for i, name in enumerate(header) if _COUNT.sub("", name) == base]
        return places[0], texts, 1
    columns = ("image_column", "caption_column")
    advice = f"add a header such as image,caption, or set {' and '.join(columns)}"
    if image is None and caption is None and not places and not texts:
        found = [i for i, cell in enumerate(rows[0]) if _is_image(str(cell))]
        if found:
            texts = _text_columns(rows, [i for i in range(len(header)) if i not in found])
            if len(texts) == 1:
                return next((i for i in found if not is_url(str(rows[0][i]))), found[0]), texts, 0
            if texts:
                raise UserError(
                    f"{path}: has no header, and {len(texts)} columns may be captions ({shown}); {advice}", *columns
                )
    raise UserError(
        f"{path}: cannot find the image and caption columns in its first line ({shown}); {advice}", *columns
    )


def _text_columns(rows: list[list[Any]], candidates: list[int]) -> list[int]:
    """The columns that hold captions in one of the first rows; if there are several, those with more than one word."""
    some = rows[:100]
    texts = [i for i in candidates if any(captions_in(row[i]) for row in some)]
    longer = [i for i in texts if any(" " in text for row in some for text in captions_in(row[i]))]
    return longer or texts


def _holds_files(rows: list[list[Any]], column: int) -> bool:
    """Whether most cells of a column, in the first rows, are names of image files."""
    some = rows[:100]
    names = [_without_number(row[column]) for row in some if isinstance(row[column], str)]
    return 2 * sum(has_image_suffix(name) and not is_url(name) for name in names) > len(some)


def _is_image(cell: str) -> bool:
    cell = _without_number(cell)
    return is_url(cell) or has_image_suffix(cell)


def _without_number(cell: str) -> str:
    """a.jpg for a.jpg#3, the numbering of captions in Flickr's token files; img#3 may be the name of an image.

    Flickr8k's file has an a.jpg.1 as well.
    """
    name, _, number = cell.strip().rpartition("#")
    numbered = number.isdecimal() and (has_image_suffix(name) or has_image_suffix(name.removesuffix(".1")))
    return name if numbered else cell.strip()
