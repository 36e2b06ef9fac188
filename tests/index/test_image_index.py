"""An index answers as `score_images` does, notices every change of its folder, and survives being killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pacl.classification.scorer import Scorer, score_images
from pacl.errors import ArgumentError, ImageWarning, UserError
from pacl.images import save_image
from pacl.index.image_index import Index
from pacl.index.indexing import Indexing, IndexInUse
from pacl.index.place import FOLDER
from pacl.locks import lock
from pacl.models.loading import load_model
from pacl.models.model import PACL
from tests.colours import noise


@pytest.fixture(scope="module")
def model(tiny_clip: str) -> PACL:
    return load_model(tiny_clip)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images, one of them in a subfolder, and one file that is no image."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for n, name in enumerate(("a.png", "b.png", "c.png", "d.png", "sub/e.png")):
        save(folder / name, n)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are encoded from now on."""
    names: list[str] = []
    embed = Scorer.embed

    def noted(self: Scorer, images: Sequence[Any], given: Sequence[str]) -> Any:
        names.extend(Path(name).name for name in given)
        return embed(self, images, given)

    monkeypatch.setattr(Scorer, "embed", noted)
    return names


def save(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = noise(40, 56) // 2 + rng.integers(0, 128, (40, 56, 3)).astype(np.uint8)
    Image.fromarray(pixels * np.array(rng.integers(0, 2, 3), dtype=np.uint8)).save(path)


def names(index: Index) -> list[str]:
    return [os.fsdecode(path) for path in index.vectors.paths]


@pytest.mark.parametrize("score", ["clip", "phi", "both"])
@pytest.mark.parametrize("keep_patches", [True, False])
def test_scores_and_order_are_those_of_score_images(model: PACL, folder: Path, score: Any, keep_patches: bool) -> None:
    index = Index.build(folder, model, score, keep_patches=keep_patches)
    hits = index.search("a dog", top=10)
    paths = sorted(folder.rglob("*.png"))
    expected = score_images(model, paths, ["a dog"], score)[:, 0]
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert [hit.path for hit in hits] == [paths[i] for i in expected.argsort(descending=True)]
    np.testing.assert_allclose(
        [hit.score for hit in hits], expected.sort(descending=True).values, atol=1e-4
    )  # patches are float16


def test_of_several_prompts_the_highest_score_counts(model: PACL, folder: Path) -> None:
    index = Index.build(folder, model)
    one, other = ({hit.path: hit.score for hit in index.search(text)} for text in ("a dog", "a lamp"))
    assert {hit.path: hit.score for hit in index.search("a dog;a lamp")} == {
        path: max(one[path], other[path]) for path in one
    }


def test_rerank_bounds_what_is_ranked_exactly(model: PACL, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index.build(folder, model, "phi")
    ranked: list[int] = []
    exact = Index._exact

    def counted(self: Index, images: np.ndarray, labels: Any) -> np.ndarray:
        ranked.append(len(images))
        return exact(self, images, labels)

    monkeypatch.setattr(Index, "_exact", counted)
    assert len(index.search("a dog", top=1, rerank=2)) == 1
    assert len(index.search("a dog", top=4, rerank=2)) == 4
    assert ranked == [2, 4]


def test_an_image_of_the_folder_is_most_similar_to_itself(model: PACL, folder: Path) -> None:
    for score in ("clip", "phi"):
        first, second, *_ = Index.build(folder, model, score).similar(folder / "c.png", top=3)  # type: ignore[arg-type]
        assert first.path == folder / "c.png"
        assert first.score == pytest.approx(1, abs=1e-5)
        assert second.score < 1


def test_equal_images_are_ranked_by_path_and_share_an_embedding(model: PACL, folder: Path) -> None:
    for name in ("z.png", "0.png", "sub/0.png"):
        (folder / name).write_bytes((folder / "a.png").read_bytes())
    index = Index.build(folder, model)
    hits = index.search("a dog", top=20)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert len(hits) == 8
    equal = [hit.path.relative_to(folder).as_posix() for hit in hits if hit.path.name in ("a.png", "z.png", "0.png")]
    assert equal == ["0.png", "a.png", "sub/0.png", "z.png"]
    assert len(index.vectors.vectors) == 5


def test_only_what_is_new_is_encoded(model: PACL, folder: Path, encoded: list[str]) -> None:
    Index.build(folder, model)
    assert sorted(encoded) == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    encoded.clear()
    os.utime(folder / "a.png", (1, 1))  # touched, not changed
    (folder / "b.png").rename(folder / "renamed.png")
    (folder / "c.png").unlink()
    save(folder / "d.png", 40)
    save(folder / "new.png", 41)
    index = Index.build(folder, model)
    assert sorted(encoded) == ["d.png", "new.png"]
    assert names(index) == ["a.png", "d.png", "new.png", "renamed.png", "sub/e.png"]
    assert len(index.vectors.vectors) == 5
    encoded.clear()
    fresh = Index.build(folder, model, index=folder.parent / "fresh")
    assert len(encoded) == 5
    assert fresh.search("a dog") == index.search("a dog")


@pytest.mark.parametrize("time", [1.0, 1e10])  # some cameras are far in the future
def test_files_that_swap_names_swap_scores(model: PACL, folder: Path, encoded: list[str], time: float) -> None:
    for name, seed in (("x.bmp", 50), ("y.bmp", 51)):
        save(folder / name, seed)
        os.utime(folder / name, (time, time))
    assert (folder / "x.bmp").stat().st_size == (folder / "y.bmp").stat().st_size
    before = {hit.path.name: hit.score for hit in Index.build(folder, model).search("a dog")}
    encoded.clear()
    (folder / "x.bmp").rename(folder / "aside")
    (folder / "y.bmp").rename(folder / "x.bmp")
    (folder / "aside").rename(folder / "y.bmp")
    after = {hit.path.name: hit.score for hit in Index.build(folder, model).search("a dog")}
    assert before["x.bmp"] != before["y.bmp"]
    assert (after["x.bmp"], after["y.bmp"]) == (before["y.bmp"], before["x.bmp"])
    assert encoded == []


def test_what_is_kept_is_read_again_by_open(model: PACL, folder: Path, encoded: list[str]) -> None:
    built = Index.build(folder, model, "phi")
    hits = built.search("a dog")
    encoded.clear()
    save(folder / "later.png", 9)
    assert Index.open(folder, model, "phi").search("a dog") == hits
    assert encoded == []


def test_a_moved_folder_keeps_its_index(model: PACL, folder: Path, encoded: list[str]) -> None:
    Index.build(folder, model)
    encoded.clear()
    moved = folder.rename(folder.with_name("moved"))
    assert len(Index.build(moved, model)) == 5
    assert encoded == []


def test_models_and_scores_have_indexes_of_their_own(model: PACL, folder: Path, tmp_path: Path) -> None:
    from tests.tiny import save_tiny_clip

    other = load_model(save_tiny_clip(tmp_path / "other", seed=1))
    built = [Index.build(folder, each, score) for each in (model, other) for score in ("clip", "phi")]  # type: ignore[arg-type]
    assert len({index.path for index in built}) == 4
    assert {index.path.parent for index in built} == {folder / FOLDER}
    with pytest.raises(UserError):
        Index.open(folder, model, "both")
    built[0].path.write_bytes(built[2].path.read_bytes())  # of the other model
    with pytest.raises(UserError):
        Index.open(folder, model, "clip")


def test_folders_share_a_place_without_mixing(model: PACL, folder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    save(second / "x.png", 7)
    for each in (folder, second):
        Index.build(each, model, index=tmp_path / "kept")
    assert names(Index.open(folder, model, index=tmp_path / "kept")) == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*.png")
    )
    assert names(Index.open(second, model, index=tmp_path / "kept")) == ["x.png"]


def test_where_the_folder_cannot_be_written_the_index_is_in_the_cache(
    model: PACL, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (folder / FOLDER).write_text("a file where the folder would be")
    index = Index.build(folder, model)
    assert index.path.parent == tmp_path / "cache" / "pacl" / "index"
    assert len(Index.open(folder, model)) == 5


def test_images_that_cannot_be_read_are_left_out_and_named(model: PACL, folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG and no more")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    with pytest.warns(ImageWarning) as said:
        index = Index.build(folder, model)
    assert sorted(name for each in said for name in ("broken.png", "gone.jpg") if name in str(each.message)) == [
        "broken.png",
        "gone.jpg",
    ]
    assert len(index.unread) == 2
    assert len(index) == 5
    (folder / "a.png").write_bytes(b"damaged since")
    index.update()
    assert (len(index.unread), len(index)) == (3, 4)


def test_results_of_this_package_are_left_out(model: PACL, folder: Path) -> None:
    for name in ("search.png", "sheet.jpg"):
        save_image(folder / name, noise(30, 30))
    index = Index.build(folder, model)
    assert sorted(path.name for path in index.own) == ["search.png", "sheet.jpg"]
    assert len(index) == 5
    save_image(folder / "a.png", noise(30, 30))  # in place of a photo
    index.update()
    assert sorted(path.name for path in index.own) == ["a.png", "search.png", "sheet.jpg"]
    assert len(index) == 4


def test_memory_that_suffices_for_one_image_is_enough(
    model: PACL, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = Scorer.embed

    def limited(self: Scorer, images: Sequence[Any], given: Sequence[str]) -> Any:
        if len(images) > 1 or "b.png" in given[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(self, images, given)

    monkeypatch.setattr(Scorer, "embed", limited)
    index = Index(Scorer(model), folder)
    index.update()
    assert names(index) == ["a.png", "c.png", "d.png", "sub/e.png"]
    assert "b.png" in str(index.unread[0])


def test_one_process_writes_at_a_time(model: PACL, folder: Path) -> None:
    index = Index.build(folder, model)
    with lock(f"{index.path}.lock", ""), pytest.raises(IndexInUse):
        index.update()
    index.update()
    assert len(index) == 5


def test_an_index_in_memory_takes_no_patches_of_images_that_came_later(model: PACL, folder: Path) -> None:
    """Ids of embeddings that are removed meanwhile are not those of new ones."""
    Index.build(folder, model, "phi")
    in_memory = Index.open(folder, model, "phi")
    before = {hit.path: hit.score for hit in in_memory.search("a dog")}
    last = int(in_memory.vectors.ids.argmax())
    (folder / os.fsdecode(in_memory.vectors.paths[last])).unlink()
    Index.build(folder, model, "phi")
    save(folder / "new.png", 99)
    Index.build(folder, model, "phi")
    with pytest.warns(ImageWarning):  # that of the deleted image
        found = {hit.path: hit.score for hit in in_memory.search("a dog")}
    assert len(found) == 4
    assert all(before[path] == score for path, score in found.items())


def test_an_interrupted_update_keeps_what_was_encoded(
    model: PACL, folder: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pacl.index.indexing.BATCH", 2)

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Index.build(folder, model, progress=interrupt)
    assert len(Index.open(folder, model)) == 3
    encoded.clear()
    assert len(Index.build(folder, model)) == 5
    assert len(encoded) == 2


KILLED = """
import os, signal, sys
import pacl.index.indexing as indexing
from pacl import Index
indexing.BATCH, indexing.COMMIT_SECONDS = 1, 0.0
Index.build(sys.argv[1], sys.argv[2], progress=lambda done, total: done == 3 and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_killed_process_leaves_an_index_that_goes_on(
    model: PACL, tiny_clip: str, folder: Path, encoded: list[str]
) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED, str(folder), tiny_clip], capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert len(Index.open(folder, model)) == 2
    assert len(Index.build(folder, model)) == 5
    assert len(encoded) == 3


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


def test_an_image_that_is_gone_since_is_left_out(model: PACL, folder: Path) -> None:
    index = Index.build(folder, model, "phi", keep_patches=False)
    (folder / "b.png").unlink()
    with pytest.warns(ImageWarning):
        hits = index.search("a dog")
    assert len(hits) == 4
    assert folder / "b.png" not in [hit.path for hit in hits]


def test_names_that_are_no_utf8_are_found(model: PACL, folder: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    try:
        save(folder / "f.png", 3)
        (folder / "f.png").rename(folder / name)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    assert folder / name in [hit.path for hit in Index.build(folder, model).search("a dog")]


def test_a_folder_that_there_is_not_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    for folder in (tmp_path / "nope", tmp_path):
        with pytest.raises(UserError, match=str(folder)):
            Index.build(folder, "no/such/model")
