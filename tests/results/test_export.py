"""Formats of other tools, read back by the tools where they are installed, else by the rules of the format."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from pacl.errors import UserError
from pacl.prompts import read_classes
from pacl.results.palette import palette
from pacl.results.writer import Writer
from tests.results.drawn import LABELS, result, two_labels, write_run


def filled(rings: list[list[float]], shape: tuple[int, ...]) -> np.ndarray:
    """Pixels whose centre is in one of the polygons."""
    if not rings:
        return np.zeros(shape, bool)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, *shape))).astype(bool)


def close(mask: np.ndarray, label: int) -> bool:
    """Polygons simplify corners by half a pixel, and join holes that touch the outline."""
    return (mask != (two_labels() == label)).sum() <= 4


# --- labelme --------------------------------------------------------------------------------------------


def test_labelme_has_the_polygons_and_leads_to_the_image(tmp_path: Path) -> None:
    write_run(tmp_path / "out", "labelme", "sub/a.jpg")
    path = tmp_path / "out/labelme/sub/a.json"
    value = json.loads(path.read_text())
    assert (value["imageHeight"], value["imageWidth"], value["imageData"]) == (20, 30, None)
    assert (path.parent / value["imagePath"]).samefile(tmp_path / "photos/sub/a.jpg")
    assert [shape["label"] for shape in value["shapes"]] == ["a dog", "a dog", "grass"]
    for i, label in enumerate(LABELS, start=1):
        rings = [
            [x for point in shape["points"] for x in point] for shape in value["shapes"] if shape["label"] == label
        ]
        assert close(filled(rings, (20, 30)), i)
        drawn = Image.new("1", (30, 20))  # as labelme fills polygons: with their outlines, but not their holes
        for ring in rings:
            ImageDraw.Draw(drawn).polygon(ring, fill=1, outline=1)
        assert (np.asarray(drawn) >= filled(rings, (20, 30))).all()
        assert not np.asarray(drawn)[13, 9:11].any()


def test_labelme_embeds_an_image_that_has_no_file(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Writer(tmp_path, ("labelme",), {}).write("a", tmp_path / "a", image, result())
    value = json.loads((tmp_path / "labelme/a.json").read_text())
    np.testing.assert_array_equal(Image.open(io.BytesIO(base64.b64decode(value["imageData"]))), image)


def test_labelme_leads_to_the_image_through_links(tmp_path: Path) -> None:
    (tmp_path / "disk/deep").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk/deep", target_is_directory=True)
    write_run(tmp_path / "out", "labelme", "sub/a.jpg")
    (tmp_path / "photos/sub/b.jpg").symlink_to(tmp_path / "photos/sub/a.jpg")
    write_run(tmp_path / "out", "labelme", "sub/b.jpg")
    for name in ("a", "b"):  # the names of links are kept: labelme finds annotations by the image's name
        path = tmp_path / f"out/labelme/sub/{name}.json"
        image = path.parent / json.loads(path.read_text())["imagePath"]
        assert image.name == f"{name}.jpg"
        assert image.samefile(tmp_path / "photos/sub/a.jpg")


def test_labelme_reads_it(tmp_path: Path) -> None:
    labelme = pytest.importorskip("labelme")
    write_run(tmp_path / "out", "labelme", "a.jpg")
    file = labelme.LabelFile(str(tmp_path / "out/labelme/a.json"))
    assert [shape["label"] for shape in file.shapes] == ["a dog", "a dog", "grass"]


# --- YOLO -----------------------------------------------------------------------------------------------


def test_yolo_has_a_line_of_relative_corners_for_each_part(tmp_path: Path) -> None:
    path = write_run(tmp_path / "out", "yolo", "sub/a.jpg")
    value = yaml.safe_load(path.read_text())
    assert value["names"] == dict(enumerate(LABELS))
    assert "path" not in value  # the folders are then relative to the file
    assert (path.parent / value["train"] / "sub/a.jpg").is_file()
    assert [label.name for label in read_classes(path)] == list(LABELS)
    lines = [line.split() for line in (path.parent / "labels/sub/a.txt").read_text().splitlines()]
    assert [line[0] for line in lines] == ["0", "0", "1"]
    for i in range(3):
        rings = [np.array(line[1:], float).reshape(-1, 2) for line in lines if line[0] == str(i)]
        assert all(((ring >= 0) & (ring <= 1)).all() for ring in rings)
        assert close(filled([(ring * (30, 20)).ravel().tolist() for ring in rings], (20, 30)), i + 1)


def test_yolo_labels_are_where_ultralytics_looks_for_them(tmp_path: Path) -> None:
    """As `img2label_paths` of ultralytics 8.4.190 does."""
    root = write_run(tmp_path / "images/out", "yolo", "images.jpg", "labels/a.b.jpg", "Images/c.jpg").parent
    images = [path.as_posix() for path in (root / "images").rglob("*.jpg")]
    found = [Path("/labels/".join(path.rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt") for path in images]
    assert len(found) == 3
    assert all(path.is_file() for path in found)
    for name in ("images/d.jpg", "train/images/d.jpg"):
        with pytest.raises(UserError, match="format yolo"):
            write_run(tmp_path / "out", "yolo", "a.jpg", name)
    assert not list(tmp_path.glob("out/*"))


def test_supervision_reads_yolo(tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    path = write_run(tmp_path / "out", "yolo", "a.jpg", "b.png")
    folders = (str(path.parent / "images"), str(path.parent / "labels"))
    data = supervision.DetectionDataset.from_yolo(*folders, str(path), force_masks=True)
    assert (data.classes, len(data)) == (list(LABELS), 2)
    for _, image, found in data:
        assert image.shape == (20, 30, 3)
        assert found.class_id.tolist() == [0, 0, 1]


# --- CVAT -----------------------------------------------------------------------------------------------


def test_cvat_has_labels_images_and_polygons(tmp_path: Path) -> None:
    """As in https://docs.cvat.ai/docs/getting_started/xml_format/."""
    labels = ("a <dog>", "grass", "nul\x01")
    root = ElementTree.parse(write_run(tmp_path / "out", "cvat", "a.jpg", "sub/b.jpg", labels=labels)).getroot()
    assert (root.tag, root.findtext("version")) == ("annotations", "1.1")
    names = [label.findtext("name") for label in root.iterfind("meta/task/labels/label")]
    assert names == ["a <dog>", "grass", "nul\\x01"]
    images = root.findall("image")
    assert [image.attrib for image in images] == [
        {"id": str(i), "name": f"{name}.jpg", "width": "30", "height": "20", "results": name}
        for i, name in enumerate(("a", "sub/b"))
    ]
    for image in images:
        polygons = image.findall("polygon")
        assert {tuple(each.attrib) for each in polygons} == {("label", "source", "occluded", "points", "z_order")}
        for i, name in enumerate(names, start=1):
            texts = [each.attrib["points"] for each in polygons if each.attrib["label"] == name]
            rings = [[float(x) for point in text.split(";") for x in point.split(",")] for text in texts]
            assert close(filled(rings, (20, 30)), i)


def test_cvat_numbers_images_in_lexical_order_also_over_several_runs(tmp_path: Path) -> None:
    """As CVAT numbers the images of a task, and finds them by where it does not know their names."""
    write_run(tmp_path / "out", "cvat", "b.jpg", "b/c.jpg")
    root = ElementTree.parse(write_run(tmp_path / "out", "cvat", "b a.jpg", "a.jpg", "B.jpg")).getroot()
    numbers = [(image.get("id"), image.get("name")) for image in root.iterfind("image")]
    assert numbers == [("0", "B.jpg"), ("1", "a.jpg"), ("2", "b a.jpg"), ("3", "b.jpg"), ("4", "b/c.jpg")]


# --- mmsegmentation ---------------------------------------------------------------------------------------


def test_mmseg_counts_classes_from_0_and_ignores_the_rest(tmp_path: Path) -> None:
    path = write_run(tmp_path / "out", "mmseg", "sub/a.jpg")
    value = json.loads(path.read_text())
    assert value["classes"] == list(LABELS)
    assert value["palette"] == palette(3)[1:].tolist()
    mask = Image.open(path.parent / "ann_dir/sub/a.png")
    assert mask.mode == "P"
    np.testing.assert_array_equal(mask, two_labels().astype(int) - 1 & 255)
    colours = np.asarray(mask.convert("RGB"))
    for i, colour in enumerate(value["palette"], start=1):
        assert (colours[two_labels() == i] == colour).all()


def test_mmseg_has_a_class_for_the_background_where_a_rule_is_on(tmp_path: Path) -> None:
    path = write_run(tmp_path / "out", "mmseg", "a.jpg", background="peak:0.6")
    value = json.loads(path.read_text())
    assert value["classes"] == ["background", *LABELS]
    assert value["palette"] == palette(3).tolist()
    np.testing.assert_array_equal(Image.open(path.parent / "ann_dir/a.png"), two_labels())
    with pytest.raises(UserError):  # the same numbers would mean other classes
        write_run(tmp_path / "out", "mmseg", "b.jpg")


@pytest.mark.parametrize("background", [True, False])
def test_the_values_of_mmseg_count_its_classes(background: bool, tmp_path: Path) -> None:
    """Whatever an image says of the rule: the run has decided."""
    writer = Writer(tmp_path, ("mmseg",), {"name": "tiny"})
    writer.start(LABELS, {"a": "a.png"}, background=background)
    other = result(background="none" if background else "peak:0.6")
    writer.write("a", tmp_path / "a.png", np.zeros((20, 30, 3), np.uint8), other)
    classes = json.loads(writer.finish()["mmseg"].read_text())["classes"]
    mask = np.asarray(Image.open(tmp_path / "mmseg/ann_dir/a.png"))
    for i, label in enumerate(LABELS[:2], start=1):
        assert {classes[value] for value in mask[two_labels() == i]} == {label}


def test_the_background_of_mmseg_is_no_label(tmp_path: Path) -> None:
    labels = ("background", "grass", "a cat")
    with pytest.raises(UserError, match="format mmseg"):
        write_run(tmp_path / "out", "mmseg", "a.jpg", labels=labels, background="peak:0.6")
    value = json.loads(write_run(tmp_path / "out", "mmseg", "a.jpg", labels=labels).read_text())
    assert value["classes"] == list(labels)


def test_mmseg_holds_255_classes(tmp_path: Path) -> None:
    names = [str(i) for i in range(255)]
    write_run(tmp_path / "out", "mmseg", "a.jpg", labels=names, done=0)
    with pytest.raises(UserError, match="255"):
        write_run(tmp_path / "out", "mmseg", "a.jpg", labels=names, background="peak:0.6")
