"""Windows, put together by pixel or by patch, give what the whole image gives."""

from __future__ import annotations

import numpy as np
import pytest

from pacl.models.loading import load_model
from pacl.models.towers.open_clip_loading import bundled_folder
from pacl.scenes.drawing import scene
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import noise
from tests.segmentation.red_square import run


@pytest.mark.parametrize("accumulate", ["pixel", "patch"])
@pytest.mark.parametrize("size", [(150, 200), (77, 64), (1, 90)])
def test_a_window_that_covers_the_picture_is_the_whole_picture(size: tuple[int, int], accumulate: str) -> None:
    image = noise(*size)
    whole = run(image, ["red", "green", "blue"])
    windowed = run(image, ["red", "green", "blue"], window=5000, accumulate=accumulate)
    assert np.array_equal(whole.index, windowed.index)
    assert np.array_equal(whole.score_map(1), windowed.score_map(1))


def test_patch_accumulation_equals_the_whole_picture_when_patches_see_only_themselves() -> None:
    # The fake's patches have no context, so windows change nothing but the arithmetic.
    image = noise(100, 170)
    whole = run(image, ["red", "green", "blue"], size=96, stride=4)
    windowed = run(image, ["red", "green", "blue"], size=96, stride=4, window=40, window_step=17)
    np.testing.assert_allclose(windowed.score_map("red"), whole.score_map("red"), atol=1e-5)


def test_pixel_and_patch_accumulation_differ_little(capsys: pytest.CaptureFixture[str]) -> None:
    image = noise(300, 400)
    pixel, patch = (
        run(image, ["red", "green", "blue"], size=96, window=48, accumulate=accumulate).index
        for accumulate in ("pixel", "patch")
    )
    differ = (pixel != patch).mean()
    with capsys.disabled():
        print(f"\npixel and patch accumulation: labels differ on {differ:.2%} of the pixels")
    assert 0 < differ < 0.02


@pytest.mark.skipif(not (bundled_folder() / "model.safetensors").is_file(), reason="the bundled head is not there")
def test_pixel_and_patch_accumulation_segment_equally_well(capsys: pytest.CaptureFixture[str]) -> None:
    scenes = [scene("val", i, size=(150, 200)) for i in range(20)]
    model = load_model("bundled")
    found, miou = {}, {}
    for accumulate in ("pixel", "patch"):
        settings = SegmenterSettings(size=96, window=64, window_step=32, accumulate=accumulate)
        segmenter = Segmenter(model, settings)
        for i, drawn in enumerate(scenes):
            segmenter.set_image(drawn.image)
            found[accumulate, i] = segmenter.predict(drawn.names).index
        miou[accumulate] = np.mean(
            [
                ((found[accumulate, i] == n + 1) & (drawn.mask == n)).sum()
                / ((found[accumulate, i] == n + 1) | (drawn.mask == n)).sum()
                for i, drawn in enumerate(scenes)
                for n in range(len(drawn.names))
            ]
        )
    differ = np.mean([(found["pixel", i] != found["patch", i]).mean() for i in range(len(scenes))])
    with capsys.disabled():
        print(
            f"\npixel and patch accumulation on scenes: labels differ on {differ:.2%} of the pixels, "
            f"mean IoU {miou['pixel']:.3f} and {miou['patch']:.3f}"
        )
    assert 0 < differ < 0.02
    assert miou["patch"] == pytest.approx(miou["pixel"], abs=0.02)
    assert miou["patch"] > 0.5
