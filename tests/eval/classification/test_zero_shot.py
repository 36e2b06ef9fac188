"""Zero-shot results against scores computed one image at a time."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from eval.classification import run
from eval.classification.features import Loading, load_batches, preprocessing
from eval.classification.image_sets import open_image_set
from eval.classification.run import check_names
from eval.classification.zero_shot import zero_shot
from pacl.classification.features import embed
from pacl.errors import UserError
from pacl.metrics.accuracy import accuracies
from pacl.models.loading import load_model
from pacl.prompts import get_templates


def test_scores_follow_their_formulas(colour_photos, tiny_clip):
    model = load_model(tiny_clip)
    images = open_image_set("custom", colour_photos)
    templates = get_templates("paper")
    counts = zero_shot(model, images, templates, Loading(5, 0))
    right = dict.fromkeys(counts, 0)
    texts = model.encode_prompts(images.keys, templates)
    for index in range(len(images)):
        square = preprocessing(model)(Image.open(images.images[index]))[None]
        pooled = model.clip.encode_image(square) @ texts.T
        phi = model.phi(model.encode_patches(square)[0], texts)
        for method, scores in (("pooled", pooled), ("phi", phi), ("mean", (pooled + phi) / 2)):
            right[method] += int(scores.argmax() == images.labels[index])
    assert {method: accuracies(each)["top1"] for method, each in counts.items()} == pytest.approx(
        {method: 100 * value / 12 for method, value in right.items()}
    )


def test_the_best_synonym_counts(colour_photos, tiny_clip, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("dog;cat;owl=blue\nred;dog=green\nfish=red\n")
    model = load_model(tiny_clip)
    images = open_image_set("custom", colour_photos, names=names)
    assert [len(prompts) for prompts in images.prompts] == [3, 2, 1]
    counts = zero_shot(model, images, ("{}",), Loading(12, 0))
    texts = model.encode_prompts(["dog", "cat", "owl", "red", "dog", "fish"])
    squares, labels = next(load_batches(images, model, Loading(12, 0)))
    pooled = embed(model, squares)[0] @ texts.T
    best = torch.stack([pooled[:, :3].amax(1), pooled[:, 3:5].amax(1), pooled[:, 5]], dim=1)
    assert counts["pooled"][:, 0].sum() == (best.argmax(1) == labels).sum()


def test_damaged_weights_are_an_error(colour_photos, tiny_clip):
    model = load_model(tiny_clip)
    with torch.no_grad():
        model.embedder.skip.bias.fill_(torch.nan)
    with pytest.raises(UserError, match="custom"):
        zero_shot(model, open_image_set("custom", colour_photos), ("{}",), Loading(4, 0))


def test_unreadable_names_are_reported(tiny_clip, capsys, monkeypatch):
    from types import SimpleNamespace

    model = load_model(tiny_clip)
    images = SimpleNamespace(
        prompts=(("a" + " very" * 20 + " long name",), ("cat",)), benchmark=SimpleNamespace(name="x")
    )
    check_names(model, images, ("a photo of a {}.",))
    assert "1 of the 2 names of x exceed" in capsys.readouterr().err
    model.clip.vocabulary = frozenset(["cat"])
    check_names(model, images, ("{}",))
    assert (
        "4 words of the names of x not in this model's vocabulary: 'a', 'very', 'long', 'name'"
        in capsys.readouterr().err
    )
    model.clip.vocabulary = None
    monkeypatch.setattr(run, "MANY_TEXTS", 2)
    check_names(model, images, ("{}",))
    assert "encoding 2 texts for x\n" in capsys.readouterr().err
