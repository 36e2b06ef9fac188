"""Data sets in the layouts of torchvision."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from eval.classification.image_sets import open_image_set
from pacl.errors import UserError
from tests.eval.classification.image_sets.files import classes_of, open_keys, save


def test_food101(tmp_path):
    root = tmp_path / "food-101"
    (root / "meta").mkdir(parents=True)
    (root / "meta/test.json").write_text(json.dumps({"waffles": ["waffles/7"], "apple_pie": ["apple_pie/1"]}))
    (root / "meta/train.json").write_text(json.dumps({"apple_pie": ["apple_pie/2"], "waffles": ["waffles/8"]}))
    for name in ("waffles/7", "apple_pie/1", "apple_pie/2", "waffles/8"):
        save(root / "images" / f"{name}.jpg")
    images = open_image_set("food101", tmp_path)
    assert {(path.stem, label) for path, label in zip(images.images, images.labels, strict=True)} == {
        ("7", 100),
        ("1", 0),
    }
    assert (images.full, len(images.keys)) == (25_250, 101)
    assert {path.stem for path in open_image_set("food101", tmp_path, "train").images} == {"2", "8"}


def test_stanford_cars(tmp_path):
    from scipy.io import savemat

    root = tmp_path / "stanford_cars"
    (root / "devkit").mkdir(parents=True)
    annotations = np.array([("00001.jpg", 1), ("00002.jpg", 196)], dtype=[("fname", "O"), ("class", "i4")])
    savemat(root / "cars_test_annos_withlabels.mat", {"annotations": annotations})
    savemat(root / "devkit/cars_train_annos.mat", {"annotations": annotations[::-1]})
    savemat(root / "devkit/cars_meta.mat", {"class_names": np.array(["one", "two"], dtype=object)})
    for part in ("cars_test", "cars_train"):
        for name in ("00001.jpg", "00002.jpg"):
            save(root / part / name)
    images = open_image_set("stanford_cars", tmp_path)
    assert images.labels.tolist() == [0, 195]
    assert classes_of(images) == ["AM General Hummer SUV 2000", "smart fortwo Convertible 2012"]
    assert images.images[0] == root / "cars_test/00001.jpg"
    assert open_image_set("stanford_cars", tmp_path, "train").labels.tolist() == [195, 0]


def test_oxford_pets(tmp_path):
    root = tmp_path / "oxford-iiit-pet"
    (root / "annotations").mkdir(parents=True)
    (root / "annotations/test.txt").write_text("american_bulldog_203 2 2 1\nEgyptian_Mau_14 12 1 5\n")
    (root / "annotations/trainval.txt").write_text("Abyssinian_100 1 1 1\n")
    for name in ("american_bulldog_203", "Egyptian_Mau_14", "Abyssinian_100"):
        save(root / "images" / f"{name}.jpg")
    images = open_image_set("oxford_pets", tmp_path)
    assert classes_of(images) == ["american bulldog", "Egyptian Mau"]
    assert images.labels.tolist() == [1, 11]  # the annotations' numbers, from 0
    assert (images.benchmark.main, images.full) == ("mean_per_class", 3_669)
    assert classes_of(open_image_set("oxford_pets", tmp_path, "trainval")) == ["Abyssinian"]


def test_sun397(tmp_path):
    root = tmp_path / "SUN397"
    abbey = save(root / "a/abbey/sun_b.jpg")
    save(root / "a/abbey/sun_a.jpg")
    nested = save(root / "t/theater/indoor_seats/sun_c.jpg")
    images = open_image_set("sun397", tmp_path, "all")
    assert classes_of(images) == ["abbey", "abbey", "theater indoor seats"]
    with pytest.raises(UserError, match=r"split test: .*Testing_01\.txt.*Partitions\.zip"):
        open_image_set("sun397", tmp_path)
    (root / "Testing_01.txt").write_text("/t/theater/indoor_seats/sun_c.jpg\n/a/abbey/sun_b.jpg\n")
    images = open_image_set("sun397", tmp_path)
    assert (images.images, images.full) == ([nested, abbey], 19_850)
    (root / "Testing_01.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"Testing_01\.txt"):
        open_image_set("sun397", tmp_path)


def test_eurosat_has_torchvisions_order(tmp_path):
    keys = open_keys("eurosat")
    for key in keys:
        save(tmp_path / "eurosat/2750" / key / f"{key}_1.jpg")
    reference = torchvision.datasets.EuroSAT(str(tmp_path))
    images = open_image_set("eurosat", tmp_path)
    assert list(images.keys) == reference.classes
    assert [(str(path), label) for path, label in zip(images.images, images.labels, strict=True)] == reference.samples
    assert images.prompts[images.keys.index("SeaLake")] == ("lake or sea",)


def test_caltech101_has_torchvisions_order_and_no_background(tmp_path):
    keys = open_keys("caltech101")
    for key in (*keys, "BACKGROUND_Google"):
        save(tmp_path / "caltech101/101_ObjectCategories" / key / "image_0001.jpg")
    reference = torchvision.datasets.Caltech101(str(tmp_path))
    images = open_image_set("caltech101", tmp_path)
    assert list(images.keys) == reference.categories
    assert images.labels.tolist() == reference.y
    assert images.prompts[images.keys.index("Faces_easy")] == ("centered face",)


def cifar_folder(root: Path, reference: type, monkeypatch, labels_key: str, names_key: str, names: list[str]) -> None:
    """Files in the published format with two images; torchvision's checksums are replaced by those of the files."""
    folder = root / reference.base_folder
    folder.mkdir()

    def write(name: str, content: dict) -> list[str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    for attribute in ("train_list", "test_list"):
        listed = []
        for name, _ in getattr(reference, attribute):
            pixels = np.zeros((2, 3072), np.uint8)
            pixels[1, :1024] = 255  # the second is red
            listed.append(write(name, {"data": pixels, labels_key: [0, len(names) - 1]}))
        monkeypatch.setattr(reference, attribute, listed)
    _, checksum = write(reference.meta["filename"], {names_key: names})
    monkeypatch.setattr(reference, "meta", {**reference.meta, "md5": checksum})


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(tmp_path, monkeypatch, name):
    reference = getattr(torchvision.datasets, name.upper())
    labels_key, names_key = {
        "cifar10": ("labels", "label_names"),
        "cifar100": ("fine_labels", "fine_label_names"),
    }[name]
    cifar_folder(tmp_path, reference, monkeypatch, labels_key, names_key, open_keys(name))
    images = open_image_set(name, tmp_path)
    assert classes_of(images) == {"cifar10": ["airplane", "truck"], "cifar100": ["apple", "worm"]}[name]
    assert images.read(1).shape == (32, 32, 3)
    assert images.read(1)[0, 0].tolist() == [255, 0, 0]
    assert len(open_image_set(name, tmp_path, "train")) == 2 * len(reference.train_list)
    file = tmp_path / reference.base_folder / reference.test_list[0][0]
    file.write_bytes(file.read_bytes() + b"x")  # not the published file: never unpickled
    with pytest.raises(UserError, match="corrupted"):
        open_image_set(name, tmp_path)
