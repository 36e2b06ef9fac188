"""Every kind of image file is read upright, in colour, without transparency."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pacl.errors import ArgumentError, ImageWarning, UserError
from pacl.images import is_written_here, open_image, pillow_to_rgb, save_image


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("p.png", 0), ("p.bmp", 0), ("p.tif", 0), ("p.ppm", 0), ("p.jpg", 12), ("p.webp", 12), ("P.PNG", 0)],
)
def test_common_formats(tmp_path: Path, picture: np.ndarray, name: str, tolerance: int) -> None:
    Image.fromarray(picture).save(tmp_path / name)
    image = open_image(tmp_path / name)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert np.abs(image.astype(int) - picture).max() <= tolerance


def test_one_bit_and_grey(tmp_path: Path) -> None:
    grey = np.array([[0, 255], [255, 0]], np.uint8)
    Image.fromarray(grey).convert("1").save(tmp_path / "bit.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    for name in ("bit.png", "grey.png"):
        assert np.array_equal(open_image(tmp_path / name), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "gif", "RGB colour key"])
def test_transparent_pixels_become_white(tmp_path: Path, kind: str) -> None:
    """Left half opaque black, right half transparent (with black hidden under it)."""
    path = tmp_path / "clear.png"
    if kind in ("RGBA", "LA"):
        alpha = np.repeat(np.array([[255, 0]], np.uint8), 2, axis=0)
        Image.merge(kind, [Image.new("L", (2, 2))] * (len(kind) - 1) + [Image.fromarray(alpha)]).save(path)
    elif kind == "RGB colour key":
        rgb = np.zeros((2, 2, 3), np.uint8)
        rgb[:, 1] = (10, 20, 30)
        Image.fromarray(rgb).save(path, transparency=(10, 20, 30))
    else:
        indexed = Image.fromarray(np.array([[0, 1], [0, 1]], np.uint8), mode="P")
        indexed.putpalette([0, 0, 0, 1, 1, 1])
        path = path.with_suffix(".gif") if kind == "gif" else path
        indexed.save(path, transparency=1)
    assert open_image(path).tolist() == [[[0] * 3, [255] * 3]] * 2


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"],
)
def test_every_mode_of_pillow_becomes_rgb(mode: str) -> None:
    assert pillow_to_rgb(Image.new(mode, (3, 2))).shape == (2, 3, 3)


def test_premultiplied_grey_is_unmultiplied() -> None:
    half = Image.merge("LA", [Image.new("L", (1, 1), 100), Image.new("L", (1, 1), 128)])
    expected = pillow_to_rgb(half).astype(int)
    assert np.abs(pillow_to_rgb(half.convert("La")) - expected).max() <= 1


def test_half_transparent_is_blended(tmp_path: Path) -> None:
    Image.new("RGBA", (1, 1), (0, 0, 0, 128)).save(tmp_path / "half.png")
    assert open_image(tmp_path / "half.png")[0, 0, 0] in (126, 127, 128)


def test_opaque_palette(tmp_path: Path) -> None:
    indexed = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    indexed.putpalette([200, 10, 0, 0, 99, 0])
    indexed.save(tmp_path / "p.png")
    assert open_image(tmp_path / "p.png").tolist() == [[[200, 10, 0], [0, 99, 0]]]


def test_cmyk_jpeg_is_not_a_negative(tmp_path: Path) -> None:
    """Adobe stores CMYK inverted; Pillow writes its CMYK JPEGs that way too, with the marker."""
    Image.new("RGB", (16, 16), (250, 5, 5)).convert("CMYK").save(tmp_path / "ink.jpg", quality=95)
    assert b"Adobe" in (tmp_path / "ink.jpg").read_bytes()
    assert np.abs(open_image(tmp_path / "ink.jpg").astype(int) - (250, 5, 5)).max() < 12


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"move.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.warns(ImageWarning, match=rf"move\.{suffix} has 2 frames"):
        image = open_image(tmp_path / f"move.{suffix}")
    assert np.abs(image.astype(int) - (255, 0, 0)).max() <= 4


def test_pages_of_a_tiff_are_said_and_its_reduced_copies_are_not(tmp_path: Path) -> None:
    page, path = Image.new("RGB", (32, 32), "red"), tmp_path / "pages.tif"
    page.save(path, save_all=True, append_images=[page, page])
    with pytest.warns(ImageWarning, match="3 frames or pages"):
        open_image(path)
    small = Image.new("RGB", (16, 16), "red")
    small.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(path, save_all=True, append_images=[small])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(path).shape == (32, 32, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_thin_pictures(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "thin.png")
    assert open_image(tmp_path / "thin.png").shape == (size[1], size[0], 3)


def test_threads_leave_pillow_as_it_was(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "p.png")
    limit = Image.MAX_IMAGE_PIXELS
    threads = [threading.Thread(target=lambda: [open_image(tmp_path / "p.png") for _ in range(20)]) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limit == Image.MAX_IMAGE_PIXELS


def test_no_warning_on_ordinary_pictures(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).quantize(8).save(tmp_path / "p.png", transparency=bytes(range(8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.from_numpy(open_image(tmp_path / "p.png"))


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("JPEG", "JPEG")])
def test_images_are_saved_in_the_format_of_the_suffix(tmp_path: Path, suffix: str, kind: str) -> None:
    save_image(tmp_path / f"new/folder/x.{suffix}", np.full((8, 8, 3), 77, np.uint8))
    with Image.open(tmp_path / f"new/folder/x.{suffix}") as image:
        assert image.format == kind
        assert np.abs(np.asarray(image).astype(int) - 77).max() < 4


def test_a_png_has_the_exact_pixels_and_says_who_wrote_it(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (33, 50, 3), np.uint8)
    for i, view in enumerate((pixels, pixels[::-1], pixels[:1, :1])):
        save_image(tmp_path / f"{i}.png", view)
        with Image.open(tmp_path / f"{i}.png") as image:
            assert image.info["Software"] == "pacl"
            assert np.array_equal(image, view)
        with Image.open(tmp_path / f"{i}.png") as image:
            image.verify()  # checksums of all chunks


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_image_that_is_written_here_is_known_by_its_mark_alone(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    save_image(path, np.zeros((8, 8, 3), np.uint8))
    assert is_written_here(path)
    Image.new("RGB", (8, 8)).save(path)
    assert not is_written_here(path)


@pytest.mark.parametrize("comment", ["a note", "pacl"])
def test_a_comment_that_a_program_adds_to_a_png_does_not_matter(tmp_path: Path, comment: str) -> None:
    text = PngInfo()
    text.add_text("comment", comment)
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png", pnginfo=text)
    assert not is_written_here(tmp_path / "photo.png")
    text.add_text("Software", "pacl")
    Image.new("RGB", (8, 8)).save(tmp_path / "result.png", pnginfo=text)
    assert is_written_here(tmp_path / "result.png")


def test_a_tiff_of_several_real_channels_is_refused_with_what_works(tmp_path: Path) -> None:
    path = tmp_path / "real.tif"
    cv2.imwrite(str(path), np.random.default_rng(0).random((9, 7, 3), np.float32))
    with pytest.raises(UserError, match="8 or 16 bits"):
        open_image(path)


@pytest.mark.parametrize("given", [np.zeros((4, 4, 3), np.uint8), 3, None, b"a.png"])
def test_only_paths_are_opened(given: Any) -> None:
    with pytest.raises(ArgumentError) as error:
        open_image(given)
    assert error.value.argument == "path"
