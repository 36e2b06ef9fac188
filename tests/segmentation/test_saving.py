"""What a result is written as: records, files of formats, and the forms of other tools."""

from __future__ import annotations

import base64
import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from pacl.errors import ArgumentError
from pacl.images import save_image
from pacl.results.formats import FORMATS
from pacl.results.writer import Writer
from pacl.segmentation.result import Segmentation
from pacl.segmentation.segmenter import Segmenter
from tests.colours import ColourModel, noise
from tests.segmentation.red_square import SQUARE, run

LABELS = ["grey", "red", "blue"]


@pytest.fixture
def found() -> Segmentation:
    """A red square on grey; no blue."""
    return run(SQUARE, LABELS)


def test_save_writes_what_the_command_writes(found: Segmentation, tmp_path: Path) -> None:
    record = found.save(tmp_path / "new" / "folder", "square", formats=tuple(FORMATS))
    for kind, each in FORMATS.items():  # the files of the run are not in the image's own record
        if each.dataset:
            assert Path(record["files"][kind].pop()) == tmp_path / "new" / "folder" / each.dataset.name
    record["files"] = {kind: paths for kind, paths in record["files"].items() if paths}
    assert json.loads((tmp_path / "new" / "folder" / "square.json").read_text()) == json.loads(json.dumps(record))
    assert [label["share"] for label in record["labels"]] == found.shares
    assert set(record["files"]) == {"overlay", "mask", "heat", "npz", "json", "labelme", "yolo", "mmseg"}
    for files in record["files"].values():
        assert all(Path(file).is_file() for file in files)
    overlay = Image.open(tmp_path / "new" / "folder" / "square.overlay.png")
    assert np.array_equal(overlay, found.overlay())
    heat = Image.open(tmp_path / "new" / "folder" / "square.heat-2-red.png")
    assert np.array_equal(heat, found.heatmap("red"))


def test_the_files_have_the_name_of_the_image(tmp_path: Path) -> None:
    save_image(tmp_path / "a photo.png", SQUARE)
    segmenter = Segmenter(ColourModel())
    named, nameless = segmenter.predict_batch([tmp_path / "a photo.png", SQUARE], LABELS)
    assert Path(named.save(tmp_path, formats="mask")["files"]["mask"][0]).name == "a photo.mask.png"
    assert Path(nameless.save(tmp_path, formats="mask")["files"]["mask"][0]).name == "image.mask.png"
    assert named.to_coco()["images"][0]["file_name"] == "a photo.png"


def test_images_without_a_name_do_not_replace_each_other(tmp_path: Path) -> None:
    segmenter = Segmenter(ColourModel())
    first, second, third = segmenter.predict_batch([noise(8, 8), Image.fromarray(SQUARE), SQUARE[:32]], LABELS)
    for found in (first, second, third, second):  # the last one again
        found.save(tmp_path, formats="mask")
    names = ("image", "image-2", "image-3")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}{ending}" for name in names for ending in (".json", ".mask.png")
    }
    assert np.array_equal(Image.open(tmp_path / "image-2.mask.png"), second.index)


def test_a_name_that_another_process_takes_meanwhile_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, (first, second) = Writer.start, (run(image, LABELS) for image in (SQUARE, SQUARE[:32]))

    def late(writer: Writer, *words: Any, **rest: Any) -> None:
        monkeypatch.setattr(Writer, "start", start)
        second.save(tmp_path, formats="mask")  # as another process, after the name was chosen
        start(writer, *words, **rest)

    monkeypatch.setattr(Writer, "start", late)
    record = first.save(tmp_path, formats="mask,coco")
    assert record["name"] == "image-2"
    sizes = {path.name: Image.open(path).size for path in tmp_path.glob("*.png")}
    assert sizes == {"image.mask.png": (64, 32), "image-2.mask.png": (64, 64)}
    assert [each["results"] for each in json.loads((tmp_path / "annotations.json").read_text())["images"]] == [
        "image-2"
    ]


def test_a_place_in_a_data_set_that_another_process_takes_meanwhile_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "one/a.png", tmp_path / "two/a.png"]
    for path in paths:
        save_image(path, SQUARE)
    finish, (first, second) = Writer.finish, Segmenter(ColourModel()).predict_batch(paths, LABELS)

    def late(writer: Writer) -> dict[str, Path]:
        monkeypatch.setattr(Writer, "finish", finish)
        second.save(tmp_path / "out", formats="coco,cvat")  # as another process, before this one has added its image
        return finish(writer)

    monkeypatch.setattr(Writer, "finish", late)
    assert first.save(tmp_path / "out", formats="coco,cvat")["name"] == "a"
    images = json.loads((tmp_path / "out/annotations.json").read_text())["images"]
    assert {each["results"]: each["file_name"] for each in images} == {"a_png": "a.png", "a": str(paths[0])}


def test_images_of_the_same_name_do_not_replace_each_other(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        save_image(tmp_path / folder / "a.png", SQUARE)
    save_image(tmp_path / "image.png", SQUARE)
    segmenter = Segmenter(ColourModel())
    paths = [tmp_path / "one/a.png", tmp_path / "two/a.png", tmp_path / "image.png"]
    for found in [*segmenter.predict_batch(paths * 2, LABELS), *segmenter.predict_batch([SQUARE], LABELS)]:
        found.save(tmp_path / "out", formats="mask")
    assert {path.stem for path in (tmp_path / "out").glob("*.json")} == {"a", "a_png", "image", "image-2"}
    found.save(tmp_path / "out", "a", formats="mask")  # a name that is given is meant
    assert len(list((tmp_path / "out").glob("*.json"))) == 4


def test_an_image_that_a_run_on_a_folder_named_keeps_that_name(found: Segmentation, tmp_path: Path) -> None:
    save_image(tmp_path / "photos/garden/a.png", SQUARE)
    image, out = tmp_path / "photos/garden/a.png", tmp_path / "out"
    writer = Writer(out, ("mask", "coco"), dict(found.model))
    writer.start(found.labels, {"garden/a": "garden/a.png"})
    writer.write("garden/a", image, SQUARE, found, "garden/a.png")
    writer.finish()
    assert found.save(out, formats="coco", image=image)["name"] == "garden/a"
    assert [each["file_name"] for each in json.loads((out / "annotations.json").read_text())["images"]] == [
        "garden/a.png"
    ]
    found.save(out, "v2/a", image=image)  # a name that is given is meant, and stays
    assert found.save(out, image=image)["name"] == "garden/a"
    assert (out / "v2/a.mask.png").exists()


@pytest.mark.parametrize("name", ["a.png", "a"])
def test_data_sets_have_the_array_and_not_a_file_of_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_image(name, noise(64, 64))
    run(SQUARE, LABELS).save("out", name, formats="labelme,yolo,mmseg")
    for folder in ("yolo/images", "mmseg/img_dir"):
        assert np.array_equal(Image.open(f"out/{folder}/{name}.png"), SQUARE)
    content = base64.b64decode(json.loads(Path(f"out/labelme/{name}.json").read_text())["imageData"])
    assert np.array_equal(Image.open(io.BytesIO(content)), SQUARE)


def test_another_image_never_replaces_the_results_of_one_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = Segmenter(ColourModel())
    for number, folder in enumerate(("one", "two", "three")):
        save_image(tmp_path / folder / "a.png", SQUARE[: 64 - 8 * (number % 2)])  # the third is the first, moved
        monkeypatch.chdir(tmp_path / folder)
        segmenter.set_image("a.png")
        segmenter.predict(LABELS).save("../out", formats="mask")
        Path("a.png").unlink()
    assert {path.stem for path in (tmp_path / "out").glob("*.json")} == {"a", "a_png"}
    assert Image.open(tmp_path / "out/a.mask.png").size == (64, 64)


def by_weights(number: int) -> Segmentation:
    """A segmentation by a model of the same name and other weights."""
    model = ColourModel()
    model.head_checksum = lambda: str(number)
    return run(SQUARE, LABELS, model)


@pytest.mark.parametrize("name", ["coco", "cvat", "yolo", "mmseg"])
def test_weights_never_mix_in_a_data_set(name: str, tmp_path: Path) -> None:
    first, second = by_weights(0), by_weights(1)
    first.save(tmp_path, "a", formats=name)
    first.save(tmp_path, "c", formats=name)
    for number in range(12):  # in no data set
        second.save(tmp_path, f"0-{number}", formats="mask")
    for each in ("a", "b", "0-0"):
        with pytest.raises(ArgumentError) as error:
            second.save(tmp_path, each, formats=name)
        assert error.value.argument == "folder"
    first.save(tmp_path, "d", formats=name)  # the others are not in the data set
    second.save(tmp_path, "b", formats=name, overwrite=True)
    assert {path.stem for path in tmp_path.glob("*.json")} - {"annotations"} == {"b"}
    first.save(tmp_path, "b", formats=name)  # replaced as a whole, nothing is mixed


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_data_set_of_somebody_else_is_never_replaced(overwrite: bool, found: Segmentation, tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_text("{}")
    with pytest.raises(ArgumentError) as error:
        found.save(tmp_path, "a", formats="coco", overwrite=overwrite)
    assert error.value.argument == "folder"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"annotations.json": "{}"}


def test_images_of_the_same_name_are_two_in_a_data_set(tmp_path: Path) -> None:
    paths = [tmp_path / "one/a.png", tmp_path / "two/a.png"]
    for path in paths:
        save_image(path, SQUARE)
    for found in Segmenter(ColourModel()).predict_batch(paths * 2, LABELS):
        found.save(tmp_path / "out", formats="coco,yolo")
    images = json.loads((tmp_path / "out/annotations.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["a.png", str(tmp_path / "two/a.png")]
    assert {path.stem for path in (tmp_path / "out/yolo/images").iterdir()} == {"a", "a_png"}


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "", ".", "a//b", "a/", "a\0b", "a\udfffb" + chr(0xD800), 3], ids=ascii
)
def test_a_name_stays_in_the_folder(name: Any, found: Segmentation, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError) as error:
        found.save(tmp_path / "in/out", name)
    assert error.value.argument == "name"
    assert not list(tmp_path.iterdir())
    found.save(tmp_path / "in/out", "sub/a..b", formats="mask")
    assert (tmp_path / "in/out/sub/a..b.mask.png").exists()


@pytest.mark.parametrize("formats", ["", (), "overlays", ("mask", "tiff"), ","], ids=str)
def test_unknown_formats_are_refused_before_anything_is_written(
    formats: Any, found: Segmentation, tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError) as error:
        found.save(tmp_path / "out", formats=formats)
    assert error.value.argument == "formats"
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder(found: Segmentation, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError) as error:
        found.save(tmp_path / "file")
    assert error.value.argument == "folder"


def test_values_that_mean_nothing_are_refused(found: Segmentation) -> None:
    nan = float("nan")
    for call, argument in (
        *[(partial(found.overlay, opacity=opacity), "opacity") for opacity in (nan, 1.5, "1")],
        *[(partial(found.heatmap, 1, limits=limits), "limits") for limits in ((1, 0), (0, 0), (nan, 1), (0, nan), 1)],
        (partial(found.mask, True), "label"),
    ):
        with pytest.raises(ArgumentError) as error:
            call()
        assert error.value.argument == argument


@pytest.mark.parametrize("masks", ["rle", "polygons"])
def test_pycocotools_reads_the_dataset(masks: Any, found: Segmentation, tmp_path: Path) -> None:
    dataset = found.to_coco("square.png", image_id=7, first_id=20, masks=masks)
    (tmp_path / "coco.json").write_text(json.dumps(dataset))
    coco = COCO(tmp_path / "coco.json")
    assert coco.loadImgs([7])[0] == {"id": 7, "file_name": "square.png", "width": 64, "height": 64}
    assert [category["name"] for category in coco.loadCats([1, 2, 3])] == LABELS
    assert sorted(coco.anns) == [20, 21]  # nothing is blue
    for annotation in coco.anns.values():
        mask = found.mask(annotation["category_id"])
        drawn = coco.annToMask(annotation).astype(bool)
        assert (drawn & mask).sum() / (drawn | mask).sum() > (0.98 if masks == "polygons" else 1 - 1e-9)
        assert annotation["area"] == mask.sum()
        assert coco_mask.toBbox(coco.annToRLE(annotation)).tolist() == annotation["bbox"]


def test_unknown_kinds_of_masks_are_refused(found: Segmentation) -> None:
    with pytest.raises(ArgumentError) as error:
        found.to_coco(masks="png")  # type: ignore[arg-type]
    assert error.value.argument == "masks"


def test_probabilities_do_not_depend_on_the_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(noise(60, 80), LABELS).probabilities
    monkeypatch.setattr("pacl.segmentation.patch_maps.BAND_BYTES", 1)  # single rows
    np.testing.assert_allclose(run(noise(60, 80), LABELS).probabilities, whole, atol=1e-5)


def test_save_refuses_a_folder_with_results_of_other_labels(tmp_path: Path) -> None:
    segmenter = Segmenter(ColourModel())
    segmenter.set_image(noise(32, 32))
    first, other = segmenter.predict(["red", "blue"]), segmenter.predict(["grey", "blue"])
    first.save(tmp_path, "a", formats="mask")
    first.save(tmp_path, "b", formats="mask")
    with pytest.raises(ArgumentError) as error:
        other.save(tmp_path, "c", formats="mask")
    assert error.value.argument == "folder"
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "a.mask", "b", "b.mask"}
    for name in "cd":  # which does not remove its own
        other.save(tmp_path, name, formats="mask", overwrite=True)
    assert {path.stem for path in tmp_path.iterdir()} == {"c", "c.mask", "d", "d.mask"}


def test_boxes_are_those_of_the_record(found: Segmentation, tmp_path: Path) -> None:
    record = found.save(tmp_path, "a", formats="mask")
    assert found.boxes == [label["box"] for label in record["labels"]]
    assert found.boxes[LABELS.index("blue")] is None
    rows, columns = np.nonzero(found.mask("red"))
    x, y, width, height = found.boxes[LABELS.index("red")] or [0] * 4
    assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize("opacity", [-0.1, 2, float("nan")])
def test_an_opacity_out_of_range_is_refused(opacity: float, found: Segmentation) -> None:
    with pytest.raises(ArgumentError) as error:
        found.overlay(opacity=opacity)
    assert error.value.argument == "opacity"


def test_mistyped_labels_and_formats_name_what_was_meant(found: Segmentation, tmp_path: Path) -> None:
    for call, meant in (
        (lambda: found.mask("rad"), "'red'"),
        (lambda: found.mask("zzz"), "'blue'"),  # all of them
        (lambda: found.save(tmp_path, formats="overlai"), "'overlay'"),
    ):
        with pytest.raises(ArgumentError) as error:
            call()
        assert meant in error.value.reason
        assert ("did you mean" in error.value.reason) == (meant != "'blue'")


def test_save_replaces_no_file_that_it_did_not_write(found: Segmentation, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"shapes": []}')
    with pytest.raises(ArgumentError) as error:
        found.save(tmp_path, "a", formats="mask")
    assert error.value.argument == "folder"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": '{"shapes": []}'}


def test_arrays_of_one_colour_and_other_proportions_are_two_images(tmp_path: Path) -> None:
    for shape in ((32, 48, 3), (48, 32, 3), (32, 48, 3)):
        run(np.zeros(shape, np.uint8), LABELS).save(tmp_path, formats="mask")
    assert {path.stem for path in tmp_path.glob("*.json")} == {"image", "image-2"}


def test_a_name_of_a_video_is_refused(found: Segmentation, tmp_path: Path) -> None:
    record = found.save(tmp_path / "other", "clip", formats="rle")
    (tmp_path / "clip.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(ArgumentError) as error:
        found.save(tmp_path, "clip", formats="mask")
    assert error.value.argument == "name"
    assert {path.name for path in tmp_path.iterdir()} == {"clip.jsonl", "other"}
