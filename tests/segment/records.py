"""What the command says of an image."""

from __future__ import annotations

import json
from typing import Any

from tests.commands import Run


def record(run: Run, *words: str) -> dict[str, Any]:
    code, out, _ = run("photo.png", *words, "--json", "--format", "rle")
    assert code == 0
    value: dict[str, Any] = json.loads(out)
    return value
