from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pacl.data.batches import CaptionData, KeptTokens, SceneData, pair_texts, stack_images
from pacl.errors import UserError
from pacl.prompts import TEMPLATES


def test_captions_alone_are_the_diagonal():
    texts, positives = pair_texts(["one", "two", "three"], [[], [], []])
    assert texts == ["one", "two", "three"]
    assert torch.equal(positives, torch.eye(3, dtype=torch.bool))


def test_equal_captions_are_one_text_of_both_images():
    texts, positives = pair_texts(["same", "other", "same"], [[], [], []])
    assert texts == ["same", "other"]
    assert positives.tolist() == [[True, False], [False, True], [True, False]]


def test_phrases_stand_beside_the_captions_and_are_right_where_the_own_caption_names_them():
    captions = ["a red star on grass", "grass with a blue fish", "a red star"]
    phrases = [["a red star", "grass"], ["a blue fish", "grass"], ["a red star"]]
    texts, positives = pair_texts(captions, phrases)
    assert texts == [*captions, "grass", "a blue fish"]  # "a red star" is already a caption: merged
    right = {(i, texts[t]) for i, t in positives.nonzero().tolist()}
    assert right == {
        (0, captions[0]),
        (1, captions[1]),
        (2, captions[2]),
        (0, "a red star"),
        (0, "grass"),
        (1, "a blue fish"),
        (1, "grass"),
    }


def test_a_phrase_is_one_text_whatever_template_it_gets():
    phrases = [["a red star"]] * 20
    captions = [f"caption {i}" for i in range(20)]
    seen = set()
    for seed in range(20):
        texts, positives = pair_texts(captions, phrases, TEMPLATES["paper"], Random(seed))
        assert len(texts) == 21
        assert positives[:, 20].all()
        seen.add(texts[20])
    assert len(seen) > 3
    assert "art of the red star." in seen


def test_images_are_stacked_channels_first():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    stacked = stack_images([image, image])
    assert stacked.shape == (2, 3, 2, 3)
    assert stacked[1, 2, 1, 0] == image[1, 0, 2]


def batches(data: CaptionData, module: object) -> list[dict]:
    data.trainer = SimpleNamespace(lightning_module=module)  # type: ignore[assignment]
    return list(data.train_dataloader())


def brightness(images: torch.Tensor) -> torch.Tensor:
    """Stands in for the frozen tower: one token an image."""
    return images.float().mean((1, 2, 3))[:, None, None]


@pytest.fixture
def module() -> SimpleNamespace:
    return SimpleNamespace(frozen_tokens=brightness, device="cpu")


def test_kept_tokens_belong_to_their_captions(module):
    data = SceneData(scenes=40, size=16, batch_size=20, captions=3)
    tokens = {}
    for scene in data.samples():
        token = float(brightness(stack_images([scene.image])).half())
        rng = Random(len(tokens))
        tokens[token] = {scene.describe(rng)[0] for _ in range(3)}
    assert len(tokens) == 40  # told apart by their brightness
    epoch = batches(data, module)
    assert [batch["tokens"].shape for batch in epoch] == [(20, 1, 1)] * 2
    seen = set()
    for batch in epoch:
        for token, right in zip(batch["tokens"].flatten().tolist(), batch["positives"], strict=True):
            own = {text for text, is_right in zip(batch["texts"], right.tolist(), strict=True) if is_right}
            assert own <= tokens[token]
            assert own
            seen.add(token)
    assert seen == set(tokens)


def test_without_keeping_images_come_and_phrases_too(module):
    data = SceneData(scenes=9, size=16, batch_size=4, keep_tokens=False, nouns=True, templates="none")
    epoch = batches(data, module)
    assert len(epoch) == 2  # the incomplete last one is left out
    assert epoch[0]["images"].shape == (4, 3, 16, 16)
    assert epoch[0]["images"].dtype == torch.uint8
    assert len(epoch[0]["texts"]) > 4
    assert epoch[0]["positives"].shape == (4, len(epoch[0]["texts"]))


def test_batches_follow_the_seed(module):
    def one_epoch(seed: int) -> list[list[str]]:
        torch.manual_seed(seed)
        data = SceneData(scenes=16, size=16, batch_size=8, nouns=True)
        return [batch["texts"] for batch in batches(data, module)]

    assert one_epoch(1) == one_epoch(1)
    assert one_epoch(1) != one_epoch(2)


def test_what_cannot_be_contrasted_is_refused(module):
    with pytest.raises(UserError, match="batch_size 1"):
        batches(SceneData(scenes=4, size=16, batch_size=1), module)
    with pytest.raises(UserError, match="batch_size 8: larger than"):
        batches(SceneData(scenes=4, size=16, batch_size=8), module)
    with pytest.raises(UserError, match="templates"):
        batches(SceneData(scenes=4, size=16, batch_size=2, templates="no-such"), module)


def test_tokens_are_computed_once(module):
    calls = []
    data = SceneData(scenes=8, size=16, batch_size=4)
    module.frozen_tokens = lambda images: calls.append(len(images)) or brightness(images)
    batches(data, module)
    batches(data, module)
    assert calls == [8]
    assert isinstance(data.kept, KeptTokens)
    assert data.kept.tokens.dtype == torch.float16
