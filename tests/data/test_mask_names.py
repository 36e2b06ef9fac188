"""Masks under other names than expected: the error says what is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pacl.data.masks import MaskFolder
from pacl.errors import ArgumentError, UserError


@pytest.fixture
def make(tmp_path: Path):
    """A function that writes images and masks of these paths."""

    def made(images: list[str], masks: list[str]) -> MaskFolder:
        (tmp_path / "names.txt").write_text("sky\nball\n")
        for folder, names in (("images", images), ("masks", masks)):
            for name in names:
                path = tmp_path / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (4, 3)).save(path, None if path.suffix else "PNG")
            (tmp_path / folder).mkdir(exist_ok=True)
        return MaskFolder(*(str(tmp_path / part) for part in ("images", "masks", "names.txt")))

    return made


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("ending", ["_mask.png", "_labelTrainIds.png", ".PNG", "-seg.png", " (1).png"])
def test_another_ending_is_named_and_works(make, ending, partial):
    folder = make(["001.jpg", "002.jpg"], [f"001{ending}", f"002{ending}"])
    with pytest.raises(ArgumentError) as error:
        len(replace(folder, partial=partial))
    assert error.value.argument == "mask_ending"
    assert f"001{ending}" in error.value.reason
    assert f"use {ending}" in error.value.reason
    assert len(replace(folder, mask_ending=ending)) == 2


def test_images_with_an_ending_of_their_own(make):
    folder = make(["1_image.jpg", "2_image.jpg"], ["1_mask.png", "2_mask.png"])
    with pytest.raises(ArgumentError) as error:
        len(folder)
    assert error.value.argument == "image_ending"
    assert len(replace(folder, image_ending="_image.jpg", mask_ending="_mask.png")) == 2


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (["1.jpg", "2.jpg"], "JPEG"),
        (["1_mask.JPG", "2_mask.JPG"], "JPEG"),
        (["1.tif", "2.tif"], r"\.tif"),
        (["1", "2"], r"other files \(1\)"),
        (["x/1.png", "x/2.png"], "same folder"),
        (["mask_1.png", "mask_2.png"], "mask_1.png"),
        ([], "no files"),
    ],
)
def test_what_lies_there_is_named(make, masks, words):
    for partial in (False, True):
        with pytest.raises(UserError, match=words) as error:
            len(replace(make(["1.png", "2.png"], masks), partial=partial))
        assert "set partial" not in str(error.value)


def test_other_case(make):
    with pytest.raises(UserError, match="upper and lower case"):
        len(make(["img_1.png"], ["IMG_1.png"]))


def test_partial_is_advised_only_where_there_are_others(make):
    folder = make(["1.png", "2.png"], ["1.png"])
    with pytest.raises(UserError, match="set partial"):
        len(folder)
    assert len(replace(folder, partial=True)) == 1
    with pytest.raises(UserError) as error:
        len(replace(folder, mask_ending="_x.png"))
    assert "set partial" not in str(error.value)


def test_masks_without_an_image(make):
    assert make(["1.png"], ["1.png", "sub/2.png"]).orphans() == ["sub/2.png"]


def test_an_ending_that_was_asked_for_is_named_where_no_file_has_it(make):
    folder = make(["1.jpg", "2.jpg"], [])
    for name in ("1", "2"):
        (Path(folder.masks) / f"{name}.json").touch()
    with pytest.raises(ArgumentError) as error:
        len(replace(folder, mask_ending=".mask.png"))
    assert (error.value.argument, error.value.value) == ("mask_ending", ".mask.png")
    with pytest.raises(UserError, match=r"\.json"):  # files of another kind in place of .png
        len(folder)
