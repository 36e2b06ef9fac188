"""Label conversions, checked by the class names before and after, which reveals any off-by-one error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from eval.segmentation import label_maps
from eval.segmentation.benchmark import NAMES
from eval.segmentation.label_maps import CITYSCAPES, COCO_OBJECT, COCO_STUFF, CONTEXT, NEVER, VOID, relabel
from pacl.errors import UserError
from pacl.prompts import read_classes


def labels(benchmark: str) -> list[str]:
    return [label.name for label in read_classes(NAMES / "plain" / f"{benchmark}.txt")]


def coco_182() -> list[str]:
    """The 182 names in COCO's order; some things share theirs with no class, so this is no class file."""
    lines = (NAMES / "coco_182.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_coco_names_are_those_of_all_ids():
    names = coco_182()
    assert len(names) == 182
    assert (names[0], names[12], names[89], names[91], names[181]) == (
        *("person", "stop sign", "toothbrush", "banner", "wood"),
    )
    unused = [names[value] for value in label_maps.COCO_UNUSED]
    assert unused == [
        *("street sign", "hat", "shoe", "eye glasses", "plate", "mirror", "window", "desk", "door", "blender"),
        "hair brush",
    ]


def test_coco_stuff_by_name():
    """Every raw value means the same class before and after; the eleven unused ones are no class."""
    names, classes = coco_182(), labels("coco_stuff")
    assert len(COCO_STUFF) == 256
    for value, name in enumerate(names):
        if value in label_maps.COCO_UNUSED:
            assert COCO_STUFF[value] == NEVER
        else:
            assert classes[COCO_STUFF[value]] == name
    assert sorted(COCO_STUFF[COCO_STUFF >= 0]) == [*range(171), VOID]
    assert COCO_STUFF[255] == VOID
    assert (COCO_STUFF[182:255] == NEVER).all()
    # By hand: three unused values lie below a parking meter's 13 and a wood's 181 has all eleven below it.
    assert [COCO_STUFF[value] for value in (0, 10, 12, 13, 89, 91, 181)] == [0, 10, 11, 12, 79, 80, 170]


def test_coco_object_by_name():
    """The things after the background; stuff and pixels without a label are background."""
    names, classes = coco_182(), labels("coco_object")
    for value, name in enumerate(names):
        if value in label_maps.COCO_UNUSED:
            assert COCO_OBJECT[value] == NEVER
        elif value < 91:
            assert classes[COCO_OBJECT[value]] == name
        else:
            assert COCO_OBJECT[value] == 0
    assert sorted(set(COCO_OBJECT.tolist())) == [NEVER, *range(81)]
    assert COCO_OBJECT[255] == 0
    assert [COCO_OBJECT[value] for value in (0, 12, 89, 91)] == [1, 12, 80, 0]


def test_cityscapes_by_name():
    classes = labels("cityscapes")
    found = {classes[CITYSCAPES[value]]: value for value in range(34) if CITYSCAPES[value] != VOID}
    assert found == {
        "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
        "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26,
        "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
    }  # fmt: skip
    assert list(found) == classes
    assert CITYSCAPES[255] == VOID
    assert (CITYSCAPES[34:255] == NEVER).all()


def test_context_by_name():
    classes = labels("context60")
    assert len(CONTEXT) == 460
    found = {classes[CONTEXT[value]]: value for value in range(460) if CONTEXT[value]}
    assert found == label_maps.CONTEXT_IDS
    assert list(found) == classes[1:]
    assert [found[name] for name in ("aeroplane", "bag", "pottedplant", "sign", "tvmonitor", "wood")] == [
        *(2, 9, 308, 355, 427, 458),
    ]
    assert [CONTEXT[value] for value in (0, 1, 2, 9, 284, 458, 459)] == [0, 0, 1, 2, 37, 59, 0]


# ---------------------------------------------------------------- applying them


def test_relabel():
    raw = np.array([[0, 91, 181], [255, 10, 12]])
    mask = relabel(raw, COCO_STUFF, "a.png")
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[0, 80, 170], [255, 10, 11]]
    assert relabel(raw, COCO_OBJECT, "a.png").tolist() == [[1, 0, 0], [0, 11, 12]]


@pytest.mark.parametrize(
    ("value", "table"), [(11, COCO_STUFF), (182, COCO_OBJECT), (300, COCO_STUFF), (34, CITYSCAPES), (460, CONTEXT)]
)
def test_values_that_a_data_set_does_not_have(value, table):
    with pytest.raises(UserError, match=rf"a\.png .*\b{value}\b"):
        relabel(np.array([[0, value]]), table, "a.png")


# ---------------------------------------------------------------- Pascal Context's files


def test_context_label_files(tmp_path):
    values = np.array([[0, 2, 459], [284, 284, 1]], np.uint16)
    savemat(tmp_path / "a.mat", {"LabelMap": values, "other": 1})
    assert label_maps.read_context(tmp_path / "a.mat").tolist() == values.tolist()


def test_context_label_files_that_cannot_be_read(tmp_path):
    savemat(tmp_path / "other.mat", {"labels": np.zeros((2, 2))})
    savemat(tmp_path / "text.mat", {"LabelMap": "words"})
    savemat(tmp_path / "whole.mat", {"LabelMap": np.arange(5000, dtype=np.uint16).reshape(50, 100)})
    (tmp_path / "cut.mat").write_bytes((tmp_path / "whole.mat").read_bytes()[:500])
    (tmp_path / "empty.mat").touch()
    for name in ("none", "other", "text", "cut", "empty"):
        with pytest.raises(UserError, match=rf"{name}\.mat") as caught:
            label_maps.read_context(tmp_path / f"{name}.mat")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_context_file_with_an_unknown_type_is_refused_before_scipy_reads_it(tmp_path, compressed):
    path = tmp_path / "a.mat"
    savemat(path, {"LabelMap": np.eye(4, dtype=np.uint16), "x": {"a": 1, "b": ["c", 3]}}, do_compression=compressed)
    whole = path.read_bytes()
    label_maps._check_elements(whole)
    tag = whole.find(b"LabelMap") + 8 if not compressed else 128
    path.write_bytes(whole[:tag] + b"\x12\x02\0\0" + whole[tag + 4 :])
    with pytest.raises(ValueError, match="type"):
        label_maps._check_elements(path.read_bytes())
    with pytest.raises(UserError, match=r"a\.mat"):
        label_maps.read_context(path)


def test_without_scipy(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(UserError, match=r"pacl\[eval\]"):
        label_maps.read_context(tmp_path / "a.mat")


def test_context_names_are_compared_with_the_data_sets_own(tmp_path):
    names = dict.fromkeys(range(1, 460), "something")
    names |= {number: name for name, number in label_maps.CONTEXT_IDS.items()}
    labels_txt = tmp_path / "labels.txt"

    def write() -> Path:
        labels_txt.write_text("".join(f"{number}: {name}\r\n" for number, name in names.items()))
        return labels_txt

    label_maps.check_context_names(write())
    names[308], names[307] = names[307], names[308]
    with pytest.raises(UserError, match=r"labels\.txt.*308.*something.*pottedplant"):
        label_maps.check_context_names(write())
    with pytest.raises(UserError, match=r"none\.txt"):
        label_maps.check_context_names(tmp_path / "none.txt")
