from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pacl.errors import ArgumentError, UserError
from pacl.scenes.data import SceneData, SceneSource
from pacl.scenes.drawing import SceneDataset


def pairs(count=6, captions=3, seed=0):
    return SceneSource(SceneDataset("train", count, size=16, seed=seed), captions)


def test_scenes_are_images_with_captions():
    found = pairs()
    assert len(found) == 6
    assert found.name(2) == "train scene 2"
    for i in range(6):
        assert np.array_equal(found.image(i, short_side=16), SceneDataset("train", 6, size=16)[i].image)
        assert len(found.descriptions(i)) == 3
    described = [pair for i in range(6) for pair in found.descriptions(i)]
    assert sum(bool(phrases) for _, phrases in described) > 9
    assert all(phrase.split()[-1] in caption for caption, phrases in described for phrase in phrases)
    assert len({caption for caption, _ in pairs(captions=9).descriptions(0)}) > 1


def test_captions_depend_only_on_the_scene():
    forward, backward = pairs(), pairs()
    there = [forward.descriptions(i) for i in range(6)]
    for i in reversed(range(6)):
        backward.image(i)
        assert backward.descriptions(i) == there[i]
    assert [pairs(seed=1).descriptions(i) for i in range(6)] != there


def module(**settings):
    data = SceneData(**{"scenes": 9, "size": 16, "batch_size": 4, "cache": None, **settings})
    strategy = SimpleNamespace(broadcast=lambda seed: seed, is_global_zero=True)
    data.trainer = SimpleNamespace(
        strategy=strategy,
        lightning_module=SimpleNamespace(image_size=24),
        global_rank=0,
        world_size=1,
        current_epoch=0,
    )
    return data


def test_batches_contain_scenes_and_their_captions():
    batches = list(module().train_dataloader())
    assert len(batches) == 2  # the incomplete last batch is dropped
    source = pairs(9, 5)
    numbers = {source.image(i).tobytes(): i for i in range(9)}
    for batch in batches:
        for image, right in zip(batch["images"], batch["positives"], strict=True):
            number = numbers[image.permute(1, 2, 0).numpy().tobytes()]
            (text,) = right.nonzero().flatten().tolist()
            assert batch["texts"][text] in {caption for caption, _ in source.descriptions(number)}


def test_a_resumed_run_has_as_many_captions_of_each_scene():
    state = module().state_dict()
    module().load_state_dict(state)
    with pytest.raises(ArgumentError) as error:
        module(captions=2).load_state_dict(state)
    assert error.value.argument == "captions"


def test_settings_reach_the_scenes():
    assert next(iter(module(size=None).train_dataloader()))["images"].shape == (4, 3, 24, 24)
    (source,), val = module(seed=3, scenes=5, captions=2).parts()
    assert np.array_equal(source.image(0), pairs(seed=3).image(0))
    assert (len(source), len(source.descriptions(0)), val) == (5, 2, [])
    with_nouns = next(iter(module(nouns=True, templates="none").train_dataloader()))
    assert len(with_nouns["texts"]) > 4
    assert not module().validates


def test_the_order_depends_on_the_seed_of_the_run():
    def texts(seed):
        torch.manual_seed(seed)
        return [batch["texts"] for batch in module(nouns=True).train_dataloader()]

    assert texts(1) == texts(1) != texts(2)


def test_there_must_be_a_caption():
    with pytest.raises(ArgumentError) as error:
        module(captions=0).train_dataloader()
    assert error.value.argument == "captions"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1}, "batch_size 1"),
        ({"nouns": True, "templates": "no-such"}, "no-such"),
    ],
)
def test_invalid_settings(settings, message):
    with pytest.raises(UserError, match=message):
        module(**settings).train_dataloader()
