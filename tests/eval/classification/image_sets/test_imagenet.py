"""ImageNet and its variants."""

from __future__ import annotations

import pytest

from eval.classification.image_sets import open_image_set
from eval.classification.names import synsets
from pacl.errors import UserError
from tests.eval.classification.image_sets.files import classes_of, save
from tests.paths import SHARED

SAMPLE = SHARED / "data" / "imagenet-sample"


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


def test_what_has_no_synset_is_noted(tmp_path):
    save(tmp_path / "flat" / "n01443537_goldfish.JPEG")
    assert open_image_set("imagenet", tmp_path / "flat").notes == ()
    save(tmp_path / "flat" / "mine.JPEG")
    images = open_image_set("imagenet", tmp_path / "flat")
    assert (len(images), len(images.notes)) == (1, 1)
    assert "mine.JPEG" in images.notes[0]
    save(tmp_path / "folders" / "n01443537" / "a.JPEG")
    assert open_image_set("imagenet", tmp_path / "folders").notes == ()
    save(tmp_path / "folders" / "goldfish" / "b.JPEG")
    images = open_image_set("imagenet", tmp_path / "folders")
    assert (len(images), len(images.notes)) == (1, 1)


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
