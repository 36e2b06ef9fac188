"""The rows of a table, whatever it is written in: CSV and its relatives, JSON lines, a JSON list, parquet."""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from pacl.data.caption_text import IMAGE_COLUMNS, encoding_of, is_image_name, is_url
from pacl.errors import UserError, unreadable
from pacl.files import RepeatedKey, unique_keys_only
from pacl.printing import counted

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".token", ".jsonl", ".ndjson", ".parquet")

_BINARY = {
    b"PK\x03\x04": "an Excel file or a zip archive",
    b"\xd0\xcf\x11\xe0": "an Excel file",
    b"ARROW1": "an Arrow file",
    b"\xff\xff\xff\xff": "an Arrow file",
    b"SQLite": "a database",
    b"%PDF": "a PDF",
}
_SEPARATOR = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # the first line that Excel reads and writes
_JSON = re.compile(r'\s*(\{\s*("|$)|\[\s*(\{|$))')  # its first characters
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def read_rows(path: Path) -> list[list[Any]]:
    """The rows of a table; of JSON and parquet, the first row has the names of the columns.

    Args:
        path: a text table (columns separated by tabs, commas, semicolons or bars), JSON lines, a JSON list of objects,
            or parquet; text in UTF-8 or UTF-16, perhaps compressed with gzip.

    Raises:
        UserError: the file cannot be read as one of these, has fewer than two columns, or rows differ in their number
            of columns.
    """
    with _one_line_errors(path):
        with path.open("rb") as file:
            start = file.read(64)
        packed = start.startswith(b"\x1f\x8b")
        if packed:
            with gzip.open(path) as file:
                start = file.read(64)
        if start.startswith(b"PAR1"):
            rows = _parquet(path)
        else:
            kind = next((kind for magic, kind in _BINARY.items() if start.startswith(magic)), None)
            encoding = encoding_of(start)
            if kind or (b"\0" in start and encoding != "utf-16"):
                raise UserError(f"{path}: {kind or 'a binary file'}, not a text table; export it as CSV in UTF-8")
            with (gzip.open if packed else open)(path, "rt", encoding=encoding, newline="") as text:
                is_json = _JSON.match(start.decode(encoding, errors="ignore"))
                rows = _json(path, text) if is_json else _text(path, text)
    if rows and len(rows[0]) < 2 and rows[0] and rows[0][0].lstrip().startswith("#"):
        raise UserError(f"{path}: begins with a comment ({rows[0][0].strip()[:40]!r}); remove such lines")
    if not rows or len(rows[0]) < 2:
        raise UserError(f"{path}: a table of images and captions needs at least two columns and one row")
    return rows


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except UnicodeError as error:
        raise UserError(f"{path}: damaged text ({error}); save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}: unbalanced quotation marks ({error})") from None
    except OSError as error:
        raise unreadable(path, error) from None
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _text(path: Path, file: Any) -> list[list[Any]]:
    """The rows of a table whose columns are separated by a character."""
    line = next((line for line in file if line.strip()), "")
    told = _SEPARATOR.fullmatch(line)
    if told is None:
        file.seek(0)
    delimiter = told[1] if told else max("\t,;|", key=lambda sign: _fitness(line, sign))
    # In tab-separated files, quotation marks are part of the captions, unless they enclose a whole cell.
    tabs = delimiter == "\t"
    csv.field_size_limit(1 << 24)
    reader = csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL, strict=True)
    rows: list[list[Any]] = []
    for row in filter(any, reader):
        if rows and len(row) != len(rows[0]):
            advice = "" if tabs else f"; put captions that contain {delimiter!r} in quotation marks"
            raise UserError(
                f"{path} line {reader.line_num}: {counted(len(row), 'column')}, "
                f"but the first line has {len(rows[0])}{advice}"
            )
        rows.append([_unquoted(cell) for cell in row] if tabs else row)
    return rows


def _fitness(line: str, sign: str) -> tuple[bool, bool, bool, int]:
    """How well a character fits as the delimiter of a table that begins with this line; larger is better."""
    cells = [cell.strip().strip('"') for cell in line.split(sign)]
    has_image = any(is_image_name(cell) or is_url(cell) or cell.lower() in IMAGE_COLUMNS for cell in cells)
    return sign in line, sign == "\t", has_image, line.count(sign)


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if _QUOTED.fullmatch(cell) else cell


def _json(path: Path, file: Any) -> list[list[Any]]:
    """The rows of JSON lines or of a JSON list of objects."""
    text = file.read()
    try:
        if text.lstrip().startswith("["):
            return rows_of(json.loads(text, object_pairs_hook=unique_keys_only), path)
        records = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    records.append(json.loads(line, object_pairs_hook=unique_keys_only))
                except RepeatedKey as error:
                    raise UserError(f"{path} line {number}: {error} in one object") from None
                except json.JSONDecodeError:
                    raise UserError(f"{path} line {number}: not JSON; one object per line is read") from None
        return rows_of(records, path)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON (line {error.lineno})") from None
    except UserError:
        raise
    except RepeatedKey as error:
        raise UserError(f"{path}: {error} in one object, of which only the last could be read") from None
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"{path}: not valid JSON ({str(error).partition(':')[0]})") from None
    except RecursionError:
        raise UserError(f"{path}: not a list of objects; its JSON is nested too deeply") from None


def rows_of(records: Iterable[Any], path: Path) -> list[list[Any]]:
    """A header and rows, from JSON objects; a field that an object lacks is empty.

    Raises:
        UserError: something else than an object is among them.
    """
    records = list(records)
    if not all(isinstance(record, Mapping) for record in records):
        example = '{"file_name": "a.jpg", "text": "a cat"}'
        raise UserError(f"{path}: its JSON is not made of objects such as {example}")
    names = list(dict.fromkeys(str(name) for record in records for name in record))
    return [names, *([record.get(name, "") for name in names] for record in records)] if records else []


def _parquet(path: Path) -> list[list[Any]]:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError:
        raise UserError(
            f"{path}: a parquet file, not a text table; pip install pyarrow, or export it as CSV in UTF-8"
        ) from None
    try:
        columns = parquet.read_table(path).to_pydict()
    except Exception as error:  # errors of Arrow's own
        raise UserError(f"{path}: cannot be read as parquet ({' '.join(str(error).split())[:120]})") from None
    return [list(columns), *map(list, zip(*columns.values(), strict=True))]
