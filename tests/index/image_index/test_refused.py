"""Damaged indexes, full disks and arguments that do not work."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pacl.classification.scorer import Scorer
from pacl.errors import ArgumentError, UserError
from pacl.index.image_index import Index
from pacl.index.indexing import Indexing
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.prompts import Label
from tests.index.image_index.photos import save
from tests.tiny import save_tiny_clip

DAMAGE = {
    "short": "UPDATE embeddings SET vector = x'00'",
    "one short": "UPDATE embeddings SET vector = x'0000803f' WHERE id = 1",
    "zeros": "UPDATE embeddings SET vector = zeroblob(length(vector)) WHERE id = 1",
    "NaN": "UPDATE embeddings SET vector = replace(hex(zeroblob(length(vector) / 8)), '00', x'0000c07f0000c07f')",
    "lost": "DELETE FROM embeddings WHERE id = 1",
    "all lost": "DELETE FROM embeddings",
    "path": "UPDATE images SET path = 'text' WHERE embedding = 1",
    "patches": "UPDATE patches SET vectors = x'00'",
    "patches of zeros": "UPDATE patches SET vectors = zeroblob(length(vectors))",
    "a text for a vector": "UPDATE embeddings SET vector = replace(hex(zeroblob(length(vector) / 2)), '00', '0000')",
    "a number for patches": "UPDATE patches SET vectors = 4611686018427387904",
    "a text for patches": "UPDATE patches SET vectors = 'text'",
    "no patches": "UPDATE patches SET vectors = x''",
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_row_is_named_instead_of_ranked(change: str, model: PACL, folder: Path) -> None:
    """Whether the index is brought up to date or not."""
    path = Index.build(folder, model, "phi").path
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute(change).rowcount > 0
    with pytest.raises(UserError, match="damaged"):
        Index.open(folder, model, "phi").search("a dog")
    with pytest.raises(UserError, match="damaged"):
        Index.build(folder, model, "phi").search("a dog")


def test_an_index_without_an_image_is_named(model: PACL, folder: Path) -> None:
    """As one that was interrupted before the first is."""
    path = Index.build(folder, model, "phi").path
    with closing(sqlite3.connect(path)) as database, database:
        for table in ("images", "embeddings", "patches"):
            database.execute(f"DELETE FROM {table}")
    with pytest.raises(UserError, match="no image"):
        Index.open(folder, model, "phi").search("a dog")


def test_a_damaged_index_is_named(model: PACL, folder: Path) -> None:
    path = Index.build(folder, model).path
    path.write_bytes(b"no database at all" * 1000)
    for make in (Index.open, Index.build):
        with pytest.raises(UserError) as refused:
            make(folder, model)
        assert str(path) in str(refused.value)


def test_a_full_disk_is_an_error_and_the_index_stays(
    model: PACL, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Index.build(folder, model)
    save(folder / "new.png", 12)

    def full(self: Indexing, *_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Indexing, "_add", full)
    with pytest.raises(UserError):
        Index.build(folder, model)
    assert len(Index.open(folder, model)) == 5


@pytest.mark.parametrize("make", [Index.build, Index.open])
def test_a_folder_without_an_index_or_images_is_refused(model: PACL, tmp_path: Path, make: Any) -> None:
    with pytest.raises(UserError):
        make(tmp_path, model)
    with pytest.raises(UserError):
        make(tmp_path / "missing", model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("query", "more", "argument"),
    [
        ("a dog", {"top": 0}, "top"),
        ("a dog", {"top": 1.5}, "top"),
        ("a dog", {"rerank": "3"}, "rerank"),
        ("a dog", {"rerank": 0}, "rerank"),
        (Path("a.png"), {}, "query"),
        (" ", {}, "labels[0]"),
    ],
)
def test_arguments_that_do_not_work_are_named(
    model: PACL, folder: Path, query: Any, more: dict[str, Any], argument: str
) -> None:
    index = Index.build(folder, model)
    with pytest.raises(ArgumentError) as refused:
        index.search(query, **more)
    assert refused.value.argument == argument


def test_a_folder_that_there_is_not_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    for folder in (tmp_path / "nope", tmp_path):
        with pytest.raises(UserError, match=str(folder)):
            Index.build(folder, "no/such/model")


def test_labels_of_another_model_or_several_are_refused(model: PACL, folder: Path, tmp_path: Path) -> None:
    index = Index.build(folder, model, "phi")
    other = Scorer(load_model(save_tiny_clip(tmp_path / "other", seed=1)), "phi")
    own = [Scorer(model, "phi", templates=templates) for templates in ("none", "photo")]
    assert index.search(own[0].encode([Label("a dog", ("a dog",))])) == index.search("a dog")
    for scorer, labels, argument in (
        (other, ["a dog"], "labels"),
        (own[1], ["a dog"], "labels"),
        (own[0], ["a dog", "a cat"], "query"),
    ):
        with pytest.raises(ArgumentError) as refused:
            index.search(scorer.encode([Label(text, (text,)) for text in labels]))
        assert refused.value.argument == argument
