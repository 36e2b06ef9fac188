"""The file of an index: an SQLite database of image embeddings.

Why SQLite: it is part of Python, a change is written completely or not at all (also where the process is killed), rows
can be added and deleted one by one, and everything is in one file. Search is exact: 100,000 embeddings of 512 numbers
are one matrix product of 0.02 s on a CPU core, so the approximate search of faiss, usearch or LanceDB would add a
dependency and lose exactness for little. A memory-mapped safetensors file opens faster, but must be written anew for
every image that is added, and needs a second file for paths, which a killed process can leave out of step.

Tables:

``about``       what the embeddings depend on, as JSON
``images``      path (relative to the folder), size, a number that changes with the file, and the id of the embedding
``embeddings``  digest of a file's content, and the vector, float32 [D]: equal files share one, a renamed one keeps it;
                an id is never given again, since other processes may have it in memory
``patches``     patch vectors of an embedding, float16 [P, D], where they are kept
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pacl.errors import UserError

SUFFIX = ".sqlite"
PAGE_BYTES = 16384  # of the database: several vectors fit in a page
UNIT = 0.02  # the square of a vector's length is this far from 1 at most, also in float16
ROWS = 4096  # read at a time
WAIT = 30.0  # seconds until another process has written its change

TABLES = """
CREATE TABLE about (made_by TEXT NOT NULL);
CREATE TABLE embeddings (id INTEGER PRIMARY KEY AUTOINCREMENT, content BLOB NOT NULL UNIQUE, vector BLOB NOT NULL);
CREATE TABLE patches (id INTEGER PRIMARY KEY, vectors BLOB NOT NULL);
CREATE TABLE images (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, changed INTEGER NOT NULL, embedding INTEGER NOT NULL
);
"""


class IndexFile:
    """An open index; `open_file` makes it. Changes are kept when `commit` is called."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path, self._database = path, database

    def prepare(self, made_by: Mapping[str, Any]) -> None:
        """Make the tables of a new file, or check those that are there.

        Raises:
            UserError: the embeddings depend on something else.
        """
        if not self._all("SELECT 1 FROM sqlite_master WHERE name = 'about'"):
            self._database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            self._database.execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, TABLES.split(";")):
                self._database.execute(statement)
            self._database.execute("INSERT INTO about VALUES (?)", [_text(made_by)])
            self.commit()
        self.check(made_by)

    def check(self, made_by: Mapping[str, Any]) -> None:
        """Refuse embeddings that depend on something else.

        Raises:
            UserError: they do.
        """
        found = self._all("SELECT made_by FROM about")
        if found != [(_text(made_by),)]:
            raise UserError(
                f"{self.path}: is the index of another model; delete it, or choose another folder for the index"
            )

    # --- reading ---

    def files(self) -> dict[bytes, tuple[int, int]]:
        """Size in bytes, and a number that changes with the file, of each image, by its path."""
        found = self._all("SELECT path, size, changed FROM images")
        self._check_bytes(path for path, *_ in found)
        return {path: (size, changed) for path, size, changed in found}

    def owners(self) -> tuple[list[bytes], np.ndarray]:
        """The paths of all images, sorted, and the id of the embedding of each, int64 [I]."""
        found = self._all("SELECT path, embedding FROM images ORDER BY path")
        self._check_bytes(path for path, _ in found)
        if self._all("SELECT 1 FROM images WHERE embedding NOT IN (SELECT id FROM embeddings) LIMIT 1"):
            raise self._damaged("an image has no embedding")
        return [path for path, _ in found], np.array([embedding for _, embedding in found], dtype=np.int64)

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all embeddings, sorted, int64 [N], and their vectors, float32 [N, D], of unit length."""
        [(count, least, length)] = self._all(
            "SELECT COUNT(*), IFNULL(MIN(LENGTH(vector)), 0), IFNULL(MAX(LENGTH(vector)), 0) FROM embeddings"
        )
        if least != length or length % 4:
            raise self._damaged("its vectors have several lengths")
        ids, vectors = np.empty(count, dtype=np.int64), np.empty((count, length // 4), dtype=np.float32)
        rows = self._database.execute("SELECT id, vector FROM embeddings ORDER BY id LIMIT ?", [count])
        start = 0
        while some := rows.fetchmany(ROWS):
            part = slice(start, start + len(some))
            self._check_bytes(vector for _, vector in some)
            ids[part] = [embedding for embedding, _ in some]
            vectors[part] = np.frombuffer(b"".join(vector for _, vector in some), np.float32).reshape(len(some), -1)
            start += len(some)
        # SQLite has no checksums. (A comparison with NaN is false.)
        if not (np.abs(np.einsum("nd,nd->n", vectors, vectors) - 1) < UNIT).all():
            raise self._damaged("a vector is not of unit length")
        return ids, vectors

    def patches(self, embedding: int, dim: int) -> Tensor | None:
        """The patch vectors of an embedding, float32 [P, D], if they are kept."""
        found = self._all("SELECT vectors FROM patches WHERE id = ?", [embedding])
        if not found:
            return None
        self._check_bytes(found[0])
        content = bytearray(found[0][0])
        if not content or len(content) % (2 * dim):
            raise self._damaged("the patch vectors of an image are cut off")
        patches = torch.frombuffer(content, dtype=torch.float16).view(-1, dim).float()
        squares = patches.square().sum(-1)  # (heads that average similar patches make vectors shorter than 1)
        if not ((squares > 1e-6) & (squares < 1 + UNIT)).all():
            raise self._damaged("a patch vector is of a length that none can have")
        return patches

    def find(self, content: bytes) -> int | None:
        """The id of the embedding of a file's content, if there is one."""
        found = self._all("SELECT id FROM embeddings WHERE content = ?", [content])
        return found[0][0] if found else None

    def content(self, embedding: int) -> bytes | None:
        """The digest of the file's content that an embedding is of, if it is still there."""
        found = self._all("SELECT content FROM embeddings WHERE id = ?", [embedding])
        return found[0][0] if found else None

    # --- writing ---

    def add_embedding(self, content: bytes, vector: np.ndarray, patches: Tensor | None) -> int:
        """Add the embedding of a file's content, unless there is one; returns its id."""
        known = self.find(content)
        if known is not None:
            return known
        row = self._change("INSERT INTO embeddings (content, vector) VALUES (?, ?)", [content, vector.tobytes()])
        added = int(row.lastrowid or 0)
        if patches is not None:
            self._change("INSERT INTO patches VALUES (?, ?)", [added, patches.half().cpu().numpy().tobytes()])
        return added

    def add_image(self, path: bytes, size: int, changed: int, embedding: int) -> None:
        """Add or replace an image; see `files`."""
        self._change("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)", [path, size, changed, embedding])

    def remove_images(self, paths: Iterable[bytes]) -> None:
        """Remove images; embeddings stay, because a file may have been renamed, until `remove_unused`."""
        for path in paths:
            self._change("DELETE FROM images WHERE path = ?", [path])

    def remove_unused(self) -> None:
        """Remove the embeddings of which there is no image any more."""
        for table in ("patches", "embeddings"):
            self._change(f"DELETE FROM {table} WHERE id NOT IN (SELECT embedding FROM images)")

    def commit(self) -> None:
        """Keep the changes since the last call."""
        if self._database.in_transaction:
            self._database.execute("COMMIT")

    def _all(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._database.execute(statement, values).fetchall()

    def _check_bytes(self, values: Iterable[Any]) -> None:
        """Refuse values of other types, which SQLite allows in any column."""
        if not all(isinstance(value, bytes) for value in values):
            raise self._damaged("a path or a vector has the wrong type")

    def _damaged(self, reason: str) -> UserError:
        return UserError(f"{self.path}: is damaged ({reason}); delete it to compute the index again")

    def _change(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")
        return self._database.execute(statement, values)


def _text(made_by: Mapping[str, Any]) -> str:
    return json.dumps(made_by, sort_keys=True)


@contextmanager
def open_file(path: Path, made_by: Mapping[str, Any], *, write: bool = False) -> Iterator[IndexFile]:
    """Open an index; the changes of the block are kept, also where it fails: each image is complete in itself.

    Args:
        path: of the file.
        made_by: what its embeddings must depend on, JSON-serialisable.
        write: whether a file that is missing is made.

    Raises:
        UserError: there is no such file, it is damaged or of another model, or it cannot be written.
    """
    if not write and not path.is_file():
        raise UserError(f"{path.parent}: has no index of this model and score yet; build it first")
    mode = "rwc" if write else "rw"  # also for reading: SQLite may have to undo the change of a killed process
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        with closing(sqlite3.connect(uri, timeout=WAIT, isolation_level=None, uri=True)) as database:
            file = IndexFile(path, database)
            if write:
                file.prepare(made_by)
            else:
                file.check(made_by)
            try:
                yield file
            finally:
                file.commit()
    except sqlite3.OperationalError as error:  # a full disk, a lock, no permission
        damaged = "; delete it to compute the index again" if "no such table" in str(error) else ""
        raise UserError(f"{path}: {error}{damaged}") from error
    except sqlite3.DatabaseError as error:
        raise UserError(f"{path}: is damaged ({error}); delete it to compute the index again") from error
