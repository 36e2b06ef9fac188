"""Output folders, atomic writes, JSON files, lines of text files."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

from pacl.errors import ArgumentError, UserError

_group: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("group", default=None)
"""In a `write_together`: the temporary files that are complete, and their paths."""


MOST_BYTES = 160
"""Of the name of results: file systems allow 255, and endings such as ``.heat-12-LABEL.png`` are added."""


def short_name(name: str) -> str:
    """A name whose last part is at most `MOST_BYTES` long; a longer one is cut and ends in 8 digits of its checksum.

    Args:
        name: of results, relative to their folder, with ``/`` between folders.
    """
    folder, slash, last = name.rpartition("/")
    encoded = os.fsencode(last)
    if len(encoded) <= MOST_BYTES:
        return name
    kept = encoded[: MOST_BYTES - 9].decode("utf-8", "ignore")
    return f"{folder}{slash}{kept}-{hashlib.sha256(encoded).hexdigest()[:8]}"


def make_folder(folder: str | Path, argument: str = "out") -> Path:
    """Make an output folder, with its parents, and check that files can be written to it.

    Args:
        folder: may exist already.
        argument: the caller's name for it, in the error.

    Raises:
        ArgumentError: it is a file, or cannot be made or written to.
    """
    folder = Path(folder)
    probe = folder / f".probe-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except FileExistsError as error:
        place = Path(error.filename or folder)
        kind = "a file" if place.exists() else "a link that leads nowhere"
        raise ArgumentError(
            argument, folder, f"{'' if place == folder else f'{place} '}is {kind}; choose a folder"
        ) from None
    except OSError as error:
        raise ArgumentError(argument, folder, f"cannot write there ({error.strerror}); choose another folder") from None
    return folder


def check_folder(folder: str | Path, argument: str = "out") -> None:
    """Check that `make_folder` can make a folder, before work whose results go there; nothing is made.

    Raises:
        ArgumentError: as `make_folder`.
    """
    folder = Path(folder)
    place = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    try:
        make_folder(place, argument)
    except ArgumentError as error:
        reason = error.reason if place == folder else f"{place}: {error.reason}"
        raise ArgumentError(argument, folder, reason) from None


def check_output_file(
    path: str | Path,
    is_own: Callable[[Path], bool],
    argument: str = "out",
    *,
    inputs: Iterable[str | Path] = (),
    overwrite: bool | None = None,
    endings: Sequence[str] = (),
) -> None:
    """Check a file that a command is to write, before any work, and make its folder.

    Args:
        path: of the file.
        is_own: whether this command may have written the file that is there, see `begins_with`.
        argument: the caller's name for it, in the error.
        inputs: files that the command reads.
        overwrite: whether any other file may be replaced, too; None where there is no such argument.
        endings: those that the file may have, in lower case; none are any.

    Raises:
        ArgumentError: it has another ending, is a folder, one of ``inputs`` or a file that is not the command's own, or
            its folder cannot be made or written to.
    """
    path = Path(path)
    if endings and path.suffix.lower() not in endings:
        raise ArgumentError(argument, path, f"must end in {', '.join(endings)}")
    if path.is_dir():
        raise ArgumentError(argument, path, "is a folder; name a file in it")
    if os.path.realpath(path) in {os.path.realpath(each) for each in inputs}:
        raise ArgumentError(argument, path, "is one of the files that are read; choose another name")
    replaceable = path.is_file() and (not path.stat().st_size or is_own(path))  # also an empty one, of mktemp
    if os.path.lexists(path) and not overwrite and not replaceable:
        advice = "delete it" if overwrite is None else "set overwrite"
        reason = f"was not written by this command; choose another name, or {advice}"
        raise ArgumentError(argument, path, reason, *(() if overwrite is None else ("overwrite",)))
    make_folder(path.parent, argument)


def begins_with(pattern: bytes) -> Callable[[Path], bool]:
    """Whether a file begins as a regular expression says; one that cannot be read does not."""

    def matches(path: Path) -> bool:
        try:
            with path.open("rb") as file:
                return re.match(pattern, file.read(4096)) is not None
        except OSError:
            return False

    return matches


def cache_folder() -> Path:
    """The folder of what can be made again: ``$XDG_CACHE_HOME/pacl``, by default ``~/.cache/pacl``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pacl"


def read_text(path: str | Path, what: str) -> str:
    """The text of a user's UTF-8 file, with or without a byte order mark.

    Args:
        path: of the file.
        what: it should be, such as "class file", in the error.

    Raises:
        UserError: the file cannot be read, or is no UTF-8 text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{what} {path} does not exist") from None
    except UnicodeDecodeError:
        raise UserError(f"{what} {path} is not a UTF-8 text file") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise UserError(f"{what} {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if "\0" in text:  # UTF-16 without a mark at its start
        raise UserError(f"{what} {path} is not a UTF-8 text file: it has null bytes")
    return text


def split_lines(text: str) -> list[str]:
    """The lines of a text file as editors count them: they end in a line feed, a carriage return or both.

    ``str.splitlines`` would also split at signs within a line, such as U+2028 or a vertical tab.
    """
    return [line.removesuffix("\n") for line in io.StringIO(text, newline=None)]


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; when the block succeeds, the file there is renamed to ``path``.

    The temporary file has the same suffix. If the block fails, it is deleted and an older file at ``path`` is kept.
    Missing parent folders are made.

    Raises:
        UserError: any `OSError` in the block or while renaming, such as a full disk or a missing permission.
    """
    path = Path(path)
    # At random: processes on other machines, and in other containers, may have this one's number.
    temporary = path.parent / f".{secrets.token_hex(8)}{path.suffix}"
    group, complete = _group.get(), False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        yield temporary
        if group is None:
            os.replace(temporary, path)
        else:
            group.append((temporary, path))
        complete = True
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        if not complete:
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def write_together() -> Iterator[None]:
    """The files of all `atomic_write` in the block appear when it succeeds, in order; if it fails, none does.

    Where one of them cannot be renamed at the end, those before it have appeared. Files of a block within another one
    appear with those of the outer one.

    Raises:
        UserError: a file cannot be renamed.
    """
    if _group.get() is not None:
        yield
        return
    files: list[tuple[Path, Path]] = []
    token = _group.set(files)
    try:
        yield
        for temporary, path in files:
            try:
                os.replace(temporary, path)
            except OSError as error:
                raise _cannot_write(path, error) from error
    finally:
        _group.reset(token)
        for temporary, _ in files:
            with suppress(OSError):
                temporary.unlink()


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be written ({error.strerror or error})")


def is_out_of_space(error: BaseException) -> bool:
    """Whether no other file can be written, either: the disk is full or read-only, or the user's share is used up."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class RepeatedKey(ValueError):
    """A JSON object has a key twice."""


def unique_keys_only(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object from its keys and values, as ``object_pairs_hook`` of `json`, which would keep the last of equal keys.

    Raises:
        RepeatedKey: there is a key twice.
    """
    found = dict(items)
    if len(found) < len(items):
        keys = [key for key, _ in items]
        twice = next(key for key in found if keys.count(key) > 1)
        raise RepeatedKey(f'"{twice}" is there twice')
    return found


def parse_json(text: str, *, unique_keys: bool = False) -> Any:
    """Read JSON that others wrote.

    Args:
        text: JSON.
        unique_keys: refuse objects with the same key twice, of which Python would keep the last one.

    Raises:
        ValueError: it is not JSON (`json.JSONDecodeError`), is nested too deeply, has a number of thousands of digits,
            half a surrogate pair (which no file can hold as text), or a key twice.
    """
    try:
        value = json.loads(text, object_pairs_hook=unique_keys_only if unique_keys else None)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"it has {error.object[error.start]!a}, half a surrogate pair") from None


def parse_yaml(text: str, *, as_written: bool = False) -> Any:
    """The value of a YAML document; a key that is there twice is an error: PyYAML would keep the last one.

    Args:
        text: the document.
        as_written: leave ``no``, ``1.5`` and ``2024-10-05`` the texts that they are.

    Raises:
        yaml.YAMLError: it is not YAML, or a mapping has a key twice.
        ValueError, RecursionError: it is not YAML, such as a date that does not exist, or nested too deep.
    """
    import yaml  # late: many commands never need it

    class Loader(yaml.BaseLoader if as_written else yaml.SafeLoader):  # type: ignore[misc]
        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            node: yaml.MappingNode = super().compose_mapping_node(anchor)
            keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            if twice := [key for key, count in keys.items() if count > 1]:
                raise yaml.YAMLError(f'"{twice[0]}" is there twice')
            return node

    return yaml.load(text, Loader=Loader)


def save_json(path: str | Path, value: Any, *, rows: bool = False) -> None:
    """Write a JSON file in UTF-8, atomically.

    Args:
        path: of the file.
        value: JSON-serialisable.
        rows: write an object with a line for each key, and of a list of objects for each of these, as for outlines with
            thousands of numbers; otherwise every number has a line.

    Raises:
        UserError: the file cannot be written.
        ValueError: there is a NaN or an infinity in the value.
    """
    text = (_in_rows(value) if rows else json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode())


def _in_rows(value: dict[str, Any]) -> str:
    def line(part: Any) -> str:
        return json.dumps(part, ensure_ascii=False, allow_nan=False)

    def entry(part: Any) -> str:
        if isinstance(part, (list, tuple)) and any(isinstance(each, dict) for each in part):
            return "[\n  " + ",\n  ".join(map(line, part)) + "\n ]"
        return line(part)

    return "{\n" + ",\n".join(f" {line(str(key))}: {entry(part)}" for key, part in value.items()) + "\n}"


def file_stamp(path: str | Path) -> tuple[int, int] | None:
    """Size in bytes and time of the last change in nanoseconds, by which a file that was replaced is known.

    None: there is no such file, or it cannot be looked at.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def file_sha256(file: BinaryIO) -> str:
    """SHA-256 of an open binary file from its current position, as hex digits."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
