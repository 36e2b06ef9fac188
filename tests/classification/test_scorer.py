"""Scores and probabilities are open_clip's own for `clip`, and PACL's phi for `phi`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from pacl.classification.scorer import Scorer, classify_images, default_score, score_images
from pacl.errors import ArgumentError, SameEmbedding, UserError
from pacl.images import open_image
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.prompts import Label, get_templates
from tests.colours import noise
from tests.tiny import trained_head

TEXTS = ["dog", "cat", "red house", "lamp"]


@pytest.fixture
def clip(tiny_clip: str) -> Backbone:
    return load_backbone(tiny_clip)


@pytest.fixture
def model(clip: Backbone) -> PACL:
    torch.manual_seed(0)
    return trained_head(clip)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Three images of different proportions, larger and smaller than the model's 32 pixels."""
    for i, size in enumerate([(32, 48), (70, 40), (20, 20)]):
        Image.fromarray(noise(*size, seed=i)).save(tmp_path / f"{i}.png")
    return [tmp_path / f"{i}.png" for i in range(3)]


@pytest.fixture
def reference(tiny_clip: str, photos: list[Path]) -> tuple[Any, torch.Tensor, Any]:
    """open_clip's own model, its preprocessed images [3, 3, S, S], and its tokenizer."""
    model, transform = open_clip.create_model_from_pretrained(tiny_clip)
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in photos])
    return model.eval(), images, open_clip.get_tokenizer(tiny_clip)


def test_probabilities_are_open_clips(model: PACL, photos: list[Path], reference: Any) -> None:
    clip, images, tokenizer = reference
    with torch.no_grad():
        image, text, scale = clip(images, tokenizer(TEXTS))
    expected = (scale * image @ text.T).softmax(dim=-1)
    assert expected.std() > 1e-3
    torch.testing.assert_close(classify_images(model, photos, TEXTS, "clip"), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(score_images(model, photos, TEXTS, "clip"), image @ text.T, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("templates", ["photo", "paper"])
def test_templates_are_those_of_the_zero_shot_classifier(
    model: PACL, photos: list[Path], reference: Any, templates: str
) -> None:
    clip, images, tokenizer = reference
    weights = open_clip.build_zero_shot_classifier(clip, tokenizer, TEXTS, get_templates(templates))  # [D, C]
    with torch.no_grad():
        expected = clip.encode_image(images, normalize=True) @ weights
    found = score_images(model, photos, TEXTS, "clip", templates=templates)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
    assert (found - score_images(model, photos, TEXTS, "clip")).abs().max() > 1e-4


def test_phi_is_that_of_all_patches(model: PACL, photos: list[Path]) -> None:
    whole = torch.from_numpy(open_image(photos[0])).permute(2, 0, 1)[None]  # its short side is the model's size
    patches, grid = model.encode_patches(model.clip.normalize(whole))
    assert (grid.h, grid.w) == (4, 6)
    expected = model.phi(patches, model.encode_prompts(TEXTS)).detach()
    torch.testing.assert_close(score_images(model, photos, TEXTS, "phi")[:1], expected, atol=1e-6, rtol=1e-4)
    probabilities = classify_images(model, photos, TEXTS, "phi")[:1]
    torch.testing.assert_close(probabilities, (model.logit_scale.detach() * expected).softmax(-1))


def test_both_is_the_weighted_mean(model: PACL, photos: list[Path]) -> None:
    parts = [score_images(model, photos, TEXTS, kind) for kind in ("clip", "phi")]
    for weight in (0.0, 0.25, 1.0):
        expected = (1 - weight) * parts[0] + weight * parts[1]
        torch.testing.assert_close(score_images(model, photos, TEXTS, "both", weight=weight), expected)
    assert Scorer(model, "both", weight=0.0).logit_scale == pytest.approx(model.clip.logit_scale)
    assert Scorer(model, "both", weight=1.0).logit_scale == pytest.approx(float(model.logit_scale.detach()))


def test_images_in_any_form_have_the_same_scores(model: PACL, photos: list[Path]) -> None:
    pillow = Image.open(photos[0]).convert("RGB")
    array = np.array(pillow)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    found = score_images(model, [photos[0], str(photos[0]), pillow, array, tensor, array / 255], TEXTS)
    assert found.shape == (6, len(TEXTS))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, found[:1].expand_as(found))  # rows of a batch may round differently


def test_batches_change_nothing(model: PACL, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = score_images(model, photos, TEXTS, "both")
    monkeypatch.setattr("pacl.classification.scorer.BATCH", 2)
    torch.testing.assert_close(score_images(model, photos, TEXTS, "both"), whole)
    assert score_images(model, [], TEXTS).shape == (0, len(TEXTS))


def test_a_model_may_be_given_by_its_name(tiny_clip: str, photos: list[Path]) -> None:
    model = load_model(tiny_clip)
    torch.testing.assert_close(score_images(tiny_clip, photos, TEXTS), score_images(model, photos, TEXTS))
    torch.testing.assert_close(classify_images(tiny_clip, photos, TEXTS), classify_images(model, photos, TEXTS))


@pytest.mark.parametrize("score", [score_images, classify_images])
def test_a_single_image_is_named_before_a_model_is_loaded(score: Callable[..., Any]) -> None:
    with pytest.raises(ArgumentError) as error:
        score("no such model", "one.jpg", ["a dog"] * 2)
    assert (error.value.argument, error.value.value) == ("images", "'one.jpg'")


def test_the_best_prompt_of_a_label_counts(model: PACL, photos: list[Path]) -> None:
    scorer = Scorer(model)
    labels = [Label("x", ("dog", "cat")), Label("y", ("lamp",))]
    single = score_images(model, photos, ["dog", "cat", "lamp"])
    expected = torch.stack([single[:, :2].amax(1), single[:, 2]], dim=1)
    torch.testing.assert_close(scorer.scores(photos, scorer.encode(labels)), expected)
    probabilities = classify_images(model, photos, ["dog;cat=x", "lamp"])
    torch.testing.assert_close(probabilities, scorer.probabilities(expected))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))


@pytest.mark.filterwarnings("ignore::pacl.SameEmbedding")
def test_texts_may_repeat_and_mean_what_they_say(model: PACL, photos: list[Path]) -> None:
    found = score_images(model, photos, ["dog", "dog", "Dog", "dog=cat"])
    torch.testing.assert_close(found[:, 0], found[:, 1])
    torch.testing.assert_close(found[:, :1], score_images(model, photos, ["dog"]))
    assert (found[:, 3] - found[:, 0]).abs().max() > 1e-4


def test_maps_are_the_cosines_of_the_segmenter(model: PACL, photos: list[Path]) -> None:
    from pacl.segmentation.segmenter import Segmenter

    scorer = Scorer(model)
    maps = scorer.maps(photos[0], scorer.encode([Label("x", ("dog", "cat")), Label("y", ("lamp",))]), (32, 48))
    segmenter = Segmenter(model)
    segmenter.set_image(photos[0])
    found = segmenter.predict(["dog;cat=x", "lamp=y"])
    assert maps.shape == (2, 32, 48)
    for i, name in enumerate("xy"):
        np.testing.assert_allclose(maps[i], found.score_map(name), atol=1e-6)


def test_a_model_of_separate_towers_has_phi_alone(tiny_clip: str, photos: list[Path]) -> None:
    apart = load_backbone(f"{tiny_clip}+static:words")
    model = PACL.untrained(apart, start="paper")
    assert default_score(model) == "phi"
    assert score_images(model, photos, TEXTS).shape == (3, 4)
    for score in ("clip", "both"):
        with pytest.raises(ArgumentError) as error:
            score_images(model, photos, TEXTS, score)  # type: ignore[arg-type]
        assert (error.value.argument, error.value.value) == ("score", score)


@pytest.mark.parametrize(
    ("argument", "changes"),
    [
        ("score", {"score": "cosine"}),
        ("weight", {"score": "both", "weight": 1.5}),
        ("texts", {"texts": "a dog"}),
        ("texts", {"texts": []}),
        ("texts", {"texts": {"dog", "cat"}}),
        ("texts", {"texts": {"dog": "a photo of a dog"}}),
        ("images", {"images": {"a.png", "b.png"}}),
        ("texts[1]", {"texts": ["dog", " "]}),
        ("texts[0]", {"texts": [3]}),
        ("images", {"images": "a.png"}),
        ("images[1]", {"images": [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)]}),
        ("templates", {"templates": "nothing"}),
    ],
)
def test_bad_arguments_are_named(model: PACL, photos: list[Path], argument: str, changes: dict[str, Any]) -> None:
    arguments = {"images": photos, "texts": TEXTS, **changes}
    with pytest.raises(ArgumentError) as error:
        score_images(model, **arguments)
    assert error.value.argument == argument


def test_other_mistakes_are_user_errors(model: PACL, photos: list[Path]) -> None:
    with pytest.raises(UserError):
        score_images(model, ["missing.png"], TEXTS)
    with pytest.raises(UserError):
        score_images(model, photos, ["dog " * 40])
    with pytest.raises(ArgumentError):
        classify_images(model, photos, ["dog"])
    with pytest.raises(UserError):
        classify_images(model, photos, ["dog", "dog"])


def test_equal_prompts_are_warned_of(model: PACL, photos: list[Path]) -> None:
    with pytest.warns(SameEmbedding):
        score_images(model, photos, ["dog", "Dog"])


def test_the_photo_model_starts_without_open_clip() -> None:
    code = (
        "import sys, numpy as np, pacl\n"
        "pacl.classify_images('photos', [np.zeros((32, 32, 3), np.uint8)], ['a cat', 'a dog'])\n"
        "print([name for name in ('open_clip', 'torchvision', 'timm', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", done.stderr


def test_a_scorer_follows_its_model(model: PACL, photos: list[Path]) -> None:
    scorer, labels = Scorer(model, "both"), [Label(text, (text,)) for text in TEXTS]
    scorer.probabilities(scorer.scores(photos, scorer.encode(labels)))
    model.clip.logit_scale *= 2
    model.clip.preprocessing["resize_mode"] = "squash"
    found = scorer.probabilities(scorer.scores(photos, scorer.encode(labels)))
    assert torch.equal(found, classify_images(model, photos, TEXTS, "both"))


def test_labels_of_another_scorer_are_refused(model: PACL, photos: list[Path]) -> None:
    labels = Scorer(model, templates="photo").encode([Label("dog", ("dog",))])
    assert Scorer(model, templates="photo").scores(photos, labels).shape == (len(photos), 1)
    with pytest.raises(ArgumentError) as error:
        Scorer(model).scores(photos, labels)
    assert error.value.argument == "labels"
