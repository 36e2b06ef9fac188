"""Every data set can be read in its official layout (with few images), and missing files are reported."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from eval.classification.image_sets import IMAGE_BENCHMARKS, open_image_set, random_split
from eval.classification.names import class_keys, class_prompts, synsets
from pacl.errors import ArgumentError, UserError
from pacl.prompts import fill, get_templates
from tests.paths import SHARED

SAMPLE = SHARED / "data" / "imagenet-sample"


def save(path: Path, grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (grey, 0, 0)).save(path)
    return path


def classes_of(images) -> list[str]:
    return [images.prompts[label][0] for label in images.labels]


# --- ImageNet and variants -------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["val", "imagenet/val", "."])
def test_imagenet_in_folders(tmp_path, folder):
    for synset, name in (("n01440764", "a.JPEG"), ("n15075141", "b.JPEG"), ("n01440764", "c.JPEG")):
        save(tmp_path / folder / synset / name)
    images = open_image_set("imagenet", tmp_path)
    assert images.labels.tolist() == [0, 0, 999]
    assert classes_of(images) == ["tench", "tench", "toilet paper"]
    assert (len(images.keys), images.full, images.split) == (1000, 50_000, "val")


@pytest.mark.parametrize("pattern", ["{}_tench.JPEG", "{}_10026.JPEG", "ILSVRC2012_val_00000293_{}.JPEG"])
def test_imagenet_in_one_folder_of_files_named_by_synset(tmp_path, pattern):
    save(tmp_path / pattern.format("n01443537"))
    save(tmp_path / pattern.format("n01440764"))
    assert sorted(open_image_set("imagenet", tmp_path).labels.tolist()) == [0, 1]


def test_unsorted_imagenet_is_refused(tmp_path):
    save(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(UserError, match="does not contain its class"):
        open_image_set("imagenet", tmp_path)


def test_validation_images_are_never_used_for_training(tmp_path):
    save(tmp_path / "n01440764" / "a.JPEG")
    with pytest.raises(UserError, match="contains no train"):
        open_image_set("imagenet", tmp_path, "train")
    save(tmp_path / "train" / "n01443537" / "b.JPEG")
    assert open_image_set("imagenet", tmp_path, "train").labels.tolist() == [1]


def test_imagenet_names_match_their_synsets():
    """A wrong order would not raise an error, but give an accuracy of about 0 %."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    names = dict(zip(synsets(), IMAGENET_CLASSNAMES, strict=True))
    known = {
        "n01440764": "tench", "n02123045": "tabby cat", "n02112018": "Pomeranian", "n03345487": "fire truck",
        "n04141327": "scabbard", "n07753592": "banana", "n09472597": "volcano", "n15075141": "toilet paper",
    }  # fmt: skip
    assert {synset: names[synset] for synset in known} == known
    assert list(synsets()) == sorted(set(synsets()))


def test_folders_of_imagenet_v2_are_numbers_not_strings(tmp_path):
    numbers = [0, 1, 2, 10, 100, 999]
    for number in numbers:
        save(tmp_path / "imagenetv2-matched-frequency-format-val" / str(number) / "a.jpeg")
    images = open_image_set("imagenet_v2", tmp_path)
    assert sorted(images.labels.tolist()) == numbers
    assert {path.parent.name: label for path, label in zip(images.images, images.labels, strict=True)} == {
        str(number): number for number in numbers
    }
    save(tmp_path / "imagenetv2-matched-frequency-format-val" / "1000" / "a.jpeg")
    with pytest.raises(UserError, match="0 to 999"):
        open_image_set("imagenet_v2", tmp_path)


@pytest.mark.parametrize(
    ("name", "folder", "synset", "words", "count"),
    [
        ("imagenet_a", "imagenet-a", "n01498041", "stingray", 200),
        ("imagenet_r", "imagenet-r", "n01443537", "goldfish", 200),
        ("imagenet_sketch", "sketch", "n01443537", "goldfish", 1000),
    ],
)
def test_variants_have_their_own_classes(tmp_path, name, folder, synset, words, count):
    save(tmp_path / folder / synset / "a.jpg")
    (tmp_path / folder / "README.txt").write_text("as in the archive")
    images = open_image_set(name, tmp_path)
    assert len(images.keys) == len(set(images.keys)) == count
    assert classes_of(images) == [words]
    assert set(images.keys) <= set(synsets())
    assert images.keys == tuple(sorted(images.keys))


def test_a_class_of_another_variant_is_refused(tmp_path):
    save(tmp_path / "imagenet-a" / "n01440764" / "a.jpg")  # tench is not one of the 200 classes
    with pytest.raises(UserError, match="ImageNet-A"):
        open_image_set("imagenet_a", tmp_path)


# --- layouts of torchvision -----------------------------------------------------------------------


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


def open_keys(name: str) -> list[str]:
    return list(class_keys(name))


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


# --- custom ---------------------------------------------------------------------------------------


def test_custom_folders(tmp_path):
    save(tmp_path / "red_fox/b.png")
    save(tmp_path / "red_fox/deep/a.png")
    save(tmp_path / "cat/a.png")
    (tmp_path / "empty").mkdir()
    images = open_image_set("custom", tmp_path)
    assert images.keys == ("cat", "red_fox")
    assert images.prompts == (("cat",), ("red fox",))
    assert images.labels.tolist() == [0, 1, 1]
    assert (images.split, images.full) == ("all", 3)


def test_splits_of_a_custom_set_have_the_same_classes(tmp_path):
    for name in ("train/cat/a.png", "train/dog/a.png", "train/owl/a.png", "test/owl/b.png", "test/dog/b.png"):
        save(tmp_path / name)
    images = open_image_set("custom", tmp_path)
    assert (images.split, images.keys, images.labels.tolist()) == ("test", ("cat", "dog", "owl"), [1, 2])
    assert open_image_set("custom", tmp_path, "train").labels.tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="split dev"):
        open_image_set("custom", tmp_path, "dev")


def test_names_by_key_or_by_order(tmp_path):
    for key in ("n1", "n2"):
        save(tmp_path / key / "a.png")
    names = tmp_path / "names.txt"
    names.write_text("a dog;a puppy=n2\na cat=n1\n")
    images = open_image_set("custom", tmp_path, names=names)
    assert images.prompts == (("a cat",), ("a dog", "a puppy"))
    assert images.names == str(names)
    names.write_text("a cat\na dog\n")
    assert open_image_set("custom", tmp_path, names=names).prompts == (("a cat",), ("a dog",))
    names.write_text("sunglasses=n1\nsunglasses=n2\n")  # as in ImageNet
    assert open_image_set("custom", tmp_path, names=names).prompts == (("sunglasses",), ("sunglasses",))
    for wrong in ("a cat\n", "a cat=n1\na dog=n3\n", "a\nb\nc\n"):
        names.write_text(wrong)
        with pytest.raises(UserError, match=r"names .*(2 classes|no class)"):
            open_image_set("custom", tmp_path, names=names)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a star=Star\na ball=Ball\n", "'Star' is no class of custom; did you mean 'star'?"),
        ("a star=stars\na ball=ball\n", "'stars' is no class of custom; did you mean 'star'?"),
        ("a star=one\na ball\n", '"one" is no class'),
        ("Star\nBall\n", '"Star" stands in the place of the class "ball"'),
    ],
)
def test_keys_that_are_no_classes_are_never_taken_by_their_order(tmp_path, text, named):
    for key in ("ball", "star"):
        save(tmp_path / "data" / key / "1.png")
    names = tmp_path / "names.txt"
    names.write_text(text)
    with pytest.raises(ArgumentError) as raised:
        open_image_set("custom", tmp_path / "data", names=names)
    assert raised.value.argument == "names"
    assert named in raised.value.reason


# --- all data sets ----------------------------------------------------------------------------------


def test_missing_files_are_reported_with_their_expected_place(tmp_path):
    for name, benchmark in IMAGE_BENCHMARKS.items():
        if name == "custom":
            continue
        with pytest.raises(UserError) as told:
            open_image_set(name, tmp_path)
        message = str(told.value)
        assert benchmark.source in message
        assert str(tmp_path) in message
        assert "\n" not in message
        assert ("download" in message) == (benchmark.torchvision is not None)
        assert list(tmp_path.iterdir()) == []  # torchvision's Caltech101 makes its folder when it is asked


def test_other_errors_are_one_line(tmp_path):
    with pytest.raises(UserError, match="no such data set; choose from imagenet,"):
        open_image_set("imagnet", tmp_path)
    with pytest.raises(UserError, match="split dev: cifar10 has test, train"):
        open_image_set("cifar10", tmp_path, "dev")
    with pytest.raises(UserError, match="data "):
        open_image_set("cifar10", tmp_path / "nowhere")
    with pytest.raises(UserError, match="download True"):
        open_image_set("imagenet", tmp_path, download=True)
    with pytest.raises(UserError, match="contains 0 folders"):
        open_image_set("custom", tmp_path)
    with pytest.raises(UserError, match="limit 0"):
        open_image_set("custom", tmp_path, limit=0)


def test_a_limit_takes_images_of_all_classes(tmp_path):
    for i in range(4):
        for j in range(6):
            save(tmp_path / f"class{i}/{j}.png")
    images = open_image_set("custom", tmp_path, limit=8)
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(set(images.images)) == 8
    assert images.full == 24
    assert len(open_image_set("custom", tmp_path, limit=100)) == 24


def test_random_splits_have_the_right_sizes_and_are_disjoint_and_reproducible():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [40, 35, 31]))
    train, test = (random_split(labels, part, 30, None) for part in ("train", "test"))
    assert np.bincount(labels[train]).tolist() == [30, 30, 30]
    assert sorted([*train, *test]) == list(range(106))
    assert (train == random_split(labels, "train", 30, None)).all()
    some = random_split(labels, "test", 20, 5)
    assert np.bincount(labels[some]).tolist() == [5, 5, 5]
    assert not set(some) & set(random_split(labels, "train", 20, 5))


def test_a_split_of_custom_is_the_name_of_a_folder(tmp_path):
    save(tmp_path / "set/ok/a/1.png")
    save(tmp_path / "set/ok/b/1.png")
    assert len(open_image_set("custom", tmp_path / "set", "ok")) == 2
    for split in ("../set/ok", str(tmp_path / "set/ok"), "", ".", "..", "ok/", "ok/a"):
        with pytest.raises(UserError, match=r"split '.*'"):
            open_image_set("custom", tmp_path / "set", split)


def test_a_broken_link_is_an_error(tmp_path):
    save(tmp_path / "a/1.png")
    save(tmp_path / "b/deep/1.png")
    (tmp_path / "b/deep/2.png").symlink_to(tmp_path / "a/1.png")
    assert len(open_image_set("custom", tmp_path)) == 3
    (tmp_path / "b/deep/3.png").symlink_to("nothing.png")
    with pytest.raises(UserError, match=r"b/deep/3\.png is a link to nothing\.png"):
        open_image_set("custom", tmp_path)


def test_digests_depend_on_the_images(tmp_path):
    first = save(tmp_path / "a/1.png")
    save(tmp_path / "b/1.png")
    images = open_image_set("custom", tmp_path)
    before = images.digest()
    assert before == open_image_set("custom", tmp_path).digest()
    assert before != images.subset(np.array([0])).digest()
    first.write_bytes(first.read_bytes() + b"more")
    assert images.digest() != before


@pytest.mark.parametrize("name", [name for name in IMAGE_BENCHMARKS if name not in ("custom",)])
def test_published_names_are_filled_into_templates_as_they_are(name):
    keys = class_keys(name)
    prompts, _ = class_prompts(name, keys)
    assert len(prompts) == len(keys)
    for template in get_templates("imagenet"):
        for (prompt,) in prompts:
            assert fill(template, prompt) == template.replace("{}", prompt)


def test_class_counts():
    counts = {name: len(open_keys(name)) for name in IMAGE_BENCHMARKS if name != "custom"}
    assert counts == {
        "imagenet": 1000, "imagenet_v2": 1000, "imagenet_a": 200, "imagenet_r": 200, "imagenet_sketch": 1000,
        "food101": 101, "stanford_cars": 196, "oxford_pets": 37, "sun397": 397, "eurosat": 10, "caltech101": 101,
        "cifar10": 10, "cifar100": 100,
    }  # fmt: skip


def test_a_sample_of_imagenet(tmp_path):
    if not SAMPLE.is_dir():
        pytest.skip(f"no {SAMPLE}")
    images = open_image_set("imagenet", SAMPLE)
    assert images.labels.tolist() == list(range(1000))
    same = sum(
        path.stem.partition("_")[2].replace("_", " ").lower() == words.lower()
        for path, (words,) in zip(images.images, images.prompts, strict=True)
    )
    assert same > 600  # of the file names' own words; CLIP's differ for the others
