"""What the results of a model depend on: every field and attribute, until a list leaves it out."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from pacl.models import identity
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.head import HeadConfig
from pacl.models.model import PACL
from pacl.models.towers.base import ImageTower, TextTower, architecture_of
from pacl.models.towers.open_clip_loading import LoadedClip
from tests.tiny import configure_clip, save_tiny_clip, trained_head

FIELDS = [each.name for each in fields(HeadConfig)]
CONFIGURATIONS = {"vision_cfg": CLIPVisionCfg, "text_cfg": CLIPTextCfg}
LISTS = (identity.INERT, identity.NOT_ON_PATCHES, identity.ON_TEXTS, identity.NOT_TRAINED)


def other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (list, tuple)):
        return type(value)([*value, "more"]) if not value or isinstance(value[0], str) else type(value)(value[::-1]) * 2
    if isinstance(value, dict):
        return {**value, "interpolation": "other"}
    return f"{value} other" if isinstance(value, str) else (value or 0) + 1


def changed(model: PACL, name: str) -> PACL:
    """The model with another value of a field of its configuration."""
    found = copy.copy(model)
    found.config = copy.copy(model.config)
    setattr(found.config, name, other(getattr(model.config, name)))
    return found


@pytest.fixture(scope="module")
def model(clip: Backbone) -> PACL:
    return trained_head(clip)


def test_the_lists_name_what_there_is() -> None:
    assert frozenset().union(*LISTS) <= set(FIELDS)
    assert not identity.INERT & identity.NOT_ON_PATCHES
    assert {*ImageTower.__annotations__, *TextTower.__annotations__} >= identity.INERT_OF_TOWERS


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_of_a_head_counts_or_is_listed(name: str, model: PACL) -> None:
    parts: dict[Callable[[PACL], Any], bool] = {
        identity.whole: name not in identity.INERT,
        identity.patches: name not in identity.INERT | identity.NOT_ON_PATCHES,
        identity.texts: name in identity.ON_TEXTS,
        identity.objective: name not in identity.NOT_TRAINED,
    }
    for part, counts in parts.items():
        assert (part(changed(model, name)) != part(model)) is counts, part.__name__


@pytest.mark.parametrize("learned", [False, True])
def test_the_start_of_a_temperature_that_is_learned_is_no_setting(clip: Backbone, learned: bool) -> None:
    model = PACL.untrained(clip, learn_temperature=learned)
    assert (identity.whole(changed(model, "temperature")) == identity.whole(model)) is learned


@pytest.mark.parametrize("name", sorted(identity.INERT | identity.NOT_ON_PATCHES))
def test_patch_vectors_do_not_depend_on_what_is_left_out(name: str, model: PACL) -> None:
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(changed(model, name).encode_patches(images)[0], model.encode_patches(images)[0])


@pytest.mark.parametrize("name", sorted({*ImageTower.__annotations__, *TextTower.__annotations__}))
def test_every_attribute_of_a_tower_counts_or_is_listed(name: str, clip: Backbone) -> None:
    for tower in (clip.image, clip.text):
        if name in type(tower).__mro__[1].__annotations__:
            before, value = identity.tower_settings(tower), getattr(tower, name)
            try:
                setattr(tower, name, other(value))
                assert (identity.tower_settings(tower) != before) is (name not in identity.INERT_OF_TOWERS)
            finally:
                setattr(tower, name, value)


def test_preprocessing_counts_where_it_acts(tmp_path: Path) -> None:
    name = save_tiny_clip(tmp_path / "clip")
    before = load_backbone(name)
    for setting, on_tokens in (({"resize_mode": "squash"}, False), ({"mean": [0.1, 0.2, 0.3]}, True)):
        after = load_backbone(configure_clip(name, preprocess=setting))
        assert identity.pooled(after) != identity.pooled(before)
        assert (identity.tokens(after) != identity.tokens(before)) is on_tokens
        assert identity.both_towers(after) != identity.both_towers(before)


def test_what_is_made_of_the_weights_counts(tmp_path: Path) -> None:
    """Activation, layers and number of heads change all results, but no weight."""
    name = save_tiny_clip(tmp_path / "clip")
    found = [load_backbone(name), load_backbone(name, quick_gelu=True), load_backbone(name, layers=[0])]
    found.append(load_backbone(configure_clip(name, vision={"head_width": 32})))
    assert len({each.checksum() for each in found}) == 1
    for part in (identity.tokens, identity.both_towers):
        assert len({identity.digest(part(each)) for each in found}) == len(found)
    heads = [PACL.untrained(each) for each in found]
    for of_model in (identity.patches, identity.whole):
        assert len({identity.digest(of_model(each)) for each in heads}) == len(found)
    assert identity.texts(heads[0]) == identity.texts(heads[2]) == identity.texts(heads[3]) != identity.texts(heads[1])


def test_a_model_is_the_same_when_it_is_loaded_again(tmp_path: Path) -> None:
    name = save_tiny_clip(tmp_path / "clip")
    first, second = (PACL.untrained(load_backbone(name), temperature=float("inf")) for _ in range(2))
    for part in (identity.whole, identity.patches, identity.texts, identity.objective):
        assert part(first) == part(second)
        assert json.loads(json.dumps(part(first), allow_nan=part is identity.objective)) is not None
    assert identity.patches(first, quick=True) != identity.patches(first)


def test_a_later_field_changes_nothing_while_it_is_at_its_default(model: PACL) -> None:
    assert "contrast_margin" not in identity.whole(model)
    assert identity.whole(changed(model, "contrast_margin"))["contrast_margin"] == 1.0


@pytest.mark.parametrize(
    ("part", "name"), [(part, each.name) for part, kind in CONFIGURATIONS.items() for each in fields(kind)]
)
def test_every_setting_of_open_clip_counts_unless_it_is_the_default(part: str, name: str) -> None:
    default = getattr(CONFIGURATIONS[part](), name)

    def architecture(**settings: Any) -> str:
        loaded = LoadedClip("a", None, None, False, {"embed_dim": 8, part: settings, "custom_text": False})
        return architecture_of(loaded.acting_settings("embed_dim", part, "custom_text", "init_logit_bias"))

    assert architecture(**{name: default}) == architecture()
    for value in (other(default), 0, False, None, ""):
        assert (architecture(**{name: value}) != architecture()) is (value != default)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_of_an_optimiser_makes_another_model(fused: bool, model: PACL) -> None:
    """PyTorch does not count the writes of fused ones."""
    model = copy.deepcopy(model)
    before = {part: part(model) for part in (identity.patches, identity.whole)}
    texts = identity.texts(model)
    trained = list(model.embedder.parameters())
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter)
    for parameter in trained:  # as in a step that is over before anything looks at the model
        parameter.requires_grad_(True)
    torch.optim.AdamW(trained, lr=1e-3, fused=fused).step()
    for parameter in trained:
        parameter.requires_grad_(False)
    assert all(part(model) != value for part, value in before.items())
    assert identity.texts(model) == texts


def test_weights_in_the_place_of_former_ones_are_others(model: PACL) -> None:
    model = copy.deepcopy(model)
    shapes = {name: value.shape for name, value in model.embedder.state_dict().items()}
    seen = set()
    for number in range(8):  # the memory of the last ones is free again
        state = {name: torch.full(shape, 0.1 * (1 + number)) for name, shape in shapes.items()}
        model.embedder.load_state_dict(state, assign=True)
        for parameter in model.embedder.parameters():
            parameter.requires_grad_(False)
        seen.add(json.dumps(identity.whole(model)))
    assert len(seen) == 8


def test_weights_that_were_loaded_in_inference_mode_are_followed(model: PACL) -> None:
    model = copy.deepcopy(model)
    with torch.inference_mode():
        for parameter in list(model.parameters()):
            parameter.data = parameter.clone()
        before = identity.whole(model)
        assert identity.whole(model) == before
        next(model.embedder.parameters()).mul_(2)
        assert identity.whole(model) != before
