"""Files that can be read, with other values than their readers expect, for `tests.fuzz`."""

from __future__ import annotations

import json
import random
import sqlite3
import struct
import tempfile
from contextlib import closing, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

OTHERS: tuple[Any, ...] = (
    None, True, 0, -1, 3, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("inf"), float("nan"), "", "a", "a/b", "../a",
    "\0", "\ud800", "é\n", "inf", "x" * 5000, [], [[]], [1, "a"], {}, {"a": 1}, {"a": {"a": []}},
)  # fmt: skip
"""What a value is replaced by."""


def other_values(content: bytes, chance: random.Random) -> bytes | None:
    """The content with one to three other values; None where it is neither JSON, JSON lines, safetensors nor SQLite."""
    if content.startswith(b"SQLite format 3"):
        return _other_cells(content, chance)
    if content[8:9] == b"{" and (length := struct.unpack("<Q", content[:8])[0]) < len(content):
        header = json.dumps(_changed(json.loads(content[8 : 8 + length]), chance)).encode()
        return struct.pack("<Q", len(header)) + header + content[8 + length :]
    try:
        text = content.decode()
        try:
            return json.dumps(_changed(json.loads(text), chance)).encode()
        except json.JSONDecodeError:
            lines = [json.loads(line) for line in text.splitlines()]
        lines[chance.randrange(len(lines))] = _changed(lines[0], chance)
        return "\n".join(map(json.dumps, lines)).encode()
    except ValueError:
        return None


def _changed(value: Any, chance: random.Random) -> Any:
    """A JSON value with one to three parts that were replaced, removed or doubled."""
    for _ in range(chance.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return deepcopy(chance.choice(OTHERS))
        owner, key = chance.choice(places)
        match chance.randrange(6):
            case 0:
                del owner[key]
            case 1:
                _, other = chance.choice(places)
                owner[key] = other if isinstance(other, str) else deepcopy(chance.choice(OTHERS))
            case 2:
                owner[key] = [owner[key], deepcopy(owner[key])]
            case 3 if isinstance(owner[key], (int, float)):
                owner[key] = -owner[key] if chance.random() < 0.5 else owner[key] + 1
            case _:
                owner[key] = deepcopy(chance.choice(OTHERS))  # (it may be changed next)
    return value


def _places(value: Any) -> Any:
    """All places in a value that hold another: a list or an object, and the index or key."""
    for key in range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ():
        yield value, key
        yield from _places(value[key])


def _other_cells(content: bytes, chance: random.Random) -> bytes:
    """An SQLite file with other values in some cells."""
    with tempfile.NamedTemporaryFile() as file, closing(sqlite3.connect(file.name, isolation_level=None)) as database:
        Path(file.name).write_bytes(content)
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for _ in range(chance.randint(1, 3)):
            table = chance.choice(names)
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            value = chance.choice([None, 0, -1, 3, 2**62, 0.5, "", "a", b"", b"\0", b"\xff" * 6, b"\0" * 4096])
            rows = [row for (row,) in database.execute(f"SELECT rowid FROM {table}")]
            where = chance.choice(["1", *(f"rowid = {row}" for row in rows)])
            with suppress(sqlite3.Error):  # a column that refuses it
                database.execute(f"UPDATE {table} SET {chance.choice(columns)} = ? WHERE {where}", [value])
        return Path(file.name).read_bytes()
