"""What is odd about labels is said before anything is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.segmentation import label_check, prepare
from eval.segmentation import run as segmentation
from eval.segmentation.registry import custom
from pacl.data.masks import MaskFolder
from pacl.errors import ArgumentError, UserError


def odd(folder: MaskFolder, own: bool = True) -> list[str]:
    findings = label_check.check(folder)
    assert not label_check.problems(folder, findings)
    return label_check.warnings(folder, findings, own=own)


def wrong(folder: MaskFolder) -> list[str]:
    return label_check.problems(folder, label_check.check(folder))


@pytest.fixture
def folder(tmp_path: Path) -> MaskFolder:
    """Two different images of 20 x 10 with masks of 0 and 1: nothing is odd."""
    (tmp_path / "names.txt").write_text("sky\nball\n")
    for i, name in enumerate(("a", "b")):
        image = np.full((10, 20, 3), 40 * i, np.uint8)
        write(tmp_path, name, np.repeat([[0, 1]], [5, 15], axis=1) * np.ones((10, 1)), image)
    return MaskFolder(*(str(tmp_path / part) for part in ("images", "masks", "names.txt")))


def write(root: Path, name: str, mask: object, image: np.ndarray | None = None) -> None:
    for part in ("images", "masks"):
        (root / part).mkdir(exist_ok=True)
    Image.fromarray(np.array(mask, np.uint8)).save(root / "masks" / f"{name}.png")
    if image is not None:
        Image.fromarray(image).save(root / "images" / f"{name}.png")


def turned(path: Path, size: tuple[int, int], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, (1, 2, 3)).save(path, exif=exif)


def test_nothing_is_said_where_nothing_is_odd(folder):
    assert odd(folder) == []


def test_masks_of_0_and_255(folder, tmp_path):
    for name in "ab":
        write(tmp_path, name, [[0] * 15 + [255] * 5] * 10)
    absent, binary = odd(folder)
    assert "1 of the 2 classes (ball)" in absent
    assert "255" in binary
    assert "25%" in binary
    assert "palette" in binary
    (tmp_path / "palette.txt").write_text("sky:0,0,0::\nball:255,255,255::\n")
    as_colours = replace(folder, palette=str(tmp_path / "palette.txt"))
    assert odd(as_colours) == []
    assert np.unique(as_colours[0].mask).tolist() == [0, 1]


def test_many_ignored_pixels_name_their_value(folder, tmp_path):
    write(tmp_path, "a", [[0] * 8 + [1] * 4 + [255] * 8] * 10)
    (line,) = odd(folder)
    assert "20%" in line
    assert "value 255" in line
    assert odd(folder, own=False) == []  # published benchmarks ignore much


def test_masks_without_any_scored_pixel_are_a_problem(folder):
    assert wrong(folder) == []
    every = replace(folder, ignore=(*range(256),))
    assert len(wrong(every)) == 1


def test_an_ignored_value_that_is_also_a_classs(folder):
    lines = odd(replace(folder, ignore=(0, 255)))
    assert any("value 0 is ignored" in line and "sky" in line for line in lines)


def test_an_offset_that_is_one_off(folder, tmp_path):
    (tmp_path / "names.txt").write_text("background\nsky\nball\n")
    for name in "ab":
        write(tmp_path, name, [[0, 1, 2, 2]] * 10, np.full((10, 4, 3), ord(name), np.uint8))
    assert odd(folder) == []
    lines = odd(replace(folder, offset=1, ignore=(0, 255)))
    assert any("(ball)" in line and "offset" in line for line in lines)  # the last class is in no mask
    assert any("background" in line and "offset 1" in line for line in lines)


def test_classes_that_a_sample_does_not_show_are_no_wrong_offset(folder, tmp_path):
    (tmp_path / "names.txt").write_text("sky\nball\ncat\n")
    (line,) = odd(folder)
    assert "offset" in line
    (line,) = odd(replace(folder, limit=1))
    assert "offset" not in line
    assert "1 of 2" in line


@pytest.mark.parametrize(
    ("mask", "changes", "advice"),
    [
        ([1, 2], {}, "--offset 1"),
        ([0, 1, 2], {}, "add 0 to --ignore"),
        ([0, 1, 2], {"offset": 1}, "add it to --ignore"),  # ADE20K's 0
        ([0, 1, 255], {"ignore": ()}, "add it to --ignore"),
        ([0, 7], {}, "add them to the names"),
        ([*range(0, 250, 5)], {}, "JPEG"),
        ([*range(23)], {}, "names.txt has 2 lines, masks have values up to 22"),
        ([*range(12), *range(13, 23)], {}, "names.txt has 2 lines"),
        ([*range(256)], {}, "these look like colours"),
    ],
)
def test_values_that_are_no_class(folder, tmp_path, mask, changes, advice):
    for name in "ab":
        write(tmp_path, name, [mask] * 10, np.full((10, len(mask), 3), ord(name), np.uint8))
    (line,) = wrong(replace(folder, **changes))
    assert line.startswith("2 masks have")
    assert "a.png" in line
    assert advice in line


@pytest.mark.parametrize("name", ["b.jpg", "b.tif"])
def test_exif_is_named_where_it_turned_an_image(folder, tmp_path, name):
    turned(tmp_path / "images" / name, (20, 10), 6)  # shown as 10 x 20
    (tmp_path / "images/b.png").unlink()
    (line,) = wrong(folder)
    assert f"{name} is 10 x 20" in line
    assert "EXIF" in line
    with pytest.raises(UserError, match="EXIF"):
        folder[1].image()
    turned(tmp_path / "images" / name, (10, 20), 6)  # upright, it has the mask's size
    assert odd(folder) == []
    turned(tmp_path / "images" / name, (20, 10), 3)  # upside down: sizes do not tell
    (line,) = odd(folder)
    assert "EXIF" in line
    assert "b" in line


def test_sizes_that_differ_for_another_reason(folder, tmp_path):
    write(tmp_path, "b", np.ones((10, 30)))
    (line,) = wrong(folder)
    assert "20 x 10" in line
    assert "30 x 10" in line
    assert "EXIF" not in line


def test_the_same_image_twice_and_masks_without_an_image(folder, tmp_path):
    (tmp_path / "images/c.png").write_bytes((tmp_path / "images/a.png").read_bytes())
    write(tmp_path, "c", np.ones((10, 20)))
    write(tmp_path, "d", np.ones((10, 20)))
    orphans, same = odd(folder)
    assert "d.png" in orphans
    assert "a, c" in same
    assert odd(replace(folder, limit=1)) == []


def test_a_palette_of_colours(folder, tmp_path):
    road, sky = (128, 64, 128), (70, 130, 180)
    colours = np.array([[road, sky, (1, 2, 3), sky]] * 10, np.uint8)
    for name in "ab":
        write(tmp_path, name, colours, np.full((10, 4, 3), ord(name), np.uint8))
    (tmp_path / "names.txt").write_text("sky;heaven\nRoad\n")
    assert "RGB" in wrong(folder)[0]
    assert "palette" in wrong(folder)[0]
    for text in (
        "# label:color_rgb:parts:actions\nroad:128,64,128::\nheaven:70,130,180::\nno thing:1,2,3::\n",
        "name,r,g,b\nroad,128,64,128\nsky,70,130,180\nno_thing,1,2,3\n",
        "128 64 128\troad\n70 130 180\tsky\n1 2 3\tno thing\n",
    ):
        (tmp_path / "palette.txt").write_text(text)
        coloured = replace(folder, palette=str(tmp_path / "palette.txt"))
        assert coloured[0].mask[0].tolist() == [1, 0, -1, 0]
        (line,) = odd(coloured)
        assert "1,2,3" in line
    (tmp_path / "palette.txt").write_text("road:128,64,128\nsky:70,130,180\n")
    coloured = replace(folder, palette=str(tmp_path / "palette.txt"))
    assert "1,2,3" in wrong(coloured)[0]
    Image.fromarray(colours).quantize(4).save(tmp_path / "masks/a.png")
    assert "1,2,3" in wrong(coloured)[0]  # the colours of a palette image count, too
    for text in ("road:128,64,128\n", "road 300 0 0\n", "road\n", "a:1,2,3\nb:1,2,3\n"):
        (tmp_path / "palette.txt").write_text(text)
        with pytest.raises(ArgumentError) as error:
            _ = replace(folder, palette=str(tmp_path / "palette.txt")).classes
        assert error.value.argument == "palette"


def test_the_command_warns_before_it_measures_and_stops_at_problems(folder, tmp_path, tiny_clip, capsys):
    for name in "ab":
        write(tmp_path, name, [[0] * 15 + [255] * 5] * 10)
    flags = ["--images", folder.images, "--masks", folder.masks, "--classes", folder.names]
    run = ["custom", *flags, "--model", tiny_clip, "--out", str(tmp_path / "out"), "--no_figures", "--workers", "0"]
    assert segmentation.main([*run, "--templates", "none", "--size", "32", "--window", "whole"]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("warning: custom:") == 2
    assert "the labels show 1 of 2 classes" in captured.out
    assert prepare.main(["custom", *flags, "--check", "--workers", "1"]) == 0
    assert capsys.readouterr().out.count("odd: ") == 2
    write(tmp_path, "b", np.full((10, 20), 9))
    with pytest.raises(UserError, match="value 9"):
        segmentation.main(run)


def test_endings_and_palettes_are_flags(folder, tmp_path):
    for name in "ab":
        (tmp_path / f"masks/{name}.png").rename(tmp_path / f"masks/{name}_mask.png")
        (tmp_path / f"images/{name}.png").rename(tmp_path / f"images/{name}_img.png")
    paths = [folder.images, folder.masks, folder.names]
    with pytest.raises(ArgumentError) as error:
        custom(*paths).open(".")
    assert error.value.argument == "image_ending"
    assert "_img.png" in error.value.reason
    assert "_mask.png" in error.value.reason
    flags = ["--images", paths[0], "--masks", paths[1], "--classes", paths[2]]
    more = ["--image_ending", "_img.png", "--mask_ending", "_mask.png"]
    assert prepare.main(["custom", *flags, *more, "--workers", "1"]) == 0
