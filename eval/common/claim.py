"""A folder of counts belongs to one run: all that the counts depend on is written beside them, and compared."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacl.errors import UserError
from pacl.files import written_whole

if TYPE_CHECKING:
    from eval.segmentation.measure import Bench
    from pacl.data.masks import MaskFolder

FILE = "run.json"
PARTS = "parts"
SHOWN = 4  # differences that a message tells
UNREAD = ("contrast", "contrast_margin", "vocabulary")  # fields of a head's configuration that no count depends on


def fingerprint(bench: Bench, folder: MaskFolder, **more: Any) -> dict[str, Any]:
    """What the counts of a bench depend on.

    Args:
        bench: its rows, templates included.
        folder: the pictures and masks: their places, sizes and times of change.
        **more: further settings.
    """
    from eval.common.result import describe_model, made_with
    from pacl.prompts import get_templates

    made = made_with(bench.device.type)
    return {
        "pictures": _states(path for _, picture, mask in folder.files for path in (picture, mask)),
        "masks": {"ignore": list(folder.ignore), "offset": folder.offset},
        "rows": [
            {
                "method": row.method,
                "model": describe_model(row.model, ""),
                "config": {key: value for key, value in vars(row.model.config).items() if key not in UNREAD},
                "protocol": row.protocol.described(),
                "templates": list(get_templates(row.protocol.templates)),
                "classes": [[label.name, *label.prompts] for label in row.labels],
            }
            for row in (ready.row for ready in bench.rows)
        ],
        "made": {key: value for key, value in made.items() if key != "date"},
        **more,
    }


def digest(settings: dict[str, Any]) -> str:
    """What counts carry of the run that they are of: no other run takes them for its own."""
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()


def claim(out: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Make a folder this run's: go on with the same run, refuse another.

    Args:
        out: the folder; its counts are in ``parts``.
        settings: the run's `fingerprint`.
        overwrite: throw away what is there.

    Raises:
        UserError: it holds counts of other settings, which are named.
    """
    file, parts = out / FILE, out / PARTS
    text = json.dumps(settings, indent=1, ensure_ascii=False) + "\n"
    old = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None
    if old == text and not overwrite:
        return
    if parts.is_dir() and any(parts.iterdir()):
        if old is not None and not overwrite:
            raise UserError(
                f"{out} holds a run of other settings ({_difference(old, json.loads(text))}): choose another --out, or "
                "--overwrite to start again"
            )
        try:  # nobody knows what counts without settings are of
            shutil.rmtree(parts)
        except OSError as error:
            raise UserError(f"{parts} cannot be removed ({error.strerror}): choose another --out") from None
    with written_whole(file) as aside:
        aside.write_text(text, encoding="utf-8")


def _difference(old: str, new: dict[str, Any]) -> str:
    """In what two runs differ, the first few of it."""
    try:
        found = _paths(json.loads(old), new)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return f"its {FILE} is damaged"
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _paths(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two values differ, such as ``rows.0.protocol.size 336, now 448``."""
    if old == new:
        return []
    pairs: Sequence[tuple[Any, Any, Any]] = ()
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(key, old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new])]
    elif path.endswith("rows") and isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(i, a, b) for i, (a, b) in enumerate(zip(old, new, strict=True))]
    if not pairs:
        brief = all(
            value is None or (isinstance(value, (str, int, float)) and len(str(value)) <= 40) for value in (old, new)
        )
        return [f"{path} {old}, now {new}" if brief else path]
    return [place for key, a, b in pairs for place in _paths(a, b, f"{path}.{key}".lstrip("."))]


def _states(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        state = path.stat()
        digest.update(f"{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
