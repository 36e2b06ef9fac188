"""The segmenter, on a model simple enough to know every answer: patches are mean colours, texts are colours."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pacl.segmentation.patch_maps
from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.models.towers.open_clip_loading import bundled_folder
from pacl.prompts import Label
from pacl.scenes.drawing import scene
from pacl.segmentation.background import Background
from pacl.segmentation.encode import as_tensor
from pacl.segmentation.scoring import class_probabilities, decide
from pacl.segmentation.segmenter import Segmenter, SegmenterSettings
from tests.colours import COLOURS, ColourModel, noise, picture
from tests.paths import ROOT
from tests.segmentation.red_square import SQUARE, iou_of_red, run
from tests.tiny import phi, save_tiny_clip

# --- Pixels and patches stay aligned ------------------------------------------------------------------------------

VIEWS = [
    {},
    {"stride": 4},
    {"stride": 3},
    {"size": 80},
    {"size": 77, "stride": 4},
    {"size": 96, "window": 48, "accumulate": "pixel"},
    {"size": 96, "window": 48, "accumulate": "patch"},
    {"size": 91, "window": 40, "window_step": 13, "accumulate": "pixel"},
    {"size": 91, "window": 40, "window_step": 13, "accumulate": "patch"},
    {"size": 90, "window": 48, "window_step": 40, "stride": 4, "accumulate": "pixel"},
    {"size": 90, "window": 48, "window_step": 48, "stride": 4, "accumulate": "patch"},
    {"scales": (1.0, 2.0)},
    {"scales": (1.5, 1.0), "stride": 4},
    {"size": 91, "scales": (1.0, 1.5), "window": 40, "window_step": 13},
]


@pytest.mark.parametrize("settings", VIEWS, ids=str)
@pytest.mark.parametrize("size", [(64, 64), (240, 320), (301, 203), (50, 35), (90, 700)])
def test_what_is_drawn_at_a_place_responds_there(size: tuple[int, int], settings: dict) -> None:
    height, width = size
    for cy, cx in ((0.3, 0.35), (0.7, 0.4), (0.5, 0.75)):
        # Three tenths of the short side, off any grid.
        half = 0.15 * min(size)
        box = [round(v) for v in (cy * height - half, cy * height + half, cx * width - half, cx * width + half)]
        truth = np.zeros(size, bool)
        truth[box[0] : box[1], box[2] : box[3]] = True
        result = run(picture(height, width, box), ["red", "grey"], **settings)
        mask = result.mask("red")
        assert mask.any()
        patch = 8 / (settings.get("size", 64) / min(size))  # in pixels of the picture
        for axis in (0, 1):
            drift = abs(np.nonzero(mask)[axis].mean() - np.nonzero(truth)[axis].mean())
            assert drift < 0.2 * patch + 0.5, (axis, drift, patch)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.5


@pytest.mark.parametrize("settings", VIEWS, ids=str)
def test_a_mirrored_picture_gives_the_mirrored_map(settings: dict) -> None:
    # Any systematic shift, in the resize, the windows or the upsampling, breaks this. With 96 x 144 and steps of 8 no
    # window is shifted inwards at one end only.
    settings = {**settings, "size": 96, **({"window_step": 8} if "window" in settings else {})}
    image = noise(144, 216)
    straight = run(image, ["red", "green", "blue"], **settings)
    mirrored = run(image[::-1, ::-1], ["red", "green", "blue"], **settings)
    for label in straight.labels:
        difference = np.abs(straight.score_map(label) - mirrored.score_map(label)[::-1, ::-1])
        assert difference.max() < 0.01


def test_exact_values_when_every_patch_is_one_colour() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32] = COLOURS["red"]
    image[:, 32:] = COLOURS["blue"]
    result = run(image, ["red", "blue"])
    assert (result.index[:, :32] == 1).all()
    assert (result.index[:, 32:] == 2).all()
    red = result.score_map("red")
    assert red.shape == (64, 64)
    assert red.dtype == np.float32
    # Between the centres of the patches at columns 27.5 and 35.5 the cosine falls linearly from 1 to 0.
    np.testing.assert_allclose(red[10, 20:44], np.interp(np.arange(20, 44), [27.5, 35.5], [1, 0]), atol=1e-5)
    assert result.shares == [0.5, 0.5]
    assert all(0.9 < score < 1 for score in result.scores)


# --- Windows ------------------------------------------------------------------------------------------------------


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


# --- One picture, many words; many pictures -----------------------------------------------------------------------


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
    segmenter.set_image(noise(32, 32))
    with pytest.raises(ArgumentError) as error:
        segmenter.set_image(image)
    assert error.value.argument == "image"
    with pytest.raises(ArgumentError) as error:
        segmenter.predict_batch([noise(32, 32), image], ["red"])
    assert error.value.argument == "images[1]"
    assert segmenter.predict(["red"]).index.shape == (32, 32)  # the image that was set before


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match=re.escape("missing.png")):
        Segmenter(ColourModel()).set_image("missing.png")


@pytest.mark.parametrize(
    "images", ["image.png", Path("image.png"), Image.new("RGB", (8, 8)), None, 3], ids=lambda x: type(x).__name__
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


@pytest.mark.parametrize(
    ("labels", "argument"),
    [
        ([3], "labels[0]"),
        (["red", None], "labels[1]"),
        ([b"red"], "labels[0]"),
        ([""], "labels[0]"),
        (["red", "blue="], "labels[1]"),
        ("", "labels[0]"),
        (None, "labels"),
        (7, "labels"),
        ([], "labels"),
        (b"red", "labels"),
        ({"red": "blue"}, "labels"),
        pytest.param({"red", "blue"}, "labels", id="a set"),
    ],
    ids=str,
)
def test_what_are_no_labels_is_refused(labels: Any, argument: str) -> None:
    segmenter = Segmenter(ColourModel())
    segmenter.set_image(noise(32, 32))
    for ask in (segmenter.predict, segmenter.prepare, lambda labels: segmenter.predict_batch([], labels)):
        with pytest.raises(ArgumentError) as error:
            ask(labels)
        assert error.value.argument == argument


def test_any_iterable_of_labels_will_do() -> None:
    segmenter = Segmenter(ColourModel())
    segmenter.set_image(noise(32, 32))
    expected = segmenter.predict(["red", "blue"])
    for labels in (("red", "blue"), np.array(["red", "blue"]), iter(["red", Label("blue", ("blue",))])):
        assert np.array_equal(segmenter.predict(labels).index, expected.index)
    assert segmenter.predict("red").labels == ["red"]


def test_an_image_can_be_forgotten() -> None:
    segmenter = Segmenter(ColourModel())
    segmenter.set_image(noise(32, 32))
    segmenter.reset_image()
    with pytest.raises(RuntimeError):
        segmenter.predict(["red"])


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (1, 5000), (3, 2), (2000, 7)])
@pytest.mark.parametrize("settings", [{}, {"window": 32, "accumulate": "pixel"}, {"window": 32, "stride": 4}], ids=str)
def test_pictures_of_any_shape(size: tuple[int, int], settings: dict) -> None:
    image = np.zeros((*size, 3), np.uint8)
    image[: (size[0] + 1) // 2, : (size[1] + 1) // 2] = COLOURS["red"]
    image[size[0] // 2 :, size[1] // 2 :] = COLOURS["blue"]
    result = run(image, ["red", "blue"], **settings)
    assert result.index.shape == size
    assert sum(result.shares) == pytest.approx(1)
    if max(size) > 1:
        assert result.shares == pytest.approx([0.5, 0.5], abs=0.1)
        assert result.index[0, 0] == 1
        assert result.index[-1, -1] == 2


# --- Words --------------------------------------------------------------------------------------------------------


def test_label_ids_do_not_depend_on_the_background() -> None:
    image = picture(64, 64, (0, 64, 0, 32))
    for background in ("none", "prompt:teal", "contrast", "threshold:0.6"):
        result = run(image, ["blue", "red"], background=background)
        assert result.index[32, 10] == 2, background
        assert result.labels == ["blue", "red"]
        assert result.background == background


def test_prompts_and_labels() -> None:
    image = picture(64, 64, (0, 64, 0, 32))
    result = run(image, ["the red;blue=thing", Label("rest", ("grey",))])
    assert result.labels == ["thing", "rest"]
    assert result.prompts == [("the red", "blue"), ("grey",)]
    assert np.array_equal(result.mask("thing"), result.index == 1)
    assert np.array_equal(result.mask(2), result.index == 2)


def test_a_synonym_changes_nothing_for_the_others_but_their_probabilities() -> None:
    """A label takes its best synonym after the softmax over all of them: two do not outvote one."""
    image = noise(90, 120)
    plain = run(image, ["red", "green", "blue"])
    twice = run(image, ["red;a red;the red=red", "green", "blue"])
    assert np.array_equal(plain.index, twice.index)
    assert twice.scores[0] < 0.6 < plain.scores[0], "three equal synonyms share the probability"
    best = run(image, ["teal;red=warm", "green", "blue"]).score_map("warm")
    apart = run(image, ["teal", "red"])
    np.testing.assert_allclose(best, np.maximum(apart.score_map("teal"), apart.score_map("red")), atol=1e-6)


def test_class_probabilities_take_the_max_after_the_softmax() -> None:
    logits = 10 * torch.rand(5, 2, 3)  # [N, H, W]
    probabilities = class_probabilities(logits, (1, 1, 2, 0, 0))
    softmax = logits.softmax(0)
    torch.testing.assert_close(probabilities, torch.stack([softmax[:2].amax(0), softmax[2], softmax[3:].amax(0)]))


def test_winners_stay_unless_the_background_rule_rejects_them() -> None:
    probabilities = torch.tensor([[0.5, 0.2], [0.3, 0.3], [0.2, 0.5]])  # [K, pixels]
    winners = torch.tensor([1, 3])
    index, confidence = decide(probabilities, winners, Background("contrast"))
    assert index.tolist() == [1, 3]
    assert decide(probabilities, winners, Background("threshold", limit=0.6))[0].tolist() == [0, 0]
    assert confidence.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("labels", [[], [""], ["red", "Red"], ["red=a", "blue=a"], ["one two three four five red"]])
def test_words_that_make_no_sense_are_one_line(labels: list[str]) -> None:
    with pytest.raises(UserError) as error:
        run(picture(8, 8), labels, background="none")
    assert "\n" not in str(error.value)


def test_more_labels_than_a_byte_holds() -> None:
    labels = [f"{i} teal" for i in range(255)]
    assert run(picture(16, 16), labels).index.dtype == np.uint8
    result = run(picture(16, 16), [*labels, "grey"])
    assert result.index.dtype == np.uint16
    assert (result.index == 256).all()


# --- Memory -------------------------------------------------------------------------------------------------------


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
from pacl.segmentation.segmenter import Segmenter, SegmenterSettings
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


# --- Refinement ---------------------------------------------------------------------------------------------------


def test_refinement_follows_the_pictures_edges() -> None:
    coarse, refined = (iou_of_red(["red", "grey"], ColourModel(), refine=n, logit_scale=20.0) for n in (0, 10))
    assert coarse < 0.9 < 0.97 < refined


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


def test_refinement_goes_with_synonyms_and_background() -> None:
    result = run(SQUARE, ["red;blue=thing"], refine=3, background="prompt:grey")
    assert result.index[32, 32] == 1
    assert result.index[2, 2] == 0


# --- The real model -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(save_tiny_clip(tmp_path_factory.mktemp("clip")))


@pytest.mark.parametrize("settings", [{}, {"size": 64, "window": 32, "accumulate": "pixel"}, {"stride": 4}], ids=str)
def test_the_real_model_in_batches_and_alone(clip: Backbone, settings: dict) -> None:
    model = PACL.untrained(clip)
    segmenter = Segmenter(model, SegmenterSettings(**settings, templates="paper"))
    images = [noise(64, 64, 1), noise(40, 90, 2), noise(128, 128, 3), noise(1, 50, 4)]
    labels = ["a dog", "a cat;a kitten=cat", "the grass"]
    for image, together in zip(images, segmenter.predict_batch(images, labels), strict=True):
        segmenter.set_image(image)
        alone = segmenter.predict(labels)
        assert (alone.index == together.index).mean() > 0.999
        for label in alone.labels:
            np.testing.assert_allclose(alone.score_map(label), together.score_map(label), atol=1e-5)
            assert -1 <= alone.score_map(label).min() <= alone.score_map(label).max() <= 1


def test_a_single_prompt_on_the_real_model(clip: Backbone) -> None:
    segmenter = Segmenter(PACL.untrained(clip))
    segmenter.set_image(noise(50, 60))
    result = segmenter.predict(["a dog"])
    assert result.background == "contrast"
    assert 0 <= result.shares[0] < 1
    with pytest.raises(UserError, match="too long"):
        segmenter.predict(["dog " * 30])


def test_bf16_is_close_and_ends_in_float32(clip: Backbone) -> None:
    segmenters = [Segmenter(PACL.untrained(clip), SegmenterSettings(precision=p)) for p in ("fp32", "bf16")]
    for segmenter in segmenters:
        segmenter.set_image(noise(64, 64))
    exact, rounded = (segmenter.image.patches.values for segmenter in segmenters if segmenter.image)
    assert rounded.dtype == torch.float32
    assert 0 < (exact - rounded).abs().max() < 0.1


def test_training_goes_on_after_segmenting(clip: Backbone) -> None:
    """Nothing that the segmenter leaves in the model's caches keeps gradients from flowing."""
    model = PACL.untrained(clip, text="linear")
    segmenter = Segmenter(model)
    segmenter.set_image(noise(32, 40))
    segmenter.predict_batch([noise(50, 40)], ["a dog", "a cat"])
    images = model.clip.normalize(torch.from_numpy(noise(32, 40)).permute(2, 0, 1)[None])
    phi(model, images, ["a dog", "a cat"]).sum().backward()
    assert model.text_embedder.weight.grad is not None
    assert all(parameter.grad is not None for parameter in model.embedder.parameters())


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


def test_sizes_beyond_all_memory_are_refused_before_it_is_used() -> None:
    for settings in ({"size": 14_000}, {"scales": (1.0, 200.0), "size": 64}):
        segmenter = Segmenter(ColourModel(), SegmenterSettings(**settings))  # type: ignore[arg-type]
        with pytest.raises(MemoryError, match="pixels"):
            segmenter.set_image(noise(60, 90))


def test_values_that_are_not_finite_are_an_error(clip: Backbone) -> None:
    model = PACL.untrained(clip)
    segmenter = Segmenter(model)
    with torch.no_grad():
        next(model.embedder.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="finite"):
        segmenter.set_image(noise(40, 56))


# --- Tensors without plain values ---------------------------------------------------------------------------------


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


def test_a_fixed_stride_is_known_before_any_image() -> None:
    model = load_model("photos")
    for stride in (8, 32):
        with pytest.raises(ArgumentError) as error:
            Segmenter(model, SegmenterSettings(stride=stride))
        assert error.value.argument == "stride"
        assert "leave it out" in error.value.reason
    assert Segmenter(model, SegmenterSettings(stride=model.clip.patch)).settings.stride == model.clip.patch


def test_synonyms_as_a_list_show_how_a_label_is_written() -> None:
    with pytest.raises(ArgumentError) as error:
        Segmenter(ColourModel()).prepare([["cat", "kitten"], "blanket"])  # type: ignore[list-item]
    assert error.value.argument == "labels[0]"
    assert "Label('cat', ('cat', 'kitten'))" in error.value.reason


@pytest.mark.parametrize("url", ["http://x/y.jpg", Path("https://x/y.jpg"), "s3://x/y.jpg"], ids=str)
def test_a_url_is_no_image(url: Any) -> None:
    with pytest.raises(UserError, match="is a URL; download"):
        Segmenter(ColourModel()).set_image(url)


def test_reprs_hold_no_tensors() -> None:
    segmenter = Segmenter(ColourModel())
    query = segmenter.prepare(["red", "blue"])
    assert len(repr(segmenter)) < 100
    segmenter.set_image(noise(64, 64))
    (encoded,) = segmenter.encode([noise(64, 64)], ["image"])
    for each in (segmenter, query, encoded):
        assert len(repr(each)) < 200
        assert "tensor" not in repr(each)
    assert "red" in repr(query)


def test_settings_are_not_replaced() -> None:
    segmenter = Segmenter("bundled", SegmenterSettings(prior=-0.3))
    with pytest.raises(AttributeError, match="new one"):
        segmenter.settings = SegmenterSettings(refine=10)
    assert segmenter.settings.prior == -0.3
