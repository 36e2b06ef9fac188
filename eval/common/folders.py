"""Output folders of the evaluation commands, and how they keep results of different settings apart.

Without ``--out`` each command has a folder of its own, such as ``voc20-sclip-bundled``. A file in it states all
settings that decide the numbers: the same command finds its folder again, and other settings get
``voc20-sclip-bundled-2``. In a folder of ``--out``, results of other settings are never replaced unless the user says
so.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.common.result import RESULTS, Result, read_results
from pacl.errors import ArgumentError, UserError
from pacl.files import atomic_write, make_folder
from pacl.locks import lock

OWNER = ".settings.json"  # settings that a folder belongs to
LONGEST = 40  # characters of a word in a folder's name
RUN = "run.json"
PARTS = "parts"
LOCK = ".lock"
CLAIM_WAIT = 60.0  # seconds to wait for another process that starts or ends a run in the same folder
SHOWN = 4  # differences in a message
ELSEWHERE = "choose another --out, or give --overwrite"
OTHER_MODEL = "another model"
BRIEF = 40  # characters of a value in a message
GROUPS = ("rows", "protocol", "config", "made", "arithmetic", "extras")  # of settings; a message names what is in them


def own_folder(base: Path, words: Sequence[str], settings: dict[str, Any]) -> Path:
    """Find or create the folder of one command's results: the first of ``base/WORDS``, ``base/WORDS-2``, ... that
    belongs to these settings or does not exist.

    Args:
        base: parent of the folders of all such commands; it is created, too.
        words: what tells the settings to a reader, such as the data set and the model.
        settings: everything that decides the numbers, in any order, as JSON values and paths; file names need not be
            UTF-8.

    Raises:
        TypeError: a value is neither.
        ArgumentError: ``out``: the folder cannot be created.
    """
    text = json.dumps(settings, sort_keys=True, indent=1, default=path_text)  # (ASCII, for any file name)
    make_folder(base)
    name = readable(words)
    for number in itertools.count(1):
        folder = base / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            _claim(folder, text)
        try:
            if (folder / OWNER).read_text(encoding="ascii") == text:
                return folder
        except (OSError, UnicodeDecodeError):
            pass  # of somebody else
    raise AssertionError("unreachable")


def readable(words: Sequence[str]) -> str:
    """Words, such as names of models, as a folder's name: ``voc20-sclip-ViT-B-16-openai``."""
    short = (str(word).rpartition(":")[2] if ":" in str(word) else str(word) for word in words)
    plain = (re.sub(r"[^A-Za-z0-9_.+]+", "-", word).strip("-.") for word in short)
    return "-".join(word[-LONGEST:].strip("-.") for word in plain if word) or "results"


def _claim(folder: Path, text: str) -> None:
    """Create a folder with its `OWNER` in one step, so that two processes never share one; it may come too late."""
    try:
        aside = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        aside.chmod(0o755)
        (aside / OWNER).write_text(text, encoding="ascii")
        aside.rename(folder)
    except OSError as error:
        if not folder.exists():
            raise ArgumentError("out", folder, f"cannot be created ({error.strerror})") from None
        shutil.rmtree(aside, ignore_errors=True)


def path_text(value: object) -> str:
    """A path of settings as text, for `json.dumps`."""
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"settings hold {value!r}, which is not a JSON value")


@contextmanager
def only_writer(folder: Path, wait: float = 0) -> Iterator[None]:
    """Hold the lock of a folder, which exists: of several processes that would write there, one does.

    Args:
        folder: of results.
        wait: seconds to wait for another process.

    Raises:
        ArgumentError: ``out``: another process writes there.
    """
    with lock(folder / LOCK, "start no second command that writes there", wait=wait) as is_ours:
        if not is_ours:
            raise ArgumentError("out", folder, "another process writes there now; wait for it, or choose another --out")
        yield


@contextmanager
def results_folder(out: Path | None, base: Path, planned: Sequence[Result], overwrite: bool) -> Iterator[Path]:
    """Create the folder of one data set's results, and hold it until they are written (`only_writer`).

    Args:
        out: the user's folder; None takes `own_folder` below ``base``.
        base: parent of the folders of commands without ``out``.
        planned: the results to come, one or more, complete except for what is measured.
        overwrite: whether other results in ``out`` may be replaced.

    Raises:
        ArgumentError: ``out`` holds results of other settings or methods, or a run that can be resumed, which would be
            lost, or another process writes there.
    """
    name, settings = planned[0].dataset, [_settings(result) for result in planned]
    if out is None:
        first = planned[0]
        words = [name, str(first.model.get("name", "")), *([f"{first.images}-images"] if first.partial else [])]
        folder = own_folder(base, words, {"results": settings})
    else:
        folder = make_folder(out / name)
    with only_writer(folder):
        if (folder / RUN).is_file() and not overwrite:
            raise ArgumentError("out", folder, f"holds a run of another command; {ELSEWHERE}")
        if out is not None and (folder / RESULTS).is_file() and not overwrite:
            old = [_settings(result) for result in read_results(folder / RESULTS)]
            if lost := next((each for each in old if each not in settings), None):
                now = next((each for each in settings if each["method"] == lost["method"]), None)
                reason = differences(lost, now) if now else f"{lost['method']}, which is not measured now"
                raise _other_settings(folder, "results", reason)
        yield folder
        _remove([folder / RUN], folder / PARTS)  # the run that is replaced does not go on


def _settings(result: Result) -> dict[str, Any]:
    """The settings that the numbers depend on, as JSON values. The path of the model is not one of them."""
    model = {f"model's {key}": value for key, value in result.model.items() if key != "name"}
    settings = {"method": result.method, "split": result.split, "images": result.images, **model, **result.protocol}
    return dict(json.loads(json.dumps(settings, default=path_text)))


def _other_settings(folder: Path, what: str, reason: str) -> ArgumentError:
    of = reason if reason == OTHER_MODEL else f"other settings ({reason})"
    return ArgumentError("out", folder, f"holds {what} of {of}; {ELSEWHERE}")


# --- Runs that can be resumed -------------------------------------------------------------------------


def run_digest(settings: dict[str, Any]) -> str:
    """Digest of a run's settings, which its partial results carry."""
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()


def start_run(
    out: Path, settings: dict[str, Any], overwrite: bool, files: Sequence[str] = (RESULTS,), task: str | None = None
) -> None:
    """Claim a folder for a run that can be resumed, in one step: it belongs to the settings in its ``run.json``.

    Processes with the same settings share it.

    Args:
        out: the folder, which exists; partial results are in ``parts``, the settings of their run in ``run.json``.
        settings: everything that decides the results.
        overwrite: whether what is there, of these or other settings, is deleted.
        files: glob patterns of the files that a run writes.
        task: `Result.task` of its results; None does not compare it with that of the results that are there.

    Raises:
        ArgumentError: the folder belongs to other or unknown settings, or another command has written results there.
        UserError: what is replaced cannot be deleted.
    """
    parts, text = out / PARTS, _run_text(settings)
    with only_writer(out, CLAIM_WAIT):
        old = _read_run(out)
        if old == text and not overwrite:
            if task is not None and (out / RESULTS).is_file() and read_results(out / RESULTS)[0].task != task:
                raise ArgumentError("out", out, f"holds results of another command; {ELSEWHERE}")
            return
        left = [path for pattern in files for path in out.glob(pattern)]
        if not overwrite and (old is not None or left or (parts.is_dir() and any(parts.iterdir()))):
            raise _other_settings(out, "a run", _run_differences(old, json.loads(text)))
        _remove(left, parts)
        with atomic_write(out / RUN) as aside:
            aside.write_text(text, encoding="utf-8")


@contextmanager
def end_run(out: Path, settings: dict[str, Any]) -> Iterator[None]:
    """The step in which a run writes its results.

    Raises:
        ArgumentError: ``out``: another run has replaced this one.
    """
    with only_writer(out, CLAIM_WAIT):
        if _read_run(out) != _run_text(settings):
            raise ArgumentError("out", out, "another run has replaced this one meanwhile; choose another --out")
        yield


def check_unchanged(before: str, now: str, name: str) -> None:
    """Refuse results of files that were replaced while they were measured, which would be of both.

    Args:
        before: digest of the files when the run began, as `files_digest`.
        now: at its end, before anything is written.
        name: of the data set.

    Raises:
        UserError: they differ.
    """
    if before != now:
        raise UserError(f"{name}: files have changed since the run began, so there are no results; run it again")


def _remove(files: Iterable[Path], parts: Path) -> None:
    try:
        for path in files:
            path.unlink(missing_ok=True)
        if parts.is_dir():
            shutil.rmtree(parts)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be removed ({error.strerror}): choose another folder") from None


def _read_run(out: Path) -> str | None:
    file = out / RUN
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None


def _run_text(settings: dict[str, Any]) -> str:
    return json.dumps(settings, indent=1, ensure_ascii=False) + "\n"


def _run_differences(old: str | None, new: dict[str, Any]) -> str:
    if old is None:
        return f"its {RUN} is missing"
    try:
        before = json.loads(old)
        (backbones, heads), (new_backbones, new_heads) = _models(before), _models(new)
        is_other = backbones != new_backbones or (heads and new_heads and heads != new_heads)
        return OTHER_MODEL if is_other else differences(before, new)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return f"its {RUN} is damaged"


def _models(settings: dict[str, Any]) -> tuple[set[Any], set[Any]]:
    """The backbones and the trained heads of a run's rows; rows of methods without training have no head."""
    models = [row.get("model", {}) for row in settings.get("rows", ())]
    return {(model.get("clip"), model.get("checksum")) for model in models}, {
        model["head"] for model in models if model.get("head")
    }


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The settings in which two runs differ, each once, the first few, such as ``size 336, now 448``."""
    found = list(dict.fromkeys(_differences(old, new, ())))
    return ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def _differences(old: Any, new: Any, path: tuple[str, ...]) -> Iterable[str]:
    if old == new:
        return
    pairs: Sequence[tuple[str, Any, Any]] = ()
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in dict.fromkeys([*old, *new]) if key != "changed"]  # it follows from the others
        pairs = [(key, old.get(key), new.get(key)) for key in keys]
    elif path[-1:] == ("rows",) and isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [("rows", a, b) for a, b in zip(old, new, strict=True)]
    for key, a, b in pairs:
        yield from _differences(a, b, (*path, key))
    if not pairs:
        words = [key for key in path if key not in GROUPS] or path[-1:]
        name, digest, _ = " ".join(words).partition("_sha256")
        brief = not digest and _is_brief(old) and _is_brief(new)
        yield f"{name} {_text(old)}, now {_text(new)}" if brief else name


def _is_brief(value: Any) -> bool:
    parts = value if isinstance(value, list) else [value]
    numbers = not isinstance(value, list) or all(isinstance(part, (int, float)) for part in parts)
    return numbers and not isinstance(value, dict) and len(str(value)) <= BRIEF


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
