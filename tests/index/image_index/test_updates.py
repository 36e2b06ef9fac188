"""Only what is new is encoded, one process at a time, and what is encoded is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pacl.classification.scorer import Scorer
from pacl.errors import ImageWarning, UserError
from pacl.images import save_image
from pacl.index.image_index import Index
from pacl.index.indexing import IndexInUse, digest_of
from pacl.locks import lock
from pacl.models.loading import load_model
from pacl.models.model import PACL
from tests.colours import noise
from tests.index.image_index.photos import names, save
from tests.tiny import save_tiny_clip


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


def test_a_file_that_changes_while_it_is_read_is_left_out(
    model: PACL, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an image with its former content would have the vector of another."""
    former = folder / "former.png"
    former.write_bytes((folder / "a.png").read_bytes())

    def changing(path: Path) -> bytes:
        digest = digest_of(path)
        if path.name == "a.png":
            save(path, 99)
        return digest

    monkeypatch.setattr("pacl.index.indexing.digest_of", changing)
    with pytest.warns(ImageWarning, match=r"a\.png"):
        index = Index.build(folder, model)
    monkeypatch.undo()
    assert "a.png" not in names(index)
    index.update()
    fresh = Index.build(folder, model, index=folder.parent / "fresh")
    assert fresh.search("a dog") == index.search("a dog")
    assert {"a.png", "former.png"} <= set(names(index))


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


@pytest.mark.parametrize("score", ["clip", "phi", "both"])
@pytest.mark.parametrize("kind", ["weights", "settings"])
def test_an_index_is_of_the_model_as_it_is_now(folder: Path, tmp_path: Path, score: Any, kind: str) -> None:
    """Vectors of the model as it was are not searched; they stay for whoever has that model."""
    names = [save_tiny_clip(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    model, before, after = (load_model(name) for name in (names[0], *names))

    def change(other: PACL) -> None:
        if kind == "weights":
            other.load_state_dict(after.state_dict())
        else:
            other.config.smoothing, other.clip.preprocessing["resize_mode"] = 0.5, "squash"

    index = Index.build(folder, model, score)
    found = index.search("a dog")
    change(model)
    for use in (lambda: index.search("a dog"), lambda: index.similar(folder / "a.png"), lambda: len(index)):
        with pytest.raises(UserError):
            use()
    index.update()
    assert index.search("a dog") == Index.build(folder, model, score, index=tmp_path / "new").search("a dog") != found
    assert index.similar(folder / "a.png")[0].path == folder / "a.png"
    assert Index.open(folder, before, score).search("a dog") == found
    assert Index.build(folder, before, score).search("a dog") == found


def test_an_image_with_several_links_is_found_once(model: PACL, folder: Path) -> None:
    kept = names(Index.build(folder, model))
    (folder / "z.png").symlink_to("a.png")
    (folder / "z").symlink_to("sub")
    index = Index.build(folder, model)
    assert names(index) == kept
    assert [path.relative_to(folder).as_posix() for path in index.repeated] == ["z/e.png", "z.png"]
    (folder / "a.png").unlink()
    (folder / "z.png").unlink()
    index.update()
    assert index.repeated == [folder / "z" / "e.png"]


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


@pytest.mark.parametrize("score", ["clip", "both"])
def test_an_index_in_memory_is_read_again_where_another_process_updated_it(
    model: PACL, folder: Path, score: Any
) -> None:
    in_memory = Index.build(folder, model, score)
    in_memory.search("a dog")
    save(folder / "a.png", 98)
    (folder / "b.png").unlink()
    save(folder / "new.png", 99)
    assert Index.build(folder, model, score).search("a dog") == in_memory.search("a dog")
    assert names(in_memory) == ["a.png", "c.png", "d.png", "new.png", "sub/e.png"]


def test_vectors_in_memory_take_no_patches_of_images_that_came_later(
    model: PACL, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids of embeddings that are removed meanwhile are not those of new ones, and changed images are not encoded."""
    Index.build(folder, model, "phi")
    in_memory = Index.open(folder, model, "phi")
    before = {hit.path: hit.score for hit in in_memory.search("a dog")}
    vectors = in_memory.vectors
    last, *others = vectors.ids.argsort()[::-1]
    (folder / os.fsdecode(vectors.paths[last])).unlink()
    Index.build(folder, model, "phi")
    save(folder / "new.png", 99)
    save(folder / os.fsdecode(vectors.paths[others[0]]), 98)
    Index.build(folder, model, "phi")
    monkeypatch.setattr(Index, "vectors", vectors)  # as if the file were written between the two parts of a search
    with pytest.warns(ImageWarning):
        found = {hit.path: hit.score for hit in in_memory.search("a dog")}
    assert len(found) == 3
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
