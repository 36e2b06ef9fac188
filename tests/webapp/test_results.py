"""What the page shows: drawings, the table, messages and files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pacl import Segmentation, Segmenter, SegmenterSettings, load_model, open_image
from pacl.errors import ArgumentError, UserError
from pacl.images import pixel_checksum
from pacl.segment import main
from pacl.webapp.results import FILES, draw, error_text, label_at, message, plain, share_table, write_files


@pytest.fixture
def found(tiny_clip: str, photo: Path) -> Segmentation:
    segmenter = Segmenter(load_model(tiny_clip), SegmenterSettings(prior=-0.3))
    segmenter.set_image(open_image(photo))
    return segmenter.predict(["dog", "<b>cat</b>"])


def test_a_label_is_drawn_alone(found: Segmentation) -> None:
    every, first, second = (draw(found, "Masks", label) for label in (0, 1, 2))
    assert every.shape == first.shape == plain(open_image_of(found)).shape
    assert (every != first).any()
    assert (first != second).any()


def open_image_of(found: Segmentation) -> np.ndarray:
    assert isinstance(found.source, np.ndarray)
    return found.source


def test_heat_maps_are_those_of_the_result(found: Segmentation) -> None:
    largest = int(np.argmax(found.shares)) + 1
    for label, expected in ((0, largest), (1, 1), (2, 2)):
        np.testing.assert_array_equal(draw(found, "Heat map", label), np.asarray(found.heatmap(expected)))


def test_a_point_has_the_label_of_its_pixel(found: Segmentation) -> None:
    height, width = found.index.shape
    drawn = (height * 10, width * 10)
    for x, y in ((0, 0), (width - 1, 0), (width // 2, height // 2), (width - 1, height - 1)):
        assert label_at(found, drawn, (x * 10 + 5, y * 10 + 5)) == found.index[y, x]
    assert label_at(found, drawn, (drawn[1] + 3, -2)) == found.index[0, -1]


def test_labels_and_messages_are_no_html(found: Segmentation) -> None:
    for text in (share_table(found, 1), message(["<b>cat</b>"]), message(["<b>cat</b>"], error=True)):
        assert "<b>" not in text
        assert "&lt;b&gt;cat" in text


def test_the_table_is_sorted_by_share(found: Segmentation) -> None:
    table = share_table(found)
    order = np.argsort(found.shares)[::-1]
    places = [table.index(f"{found.shares[i]:.1%}") for i in order]
    assert places == sorted(places)


def test_a_message_is_one_line_each() -> None:
    assert message([]) == ""
    assert message(["a\nb", "c"]).count("<div") == 2
    assert "\n" not in message(["a\nb", "c"])
    assert error_text(UserError("x")) == "x"
    assert error_text(ArgumentError("min_area", 3, "too large")) == "min area 3: too large"


def test_files_are_those_of_the_command(
    found: Segmentation, tiny_clip: str, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    files = write_files(found, "photo.png", tiny_clip, photo.parent / "page")
    words = ["photo.png", "dog", "<b>cat</b>", "--prior", "-0.3", "--format", "overlay,mask,rle,coco"]
    assert main([*words[:1], "--prompt", words[1], "--prompt", words[2], *words[3:], "--model", tiny_clip]) == 0
    assert set(files) == set(FILES)
    for kind in ("mask", "coco", "overlay"):
        assert files[kind].read_bytes() == (Path("out") / files[kind].name).read_bytes(), kind
    record, expected = (json.loads(path.read_text()) for path in (files["json"], Path("out/photo.json")))
    assert record["files"] == {"overlay": ["photo.overlay.png"], "mask": ["photo.mask.png"], "json": ["photo.json"]}
    assert record.pop("pixels") == pixel_checksum(open_image_of(found))
    del record["files"], expected["files"], expected["source"]  # folders of the server
    assert record == expected
    assert (np.asarray(Image.open(files["mask"])) == found.index).all()


def test_an_image_called_as_the_file_of_the_data_set_has_both(found: Segmentation, tmp_path: Path) -> None:
    for name in ("annotations.jpg", "Annotations.png"):
        files = write_files(found, name, "tiny", tmp_path / name)
        assert "labels" in json.loads(files["json"].read_text())
        assert "annotations" in json.loads(files["coco"].read_text())
        assert all(path.is_file() for path in files.values())
