"""Where the index of a folder is."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from pacl.classification.scorer import score_images
from pacl.errors import UserError
from pacl.index.image_index import Index
from pacl.index.place import FOLDER
from pacl.models.loading import load_model
from pacl.models.model import PACL
from tests.index.image_index.photos import names, save
from tests.tiny import configure_clip, save_tiny_clip


def test_a_moved_folder_keeps_its_index(model: PACL, folder: Path, encoded: list[str]) -> None:
    Index.build(folder, model)
    encoded.clear()
    moved = folder.rename(folder.with_name("moved"))
    assert len(Index.build(moved, model)) == 5
    assert encoded == []


@pytest.mark.parametrize("inside", [True, False])
def test_an_index_stays_where_it_is_when_the_current_folder_changes(
    model: PACL, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    monkeypatch.chdir(folder.parent)
    index = Index.build(folder.name, model, "phi", keep_patches=False, index=None if inside else "kept")
    hits = index.search("a dog")
    assert {hit.path for hit in hits} == set(folder.rglob("*.png"))
    (tmp_path / "elsewhere" / folder.name).mkdir(parents=True)
    save(tmp_path / "elsewhere" / folder.name / "x.png", 8)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert index.search("a dog") == hits
    index.update()
    assert len(index) == 5
    assert not (tmp_path / "elsewhere" / "kept").exists()


def test_models_and_scores_have_indexes_of_their_own(model: PACL, folder: Path, tmp_path: Path) -> None:
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


def test_what_is_searched_is_what_an_update_writes(
    model: PACL, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with an index that cannot be written any more has a later one in the cache, and back."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inside = Index.build(folder, model).path
    touch = Path.touch

    def read_only(path: Path, *args: Any, **more: Any) -> None:
        if path.is_relative_to(folder):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        touch(path, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "touch", read_only)
        assert Index.open(folder, model).path == inside
        save(folder / "new.png", 11)
        updated = Index.build(folder, model)
        opened = Index.open(folder, model)
        assert opened.path == updated.path != inside
        assert len(opened) == len(updated) == 6
    save(folder / "newer.png", 12)
    assert Index.build(folder, model).path == inside
    assert len(Index.open(folder, model)) == 7


@pytest.mark.parametrize(
    ("score", "changes"),
    [
        ("both", {"preprocess": {"resize_mode": "squash"}}),
        ("clip", {"quick_gelu": True}),
        ("clip", {"vision": {"head_width": 32}}),
    ],
    ids=str,
)
def test_a_clip_with_other_settings_has_an_index_of_its_own(
    score: Any, changes: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    name = save_tiny_clip(tmp_path / "clip")
    before = Index.build(folder, load_model(name), score)
    model = load_model(configure_clip(name, **changes))
    after = Index.build(folder, model, score)
    assert before.path != after.path
    images = sorted(folder.rglob("*.png"))
    expected = score_images(model, images, ["a cat"], score)[:, 0]
    found = {hit.path: hit.score for hit in after.search("a cat")}
    assert [found[image] for image in images] == pytest.approx(expected.tolist(), abs=1e-4)
