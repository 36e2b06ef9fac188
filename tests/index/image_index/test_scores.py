"""An index answers as `score_images` does."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pacl.classification.scorer import score_images
from pacl.errors import ImageWarning, UserError
from pacl.index.image_index import Index
from pacl.index.ranking import Vectors
from pacl.models.model import PACL
from tests.index.image_index.photos import save


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


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_an_index_is_the_same_for_all_weights(model: PACL, folder: Path, encoded: list[str], weight: float) -> None:
    index = Index.build(folder, model, "both", weight=weight)
    paths = sorted(folder.rglob("*.png"))
    for n, searched in ((weight, index), (0.3, Index.open(folder, model, "both", weight=0.3))):
        expected = score_images(model, paths, ["a dog"], "both", weight=n)[:, 0]
        hits = {hit.path: hit.score for hit in searched.search("a dog")}
        np.testing.assert_allclose([hits[path] for path in paths], expected, atol=1e-4)
        assert searched.similar(folder / "c.png", top=1)[0].score == pytest.approx(1, abs=1e-5)
    first, other = index, Index.build(folder, model, "both", index=folder.parent / "other")
    np.testing.assert_array_equal(first.vectors.vectors, other.vectors.vectors)


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

    def counted(self: Index, vectors: Vectors, images: np.ndarray, labels: Any) -> np.ndarray:
        ranked.append(len(images))
        return exact(self, vectors, images, labels)

    monkeypatch.setattr(Index, "_exact", counted)
    assert len(index.search("a dog", top=1, rerank=2)) == 1
    assert len(index.search("a dog", top=4, rerank=2)) == 4
    assert ranked == [2, 4]


def test_an_image_of_the_folder_is_most_similar_to_itself(model: PACL, folder: Path) -> None:
    for score in ("clip", "phi", "both"):
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


def test_an_image_that_is_gone_since_is_left_out(model: PACL, folder: Path) -> None:
    index = Index.build(folder, model, "phi", keep_patches=False)
    (folder / "b.png").unlink()
    with pytest.warns(ImageWarning):
        hits = index.search("a dog")
    assert len(hits) == 4
    assert folder / "b.png" not in [hit.path for hit in hits]


@pytest.mark.parametrize("score", ["clip", "phi", "both"])
@pytest.mark.parametrize("keep_patches", [True, False])
def test_no_score_is_of_two_versions_of_an_image(model: PACL, folder: Path, score: Any, keep_patches: bool) -> None:
    """A changed image has the score that it had, or is left out where its patches would be computed."""
    index = Index.build(folder, model, score, keep_patches=keep_patches)
    before = {hit.path: hit.score for hit in index.search("a dog")}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for n, name in enumerate(("a.png", "b.png")):
            save(folder / name, 96 + n)
        after = {hit.path: hit.score for hit in index.search("a dog")}
        again = {hit.path: hit.score for hit in Index.open(folder, model, score).search("a dog")}
    left_out = {folder / "a.png", folder / "b.png"} if score != "clip" and not keep_patches else set()
    assert after == again == {path: before[path] for path in before if path not in left_out}
    assert [each.category for each in said] == [ImageWarning] * (2 if left_out else 0)  # one for each search
    for path in folder.rglob("*.png"):
        save(path, 99)
    if left_out:
        with pytest.raises(UserError), pytest.warns(ImageWarning):
            index.search("a dog")


@pytest.mark.parametrize("score", ["clip", "phi"])
def test_an_image_that_is_gone_since_leaves_its_place_to_the_next(model: PACL, folder: Path, score: Any) -> None:
    index = Index.build(folder, model, score)
    first, *others = index.search("a dog", top=4)
    first.path.unlink()
    with pytest.warns(ImageWarning):
        hits = index.search("a dog", top=3)
    assert [(hit.rank + 1, hit.score, hit.path) for hit in hits] == [(hit.rank, hit.score, hit.path) for hit in others]
    with pytest.warns(ImageWarning):
        assert first.path not in [hit.path for hit in index.similar(others[0].path, top=5)]


def test_names_that_are_no_utf8_are_found(model: PACL, folder: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    try:
        save(folder / "f.png", 3)
        (folder / "f.png").rename(folder / name)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    assert folder / name in [hit.path for hit in Index.build(folder, model).search("a dog")]
