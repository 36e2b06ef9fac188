"""A data set of one's own, in folders named by class."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from eval.classification.image_sets import equal_images, open_image_set, trained_and_tested
from pacl.errors import ArgumentError, UserError
from tests.eval.classification.image_sets.files import save


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


@pytest.mark.parametrize(
    ("folders", "prompts", "notes"),
    [
        (("001.red_fox", "002.cat"), (("red fox",), ("cat",)), 0),
        (("1", "2"), (("1",), ("2",)), 1),
        (("cat", "n01440764"), (("cat",), ("n01440764",)), 1),
    ],
)
def test_numbers_are_no_names(tmp_path, folders, prompts, notes):
    for folder in folders:
        save(tmp_path / "data" / folder / "a.png")
    images = open_image_set("custom", tmp_path / "data")
    assert (images.keys, images.prompts, len(images.notes)) == (folders, prompts, notes)
    (tmp_path / "names.txt").write_text(f"a fox={folders[0]}\na cat={folders[1]}\n")
    assert open_image_set("custom", tmp_path / "data", names=tmp_path / "names.txt").notes == ()


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
        ("a star=one\na ball\n", "'one' is no class"),
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


def test_a_split_of_custom_is_the_name_of_a_folder(tmp_path):
    save(tmp_path / "set/ok/a/1.png")
    save(tmp_path / "set/ok/b/1.png")
    assert len(open_image_set("custom", tmp_path / "set", "ok")) == 2
    for split in ("../set/ok", str(tmp_path / "set/ok"), "", ".", "..", "ok/", "ok/a"):
        with pytest.raises(UserError, match=r"split '.*'"):
            open_image_set("custom", tmp_path / "set", split)


@pytest.mark.parametrize("folder", ["{}", "{:02}", "{:03}"])
@pytest.mark.parametrize("name", ["names.json", "coco.json", "names.yaml"])
def test_ids_of_a_file_are_the_numbers_of_the_folders(tmp_path, folder, name):
    for number in range(1, 12):
        save(tmp_path / "data" / folder.format(number) / "1.png")
    by_id = {number: f"word {number}" for number in reversed(range(1, 12))}
    contents = {
        "names.json": json.dumps({str(number): word for number, word in by_id.items()}),
        "coco.json": json.dumps({"categories": [{"id": number, "name": word} for number, word in by_id.items()]}),
        "names.yaml": "names:\n" + "".join(f"  {number}: {word}\n" for number, word in by_id.items()),
    }
    (tmp_path / name).write_text(contents[name])
    images = open_image_set("custom", tmp_path / "data", names=tmp_path / name)
    assert images.prompts == tuple((f"word {int(key)}",) for key in images.keys)


@pytest.mark.parametrize("ids", [(0, 1), (1, 3), (1, 2, 3)])
@pytest.mark.parametrize("keys", [("1", "2"), ("a", "b"), ("1", "01")])
def test_ids_that_are_other_than_the_folders_are_refused(tmp_path, ids, keys):
    for key in keys:
        save(tmp_path / "data" / key / "1.png")
    names = tmp_path / "names.json"
    names.write_text(json.dumps({str(number): f"word {number}" for number in ids}))
    with pytest.raises(ArgumentError) as raised:
        open_image_set("custom", tmp_path / "data", names=names)
    assert raised.value.argument == "names"


@pytest.mark.parametrize("form", ["{}", "class{}", "{}_x"])
def test_lines_never_name_numbered_folders_in_the_order_of_their_text(tmp_path, form):
    for number in range(1, 12):
        save(tmp_path / "data" / form.format(number) / "1.png")
    names = tmp_path / "names.txt"
    names.write_text("".join(f"word {chr(64 + number)}\n" for number in range(1, 12)))
    with pytest.raises(ArgumentError) as raised:
        open_image_set("custom", tmp_path / "data", names=names)
    assert raised.value.argument == "names"
    names.write_text("".join(f"word {number}={form.format(number)}\n" for number in range(1, 12)))
    images = open_image_set("custom", tmp_path / "data", names=names)
    assert images.prompts == tuple((f"word {re.sub('[^0-9]', '', key)}",) for key in images.keys)


@pytest.mark.parametrize("parts", [("Train", "Test"), ("train", "validation"), ("images", "masks")])
def test_folders_that_are_splits_are_no_classes(tmp_path, parts):
    for part in parts:
        for key in ("cat", "dog"):
            save(tmp_path / part / key / "1.png")
    with pytest.raises(UserError):
        open_image_set("custom", tmp_path)
    with pytest.raises(UserError):
        open_image_set("custom", tmp_path, "all")
    assert open_image_set("custom", tmp_path, parts[1]).keys == ("cat", "dog")


def test_all_splits_give_classes_whatever_they_are_called(tmp_path):
    for name in ("training/owl/a.png", "Valid/cat/a.png", "Valid/dog/a.png", "notes/x/a.png"):
        save(tmp_path / name)
    assert open_image_set("custom", tmp_path, "Valid").keys == ("cat", "dog", "owl")


def test_what_is_left_out_is_noted(tmp_path):
    for name in ("set/cat/a.png", "set/dog/b.png", "set/loose.png", "apart/c.png"):
        save(tmp_path / name)
    (tmp_path / "set/dog/linked").symlink_to(tmp_path / "apart", target_is_directory=True)
    assert open_image_set("custom", tmp_path / "set").labels.tolist() == [0, 1, 1]
    (tmp_path / "set/owl").mkdir()
    (tmp_path / "set/owl/d.heic").write_bytes(b"")
    notes = open_image_set("custom", tmp_path / "set").notes
    assert len(notes) == 3  # the class owl, loose.png, the HEIC
    assert sum("owl" in note for note in notes) == sum("loose.png" in note for note in notes) == 1
    assert sum(".heic 1" in note for note in notes) == 1


def test_images_that_are_there_several_times_are_counted(tmp_path):
    for name, grey in (("cat/a", 10), ("cat/b", 10), ("cat/c", 20), ("dog/a", 30), ("dog/b", 40), ("cat/d", 40)):
        save(tmp_path / f"{name}.png", grey)
    images = open_image_set("custom", tmp_path)
    assert equal_images(images) == (4, 2)  # cat/a twice in a class, dog/b in two
    assert equal_images(images.subset(np.array([0, 2, 4]))) == (0, 0)
    assert equal_images(replace(images, images=np.zeros((6, 4, 4, 3), np.uint8))) == (0, 0)


def test_test_images_that_are_trained_on_are_counted(tmp_path):
    for key in ("cat", "dog"):
        for i, grey in enumerate((10, 20)):
            save(tmp_path / "train" / key / f"{i}.png", grey)
        save(tmp_path / "test" / key / "new.png", 10 if key == "cat" else 30)
    train, test = (open_image_set("custom", tmp_path, split) for split in ("train", "test"))
    assert trained_and_tested(train, test) == 1
    assert trained_and_tested(test, train) == 2  # of a cat and of a dog
