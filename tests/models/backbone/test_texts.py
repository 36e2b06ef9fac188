"""Texts are encoded once, and alike whatever comes with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pacl.models.backbone import Backbone, load_backbone
from pacl.models.loading import load_model
from tests.tiny import save_tiny_clip


def test_texts_are_chunked_and_normalised(clip: Backbone) -> None:
    texts = [f"a dog number {i % 97}" for i in range(150)]
    encoded = clip.encode_text(texts)
    assert encoded.shape == (150, 16)
    torch.testing.assert_close(encoded.norm(dim=-1), torch.ones(150))
    assert clip.count_tokens("a dog") == 4
    with pytest.raises(TypeError, match="texts"):
        clip.encode_text("a dog")


def test_padding_after_a_texts_end_is_left_out_and_changes_nothing(
    clip: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["a", "a dog", "a red house with a green door", "many " * 40, "", "a cat"]
    seen = []
    forward = clip.text.clip.transformer.forward
    monkeypatch.setattr(
        clip.text.clip.transformer, "forward", lambda x, attn_mask: seen.append(x.shape[1]) or forward(x, attn_mask)
    )
    found = clip.encode_text(texts)
    assert sorted(seen) == [8, 16]  # tokens; the tiny model reads 16
    seen.clear()
    with torch.no_grad():
        expected = F.normalize(clip.text.clip.encode_text(clip.text.tokenizer(texts)), dim=-1)
    assert seen == [16]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_texts_are_encoded_once(clip: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    first = clip.encode_text(["a dog", "a cat", "a dog"])
    assert torch.equal(first[0], first[2])
    monkeypatch.setattr(clip.text, "encode", lambda *_: pytest.fail("encoded again"))
    assert torch.equal(clip.encode_text(["a cat"])[0], first[1])
    assert clip.encode_text([]).shape == (0, 16)


def test_other_weights_drop_what_was_kept(tmp_path: Path) -> None:
    """Texts, checksums and sampled positions are those of the weights that are in the towers now."""
    first, second = (load_backbone(save_tiny_clip(tmp_path / str(seed), seed=seed)) for seed in (1, 2))
    images = torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    before = [first.encode_text(["a dog"]), first.patch_tokens(images)[0]]
    names = {first.checksum(), first.fingerprint}
    first.load_state_dict(second.state_dict())
    assert not names & {first.checksum(), first.fingerprint}
    assert (first.checksum(), first.fingerprint) == (second.checksum(), second.fingerprint)
    for model, old in ((first, before), (second, before)):
        found = [model.encode_text(["a dog"]), model.patch_tokens(images)[0]]
        assert not any(torch.equal(a, b) for a, b in zip(found, old, strict=True))
    assert torch.equal(first.encode_text(["a dog"]), second.encode_text(["a dog"]))
    assert torch.equal(first.patch_tokens(images)[0], second.patch_tokens(images)[0])


def test_running_means_are_weights_too() -> None:
    """They are buffers, not parameters, and adapting a convolutional network to other photos may change them alone."""
    clip = load_model("photos").clip
    name, buffer = next((name, buffer) for name, buffer in clip.named_buffers() if name.endswith("running_mean"))
    first = [clip.checksum(), clip.fingerprint]
    buffer.add_(0.3)
    second = [clip.checksum(), clip.fingerprint]
    clip.load_state_dict({name: buffer + 1}, strict=False)
    third = [clip.checksum(), clip.fingerprint]
    assert len({*first, *second, *third}) == 6


def test_a_text_gets_the_same_bits_whatever_comes_with_it(clip: Backbone) -> None:
    texts = [f"a dog number {i}" for i in range(70)]
    together = clip.encode_text(texts)
    clip._forget()
    alone = torch.cat([clip.encode_text([text]) for text in reversed(texts)])
    assert torch.equal(alone.flip(0), together)


def test_a_text_of_an_encoder_gets_the_same_bits_whatever_comes_with_it(encoder: str) -> None:
    name = f"timm:test_resnet/random+{encoder}"
    texts = ["a dog", "a red dog", "cat", "a house of a dog", "a " * 20]
    together = load_backbone(name).encode_text(texts)
    alone = load_backbone(name)
    assert torch.equal(together, torch.cat([alone.encode_text([text]) for text in reversed(texts)]).flip(0))
