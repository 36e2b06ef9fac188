"""A data set of one's own, in folders named by class."""

from __future__ import annotations

import pytest

from eval.classification.image_sets import open_image_set
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
