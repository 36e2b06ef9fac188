"""Memory is bounded, whatever the image, and what bounds it changes nothing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import pacl.segmentation.patch_maps
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import ColourModel, noise
from tests.paths import ROOT
from tests.segmentation.red_square import run


@pytest.mark.parametrize(
    "settings", [{}, {"window": 40, "accumulate": "pixel"}, {"background": "entropy:0.9"}, {"refine": 2}], ids=str
)
def test_bands_change_nothing(settings: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    for image in (noise(150, 110), noise(20, 31)):  # made smaller and larger by the resize
        whole = run(image, ["red", "green", "blue;teal"], **settings)
        monkeypatch.setattr(pacl.segmentation.patch_maps, "BAND_BYTES", 1)  # single rows
        rows = run(image, ["red", "green", "blue;teal"], **settings)
        monkeypatch.setattr(pacl.segmentation.patch_maps, "BAND_BYTES", 4 * 4 * 110 * 13)  # a few rows, with a rest
        few = run(image, ["red", "green", "blue;teal"], **settings)
        monkeypatch.undo()
        for other in (rows, few):
            assert (whole.index != other.index).mean() < 1e-3  # matrix products round differently by shape
            np.testing.assert_allclose(whole.score_map("red"), other.score_map("red"), atol=1e-5)
            assert whole.shares == pytest.approx(other.shares, abs=1e-3)
            assert whole.scores == pytest.approx(other.scores, abs=1e-3)


# (The peak that the system keeps for a process includes that of its parent before exec; eval.common.memory's does not.)
LARGE = """
import sys, time
import numpy as np, torch
from eval.common.memory import peak_memory
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import ColourModel, noise
from tests.paths import ROOT
image = np.tile(noise(1000, 1000), (4, 6, 1))
model = ColourModel(patch=16, size=336)
labels = [f"{i} teal" for i in range(147)] + ["red", "green", "blue"]
start = time.perf_counter()
segmenter = Segmenter(model, SegmenterSettings(**eval(sys.argv[1])))
segmenter.set_image(image)
result = segmenter.predict(labels)
assert result.index.shape == (4000, 6000)
print(time.perf_counter() - start, peak_memory(torch.device('cpu')) / 2**30)
"""


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"window": 224, "window_step": 112, "accumulate": "pixel"}], ids=str)
def test_a_24_megapixel_photo_with_150_classes_fits_four_gigabytes(
    settings: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGE, repr(settings)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    seconds, gigabytes = map(float, done.stdout.split())
    with capsys.disabled():
        print(f"\n6000 x 4000, 150 classes, {settings}: {seconds:.0f} s, peak RSS {gigabytes:.2f} GiB")
    assert gigabytes < 3


def test_refinement_works_at_a_bounded_size() -> None:
    segmenter = Segmenter(ColourModel(), SegmenterSettings(refine=1))
    segmenter.set_image(noise(700, 2000))
    assert segmenter.image is not None
    assert segmenter.image.guide is not None
    assert segmenter.image.guide.shape == (3, 179, 512)
    result = segmenter.predict(["red", "green", "blue"])
    assert result.index.shape == (700, 2000)
    segmenter.set_image(noise(30, 40))
    assert segmenter.image.guide.shape == (3, 30, 40), "never enlarged"
    assert segmenter.predict(["red", "green"]).index.shape == (30, 40)


def test_sizes_beyond_all_memory_are_refused_before_it_is_used() -> None:
    for settings in ({"size": 14_000}, {"scales": (1.0, 200.0), "size": 64}):
        segmenter = Segmenter(ColourModel(), SegmenterSettings(**settings))  # type: ignore[arg-type]
        with pytest.raises(MemoryError, match="pixels"):
            segmenter.set_image(noise(60, 90))
