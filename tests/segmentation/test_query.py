"""Prepared labels: used by segmenters with the same model and words, refused by others."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pacl.errors import ArgumentError
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.model import PACL
from pacl.segmentation.query import alike_prompts, equal_prompts
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import noise
from tests.tiny import save_tiny_clip

LABELS = ["a dog", "grass", "sky"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def clip(folder: str) -> Backbone:
    return load_backbone(folder)


def predict(segmenter: Segmenter, labels: object) -> np.ndarray:
    segmenter.set_image(noise(40, 56))
    return segmenter.predict(labels).index  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{}, {"refine": 2}, {"size": 48}, {"min_area": 0.1}, {"prior": 0.2}], ids=str)
def test_segmenters_of_the_same_words_share_prepared_labels(settings: dict, clip: Backbone, folder: str) -> None:
    query = Segmenter(PACL.untrained(clip)).prepare(LABELS)
    for model in (PACL.untrained(clip), PACL.untrained(load_backbone(folder))):
        segmenter = Segmenter(model, SegmenterSettings(**settings))
        assert np.array_equal(predict(segmenter, query), predict(segmenter, LABELS))
        copied = copy.deepcopy(segmenter)
        assert np.array_equal(predict(copied, pickle.loads(pickle.dumps(query))), predict(segmenter, LABELS))
    assert segmenter.prepare(query) is query


@pytest.mark.parametrize(
    "settings", [{"templates": "photo"}, {"background": "prompt:a wall"}, {"background": "threshold:0.4"}], ids=str
)
def test_other_words_are_refused(settings: dict, clip: Backbone) -> None:
    model = PACL.untrained(clip)
    other = Segmenter(model, SegmenterSettings(**settings))
    other.set_image(noise(40, 56))
    query = Segmenter(model).prepare(LABELS)
    for use in (other.predict, other.prepare, lambda labels: other.predict_batch([noise(8, 8)], labels)):
        with pytest.raises(ArgumentError, match="prepare them again") as error:
            use(query)
        assert error.value.argument == "labels"
    assert other.image is not None
    with pytest.raises(ArgumentError):
        other.segment(other.image, query)


def test_another_template_file_of_the_same_name_is_refused(clip: Backbone, tmp_path: Path) -> None:
    path, segmenters = tmp_path / "templates.txt", []
    for line in ("a {}", "one {}"):
        path.write_text(line)
        segmenters.append(Segmenter(PACL.untrained(clip), SegmenterSettings(templates=str(path))))
    with pytest.raises(ArgumentError) as error:
        predict(segmenters[1], segmenters[0].prepare(LABELS))
    assert error.value.argument == "labels"


def test_another_model_is_refused(clip: Backbone, tmp_path: Path) -> None:
    query = Segmenter(PACL.untrained(clip)).prepare(LABELS)
    torch.manual_seed(1)
    other = PACL.untrained(clip, text="linear")
    assert predict(Segmenter(other), query).shape == (40, 56)  # until training changes how it embeds texts
    with torch.no_grad():
        other.text_embedder.weight.add_(torch.randn_like(other.text_embedder.weight))  # type: ignore[operator]
    with pytest.raises(ArgumentError) as error:
        predict(Segmenter(other), query)
    assert error.value.argument == "labels"


def test_other_background_words_matter_where_they_compete(clip: Backbone) -> None:
    first, second = PACL.untrained(clip), PACL.untrained(clip)
    first.config.contrast, second.config.contrast = ["wood", "stone"], ["water"]
    assert predict(Segmenter(second), Segmenter(first).prepare(LABELS)).shape == (40, 56)
    with pytest.raises(ArgumentError) as error:
        predict(Segmenter(second), Segmenter(first).prepare(["a dog"]))
    assert error.value.argument == "labels"


class Walked(list[str]):
    """Prompts, and how often all of them are gone through."""

    walks = 0

    def __iter__(self) -> Iterator[str]:
        self.walks += 1
        return super().__iter__()

    def __contains__(self, prompt: object) -> bool:
        self.walks += 1
        return super().__contains__(prompt)


def test_prompts_are_compared_without_a_walk_through_all_for_each(clip: Backbone) -> None:
    asked = Walked(["a dog", "dogs", "grass", "sky", "wall", "tree"])
    with pytest.warns(UserWarning, match="nearly the same"):
        encoded = Segmenter(PACL.untrained(clip)).prepare(list(asked))
    asked.walks = 0
    assert alike_prompts(encoded.query, asked) == [["a dog", "dogs"]]
    equal_prompts(encoded, asked)
    assert asked.walks == 2  # once each
