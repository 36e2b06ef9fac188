"""Reading image-caption pairs from WebDataset shards: tar files in which files of the same name make one sample.

webdataset opens the shards; their files are grouped as it groups them: what comes after the first dot of a file's name
is its suffix, and neighbours of the same path before it are one sample.
"""

from __future__ import annotations

import glob
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pacl.data.caption_text import TEXT_SUFFIXES, captions_of_files, decode_text, json_object, whole_text
from pacl.data.folder_files import files_below
from pacl.errors import UserError
from pacl.image_folders import IMAGE_SUFFIXES, UNREAD_SUFFIXES, starts_like_an_image
from pacl.printing import counted, printable

IMAGES = tuple(dict.fromkeys(("jpg", "png", "jpeg", "webp", *sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))))
"""Suffixes of images: first those that img2dataset writes, in the order in which open_clip tries them."""

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")

NO_FILES = re.compile(r"(__[^/]*__|__MACOSX)(/|$)|(.*/)?\.[^/]*$")
"""Paths in tars that stand for no files of a data set: WebDataset's own (``__name__``), the Mac's, and hidden files."""

COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ": "lzma"}
"""The modules that decompress, imported late since some Pythons lack one, by the first bytes of a file."""

REPEATED = "images of a key that has one already"
DOTTED = "images with further dots in their names"
UNREAD = "images in formats that are not read"
LINKS = "links"
APART = "caption files apart from their images"
NOT_UTF8 = "caption files that are not UTF-8"
OTHERS = "files that are no images"


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
    """

    name: str
    image: bytes
    captions: tuple[str, ...]
    nouns: tuple[tuple[str, ...], ...] | None
    shard: int
    index: int


@dataclass
class Unused:
    """What lies in shards and is in no sample.

    Attributes:
        counts: number of files of each kind: `REPEATED`, `DOTTED`, `UNREAD`, `LINKS`, `APART`, `NOT_UTF8` or
            `OTHERS`.
        first: path of the first file of each kind.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, path: str) -> None:
        """Count a file."""
        self.counts[kind] += 1
        self.first.setdefault(kind, path)

    def kinds(self) -> dict[str, int]:
        """The number of files of each kind, with its first file."""
        return {f"{kind} (first: {printable(self.first[kind])})": count for kind, count in self.counts.items()}

    def describe(self, url: str) -> str:
        """What is not used of a shard, in one line."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds().items())
        if APART in self.counts:
            kinds += "; files of one name must follow each other, as with tar --sort=name"
        if self.counts.keys() - {APART, NOT_UTF8, OTHERS}:
            kinds += "; an image needs a name of its own with one dot, such as 000.jpg"
        return f"{url}: not used: {kinds}"


class _File(NamedTuple):
    """A file in a tar: its path, divided into a key and a suffix in lower case, and its content."""

    path: str
    key: str
    suffix: str
    content: bytes


def shard_urls(pairs: str) -> list[str]:
    """The URLs of the shards that a pattern describes.

    Args:
        pairs: a path or URL in webdataset's notation, with braces ("data/{000..331}.tar"); several are joined by "::".
            "pipe:COMMAND" reads the output of a command. Local paths may have wildcards ("data/*.tar"), or be folders
            of shards.

    Raises:
        UserError: webdataset is not installed, the pattern is invalid, or local files are missing.
    """
    path = local_path(pairs)
    if path is not None and not re.search(r"[{*?\[]|::", pairs) and not path.exists():  # before the package is missed
        raise UserError(f"{path}: no such file or folder")
    expand_urls = webdataset().shardlists.expand_urls
    try:
        expanded: list[str] = expand_urls(pairs)
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
    """The shards in a folder and its subfolders, by their names, sorted; see `files_below`."""
    names = (name for name in files_below(folder, skip_unreadable=True) if name.endswith(SHARD_SUFFIXES))
    return sorted(path for name in names if (path := folder / name).is_file())


def local_path(url: str) -> Path | None:
    """The local file of a shard's URL; None if it is remote."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.scheme else Path(url)


def samples(pairs: str, failed: list[str] | None = None, unused: Unused | None = None) -> Iterator[Sample]:
    """All samples of some shards, in order.

    The image is the file ``key.jpg`` (or another suffix of `IMAGES`) of the first files of that key. The caption is
    read from ``key.txt`` (or ``.caption``), else from a field such as "caption" of ``key.json``; img2dataset writes
    both. The field "nouns" may have the noun phrases, as one list for a single caption or as one list per caption.

    Args:
        pairs: see `shard_urls`.
        failed: a message is appended for each shard that cannot be opened or is truncated, and for each key of captions
            that no image of its shard has.
        unused: all other files that are in no sample are added.
    """
    failed, unused = [] if failed is None else failed, Unused() if unused is None else unused
    for number, url in enumerate(shard_urls(pairs)):
        yield from read_shard(url, number, failed, unused)


def read_shard(url: str, number: int, failed: list[str], unused: Unused) -> Iterator[Sample]:
    """The samples of one shard; if it is damaged, the samples before the damage. Arguments: see `samples`."""
    errors, keys, lonely = list[Exception](), set[str](), dict[str, list[str]]()
    tar = url.rpartition("/")[2]

    def stop(error: Exception) -> bool:  # webdataset's handlers return whether to continue
        errors.append(error)
        return False

    for shard in webdataset().tariterators.url_opener([{"url": url}], handler=stop):
        stream = shard["stream"]
        for key, group in groupby(_files(stream, unused, stop), lambda file: file.key):
            files, found = list(group), dict[str, _File]()
            for file in files:
                found.setdefault(file.suffix, file)
            image = next((found[suffix] for suffix in IMAGES if suffix in found), None)
            texts = [file for file in found.values() if _is_text(file.suffix) and _is_decoded(file.content)]
            if image is not None and key not in keys:
                yield Sample(f"{tar}/{key}", image.content, *_captions(key, texts), number, len(keys))
                keys.add(key)
                texts.append(image)
            elif texts:  # their image may be anywhere in the shard
                lonely.setdefault(key, []).extend(file.path for file in texts)
            for file in files:
                if not any(file is used for used in texts):
                    unused.add(_kind(file), file.path)
        try:
            stream.close()  # a pipe reports here whether its command failed
        except OSError as error:
            stop(error)
    for key, paths in lonely.items():
        if key in keys:
            for path in paths:
                unused.add(APART, path)
        elif not errors:  # else it may be in what could not be read
            failed.append(f"{tar}/{key} has no image that is read")
    if errors:
        failed.append(f"{url} ends after {counted(len(keys), 'image')} ({_reason(errors[0])})")


def _files(source: Any, unused: Unused, stop: Callable[[Exception], bool]) -> Iterator[_File]:
    """The files of a tar up to its end or a damage."""
    try:
        stream = _EndOfTar(source)
        with tarfile.open(fileobj=stream, mode="r|*") as tar:  # type: ignore[call-overload]  # it only reads
            for entry in tar:
                tar.members = []  # which keeps all otherwise
                if NO_FILES.match(entry.name):
                    continue
                if entry.issym() or entry.islnk():
                    unused.add(LINKS, entry.name)
                elif entry.isreg():
                    yield _File(entry.name, *_divided(entry.name), tar.extractfile(entry).read())
            while rest := tar.fileobj.read(tarfile.RECORDSIZE):
                if any(rest):  # tars that were joined with cat
                    raise tarfile.ReadError("more follows after its end; of joined tars only the first is read")
        if stream.is_truncated:
            raise tarfile.ReadError("truncated tar file")
    except Exception as error:  # of the network, a decompressor ...
        stop(error)


def _divided(path: str) -> tuple[str, str]:
    """Key and suffix, in lower case, of a path in a tar."""
    folder, slash, name = path.rpartition("/")
    key, _, suffix = name.partition(".")
    return folder + slash + key, suffix.lower()


def _is_text(suffix: str) -> bool:
    """Whether a file may hold captions, by the last part of its suffix: key.caption.txt is text, too."""
    return suffix.rpartition(".")[2] in TEXT_SUFFIXES


def _is_decoded(content: bytes) -> bool:
    """Whether a text is in an encoding that is read."""
    try:
        decode_text(content)
    except UnicodeDecodeError:
        return False
    return True


def _kind(file: _File) -> str:
    """Of a file that is not used."""
    last = file.suffix.rpartition(".")[2]
    if last in TEXT_SUFFIXES and not _is_decoded(file.content):
        return NOT_UTF8
    if last in IMAGES:
        return REPEATED if file.suffix == last else DOTTED
    return UNREAD if f".{last}" in UNREAD_SUFFIXES or starts_like_an_image(file.content) else OTHERS


def _reason(error: Exception) -> str:
    """An error's message in one line."""
    reason = getattr(error, "strerror", None) or str(error.args[0] if error.args else type(error).__name__)
    return " ".join(reason.split())


class _EndOfTar:
    """Wraps a stream to detect truncated tars, which `tarfile` reads as if they were complete.

    Files are decompressed here: where several are joined, `tarfile` reads the first and is silent about the others.
    """

    def __init__(self, stream: Any) -> None:
        start = stream.read(512)
        source = _Begun(start, stream)
        module = next((name for mark, name in COMPRESSED.items() if start.startswith(mark)), None)
        self._read = import_module(module).open(source).read1 if module else source.read
        self.head, self.tail = b"", b""

    def read(self, size: int) -> bytes:
        data: bytes = self._read(size)
        self.head, self.tail = self.head or data[:512], (self.tail + data)[-512:]
        return data

    @property
    def is_truncated(self) -> bool:
        """Whether a tar does not end with a block of zeros."""
        return self.head[257:262] == b"ustar" and any(self.tail)


class _Begun:
    """A stream whose first bytes have been read already."""

    def __init__(self, start: bytes, stream: Any) -> None:
        self.start, self.stream = start, stream

    def read(self, size: int) -> bytes:
        start, self.start = self.start[:size], self.start[size:]
        return start or self.stream.read(size)


def _captions(key: str, files: list[_File]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...] | None]:
    """Captions in a sample's text files, and their noun phrases if there are any."""
    texts = {file.suffix.rpartition(".")[2]: file.content for file in files}
    captions = tuple(captions_of_files(texts, key))
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
                    key, suffix = _divided(entry.name)
                    if entry.isreg() and suffix in IMAGES and not NO_FILES.match(entry.name):
                        keys.add(key)
        except Exception:  # of tarfile, the disk, a decompressor ...
            pass  # counted up to the damage, which is reported when the shard is read
        total += len(keys)
    return total


@lru_cache(1)
def webdataset() -> Any:
    """The package, imported late because it imports torch."""
    try:
        return import_module("webdataset")
    except ImportError:
        raise UserError('shards need the package webdataset: pip install "pacl[shards]"') from None
