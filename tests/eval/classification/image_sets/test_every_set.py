"""What holds of every data set: errors, limits, splits, digests and names."""

from __future__ import annotations

import numpy as np
import pytest

from eval.classification.image_sets import IMAGE_BENCHMARKS, open_image_set, random_split
from eval.classification.names import class_keys, class_prompts
from pacl.errors import UserError
from pacl.prompts import fill, get_templates
from tests.eval.classification.image_sets.files import open_keys, save


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
