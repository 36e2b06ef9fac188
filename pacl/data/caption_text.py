"""What counts as a caption, wherever it is written: in cells of tables, in JSON values, in text files."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from pacl.files import split_lines
from pacl.image_folders import IMAGE_SUFFIXES

IMAGE_COLUMNS = (
    *("image", "filename", "file_name", "filepath", "file_path", "file", "path", "image_path", "image_name"),
    *("image_file", "image_filename", "img", "img_path", "img_name", "image_id", "photo", "picture", "url"),
    *("image_url", "img_url", "photo_url", "bild", "datei", "imagen", "imagem", "immagine", "图片", "图像", "画像"),
)
"""Names of the column (or JSON field) with the images, in lower case.

The first that has names of image files is used, else the first that is there."""

CAPTION_COLUMNS = (
    *("caption", "captions", "text", "texts", "title", "description", "comment", "sentence", "sentences", "raw"),
    *("alt", "alt_text", "prompt", "beschreibung", "bildunterschrift", "légende", "legende", "descripción"),
    *("descripcion", "leyenda", "descrição", "legenda", "didascalia", "descrizione", "标题", "描述", "キャプション"),
)
"""Names of the column (or JSON field) with the captions, in lower case; the first that is there is used."""

TEXT_SUFFIXES = ("txt", "caption", "text", "json")
"""Suffixes of the files that hold an image's captions; the first that has one is used."""

NO_CAPTION = frozenset(
    ("nan", "-nan", "none", "null", "nil", "nul", "n/a", "na", "<na>", "<nan>", "<none>", "<null>", "#n/a", "#na")
)
"""Words that pandas, img2dataset and spreadsheets write where there is no caption."""

BOX = 4
"""So many numbers with no word or with one are a box or another label, not a caption such as "1984"."""

_STRING = re.compile(r"""u?'(?:[^'\\]|\\.)*'|u?"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_BRACKETS = ("[]", "()", "{}")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE)
_LETTERS = re.compile(r"[^\W\d_]{2}")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)


def captions_in(value: Any, image: str = "") -> list[str]:
    """The captions in a cell of a table or a value from JSON, each in one line.

    A string is one caption, or several if it is a list as Python, NumPy or JSON write it (``['a cat', 'a dog']``). A
    list has several, and a mapping has them in a field such as "caption". Words that stand for a missing value, rows
    of numbers, signs alone, URLs and names of image files are no captions.

    Args:
        value: a string, list, mapping or anything else.
        image: name of the image; it is no caption of itself.
    """
    if isinstance(value, str):
        text = " ".join(value.split())  # a line break within a string of a list would be no string of Python's
        listed = _as_list(text)
        if listed is not None:
            return captions_in(listed, image)
        text = whole_text(text)
        return [text] if is_caption(text, image) else []
    if isinstance(value, Mapping):
        return captions_in(caption_field(value), image)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [caption for each in value for caption in captions_in(each, image)]
    return []


def whole_text(text: str) -> str:
    """The text with a replacement character for half a surrogate pair, which JSON and file names may have.

    Such a text cannot be encoded, and tokenizers refuse it.
    """
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def caption_field(fields: Mapping[Any, Any]) -> Any:
    """The value of the first of `CAPTION_COLUMNS` that a JSON object has and that is not empty; None without one."""
    lower = {str(name).lower(): value for name, value in fields.items()}
    return next((lower[name] for name in CAPTION_COLUMNS if lower.get(name)), None)


def captions_of_files(files: Mapping[str, bytes], image: str = "") -> list[str]:
    """The captions in the files that belong to an image: the lines of its text file, else those in its JSON.

    Args:
        files: content of each file, by suffix (see `TEXT_SUFFIXES`).
        image: name of the image.

    Raises:
        UnicodeDecodeError: a file that is looked at is in another encoding, see `decode_text`.
    """
    for suffix in TEXT_SUFFIXES:
        if suffix in files:
            text = decode_text(files[suffix])
            value = json_object(text) if suffix == "json" else split_lines(text)
            if found := captions_in(value, image):
                return found
    return []


def json_object(text: str) -> dict[str, Any]:
    """The JSON object in a text; empty if there is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def decode_text(content: bytes) -> str:
    """Text in UTF-8 or, if it begins with a byte order mark, UTF-16.

    Raises:
        UnicodeDecodeError: it is in another encoding, such as UTF-16 without a mark: letters would be lost, and words
            be cut where they were.
    """
    encoding = encoding_of(content)
    text = content.decode(encoding)
    if "\0" in text:
        raise UnicodeDecodeError(encoding, content, 0, len(content), "null bytes")
    return text


def encoding_of(start: bytes) -> str:
    """The encoding that the first bytes of a text announce."""
    return "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"


def is_caption(text: str, image: str = "") -> bool:
    """Whether a text without line breaks says something about an image."""
    if text.lower() in NO_CAPTION or is_image_name(text) or _URL.fullmatch(text):
        return False
    if text in image:
        own = PurePosixPath(image)
        if text == own.name or (text == own.stem and any(map(str.isdigit, text))):  # cat.jpg may show a cat
            return False
    words = text.split()
    numbers = sum(_NUMBER.fullmatch(word) is not None for word in words)
    if numbers >= BOX and len(words) - numbers <= 1:
        return False
    return has_words(text) or 0 < numbers == len(words)


def has_words(text: str) -> bool:
    """Whether a text has a letter or a symbol such as an emoji, apart from numbers."""
    if _LETTERS.search(text):
        return True
    return any(sign.isalpha() or unicodedata.category(sign) in ("So", "Cs") for sign in _NUMBER.sub("", text))


def is_image_name(text: str) -> bool:
    """Whether a text is the name or URL of an image file: one word with the suffix of an image format."""
    text = text.strip()
    if re.search(r"\s", text) or "." not in text:
        return False
    path = text.partition("?")[0].partition("#")[0] if _URL.fullmatch(text) else text
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def is_url(text: str) -> bool:
    """Whether a text is a URL and nothing else."""
    return _URL.fullmatch(text.strip()) is not None


def _as_list(text: str) -> Any:
    """The list or mapping that a text writes out; None if it is an ordinary text."""
    if text[:1] + text[-1:] not in _BRACKETS:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    # NumPy writes no commas: Python would join its strings into one. So they are found one by one.
    between = _STRING.sub(" ", text[1:-1]).replace(",", " ").replace("dtype=object", " ").split()
    try:
        if text[0] != "{" and all(word.lower() in NO_CAPTION for word in between):
            return [ast.literal_eval(found) for found in _STRING.findall(text)]
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # TypeError: a list as a key
        return None
    return list(found) if isinstance(found, (set, tuple)) else found
