"""Lists of labels in files: a label a line, and what other tools write."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pacl.errors import UserError

Lines = list[tuple[int, str]]
"""Number and text of each line."""

_LABELMAP = re.compile(r"([^:]+):(\d+,\d+,\d+)?:[^:]*:[^:]*")
"""A line of CVAT's and Pascal VOC's label map: ``name:red,green,blue:parts:actions``."""
_ADVICE = "write one label per line"


def text_lines(path: str | Path, what: str) -> Lines:
    """Number and text of the non-empty lines of a text file, without comments (``#``).

    Raises:
        UserError: The file cannot be read, or is no UTF-8 text; ``what`` says what it should be.
    """
    return _without_comments(_read_text(path, what))


def label_lines(path: str | Path) -> Lines:
    """The labels of a class file, each with the number of its line or its place in the list.

    Read are: a label per line, JSON and YAML lists of names, YOLO's ``names:``, COCO's ``categories`` and the label
    maps of CVAT and Pascal VOC.

    Raises:
        UserError: The file cannot be read, or holds something else; the message says what was seen.
    """
    text = _read_text(path, "class file")
    suffix, start = Path(path).suffix.lower(), text.lstrip()[:1]
    if suffix == ".json" or start in ("[", "{"):
        try:
            return _names(json.loads(text), path, "JSON")
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: is not valid JSON ({error}); {_ADVICE}") from None
    lines = _without_comments(text)
    if suffix in (".yaml", ".yml") or any(re.match(r"names\s*:", line) for _, line in lines) or _all(lines, r"- .+"):
        import yaml

        try:
            return _names(yaml.safe_load(text), path, "YAML")
        except yaml.YAMLError as error:
            raise UserError(f"{path}: is not valid YAML ({' '.join(str(error).split())}); {_ADVICE}") from None
    if _all(lines, _LABELMAP.pattern):
        return [(number, line.partition(":")[0]) for number, line in lines]
    _refuse_tables(path, lines, text)
    return [(number, " ".join(line.split())) for number, line in lines]


def _read_text(path: str | Path, what: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{what} {path} does not exist") from None
    except UnicodeDecodeError:
        raise UserError(f"{what} {path} is not a UTF-8 text file") from None
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read: {error.strerror or error}") from None


def _without_comments(text: str) -> Lines:
    lines = [(n, re.sub(r"(^|\s)#.*", "", line).strip()) for n, line in enumerate(text.splitlines(), start=1)]
    return [(n, line) for n, line in lines if line]


def _all(lines: Lines, pattern: str) -> bool:
    return bool(lines) and all(re.fullmatch(pattern, line) for _, line in lines)


def _counts(lines: Lines, pattern: str) -> bool:
    """Whether all lines are numbered consecutively, with the number where the pattern has it.

    Names that differ by nothing else ("type 1", "type 2") are names.
    """
    if len({re.sub(r"\d+", "", line) for _, line in lines}) == 1:
        return False
    found = [re.fullmatch(pattern, line) for _, line in lines]
    numbers = [int(match[1]) for match in found if match]
    return len(numbers) == len(lines) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _names(value: Any, path: str | Path, kind: str) -> Lines:
    """The names in a parsed file: a list, or a mapping with ``names`` (YOLO), ``categories`` (COCO) or from ids.

    Raises:
        UserError: There are none.
    """
    if isinstance(value, dict):
        value = next((value[key] for key in ("names", "categories", "labels") if key in value), value)
    if isinstance(value, dict):  # id: name, or name: id
        if _whole(value.values()) and all(isinstance(key, str) for key in value):
            value = sorted(value, key=value.__getitem__)
        elif all(str(key).isdecimal() for key in value):
            value = [value[key] for key in sorted(value, key=int)]
    if isinstance(value, list) and value and all(isinstance(each, dict) and "name" in each for each in value):
        if _whole(each.get("id") for each in value):
            value = sorted(value, key=lambda each: each["id"])
        value = [each["name"] for each in value]
    if not isinstance(value, list) or not all(isinstance(each, (str, int)) for each in value):
        seen = f"a mapping with {', '.join(map(str, list(value)[:4]))}" if isinstance(value, dict) else "no list"
        raise UserError(f"{path}: is {kind} with {seen} where a list of names should be; {_ADVICE}")
    return [(place, str(name)) for place, name in enumerate(value, start=1)]


def _whole(values: Any) -> bool:
    return all(isinstance(value, int) for value in values)


def _refuse_tables(path: str | Path, lines: Lines, text: str) -> None:
    """Refuse what would be read as odd labels.

    Raises:
        UserError: Several names in a line, columns, numbers before names, quotation marks, or another language.
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
    if first.startswith("<"):
        raise UserError(f"{path}: is XML or HTML; {_ADVICE}")
    if any(line.endswith("{") for _, line in lines):
        raise UserError(f'{path}: has blocks such as "{first}", as a label map of TensorFlow has; {_ADVICE}')
    for pattern in (r"(\d+)[\s:.)]\s*\S.*", r"\S.*[\s:](\d+)"):
        if len(lines) > 1 and (_counts(lines, pattern) or _all(lines, pattern.replace(r"(\d+)", r"(\d+\s+){2}\d+"))):
            raise UserError(f'{path}: has numbers beside the names, as in "{first}"; {_ADVICE}, without numbers')
    if _all(lines, r"""(["']).*\1"""):
        raise UserError(f"{path}, line {number}: has quotation marks ({first}); {_ADVICE}, without them")


def several_names(prompt: str) -> Sequence[str]:
    """The parts of a prompt that is probably a list of names, as in "a dog, grass, sky"; else nothing.

    Lists with commas, full stops, bars or line breaks are how other tools take several names.
    """
    for mark in (r"\n", r"\|", r",", r"\.(?=\s|$)"):
        parts = [part.strip() for part in re.split(mark, prompt) if part.strip()]
        if len(parts) > 1 and all(len(part) > 2 for part in parts):  # not "St. Bernard"
            return parts
    return ()
