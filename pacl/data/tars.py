"""Captioned pictures out of WebDataset shards: tars in which files of one name make a sample.

webdataset opens the shards, reads the tars and groups their files.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pacl.errors import UserError

IMAGES = ("jpg", "png", "jpeg", "webp")  # what img2dataset writes, in the order in which open_clip looks
TEXTS = ("txt", "caption", "json")
FIELDS = ("caption", "captions", "text")  # of the JSON


@dataclass(frozen=True)
class Sample:
    """A picture of a shard, not decoded yet, with its captions.

    Attributes:
        name: "shard.tar/key".
        image: the picture file.
        captions: none, one or many.
        nouns: the noun phrases of each caption, if the shard has them.
        shard: its shard's place in the pattern.
        index: its place among the pictures of the shard.
    """

    name: str
    image: bytes
    captions: tuple[str, ...]
    nouns: tuple[tuple[str, ...], ...] | None
    shard: int
    index: int


def shard_urls(pairs: str) -> list[str]:
    """The shards that a pattern names.

    Args:
        pairs: a path or URL, with braces ("data/{000..331}.tar") and several joined by "::", as webdataset takes them.
            A URL "pipe:COMMAND" runs that command.

    Raises:
        UserError: webdataset is not installed, the pattern is broken, local files are missing.
    """
    try:
        urls: list[str] = webdataset().shardlists.expand_urls(pairs)
    except (ValueError, AssertionError) as error:
        raise UserError(f"{pairs}: not a pattern of shards ({error}); write them as data/{{000..331}}.tar") from None
    missing = [str(path) for path in map(local_path, urls) if path is not None and not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: no such shard; {len(missing)} of the {len(urls)} of {pairs} are missing")
    return urls


def local_path(url: str) -> Path | None:
    """The file that a shard's URL names; None if it is elsewhere."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.scheme else Path(url)


def samples(pairs: str, failed: list[str] | None = None) -> Iterator[Sample]:
    """All samples of some shards, in their order.

    The caption is in ``key.txt`` (or ``.caption``), else in the field "caption", "captions" or "text" of
    ``key.json``; img2dataset writes both. The field "nouns", a list for the caption or one for each, is used too.

    Args:
        pairs: see `shard_urls`.
        failed: a line is added for each shard that cannot be opened or breaks off, and each caption without a picture.
    """
    for number, url in enumerate(shard_urls(pairs)):
        yield from read_shard(url, number, [] if failed is None else failed)


def read_shard(url: str, number: int, failed: list[str]) -> Iterator[Sample]:
    """The samples of one shard; of a broken one those before the break."""
    tars, breaks, index = webdataset().tariterators, list[Exception](), 0

    def stop(error: Exception) -> bool:  # a handler in webdataset's sense: whether to go on
        breaks.append(error)
        return False

    def go_on(error: Exception) -> bool:
        failed.append(f"{url}: {_reason(error)}")
        return True

    for shard in tars.url_opener([{"url": url}], handler=stop):
        shard["stream"] = stream = _Ending(shard["stream"])
        files = tars.tar_file_expander([shard], handler=stop)
        for found in tars.group_by_keys(files, handler=go_on):
            name = f"{url.rpartition('/')[2]}/{found['__key__']}"
            image = next((found[suffix] for suffix in IMAGES if suffix in found), None)
            if image is not None:
                yield Sample(name, image, *_captions(found), number, index)
                index += 1
            elif any(suffix in found for suffix in TEXTS):
                failed.append(f"{name} has no picture")
        if stream.is_cut:
            stop(tarfile.ReadError("it does not end as a tar should"))
        try:
            stream.close()  # a pipe says only now whether its command went well
        except OSError as error:
            stop(error)
    if breaks:
        failed.append(f"{url} breaks off after {index} pictures ({_reason(breaks[0])})")


def _reason(error: Exception) -> str:
    """One line, without the objects that webdataset appends."""
    reason = getattr(error, "strerror", None) or str(error.args[0] if error.args else type(error).__name__)
    return " ".join(reason.partition(" @ <")[0].split())


class _Ending:
    """A shard's stream that knows how it ended: to `tarfile`, a damaged header is as good as the end."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.head, self.tail = stream, b"", b""

    def read(self, *size: int) -> bytes:
        data: bytes = self.stream.read(*size)
        self.head, self.tail = self.head or data[:512], data[-512:] or self.tail
        return data

    def close(self) -> None:
        self.stream.close()

    @property
    def is_cut(self) -> bool:
        """Whether an uncompressed tar has no block of zeros at its end."""
        return self.head[257:262] == b"ustar" and any(self.tail)


def _captions(found: dict[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...] | None]:
    """Captions of one sample's files, and their nouns if there are any."""
    try:
        fields = json.loads(found.get("json", b"{}"))
        fields = fields if isinstance(fields, dict) else {}
    except (ValueError, RecursionError):
        fields = {}
    plain = next((found[suffix].decode(errors="replace") for suffix in TEXTS[:2] if suffix in found), None)
    texts = plain or next((fields[field] for field in FIELDS if fields.get(field)), ())
    texts = [texts] if isinstance(texts, str) else texts if isinstance(texts, list) else []
    captions = tuple(" ".join(str(text).split()) for text in texts if text and str(text).strip())
    nouns = fields.get("nouns")
    if isinstance(nouns, list) and all(isinstance(phrase, str) for phrase in nouns):
        nouns = [nouns]
    if not isinstance(nouns, list) or len(nouns) != len(captions) or not all(isinstance(own, list) for own in nouns):
        return captions, None
    return captions, tuple(tuple(map(str, own)) for own in nouns)


def count_pairs(pairs: str) -> int:
    """How many pictures local shards hold, from the headers of the tars alone.

    Raises:
        UserError: a shard is not a local file.
    """
    total = 0
    for url in shard_urls(pairs):
        path = local_path(url)
        if path is None:
            raise UserError(f"{url}: cannot be counted without reading it all; give the number of pairs as size")
        try:
            with tarfile.open(path) as tar:
                for entry in tar:
                    total += entry.isreg() and entry.name.rpartition("/")[2].partition(".")[2].lower() in IMAGES
        except (tarfile.TarError, OSError, EOFError):
            continue  # what is whole has been counted; reading says what is wrong
    return total


@lru_cache(1)
def webdataset() -> Any:
    """The library, imported late: it brings torch along."""
    try:
        return import_module("webdataset")
    except ImportError:
        raise UserError("shards need the package webdataset: pip install pacl[shards]") from None
