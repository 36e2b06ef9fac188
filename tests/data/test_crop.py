import json
from functools import cache
from random import Random

import numpy as np
import pytest
import torch

from pacl.data.crop import SquareCrop
from pacl.errors import ArgumentError
from pacl.images import resize
from tests.colours import noise

SHAPES = [(40, 40), (40, 60), (60, 40), (30, 90), (1, 50), (50, 1), (1, 1), (200, 13)]


def square(image, crop, size=32, seed=0):
    return crop.square(lambda short_side: image, size, Random(seed))


@cache
def place(height, width):
    """A image whose red says the row and whose green says the column, from 0 to 250."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 250 * y / max(1, height - 1), 250 * x / max(1, width - 1)
    return np.stack([red, green, np.zeros_like(red)], -1).round().astype(np.uint8)


def spans(crop, height, width, seed):
    """Which part of a image a crop takes: height and width in its pixels, by the first and last row and column."""
    found = square(place(height, width), crop, 40, seed).astype(float)
    # Of size s the centres of the outer pixels lie (1 - 1 / s) of the part apart.
    rows = (found[-1, :, 0].mean() - found[0, :, 0].mean()) / 250 * (height - 1) / (1 - 1 / 40)
    columns = (found[:, -1, 1].mean() - found[:, 0, 1].mean()) / 250 * (width - 1) / (1 - 1 / 40)
    return rows, columns


@pytest.mark.parametrize("mode", ["random", "centre", "pad", "squash"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [1, 32])
def test_every_image_becomes_a_square(mode, shape, size):
    for seed in range(3):
        found = square(noise(*shape), SquareCrop(mode, flip=0.5, colour=0.3), size, seed)
        assert found.shape == (size, size, 3)
        assert found.dtype == np.uint8
        assert torch.from_numpy(found).is_contiguous()


@pytest.mark.parametrize("mode", ["random", "centre", "pad", "squash"])
def test_what_is_read_stays_as_it_is(mode):
    image = noise(32, 32)
    before = image.copy()
    square(image, SquareCrop(mode, area=(1.0, 1.0), flip=1.0, colour=0.5))
    assert np.array_equal(image, before)


# --- Without chance -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (41, 60), (40, 40)], ids=str)
def test_centre_is_the_middle_square(shape):
    image = noise(*shape)
    y, x = ((side - min(shape)) // 2 for side in shape)
    middle = image[y:, x:][: min(shape), : min(shape)]
    assert np.array_equal(square(image, SquareCrop("centre"), min(shape)), middle)
    assert np.array_equal(square(image, SquareCrop("centre"), 20), resize(middle, (20, 20)))


@pytest.mark.parametrize(("shape", "inner"), [((20, 40), (16, 32)), ((40, 20), (32, 16)), ((16, 64), (8, 32))])
def test_pad_keeps_the_whole_image_in_the_middle_of_grey(shape, inner):
    image = noise(*shape)
    found = square(image, SquareCrop("pad"))
    y, x = (32 - inner[0]) // 2, (32 - inner[1]) // 2
    assert np.array_equal(found[y : y + inner[0], x : x + inner[1]], resize(image, inner))
    grey = np.ones((32, 32), bool)
    grey[y : y + inner[0], x : x + inner[1]] = False
    assert grey.sum() == 32 * 32 - inner[0] * inner[1]
    assert (found[grey] == 128).all()


def test_a_line_is_padded_too():
    found = square(np.full((1, 300, 3), 7, np.uint8), SquareCrop("pad"))
    assert (found[15] == 7).all()
    assert (np.delete(found, 15, axis=0) == 128).all()


def test_squash_takes_it_all():
    image = noise(20, 60)
    assert np.array_equal(square(image, SquareCrop("squash")), resize(image, (32, 32)))


@pytest.mark.parametrize("mode", ["centre", "pad"])
@pytest.mark.parametrize("shape", [(48, 80), (80, 48)], ids=str)
def test_a_disc_stays_a_disc(mode, shape):
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    disc = (y - shape[0] / 2 + 0.5) ** 2 + (x - shape[1] / 2 + 0.5) ** 2 <= 20**2
    found = (
        square(np.where(disc[..., None], [255, 0, 0], [0, 0, 255]).astype(np.uint8), SquareCrop(mode), 64)[..., 0] > 200
    )
    height, width = np.ptp(np.argwhere(found), axis=0) + 1
    assert height == width > 28


@pytest.mark.parametrize("mode", ["centre", "pad", "squash"])
def test_cuts_without_chance_ignore_the_rng(mode):
    assert np.array_equal(
        square(noise(40, 60), SquareCrop(mode), seed=1), square(noise(40, 60), SquareCrop(mode), seed=2)
    )
    assert not SquareCrop(mode).is_random


# --- Chance -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crop", [SquareCrop("random"), SquareCrop("centre", flip=0.5), SquareCrop("pad", colour=0.1)])
def test_what_is_random_says_so_and_follows_its_rng_alone(crop):
    assert crop.is_random
    image = noise(48, 64)
    runs = [[square(image, crop, seed=seed) for seed in range(20)] for _ in range(2)]
    assert np.array_equal(*runs)
    assert len({found.tobytes() for found in runs[0]}) > 1


@pytest.mark.parametrize("shape", [(200, 200), (150, 200), (200, 150), (160, 240), (135, 240)], ids=str)
def test_random_parts_keep_to_their_limits(shape):
    crop = SquareCrop("random", area=(0.3, 0.8), aspect=(0.8, 1.25))
    parts = np.array([spans(crop, *shape, seed) for seed in range(80)])
    area, aspect = parts.prod(1) / np.prod(shape), parts[:, 1] / parts[:, 0]
    top = min(0.8, 1.25 * min(shape) / max(shape))  # so much of it a part of an allowed ratio can cover
    assert 0.28 < area.min() < 0.35
    assert top - 0.06 < area.max() < top + 0.02
    assert 0.77 < aspect.min() < 0.9
    assert 1.15 < aspect.max() < 1.29


@pytest.mark.parametrize(("shape", "aspect"), [((100, 400), 4 / 3), ((400, 100), 3 / 4)], ids=str)
def test_panoramas_are_not_squashed(shape, aspect):
    for seed in range(10):
        height, width = spans(SquareCrop("random"), *shape, seed)
        assert width / height == pytest.approx(aspect, rel=0.04)
        assert min(height, width) == pytest.approx(75 if aspect < 1 else 100, abs=26)


def test_random_parts_come_from_everywhere():
    crop = SquareCrop("random", area=(0.25, 0.25), aspect=(1.0, 1.0))
    corners = [square(place(80, 80), crop, seed=seed)[0, 0, :2] for seed in range(60)]  # top and left, 0 to 125
    assert np.min(corners, axis=0).max() < 15
    assert np.max(corners, axis=0).min() > 110


def test_flip_is_an_exact_mirror_and_comes_as_often_as_said():
    image = noise(32, 32)
    mirrored = [np.array_equal(square(image, SquareCrop(flip=0.3), seed=seed), image[:, ::-1]) for seed in range(300)]
    plain = [np.array_equal(square(image, SquareCrop(flip=0.3), seed=seed), image) for seed in range(300)]
    assert [a or b for a, b in zip(mirrored, plain, strict=True)] == [True] * 300
    assert 60 < sum(mirrored) < 120
    assert np.array_equal(square(image, SquareCrop(flip=1.0)), image[:, ::-1])


def test_colours_change_within_their_range():
    image = np.full((8, 8, 3), 100, np.uint8)  # brightness alone moves an even grey
    found = np.array([square(image, SquareCrop(colour=0.2), 8, seed) for seed in range(200)])
    assert (found == found[:, :1, :1, :1]).all()
    assert 80 <= found.min() < 83
    assert 117 < found.max() <= 120
    assert abs(found.mean() - 100) < 2


def test_contrast_and_saturation_change_too():
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (100, 60, 60), (140, 100, 100)
    found = np.array([square(stripes, SquareCrop(colour=0.3), 8, seed) for seed in range(200)], float)
    light, dark = found[:, 0, 1], found[:, 0, 0]
    contrast = (light - dark)[:, 0] / found.mean((1, 2, 3))  # of the red, free of the brightness
    saturation = (light - dark).max(1) / (light - dark).min(1)
    colour = (dark[:, 0] - dark[:, 1]) / (light[:, 1] - dark[:, 1]).clip(1)
    assert contrast.std() > 0.03
    assert saturation.max() < 1.2  # the stripes differ in grey, and by as much in each colour
    assert colour.min() < 0.8 < 1.2 < colour.max()


@pytest.mark.parametrize("colour", [0.5, 0.99])
def test_strong_colours_are_clipped_not_wrapped(colour):
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(256, 0)
    for seed in range(10):
        found = square(ramp, SquareCrop(colour=colour), 256, seed)[0, :, 0].astype(int)
        assert (np.diff(found) >= 0).all()


# --- What is read, and what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crop", "asked"),
    [
        (SquareCrop("centre"), 32),
        (SquareCrop("pad"), 32),
        (SquareCrop("squash"), 32),
        (SquareCrop("random", area=(0.25, 1.0)), 64),
        (SquareCrop("random", area=(0.1, 0.1)), 102),
    ],
)
def test_as_many_pixels_are_read_as_the_square_needs(crop, asked):
    asks = []
    crop.square(lambda short_side: asks.append(short_side) or noise(128, 128), 32, Random(0))
    assert asks == [asked]


def test_the_smallest_random_part_of_what_is_read_fills_the_square():
    crop = SquareCrop("random", area=(0.1, 0.1), aspect=(1.0, 1.0))
    sides = []
    crop.square(lambda short_side: sides.append(short_side) or noise(short_side, 2 * short_side), 32, Random(0))
    height, width = spans(crop, sides[0], 2 * sides[0], 0)
    assert min(height, width) >= 31


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("area", (0.0, 1.0)),
        ("area", (0.9, 0.5)),
        ("area", (0.5, 1.1)),
        ("aspect", (0.0, 1.0)),
        ("aspect", (2.0, 1.0)),
        ("flip", -0.1),
        ("flip", 1.1),
        ("colour", 1.0),
        ("colour", float("nan")),
        ("mode", "center"),
    ],
)
def test_values_out_of_range(argument, value):
    with pytest.raises(ArgumentError) as error:
        SquareCrop(**{argument: value}).check()
    assert (error.value.argument, error.value.value) == (argument, value)


@pytest.mark.parametrize(
    "crop",
    [SquareCrop(), SquareCrop("random", (1e-6, 1.0), (0.1, 10.0), 1.0, 0.99), SquareCrop("random", (1, 1), (1, 1))],
)
def test_settings_at_their_limits(crop):
    crop.check()
    assert square(noise(16, 16), crop).shape == (32, 32, 3)


def test_numbers_of_numpy_become_pythons():
    crop = SquareCrop("random", (np.float32(0.5), np.float64(1)), flip=np.float32(0.25))
    assert json.dumps(crop.acting()) == json.dumps(SquareCrop("random", (0.5, 1.0), flip=0.25).acting())
