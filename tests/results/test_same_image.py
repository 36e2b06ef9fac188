"""Which image a record is of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pacl.images import pixel_checksum, save_image
from pacl.results.same_image import is_image_of, is_same_source, source_from
from tests.results.drawn import IMAGE


@pytest.fixture
def twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two images of the same name and other pixels, in folders of their own."""
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / folder / "a.png" for folder in ("one", "two")]
    for number, path in enumerate(paths):
        save_image(path, IMAGE + np.uint8(number))
    return paths


def test_an_image_is_known_by_its_path_from_any_folder(
    twins: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    source = {"source": source_from(Path("link/out"), Path("one/a.png"))}
    assert source == {"source": "../../one/a.png"}
    monkeypatch.chdir(tmp_path / "two")
    out = tmp_path / "deep" / "out"
    assert is_image_of(source, out, Path("../one/a.png"))
    assert not is_image_of(source, out, Path("a.png"))
    assert not is_image_of({"pixels": "1"}, out, Path("a.png"))
    monkeypatch.chdir("/")
    (tmp_path / "one").rename(tmp_path / "three")  # then its content decides, which is not stated
    assert not is_image_of(source, out, tmp_path / "three/a.png")
    assert is_image_of({**source, "content": pixel_checksum(IMAGE)}, out, tmp_path / "three/a.png")
    assert not is_same_source({**source, "content": pixel_checksum(IMAGE)}, out, tmp_path / "three/a.png")
    assert not is_image_of({**source, "content": pixel_checksum(IMAGE)}, out, twins[1])


def test_a_link_that_leads_elsewhere_is_another_version_of_the_image(twins: list[Path], tmp_path: Path) -> None:
    link = tmp_path / "cat.png"
    link.symlink_to(twins[0])
    (tmp_path / "out").mkdir()
    record = {"source": source_from(tmp_path / "out", link), "content": pixel_checksum(IMAGE)}
    assert record["source"] == "../cat.png"
    assert is_same_source(record, tmp_path / "out", twins[0])
    link.unlink()
    link.symlink_to(twins[1])
    assert is_same_source(record, tmp_path / "out", link)
    assert not is_same_source(record, tmp_path / "out", twins[0])


def test_results_that_moved_with_their_images_are_known(twins: list[Path], tmp_path: Path) -> None:
    stated = {"source": source_from(tmp_path / "out", twins[0])}
    for each in (*twins, tmp_path / "out"):
        each.parent.mkdir(exist_ok=True)
    (tmp_path / "moved").mkdir()
    for folder in ("one", "two"):
        (tmp_path / folder).rename(tmp_path / "moved" / folder)
    assert is_image_of(stated, tmp_path / "moved/out", tmp_path / "moved/one/a.png")
    assert not is_image_of(stated, tmp_path / "moved/out", tmp_path / "moved/two/a.png")


@pytest.mark.parametrize(("number", "is_same"), [(0, True), (1, False)])
def test_older_records_are_compared_by_content(twins: list[Path], tmp_path: Path, number: int, is_same: bool) -> None:
    older = {"image": "one/a.png", "content": pixel_checksum(IMAGE)}
    assert is_image_of(older, tmp_path / "out", twins[number]) == is_same
    assert not is_image_of({"image": "one/a.png"}, tmp_path / "out", twins[number])


def test_an_image_without_a_file_is_known_by_its_pixels(twins: list[Path], tmp_path: Path) -> None:
    for is_of in (is_image_of, is_same_source):
        assert is_of({"pixels": "1"}, tmp_path, "1")
        assert not is_of({"pixels": "1"}, tmp_path, "2")
        assert not is_of({"source": "one/a.png"}, tmp_path, "1")
        assert not is_of({"pixels": "1", "content": pixel_checksum(IMAGE)}, tmp_path, twins[0])
