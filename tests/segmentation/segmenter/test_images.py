"""Images of every form: encoded once, in batches or alone; what is none is refused."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pacl.errors import ArgumentError, ImageWarning, UserError
from pacl.segmentation.encode import as_tensor
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import ColourModel, noise, picture


def test_a_picture_is_encoded_once() -> None:
    model = ColourModel()
    segmenter = Segmenter(model)
    with pytest.raises(RuntimeError, match="set_image"):
        segmenter.predict(["red", "blue"])
    segmenter.set_image(picture(64, 64, (8, 40, 8, 40)))
    first = segmenter.predict(["red", "grey"])
    second = segmenter.predict(["blue", "grey"])
    assert len(model.batches) == 1
    assert first.mask("red")[16:32, 16:32].all()
    assert second.shares[0] == 0
    assert second.scores[0] == 0
    assert np.array_equal(segmenter.predict(["red", "grey"]).index, first.index)
    segmenter.set_image(picture(64, 64, (8, 40, 8, 40), "blue"))
    assert segmenter.predict(["blue", "grey"]).shares[0] == first.shares[0]


@pytest.mark.parametrize("settings", [{}, {"size": 96, "window": 48, "accumulate": "pixel"}, {"window": 40}], ids=str)
def test_a_batch_equals_one_by_one(settings: dict) -> None:
    images = [noise(64, 64, 1), noise(128, 128, 2), noise(50, 90, 3), noise(64, 64, 4), noise(1, 30, 5)]
    segmenter = Segmenter(ColourModel(), SegmenterSettings(**settings, window_batch=3))
    together = segmenter.predict_batch(images, ["red", "green", "blue"])
    for image, result in zip(images, together, strict=True):
        segmenter.set_image(image)
        alone = segmenter.predict(["red", "green", "blue"])
        assert result.index.shape == image.shape[:2]
        assert np.array_equal(result.index, alone.index)
        np.testing.assert_allclose(result.score_map("red"), alone.score_map("red"), atol=1e-6)


@pytest.mark.parametrize("wrong", ["missing.png", np.zeros((4, 4), np.uint8), None], ids=["path", "array", "embedding"])
def test_after_an_image_that_fails_none_is_set(wrong: Any) -> None:
    segmenter = Segmenter(ColourModel())
    segmenter.set_image(noise(24, 24))
    with pytest.raises(UserError):
        segmenter.set_image_embedding(wrong) if wrong is None else segmenter.set_image(wrong)
    with pytest.raises(RuntimeError):
        segmenter.predict(["red", "blue"])


BRIGHT = noise(24, 24)


@pytest.mark.parametrize(
    "dark",
    [
        (BRIGHT / 255).round().astype(np.uint8),
        (BRIGHT / 255 / 255).astype(np.float32),
        Image.fromarray(BRIGHT // 32),
        torch.zeros(3, 24, 24),
    ],
    ids=["integers from 0 to 1", "divided twice", "a mask of classes", "zeros"],
)
def test_an_image_that_is_nearly_black_is_warned_of(dark: Any) -> None:
    segmenter = Segmenter(ColourModel())
    with pytest.warns(ImageWarning, match="image is nearly black") as caught:
        segmenter.set_image(dark)
    assert [each.filename for each in caught] == [__file__]
    with pytest.warns(ImageWarning, match=r"images\[1\]") as caught:
        segmenter.predict_batch([BRIGHT, dark], ["red", "blue"])
    assert [each.filename for each in caught] == [__file__]


@pytest.mark.parametrize("bright", [BRIGHT, BRIGHT / 255, Image.fromarray(BRIGHT), np.full((8, 8, 3), 9, np.uint8)])
def test_other_images_are_not_called_black(bright: Any, recwarn: pytest.WarningsRecorder) -> None:
    Segmenter(ColourModel()).set_image(bright)
    assert not recwarn.list


def test_checksums_of_the_weights_are_computed_once_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ColourModel()
    segmenter, counts = Segmenter(model), []
    for images in ([noise(8, 8)], [noise(8, 8)] * 5):
        computed: list[int] = []
        monkeypatch.setattr(model, "head_checksum", lambda own=computed: own.append(1) or "0" * 64)
        found = segmenter.predict_batch(images, ["red", "blue"])
        assert all(each.model == segmenter.about_model for each in found)
        counts.append(len(computed) - len(found))  # (the line above computes one for each)
    assert counts[0] == counts[1]


def test_tensors_and_arrays_are_the_same_picture() -> None:
    image = noise(70, 90)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    segmenter = Segmenter(ColourModel())
    a, b, c = segmenter.predict_batch([image, tensor, tensor.float() / 255], ["red", "blue"])
    assert np.array_equal(a.index, b.index)
    np.testing.assert_allclose(a.score_map(1), c.score_map(1), atol=0.02)  # resized in 8 bits, and in floats


def test_pillow_images_and_paths_are_the_same_image(tmp_path: Path) -> None:
    image = noise(40, 56)
    Image.fromarray(image).save(tmp_path / "image.png")
    segmenter = Segmenter(ColourModel())
    forms = [image, Image.fromarray(image), tmp_path / "image.png", str(tmp_path / "image.png")]
    first, *others = segmenter.predict_batch(forms, ["red", "blue"])
    assert all(np.array_equal(other.index, first.index) for other in others)


def test_pillow_images_of_any_mode_are_read_as_files_are(tmp_path: Path) -> None:
    rgba = np.dstack([noise(40, 56), np.full((40, 56), 128, np.uint8)])
    deep = (np.linspace(0, 65535, 40 * 56).reshape(40, 56)).astype(np.uint16)
    segmenter = Segmenter(ColourModel())
    for number, image in enumerate([Image.fromarray(rgba), Image.fromarray(deep), Image.new("L", (9, 7))]):
        path = tmp_path / f"{number}.png"
        image.save(path)
        opened, read = segmenter.predict_batch([Image.open(path), path], ["red"])
        assert np.array_equal(opened.score_map("red"), read.score_map("red"))


def test_premultiplied_pillow_images_are_read() -> None:
    opaque = Image.fromarray(noise(40, 56)).convert("LA")
    segmenter = Segmenter(ColourModel())
    plain, *others = segmenter.predict_batch(
        [opaque, opaque.convert("La"), opaque.convert("RGBA").convert("RGBa")], ["red"]
    )
    assert all(np.array_equal(other.score_map("red"), plain.score_map("red")) for other in others)


def test_pillow_images_that_cannot_be_decoded_are_refused(tmp_path: Path) -> None:
    Image.fromarray(noise(40, 56)).save(tmp_path / "image.png")
    closed = Image.open(tmp_path / "image.png")
    closed.close()
    cut = Image.open(io.BytesIO((tmp_path / "image.png").read_bytes()[:500]))
    for image in (closed, cut):
        with pytest.raises(ArgumentError) as error:
            Segmenter(ColourModel()).set_image(image)
        assert error.value.argument == "image"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_called_so(value: float) -> None:
    image = np.full((8, 8, 3), 0.5)
    image[0, 0] = value
    for given in (image, torch.from_numpy(image).permute(2, 0, 1)):
        with pytest.raises(ArgumentError) as error:
            Segmenter(ColourModel()).set_image(given)
        assert (error.value.argument, "infinite" in error.value.value) == ("image", True)
        assert "divide" not in error.value.reason


@pytest.mark.parametrize(
    "image",
    [
        None,
        3,
        [[1, 2], [3, 4]],
        np.zeros((8, 8), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.int64),
        np.zeros((8, 8, 3), object),
        np.full((8, 8, 3), 255.0),
        np.full((8, 8, 3), np.nan),
        torch.zeros(8, 8, 3),
        torch.zeros(1, 3, 8, 8),
        torch.zeros(3, 8, 8, dtype=torch.int32),
        torch.full((3, 8, 8), 255.0),
        torch.full((3, 8, 8), -0.1),
        torch.full((3, 8, 8), torch.nan),
        torch.zeros(3, 0, 8),
    ],
    ids=lambda image: f"{type(image).__name__}{list(getattr(image, 'shape', ''))}",
)
def test_what_is_no_image_is_refused(image: Any) -> None:
    segmenter = Segmenter(ColourModel())
    with pytest.raises(ArgumentError) as error:
        segmenter.set_image(image)
    assert error.value.argument == "image"
    segmenter.set_image(noise(32, 32))
    with pytest.raises(ArgumentError) as error:
        segmenter.predict_batch([noise(32, 32), image], ["red"])
    assert error.value.argument == "images[1]"
    assert segmenter.predict(["red"]).index.shape == (32, 32)  # the image that was set before


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match=re.escape("missing.png")):
        Segmenter(ColourModel()).set_image("missing.png")


@pytest.mark.parametrize(
    "images",
    ["image.png", Path("image.png"), Image.new("RGB", (8, 8)), {"a.png", "b.png"}, {"a.png": 1}, None, 3],
    ids=lambda x: type(x).__name__,
)
def test_a_batch_is_several_images(images: Any) -> None:
    with pytest.raises(ArgumentError) as error:
        Segmenter(ColourModel()).predict_batch(images, ["red"])
    assert error.value.argument == "images"


def test_float_arrays_are_the_same_image() -> None:
    image = noise(40, 56)
    first, *others = Segmenter(ColourModel()).predict_batch(
        [
            image,
            image / 255,
            (image / 255).astype(np.float16),
            image.astype(np.float32) / 255,
            *(torch.tensor(image).permute(2, 0, 1).to(kind) / 255 for kind in (torch.float16, torch.bfloat16)),
        ],
        ["red", "blue"],
    )
    for other in others:
        np.testing.assert_allclose(other.score_map("red"), first.score_map("red"), atol=0.02)
    for other in (others[0], others[2]):  # what is 8 bits is resized as 8 bits
        assert np.array_equal(other.score_map("red"), first.score_map("red"))
    deep = np.random.default_rng(0).random((40, 56, 3))
    assert as_tensor(deep).is_floating_point()
    assert torch.equal(as_tensor(image / 255), as_tensor(image))


def test_an_image_can_be_forgotten() -> None:
    segmenter = Segmenter(ColourModel())
    segmenter.set_image(noise(32, 32))
    segmenter.reset_image()
    with pytest.raises(RuntimeError):
        segmenter.predict(["red"])


def odd_tensors() -> dict[str, torch.Tensor | Image.Image]:
    plain = torch.zeros(3, 16, 16)
    return {
        "meta": plain.to("meta"),
        "sparse": plain.to_sparse(),
        "csr": plain.to_sparse_csr(),
        "quantised": torch.quantize_per_tensor(plain, 0.1, 0, torch.quint8),
        "nested": torch.nested.nested_tensor([plain[0], plain[1]]),
        "complex": plain.to(torch.complex64),
        "all NaN": Image.fromarray(np.full((16, 16), np.nan, np.float32)),
    }


@pytest.mark.parametrize("kind", odd_tensors())
def test_tensors_without_plain_values_are_refused(kind: str) -> None:
    with pytest.raises(ArgumentError) as error:
        Segmenter(ColourModel()).set_image(odd_tensors()[kind])
    assert error.value.argument == "image"
    assert "\n" not in str(error.value)


def test_a_tensor_of_8_bit_floats_is_an_image() -> None:
    segmenter = Segmenter(ColourModel())
    segmenter.set_image(torch.ones(3, 16, 16).to(torch.float8_e4m3fn))
    assert segmenter.predict(["red", "blue"]).index.shape == (16, 16)


@pytest.mark.parametrize("url", ["http://x/y.jpg", Path("https://x/y.jpg"), "s3://x/y.jpg"], ids=str)
def test_a_url_is_no_image(url: Any) -> None:
    with pytest.raises(UserError, match="is a URL; download"):
        Segmenter(ColourModel()).set_image(url)
