"""Where results go, so that those of one command never replace those of another without a word.

Without ``--out`` every command has a folder of its own, whose name ends in a digest of everything that decides the
numbers: the same command finds its own again. With ``--out`` it is the user's, and results of other settings that lie
there are refused, or replaced with ``--overwrite``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.common.result import RESULTS, Result, read_results
from pacl.errors import UserError
from pacl.files import make_folder

DIGITS = 8  # hexadecimal: two of a thousand commands share a name once in ten thousand times
SHOWN = 4  # differences that a message tells
BRIEF = 60  # letters of a value that a message tells


def own_folder(base: Path, name: str, settings: dict[str, Any]) -> Path:
    """The folder of one command's results: ``base/NAME-1a2b3c4d``; nothing is made.

    Args:
        base: where the folders of all such commands lie.
        name: of the data set.
        settings: everything that decides the numbers, in any order; values are what JSON knows, and paths. File
            names that are no UTF-8 are welcome.

    Raises:
        TypeError: A value is none of these.
    """
    text = json.dumps(settings, sort_keys=True, default=_words)  # (ASCII, so that odd file names can be hashed)
    return base / f"{name}-{hashlib.sha256(text.encode('ascii')).hexdigest()[:DIGITS]}"


def _words(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"settings hold {value!r}, which JSON does not know")


def add_folder(parser: argparse.ArgumentParser, base: Path) -> None:
    """``--out`` and ``--overwrite``, as `results_folder` takes them."""
    parser.add_argument(
        "--out", metavar="DIR", type=Path,
        help=f"results go to DIR/DATASET (default: to a folder of this command's own, {base}/DATASET-DIGEST)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace results of other settings in --out")


def results_folder(out: Path | None, base: Path, planned: Sequence[Result], overwrite: bool) -> Path:
    """Make the folder of one data set's results.

    Args:
        out: the user's; None takes an own one below ``base``.
        base: where the folders of commands without ``--out`` lie.
        planned: the results to come, one or more, complete but for what is measured.
        overwrite: whether other results in ``out`` may go.

    Raises:
        UserError: ``out`` holds results that would be lost: of other settings, or other methods. Those differences
            are named.
    """
    name, settings = planned[0].dataset, [_settings(result) for result in planned]
    if out is None:
        return make_folder(own_folder(base, name, {"results": settings}))
    folder = make_folder(out / name)
    if (folder / RESULTS).is_file() and not overwrite:
        old = [_settings(result) for result in read_results(folder / RESULTS)]
        if lost := [each for each in old if each not in settings]:
            raise UserError(
                f"--out {folder}: holds results of other settings ({_difference(lost[0], settings)}); choose another "
                "--out, or --overwrite"
            )
    return folder


def _settings(result: Result) -> dict[str, Any]:
    """What decides the numbers, as JSON has it; where the model lies does not."""
    model = {f"model's {key}": value for key, value in result.model.items() if key != "name"}
    said = {"method": result.method, "split": result.split, "images": result.images, **model, **result.protocol}
    return dict(json.loads(json.dumps(said, default=_words)))


def _difference(old: dict[str, Any], new: Sequence[dict[str, Any]]) -> str:
    """In what a result differs from the new one of its method: the first few settings."""
    own = next((each for each in new if each["method"] == old["method"]), None)
    if own is None:
        return f"{old['method']}, which is not measured now"
    found = []
    for key in dict.fromkeys([*old, *own]):
        if (before := old.get(key)) != (now := own.get(key)):
            name, digest, _ = key.replace("_", " ").partition(" sha256")
            brief = not digest and len(f"{before}{now}") <= BRIEF
            found.append(f"{name} {_said(before)}, now {_said(now)}" if brief else f"other {name}")
    return ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def _said(value: object) -> str:
    return "none" if value is None else str(value)


def check_text(args: argparse.Namespace, *flags: str) -> None:
    """Refuse what results cannot be written with: values of flags that are no UTF-8.

    Raises:
        UserError: which flag.
    """
    for flag in flags:
        if (value := getattr(args, flag)) is not None and not is_text(str(value)):
            raise UserError(f"--{flag} {str(value)!a}: holds bytes that are no UTF-8 text; rename it")


def is_text(words: str) -> bool:
    """Whether words can be written as UTF-8; names of files need not be such."""
    try:
        words.encode()
    except UnicodeEncodeError:
        return False
    return True
