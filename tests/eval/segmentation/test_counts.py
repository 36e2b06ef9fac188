"""Counts of images: correct sums, and the same after saving and loading."""

from __future__ import annotations

import numpy as np
import pytest

from eval.segmentation.counts import Counts


def some_counts(index: list[int], extras: bool) -> Counts:
    rng = np.random.default_rng(index[0])
    n = len(index)
    more = {
        "boundary": rng.integers(0, 9, (n, 2, 3, 4)),
        "patches": rng.integers(0, 9, (n, 2, 2)),
        "bound": rng.integers(0, 9, (n, 3, 4)),
    }
    return Counts(
        np.array(["a run"]), np.array(index), rng.integers(0, 9, (n, 2, 3, 4)), rng.integers(0, 9, (2, 4, 4)),
        np.array([float(n)]), np.array([100 + index[0]]), np.array([index[0]]), **(more if extras else {}),
    )  # fmt: skip


@pytest.mark.parametrize("extras", [False, True])
def test_parts_join_in_any_order_and_survive_their_files(tmp_path, extras):
    parts = [some_counts([3, 4], extras), some_counts([0, 1, 2], extras)]
    for i, part in enumerate(parts):
        part.save(tmp_path / f"{i}.npz")
    joined = Counts.join([part for i in range(2) if (part := Counts.load(tmp_path / f"{i}.npz"))])
    assert joined.index.tolist() == [0, 1, 2, 3, 4]
    assert joined.run.tolist() == ["a run"]
    assert joined.areas[3:].tolist() == parts[0].areas.tolist()
    assert joined.confusion.tolist() == (parts[0].confusion + parts[1].confusion).tolist()
    assert (joined.seconds.tolist(), joined.peak.tolist(), joined.beyond.tolist()) == ([5.0], [103], [3])
    if extras:
        assert joined.patches is not None
        assert joined.patches[:3].tolist() == parts[1].patches.tolist()  # type: ignore[union-attr]
    else:
        assert (joined.boundary, joined.patches, joined.bound) == (None, None, None)


def other_version(content: bytes) -> bytes:
    """A zip file that asks for a version of zip that there is not."""
    start = content.index(b"PK\x01\x02") + 6
    return content[:start] + b"\xff\0" + content[start + 2 :]


def test_a_damaged_file_is_none(tmp_path):
    some_counts([0, 1], True).save(tmp_path / "part.npz")
    content = (tmp_path / "part.npz").read_bytes()
    assert Counts.load(tmp_path / "absent.npz") is None
    for damaged in (b"", b"no archive", content[: len(content) // 2], content[:-1], other_version(content)):
        (tmp_path / "part.npz").write_bytes(damaged)
        assert Counts.load(tmp_path / "part.npz") is None
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    assert Counts.load(tmp_path / "other.npz") is None
