"""The folder of a job's results, which any number of processes share.

    run.json             what is done: labels, model, settings, folder of relative paths; the same for all processes
    results/NAME.jsonl.gz  a line for each image of a unit
    done/NAME.json       written after the results: counts and checksum; a unit with both is never done again
    locks/NAME.lock      held while a process does the unit; it ends with the process, however that ends
    manifest.json        all units with their counts, written when the last one is done, removed when there are others

Processes need no connection with each other, only the folder: they may start, end or be killed at any time.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pacl.errors import ArgumentError, UserError
from pacl.files import file_sha256, make_folder, parse_json, save_json
from pacl.jobs.units import Unit
from pacl.json_values import from_values
from pacl.locks import lock
from pacl.printing import counted

RUN, MANIFEST, RESULTS, DONE, LOCKS = "run.json", "manifest.json", "results", "done", "locks"
FORMAT, VERSION = "pacl-job", 1
BASE = "relative_to"
"""The key in `RUN` of the folder of relative paths; None where all are absolute. Results name images by them."""
RUN_WAIT = 60.0
"""Seconds that a process waits for another one that starts at the same time."""


@dataclass(frozen=True)
class Done:
    """What is known of a finished unit.

    Attributes:
        name: of the unit.
        source: of its images.
        images: lines of its results.
        failed: lines that say an error instead of labels.
        bytes: size of the results' file.
        sha256: of the results' file.
        problems: what could not be read of the unit.
    """

    name: str
    source: str
    images: int
    failed: int
    bytes: int
    sha256: str
    problems: list[str] = field(default_factory=list)


class JobFolder:
    """The folder of a job's results.

    Args:
        path: of the folder; it is made.
        run: what is done, JSON-serialisable; the first process writes it, the others compare.

    Raises:
        ArgumentError: the folder cannot be written, or holds results of another run or another program.
    """

    def __init__(self, path: str | Path, run: Mapping[str, Any]) -> None:
        self.path = make_folder(path)
        if (self.path / RESULTS).is_dir() and any((self.path / RESULTS).iterdir()) and not (self.path / RUN).exists():
            raise ArgumentError("out", self.path, f"holds results, but no {RUN}; choose another folder")
        self.run = {"format": FORMAT, "version": VERSION, **json.loads(json.dumps(run))}
        for name in (RESULTS, DONE, LOCKS):
            make_folder(self.path / name)
        with self._lock("run", wait=RUN_WAIT) as is_ours:
            if not is_ours:
                raise ArgumentError("out", self.path, "another process holds its locks/run.lock; end it, or try again")
            if not (self.path / RUN).exists():
                save_json(self.path / RUN, self.run)
                return
        before = _read(self.path / RUN)
        one, other = before.get(BASE), self.run.get(BASE)
        if one != other:
            was, now = (f"relative to {each}" if each else "absolute" for each in (one, other))
            advice = "start it there, with relative paths and without --images" if one else "name absolute paths"
            reason = f"the paths of its images are {was}, now they would be {now}; {advice}, or choose another folder"
            raise ArgumentError("out", self.path, reason)
        if different := [key for key in _different(before, self.run) if key != BASE]:
            reason = f"holds results of another run, with other {', '.join(different)}; choose another folder"
            raise ArgumentError("out", self.path, reason)

    def results(self, name: str) -> Path:
        """The file of a unit's results."""
        return self.path / RESULTS / f"{name}.jsonl.gz"

    def done(self, unit: Unit) -> Done | None:
        """What is known of a unit, if it is finished and its results are there, unchanged.

        They are compared with their checksum only if they are newer than what is known of them.

        Raises:
            UserError: its file is damaged.
        """
        path = self.path / DONE / f"{unit.name}.json"
        try:
            if not path.exists():
                return None
            done = from_values(Done, _read(path))
            if done.name != unit.name:
                raise ValueError
            results = self.results(unit.name)
            status = results.stat()
            if status.st_size != done.bytes:
                return None
            if status.st_mtime_ns > path.stat().st_mtime_ns and _digest(results) != done.sha256:
                return None
            return done
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None
        except UserError:
            raise
        except ValueError:
            raise UserError(f"{path}: is no result of this command; delete it to do the unit again") from None

    def count_done(self) -> int:
        """The number of finished units of any source."""
        return sum(1 for _ in (self.path / DONE).glob("*.json"))

    @contextmanager
    def claim(self, unit: Unit) -> Iterator[bool]:
        """Whether this process may do a unit now: it is not finished, and no other process is doing it.

        A manifest of fewer units is removed: the job is not finished any more.
        """
        with self._lock(unit.name) as is_ours:
            is_free = is_ours and self.done(unit) is None
            if is_free:
                try:
                    (self.path / MANIFEST).unlink(missing_ok=True)
                except OSError as error:
                    raise UserError(f"{error.filename}: cannot be removed ({error.strerror})") from None
            yield is_free

    def write(self, unit: Unit, records: Iterable[Mapping[str, Any]], problems: Sequence[str]) -> Done:
        """Write the results of a claimed unit.

        Args:
            unit: which is claimed.
            records: of its images; those of failed images have the key "error".
            problems: what could not be read of the unit; it may grow while ``records`` is read.

        Raises:
            UserError: a file cannot be written.
        """
        path = self.results(unit.name)
        partial = path.with_name(f".{path.name}.partial")  # the claim's: what a killed process left is overwritten
        images = failed = 0
        try:
            with partial.open("wb") as raw:
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as file:
                    for record in records:
                        text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
                        file.write(text.encode("utf-8", "backslashreplace") + b"\n")
                        images, failed = images + 1, failed + ("error" in record)
                raw.flush()
                os.fsync(raw.fileno())
            size, digest = partial.stat().st_size, _digest(partial)
            os.replace(partial, path)
        except BaseException as error:
            with suppress(OSError):
                partial.unlink()
            if isinstance(error, OSError):
                raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
            raise
        done = Done(unit.name, unit.source, images, failed, size, digest, list(problems))
        save_json(self.path / DONE / f"{unit.name}.json", asdict(done))
        return done

    def manifest(self, units: Sequence[Unit]) -> dict[str, Any] | None:
        """Write the manifest if all units are finished, and return it; else None."""
        finished = [self.done(unit) for unit in units]
        if any(each is None for each in finished):
            return None
        every = [each for each in finished if each is not None]
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            **_sums(every),
            "units": [asdict(each) for each in every],
        }
        save_json(self.path / MANIFEST, manifest)
        return manifest

    def _lock(self, name: str, wait: float = 0) -> AbstractContextManager[bool]:
        return lock(self.path / LOCKS / f"{name}.lock", "two processes may do the same unit", wait=wait)


def _sums(units: Sequence[Done]) -> dict[str, int]:
    """What a manifest says of all units."""
    return {
        "images": sum(each.images for each in units),
        "failed": sum(each.failed for each in units),
        "bytes": sum(each.bytes for each in units),
        "problems": sum(len(each.problems) for each in units),
    }


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """The keys whose values differ; of a mapping, those in it."""
    for key in sorted({*one, *other}):
        before, now = one.get(key), other.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from (f"{key}.{each}" for each in _different(before, now))
        elif before != now:
            yield key


def verify(folder: str | Path) -> dict[str, Any]:
    """Read the results of a finished job again, and compare counts and checksums with its manifest.

    Returns:
        The manifest.

    Raises:
        UserError: it is missing, or does not agree with the results.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise ArgumentError("out", folder, f"has no {MANIFEST}; the job is not finished")
    manifest, advice = _read(folder / MANIFEST), f"delete {MANIFEST} and run the command again"
    try:
        units = [from_values(Done, unit) for unit in manifest["units"]]
        for unit in units:
            path = folder / RESULTS / f"{unit.name}.jsonl.gz"
            if _digest(path) != unit.sha256:
                raise UserError(f"{path}: has changed since it was written; delete it and run the command again")
            records = list(read_results(path))
            if (len(records), sum("error" in each for each in records)) != (unit.images, unit.failed):
                raise UserError(
                    f"{path}: has {counted(len(records), 'image')}, the manifest says {unit.images}; {advice}"
                )
        for name, total in _sums(units).items():
            if manifest[name] != total:
                raise UserError(f"{folder / MANIFEST}: {name} is not the sum of the units; {advice}")
    except UserError:
        raise
    except (ValueError, KeyError, TypeError):  # ValueError: a name with NUL is no path, too
        raise UserError(f"{folder / MANIFEST}: is no manifest of this command; {advice}") from None
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: is missing; run the command again") from None
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return manifest


def strays(folder: str | Path, manifest: Mapping[str, Any]) -> list[str]:
    """Names of results that belong to no unit of the manifest: the list or --lines has changed since."""
    known = {f"{unit['name']}.jsonl.gz" for unit in manifest["units"]}
    return sorted(path.name for path in Path(folder, RESULTS).glob("*.jsonl.gz") if path.name not in known)


def read_results(path: str | Path) -> Iterator[dict[str, Any]]:
    """The records of a unit's results.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield parse_json(line)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_sha256(file)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete it, or choose another folder") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no file of this command; choose another folder")
    return content
