"""Counts of pictures: right, additive, and the same after a file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from eval.areas import iou
from eval.counts import Counts, areas_of, confusion_of


def test_a_confusion_matrix_by_hand():
    target = np.array([[0, 0, 1], [1, 1, -1]])
    prediction = np.array([[0, 1, 1], [1, 2, 2]])
    found = confusion_of(prediction, target, 4)
    assert found.tolist() == [[1, 1, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert areas_of(found).tolist() == [[1, 2, 0, 0], [1, 3, 1, 0], [2, 3, 0, 0]]
    # Class 2 is predicted and not there: 0. Class 3 is neither: no value.
    np.testing.assert_allclose(iou(areas_of(found)), [1 / 2, 2 / 4, 0, np.nan])


def test_it_equals_torchmetrics():
    rng = np.random.default_rng(0)
    target, prediction = rng.integers(-1, 7, (40, 50)), rng.integers(0, 7, (40, 50))
    theirs = MulticlassConfusionMatrix(7, ignore_index=-1)(torch.from_numpy(prediction), torch.from_numpy(target))
    assert confusion_of(prediction, target, 7).tolist() == theirs.tolist()


def test_nothing_to_score_and_too_much():
    nothing = np.full((2, 2), -1)
    assert confusion_of(np.zeros((2, 2), int), nothing, 2).sum() == 0
    for prediction, target in ((2, 0), (0, 2), (-1, 0)):
        with pytest.raises(ValueError, match="outside"):
            confusion_of(np.array([prediction]), np.array([target]), 2)


def some_counts(index: list[int], extras: bool) -> Counts:
    rng = np.random.default_rng(index[0])
    n = len(index)
    more = {
        "boundary": rng.integers(0, 9, (n, 2, 3, 4)),
        "patches": rng.integers(0, 9, (n, 2, 2)),
        "bound": rng.integers(0, 9, (n, 3, 4)),
    }
    return Counts(
        np.array(index), rng.integers(0, 9, (n, 2, 3, 4)), rng.integers(0, 9, (2, 4, 4)),
        np.array([float(n)]), np.array([100 + index[0]]), np.array([index[0]]), **(more if extras else {}),
    )  # fmt: skip


@pytest.mark.parametrize("extras", [False, True])
def test_parts_join_in_any_order_and_survive_their_files(tmp_path, extras):
    parts = [some_counts([3, 4], extras), some_counts([0, 1, 2], extras)]
    for i, part in enumerate(parts):
        part.save(tmp_path / f"{i}.npz")
    joined = Counts.join([part for i in range(2) if (part := Counts.load(tmp_path / f"{i}.npz"))])
    assert joined.index.tolist() == [0, 1, 2, 3, 4]
    assert joined.areas[3:].tolist() == parts[0].areas.tolist()
    assert joined.confusion.tolist() == (parts[0].confusion + parts[1].confusion).tolist()
    assert (joined.seconds.tolist(), joined.peak.tolist(), joined.beyond.tolist()) == ([5.0], [103], [3])
    if extras:
        assert joined.patches is not None
        assert joined.patches[:3].tolist() == parts[1].patches.tolist()  # type: ignore[union-attr]
    else:
        assert (joined.boundary, joined.patches, joined.bound) == (None, None, None)


def test_a_damaged_file_is_none(tmp_path):
    some_counts([0, 1], True).save(tmp_path / "part.npz")
    content = (tmp_path / "part.npz").read_bytes()
    assert Counts.load(tmp_path / "absent.npz") is None
    for damaged in (b"", b"no archive", content[: len(content) // 2], content[:-1]):
        (tmp_path / "part.npz").write_bytes(damaged)
        assert Counts.load(tmp_path / "part.npz") is None
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    assert Counts.load(tmp_path / "other.npz") is None
