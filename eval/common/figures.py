"""Files of the figures of commands that have no `Result`: figures of other settings are never replaced unasked."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from eval.common.folders import ELSEWHERE, differences, path_text
from pacl.errors import ArgumentError
from pacl.files import begins_with, check_output_file, parse_json, save_json

IRRELEVANT = ("out", "overwrite", "device")  # arguments that decide no figure
RESOLVED = ("model", "precision")  # arguments that `eval.common.command.load` replaces where they are ``auto``


def figures_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments that decide the figures of a command, as JSON values, to be kept beside its figures."""
    given = {name: value for name, value in vars(args).items() if name not in IRRELEVANT}
    return dict(json.loads(json.dumps(given, default=path_text)))


def check_report(path: Path, arguments: dict[str, Any], overwrite: bool) -> None:
    """Refuse to replace a report whose figures are of other settings; to be called before any work.

    ``auto`` passes for whatever it may stand for: call this again when the model is loaded.

    Args:
        path: of the JSON file, which need not exist; an object with ``arguments``.
        arguments: of `figures_arguments`.
        overwrite: whether it may be replaced.

    Raises:
        ArgumentError: ``out``: its figures would be lost.
    """
    if overwrite or not path.is_file() or not path.stat().st_size:
        return
    try:
        old = dict(parse_json(path.read_text(encoding="utf-8"))["arguments"])
    except (OSError, ValueError, KeyError, TypeError):
        reason = "it does not state its settings"
    else:
        old |= {name: "auto" for name in RESOLVED if name in old and arguments.get(name) == "auto"}
        if old == arguments:
            return
        reason = differences(old, arguments)
    raise ArgumentError("out", path, f"holds results of other settings ({reason}); {ELSEWHERE}")


def check_figures(args: argparse.Namespace, module: str, inputs: Iterable[str | Path]) -> None:
    """Check the file of ``--out``, to be called before any work, and again when the model is loaded; None passes.

    Args:
        args: with ``out`` and ``overwrite``.
        module: the command, which wrote the file that may be there.
        inputs: files that the command reads.

    Raises:
        ArgumentError: ``out``: it cannot be written, or something would be lost.
    """
    if args.out is not None:
        own = begins_with(re.escape(f'{{\n "command": "{module}"'.encode()))
        check_output_file(args.out, own, inputs=inputs, overwrite=args.overwrite)
        check_report(args.out, figures_arguments(args), args.overwrite)


def save_figures(
    path: Path, module: str, arguments: dict[str, Any], rows: Sequence[dict[str, Any]], overwrite: bool
) -> None:
    """Write the figures of a command, with the arguments that decide them, as JSON.

    Args:
        path: of the file.
        module: the command.
        arguments: of `figures_arguments`, as they were at the `check_figures`.
        rows: the figures.
        overwrite: as it was there.

    Raises:
        UserError: the file cannot be written.
        ArgumentError: ``out``: another process has written other figures since.
    """
    check_report(path, arguments, overwrite)
    save_json(path, {"command": module, "arguments": arguments, "rows": rows})
