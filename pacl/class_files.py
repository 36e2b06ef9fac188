"""Lists of labels in files: a label a line, and what other tools write."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pacl.errors import UserError, first_few
from pacl.files import parse_json, parse_yaml, read_text, split_lines
from pacl.image_folders import IMAGE_SUFFIXES, UNREAD_SUFFIXES, VIDEO_SUFFIXES
from pacl.printing import counted, quoted

Lines = list[tuple[int, str]]
"""Number and text of each line."""

LIST_SUFFIXES = frozenset({".txt", ".json", ".yaml", ".yml", ".csv", ".tsv", ".names"})
"""Endings of files that may hold a list of labels."""

_LABELMAP = re.compile(r"([^:]+):(\d+,\d+,\d+)?:[^:]*:[^:]*")
"""A line of CVAT's and Pascal VOC's label map: ``name:red,green,blue:parts:actions``."""
_BEFORE, _AFTER, _AFTER_SIGN = r"(\d+)[\s:.)]\s*\S.*", r"\S.*[\s:](\d+)", r"\S.*=\s*(\d+)"
"""Lines with a number before or after the name."""
_HEADER = re.compile(r"((class|label|category)[ _]?)?names?|class(es)?|labels?|categor(y|ies)", re.IGNORECASE)
"""First lines of tables of one column; in a text file they may be a label."""
_ADVICE = "write one label per line"


def text_lines(path: str | Path, what: str) -> Lines:
    """Number and text of the non-empty lines of a text file, without comments (``#``).

    Raises:
        UserError: the file cannot be read, or is no UTF-8 text; ``what`` says what it should be.
    """
    return _without_comments(read_text(path, what))


def label_lines(path: str | Path, first_id: int | None = None, numbers: bool = False) -> Lines:
    """The labels of a class file, each with the number of its line or its place in the list.

    Read are: a label per line, JSON and YAML lists of names, YOLO's ``names:``, COCO's ``categories`` and the label
    maps of CVAT and Pascal VOC. Names in YAML are taken as they are written: ``no`` is a name, not a truth value.

    Args:
        path: the file.
        first_id: where the ids of a list with ids matter: they must count up from this one.
        numbers: whether labels may be numbers, as in ``a cat=1``.

    Raises:
        UserError: the file cannot be read, or holds something else, the same id or key twice, or other ids; the
            message says what was seen.
    """
    return _read(path, first_id, numbers)[0]


def label_ids(path: str | Path) -> list[int] | None:
    """The ids of the labels of a class file, in the order of `label_lines`; None where it gives none.

    Raises:
        UserError: an error of `label_lines` with ``numbers``.
    """
    return _read(path, None, numbers=True)[1]


def say_renumbered(path: str | Path, before: int = 0) -> str | None:
    """A note that results number the labels of a class file in another way than its ids do.

    Args:
        path: the file, which `label_lines` can read.
        before: number of labels that come before those of the file.
    """
    ids = label_ids(path) if Path(path).is_file() else None  # a pipe can be read only once
    if ids is None or (not before and ids in (list(range(len(ids))), list(range(1, len(ids) + 1)))):
        return None
    return f"the ids in {path} ({first_few(ids)}) are not kept: results number the labels without gaps, in this order"


def _read(path: str | Path, first_id: int | None, numbers: bool) -> tuple[Lines, list[int] | None]:
    """`label_lines` and `label_ids`."""
    text = read_text(path, "class file")
    suffix, start = Path(path).suffix.lower(), text.lstrip()[:1]
    is_yaml = suffix in (".yaml", ".yml")  # the suffix decides; YAML has lists and mappings in brackets, too
    if suffix == ".json" or (start in ("[", "{") and not is_yaml):
        try:
            return _names(parse_json(text, unique_keys=True), path, "JSON", first_id)
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{path}: is not valid JSON ({error}); {_ADVICE}") from None
    lines = _without_comments(text)
    if is_yaml or any(re.match(r"names\s*:", line) for _, line in lines) or _all(lines, r"- .+"):
        return _names(_parse_yaml(text, path), path, "YAML", first_id)
    if _all(lines, _LABELMAP.pattern):
        return [(number, line.partition(":")[0]) for number, line in lines], None
    _refuse_tables(path, lines, first_id, numbers)
    return [(number, " ".join(line.split())) for number, line in lines], None


def _without_comments(text: str) -> Lines:
    lines = [(n, re.sub(r"(^|\s)#.*", "", line).strip()) for n, line in enumerate(split_lines(text), start=1)]
    return [(n, line) for n, line in lines if line]


def _all(lines: Lines, pattern: str) -> bool:
    return bool(lines) and all(re.fullmatch(pattern, line) for _, line in lines)


def _numbers(lines: Lines, pattern: str) -> list[int]:
    """The numbers of several lines, where the pattern has them; none where a line has no number.

    Names that differ by nothing else ("2 door car", "4 door car") have none.
    """
    found = [re.fullmatch(pattern, line) for _, line in lines]
    if len({re.sub(r"\d+", "", line) for _, line in lines}) == 1 or not all(found):
        return []
    return [int(match[1]) for match in found if match]


def _parse_yaml(text: str, path: str | Path) -> Any:
    """Lists, mappings and texts: ``no``, ``1.5`` and ``2024-10-05`` stay as they are written.

    Raises:
        UserError: it is not YAML, or a key is there twice.
    """
    import yaml

    try:
        return parse_yaml(text, as_written=True)
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: is not valid YAML ({' '.join(str(error).split())}); {_ADVICE}") from None


def _names(value: Any, path: str | Path, kind: str, first_id: int | None) -> tuple[Lines, list[int] | None]:
    """Names and ids in a parsed file: a list, or a mapping with ``names`` (YOLO), ``categories`` (COCO) or from ids.

    Raises:
        UserError: there are none, two have the same id, or the ids are not those from ``first_id``.
    """
    ids: list[int] | None = None
    if isinstance(value, dict):
        value = next((value[key] for key in ("names", "categories", "labels") if key in value), value)
    if isinstance(value, dict):  # name: id, or id: name
        if _all_ids(value) and not all(isinstance(each, int) for each in value.values()):
            ids, value = [int(key) for key in value], list(value.values())
        elif _all_ids(value.values()):
            ids, value = [int(each) for each in value.values()], list(value)
    elif isinstance(value, list) and value and all(isinstance(each, dict) and "name" in each for each in value):
        if _all_ids(each.get("id") for each in value):
            ids = [int(each["id"]) for each in value]
        value = [each["name"] for each in value]
    if not isinstance(value, list) or not all(isinstance(each, str) or type(each) is int for each in value):
        seen = f"a mapping with {', '.join(map(str, list(value)[:4]))}" if isinstance(value, dict) else "no list"
        raise UserError(f"{path}: is {kind} with {seen} where a list of names should be; {_ADVICE}")
    if ids is not None:
        value = _in_order(ids, value, path, first_id)
    return [(place, str(name)) for place, name in enumerate(value, start=1)], None if ids is None else sorted(ids)


def _all_ids(values: Iterable[Any]) -> bool:
    return all(type(each) is int or (isinstance(each, str) and each.isdecimal()) for each in values)


def _in_order(ids: Sequence[int], names: Sequence[Any], path: str | Path, first_id: int | None) -> list[Any]:
    """The names sorted by their ids.

    Raises:
        UserError: two have the same id, or the ids are not those from ``first_id``.
    """
    by_id: dict[int, Any] = {}
    for i, name in zip(ids, names, strict=True):
        if i in by_id:
            raise UserError(f'{path}: has the id {i} twice, for "{by_id[i]}" and "{name}"; keep one')
        by_id[i] = name
    found = sorted(by_id)
    expected = range(first_id, first_id + len(found)) if first_id is not None else found
    for got, wanted in zip(found, expected, strict=True):
        if got != wanted:
            raise UserError(
                f'{path}: gives "{by_id[got]}" the id {got}, where {wanted} would follow; set offset to the first id, '
                "and write a line for every id, used or not",
                "offset",
            )
    return [by_id[i] for i in found]


def _refuse_tables(path: str | Path, lines: Lines, first_id: int | None, numbers: bool) -> None:
    """Refuse what would be read as odd labels; where ids matter, numbers before names are ids. See `label_lines`.

    Raises:
        UserError: several names in a line, columns, numbers or keys before names, quotation marks, or another language.
    """
    if not lines:
        return
    number, first = lines[0]
    for mark, name in (("\t", "tabs"), (",", "commas")):
        with_mark = [line for _, line in lines if mark in line]
        if with_mark and (mark == "\t" or len(with_mark) == len(lines)):
            parts = with_mark[0].split(mark)
            kind = "names" if len(lines) == 1 else f"columns ({', '.join(part.strip() for part in parts[:4])})"
            raise UserError(f"{path}, line {number}: holds {len(parts)} {kind} with {name} between them; {_ADVICE}")
    if columns := _semicolon_columns(lines):
        shown = ", ".join(columns[:4])
        raise UserError(f"{path}, line {number}: holds {len(columns)} columns ({shown}) with semicolons; {_ADVICE}")
    if _all(lines, r"\d+\s*=\s*\S.*"):  # each would be looked for by its number
        raise UserError(f'{path}: has numbers before the names, as in "{first}"; {_ADVICE}, without numbers')
    if Path(path).suffix.lower() in (".csv", ".tsv") and _HEADER.fullmatch(first):
        raise UserError(f'{path}, line {number}: "{first}" is the head of a column; {_ADVICE}, without that line')
    if first.startswith("<"):
        raise UserError(f"{path}: is XML or HTML; {_ADVICE}")
    if any(line.endswith("{") for _, line in lines):
        raise UserError(f'{path}: has blocks such as "{first}", as a label map of TensorFlow has; {_ADVICE}')
    before, after = _numbers(lines, _BEFORE), _numbers(lines, _AFTER)
    if not numbers:
        after = after or _numbers(lines, _AFTER_SIGN)
    # Ids before names have gaps, as COCO's; where ids matter, in any order. Names end in numbers, as "airbus 320" does.
    rising = sorted(set(before))
    are_ids = bool(before) and (rising == before or (first_id is not None and len(rising) == len(before)))
    are_ids |= bool(after) and after == list(range(after[0], after[0] + len(after)))
    colours = [pattern.replace(r"(\d+)", r"(\d+\s+){2}\d+") for pattern in (_BEFORE, _AFTER, _AFTER_SIGN)]
    if are_ids or (len(lines) > 1 and any(_all(lines, pattern) for pattern in colours)):
        every = "" if first_id is None else f", for every mask value from {first_id} on, used or not"
        raise UserError(f'{path}: has numbers beside the names, as in "{first}"; {_ADVICE}, without numbers{every}')
    named = _all(lines, r"[^:]+:\s.*")
    if keys := [line for _, line in lines if named or line.endswith(":")]:
        raise UserError(f'{path}: has keys with a colon, as in "{keys[0]}", as YAML has; {_ADVICE}, without keys')
    if _all(lines, r"""(["']).*\1"""):
        raise UserError(f"{path}, line {number}: has quotation marks ({first}); {_ADVICE}, without them")


def _semicolon_columns(lines: Lines) -> list[str]:
    """The first row of a table with semicolons, which separate synonyms, too: a column has nothing but numbers.

    The first line may be a header. Empty where there is no table.
    """
    rows = [[part.strip() for part in line.split(";")] for _, line in lines]
    widths = {len(row) for row in rows}
    if len(widths) > 1 or widths == {1}:
        return []
    columns = zip(*(rows[1:] or rows), strict=True)
    return rows[0] if any(all(part.isdecimal() for part in column) for column in columns) else []


def several_names(prompt: str) -> Sequence[str]:
    """The parts of a prompt that is probably a list of names, as in "a dog, grass, sky"; else nothing.

    Lists with commas, full stops, bars or line breaks are how other tools take several names.
    """
    for mark, abbreviation in _MARKS.items():
        parts = [part.strip() for part in re.split(mark, prompt) if part.strip()]
        names = (len(part) > 1 and any(map(str.isalpha, part)) for part in parts)  # not "10,000 people"
        if len(parts) > 1 and all(names) and not any(re.search(abbreviation, part) for part in parts):
            return parts
    return ()


_MARKS = {
    **dict.fromkeys((r"\n", r"\|", r","), r"\.\w"),  # "Washington, D.C."
    r"\.(?=\s|$)": r"\.|\b(\w{1,2}|[Mm]rs)$",  # "the U.S. flag", "a man in St. Louis"
}
"""What stands between names -> what the parts of a single one have, or end in."""


def say_lists(prompts: Sequence[str]) -> str | None:
    """A warning of the first prompt that is probably a list of several names, or a part of one that a shell divided."""
    found = [(prompt, names) for prompt in prompts if (names := several_names(prompt))]
    if found:
        prompt, names = found[0]
        advice = f"is one label; for {len(names)} labels give {' '.join(map(quoted, names))}"
        return f"prompt {quoted(prompt)} {advice}{_more(found)}"
    if parts := [prompt for prompt in prompts if prompt != prompt.strip(",|")]:
        mark = "comma" if "," in parts[0] else "bar"
        return f"prompt {quoted(parts[0])} is read with its {mark}; leave the {mark} out{_more(parts)}"
    return None


def _more(found: Sequence[object]) -> str:
    """How many prompts follow the one that a warning names, in brackets; empty for none."""
    return f" (and {counted(len(found) - 1, 'more such prompt')})" if len(found) > 1 else ""


def has_file_suffix(word: str) -> bool:
    """Whether a word ends as the name of an image, a video, a document or a list of labels does."""
    known = IMAGE_SUFFIXES | UNREAD_SUFFIXES | VIDEO_SUFFIXES | LIST_SUFFIXES | {".pdf"}
    return os.path.splitext(word)[1].lower() in known


def say_files(prompts: Sequence[str]) -> str | None:
    """A warning of the first prompt that looks like a file, or like a pattern of files."""
    found = [prompt for prompt in prompts if has_file_suffix(prompt) or "*" in prompt]
    if not found:
        return None
    return f"prompt {quoted(found[0])} looks like a file, but is taken as words{_more(found)}"
