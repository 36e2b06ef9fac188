"""Reading image-caption pairs from WebDataset shards: tar files in which files of the same name make one sample.

webdataset opens the shards, reads the tars and groups their files.
"""

from __future__ import annotations

import glob
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pacl.data.caption_text import TEXT_SUFFIXES, captions_of_files, decode_text, json_object, whole_text
from pacl.errors import UserError
from pacl.image_folders import IMAGE_SUFFIXES
from pacl.printing import counted

IMAGES = tuple(dict.fromkeys(("jpg", "png", "jpeg", "webp", *sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))))
"""Suffixes of images: first those that img2dataset writes, in the order in which open_clip tries them."""

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class Sample:
    """An image of a shard, not decoded yet, with its captions.

    Attributes:
        name: "shard.tar/key".
        image: content of the image file.
        captions: any number, possibly none.
        nouns: the noun phrases of each caption, if the shard has them.
        shard: index of its shard in the pattern.
        index: index of the image in its shard.
        spare: number of other images of that key, which are not used.
    """

    name: str
    image: bytes
    captions: tuple[str, ...]
    nouns: tuple[tuple[str, ...], ...] | None
    shard: int
    index: int
    spare: int = 0


def shard_urls(pairs: str) -> list[str]:
    """The URLs of the shards that a pattern describes.

    Args:
        pairs: a path or URL in webdataset's notation, with braces ("data/{000..331}.tar"); several are joined by "::".
            "pipe:COMMAND" reads the output of a command. Local paths may have wildcards ("data/*.tar"), or be folders
            of shards.

    Raises:
        UserError: webdataset is not installed, the pattern is invalid, or local files are missing.
    """
    try:
        expanded: list[str] = webdataset().shardlists.expand_urls(pairs)
    except (ValueError, AssertionError) as error:
        raise UserError(f"{pairs}: invalid pattern of shards ({error}); an example is data/{{000..331}}.tar") from None
    urls = [found for url in expanded for found in _local_shards(url)]
    missing = [str(path) for path in map(local_path, urls) if path is not None and not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: no such shard; {len(missing)} of the {len(urls)} of {pairs} are missing")
    return urls


def _local_shards(url: str) -> list[str]:
    """The shards that a local path with wildcards matches, or that lie in a folder; other URLs as they are.

    Raises:
        UserError: there are none.
    """
    path = local_path(url)
    if path is None or path.is_file():
        return [url]
    if path.is_dir():
        found = list(map(str, shards_below(path)))
    elif glob.has_magic(str(path)):
        found = sorted(glob.glob(str(path), recursive=True))
    else:
        return [url]
    if not found:
        raise UserError(f"{url}: no shard matches; an example is data/{{000..331}}.tar")
    return found


def shards_below(folder: Path) -> list[Path]:
    """The shards in a folder and its subfolders, by their names, sorted."""
    return sorted(path for path in folder.rglob("*") if path.name.endswith(SHARD_SUFFIXES) and path.is_file())


def local_path(url: str) -> Path | None:
    """The local file of a shard's URL; None if it is remote."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.scheme else Path(url)


def samples(pairs: str, failed: list[str] | None = None) -> Iterator[Sample]:
    """All samples of some shards, in order.

    The caption is read from ``key.txt`` (or ``.caption``), else from a field such as "caption" of ``key.json``;
    img2dataset writes both. The field "nouns" may have the noun phrases, as one list for a single caption or as one
    list per caption.

    Args:
        pairs: see `shard_urls`.
        failed: a message is appended for each shard that cannot be opened or is truncated, and for each caption
            without an image.
    """
    for number, url in enumerate(shard_urls(pairs)):
        yield from read_shard(url, number, [] if failed is None else failed)


def read_shard(url: str, number: int, failed: list[str]) -> Iterator[Sample]:
    """The samples of one shard; if it is damaged, the samples before the damage. Arguments: see `samples`."""
    tars, errors, index = webdataset().tariterators, list[Exception](), 0

    def stop(error: Exception) -> bool:  # webdataset's handlers return whether to continue
        errors.append(error)
        return False

    def go_on(error: Exception) -> bool:
        failed.append(f"{url}: {_reason(error)}")
        return True

    for shard in tars.url_opener([{"url": url}], handler=stop):
        shard["stream"] = stream = _EndOfTar(shard["stream"])
        files = tars.tar_file_expander([shard], handler=stop)
        for found in tars.group_by_keys(files, handler=go_on):
            name = f"{url.rpartition('/')[2]}/{found['__key__']}"
            images = [found[suffix] for suffix in IMAGES if suffix in found]
            if images:
                yield Sample(name, images[0], *_captions(found), number, index, len(images) - 1)
                index += 1
            elif _texts(found):
                failed.append(f"{name} has no image")
        if stream.is_truncated:
            stop(tarfile.ReadError("truncated tar file"))
        try:
            stream.close()  # a pipe reports here whether its command failed
        except OSError as error:
            stop(error)
    if errors:
        failed.append(f"{url} ends after {counted(index, 'image')} ({_reason(errors[0])})")


def _reason(error: Exception) -> str:
    """An error's message in one line, without the objects that webdataset appends."""
    reason = getattr(error, "strerror", None) or str(error.args[0] if error.args else type(error).__name__)
    return " ".join(reason.partition(" @ <")[0].partition(" dict_keys(")[0].split())


class _EndOfTar:
    """Wraps a stream to detect truncated tars, which `tarfile` reads as if they were complete."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.head, self.tail = stream, b"", b""

    def read(self, *size: int) -> bytes:
        data: bytes = self.stream.read(*size)
        self.head, self.tail = self.head or data[:512], data[-512:] or self.tail
        return data

    def close(self) -> None:
        self.stream.close()

    @property
    def is_truncated(self) -> bool:
        """Whether an uncompressed tar does not end with a block of zeros."""
        return self.head[257:262] == b"ustar" and any(self.tail)


def _texts(found: dict[str, Any]) -> dict[str, bytes]:
    """The files of a sample that may hold captions, by the last part of their suffix: key.caption.txt is text, too."""
    return {suffix.rpartition(".")[2]: found[suffix] for suffix in found if suffix.rpartition(".")[2] in TEXT_SUFFIXES}


def _captions(found: dict[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...] | None]:
    """Captions of a sample's files, and their noun phrases if there are any."""
    texts = _texts(found)
    captions = tuple(captions_of_files(texts, found["__key__"]))
    fields = json_object(decode_text(texts.get("json", b"")))
    nouns = fields.get("nouns")
    if isinstance(nouns, list) and all(isinstance(phrase, str) for phrase in nouns):
        nouns = [nouns]
    if not isinstance(nouns, list) or len(nouns) != len(captions) or not all(isinstance(own, list) for own in nouns):
        return captions, None
    return captions, tuple(tuple(whole_text(str(phrase)) for phrase in own) for own in nouns)


def count_pairs(pairs: str) -> int:
    """The number of images in local shards; only the headers of the tars are read.

    Raises:
        UserError: a shard is not a local file.
    """
    total = 0
    for url in shard_urls(pairs):
        path = local_path(url)
        if path is None:
            raise UserError(f"{url}: remote shards are not counted; set size to the number of pairs")
        keys = set()
        try:
            with tarfile.open(path) as tar:
                for entry in tar:
                    folder, slash, name = entry.name.rpartition("/")
                    key, _, suffix = name.partition(".")
                    if entry.isreg() and suffix.lower() in IMAGES:
                        keys.add(folder + slash + key)
        except (tarfile.TarError, OSError, EOFError):
            pass  # counted up to the damage, which is reported when the shard is read
        total += len(keys)
    return total


@lru_cache(1)
def webdataset() -> Any:
    """The package, imported late because it imports torch."""
    try:
        return import_module("webdataset")
    except ImportError:
        raise UserError("shards need the package webdataset: pip install pacl[shards]") from None
