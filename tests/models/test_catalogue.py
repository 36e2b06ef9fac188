"""The names that `list_models` lists are those that `load_model` takes."""

from __future__ import annotations

import pytest

import pacl
from pacl.errors import ArgumentError
from pacl.models.catalogue import ModelName, list_models
from pacl.models.config import SHIPPED
from pacl.models.loading import load_model


def test_the_models_of_the_package_come_first() -> None:
    names = list_models()
    assert names[: len(SHIPPED)] == [ModelName(name, "shipped", True) for name in SHIPPED]
    assert {model.source for model in names[len(SHIPPED) :]} == {"open_clip"}
    assert not any(model.trained for model in names[len(SHIPPED) :])
    assert str(names[0]) == names[0].name
    assert pacl.list_models is list_models


def test_patterns_and_random_weights() -> None:
    found = [model.name for model in list_models("open_clip:ViT-B-16/*")]
    assert "open_clip:ViT-B-16/openai" in found
    assert all(name.startswith("open_clip:ViT-B-16/") and not name.endswith("/random") for name in found)
    every = [model.name for model in list_models("open_clip:ViT-B-16/*", pretrained=False)]
    assert set(every) - set(found) == {"open_clip:ViT-B-16/random"}
    assert list_models("nothing") == []


def test_what_is_listed_loads_and_what_is_not_needs_a_head_first() -> None:
    listed = {model.name for model in list_models(pretrained=False)}
    assert "open_clip:ViT-S-32/random" in listed
    assert load_model("open_clip:ViT-S-32/random", device="cpu").config.start == "clip"
    for name in ("open_clip:RN50/random", "open_clip:MobileCLIP-S1/random"):
        assert name not in listed
        with pytest.raises(ArgumentError) as error:
            load_model(name, device="cpu")
        assert error.value.argument == "model"
