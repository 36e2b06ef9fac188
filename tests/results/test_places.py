from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pacl.results.places import folders_of


@pytest.mark.parametrize(
    ("images", "folders"),
    [
        (
            {"photos/a.jpg": "a.jpg", "photos/garden/b.jpg": "garden/b.jpg", "other/link.jpg": "elsewhere.jpg"},
            ["photos"],
        ),
        ({"photos/a.jpg": "a.jpg", "./photos/../photos/c.jpg": "c.jpg"}, ["photos"]),
        ({"photos/a.jpg": "a.jpg", "photos/garden/new.jpg": "new.jpg"}, ["photos", "photos/garden"]),
        ({"photos/a.jpg": "photos/a.jpg", "photos/b.jpg": "b.jpg"}, [".", "photos"]),
        ({"/photos/a.jpg": "/photos/a.jpg", "b.jpg": "b.jpg"}, ["."]),
    ],
)
def test_the_folders_that_places_start_from(
    images: dict[str, str], folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos/garden").mkdir(parents=True)
    given = [(Path(path), place) for path, place in images.items()]
    assert {path.resolve() for path in folders_of(given, [])} == {(tmp_path / folder).resolve() for folder in folders}


def test_images_of_earlier_runs_count(tmp_path: Path) -> None:
    records = {"a.jpg": {"source": "../photos/a.jpg", "place": "a.jpg"}, "b.jpg": {"image": "b.jpg"}, "c.jpg": None}
    dataset: Any = SimpleNamespace(out=tmp_path / "out", others=set(records), record_of=records.get)
    garden = tmp_path / "photos/garden"
    assert set(folders_of([(garden / "a.jpg", "a.jpg")], [dataset])) == {garden, garden.parent}
    assert folders_of([(garden / "a.jpg", "garden/a.jpg")], [dataset]) == [garden.parent]
