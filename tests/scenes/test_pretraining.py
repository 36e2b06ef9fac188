"""Scenes as batches for pretraining."""

import pytest
import torch

from pacl.errors import ArgumentError
from pacl.scenes.drawing import SceneDataset
from pacl.scenes.pretraining import SceneBlocks, ScenePretrainingData
from tests.scenes.names import HELD_OUT_NAMES


def test_batches() -> None:
    data = ScenePretrainingData(n_train=20, n_val=5, size=32, batch_size=8, block=4)
    batches = list(data.train_dataloader())
    assert len(batches) == 2  # the incomplete last batch is dropped
    assert batches[0]["images"].shape == (8, 3, 32, 32)
    assert batches[0]["images"].dtype == torch.uint8
    assert len(batches[0]["texts"]) == 8
    validation = list(data.val_dataloader())
    assert [text for batch in validation for text in batch["texts"]] == [
        scene.caption for scene in SceneDataset("val", 5, 32)
    ]


def test_the_order_depends_on_the_seed() -> None:
    first, again, other = (
        next(iter(ScenePretrainingData(n_train=16, size=32, batch_size=4, block=2, seed=s).train_dataloader()))
        for s in (0, 0, 1)
    )
    assert torch.equal(first["images"], again["images"])
    assert first["texts"] == again["texts"]
    assert not torch.equal(first["images"], other["images"])


def test_scenes_are_rendered_once_and_captions_are_new() -> None:
    blocks = SceneBlocks(2, 4, size=32)
    assert blocks[0][0][0] is blocks[0][0][0]
    captions = {blocks[0][0][1] for _ in range(20)}
    assert len(captions) > 3


def test_blocks_contain_seen_pairs_with_few_colours() -> None:
    blocks = SceneBlocks(30, 8, size=24)
    for i in range(30):
        for _, caption in blocks[i]:
            assert not any(name.split(" ", 1)[1] in caption for name in HELD_OUT_NAMES)
    colours = [{obj.colour for scene in block for obj in scene.objects} for block in blocks._kept.values()]
    assert sum(len(c) == 1 for c in colours) > 8
    assert sum(len(c) > 4 for c in colours) > 3


@pytest.mark.parametrize("settings", [{"batch_size": 10, "block": 4}, {"n_train": 8, "batch_size": 16, "block": 4}])
def test_invalid_batch_sizes(settings: dict) -> None:
    with pytest.raises(ArgumentError) as error:
        ScenePretrainingData(**settings).train_dataloader()
    assert (error.value.argument, error.value.value) == ("batch_size", settings["batch_size"])
