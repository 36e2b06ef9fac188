"""The baseline that pools each image with its own caption: its formula, and a training from start to end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from eval.own_caption import OwnCaptionModule, main
from pacl.errors import UserError
from pacl.models.loading import load_model
from pacl.training import PACLModule

TEXTS = ["a red fish", "a blue house", "grass", "a green tree"]


def batch_of(module: PACLModule, images: int = 3) -> tuple[dict[str, object], torch.Tensor]:
    """Random tokens [B, P, W] with right texts: image 0 has two, and shares the second with image 1."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(images, 7, module.pacl.clip.width, generator=generator)
    positives = torch.zeros(images, len(TEXTS), dtype=torch.bool)
    positives[0, [1, 2]] = positives[1, 2] = positives[2, 3] = True
    return {"tokens": tokens, "texts": TEXTS, "positives": positives}, tokens


def test_phi_is_a_naive_loop_over_images_and_texts(tiny_clip: str) -> None:
    module = OwnCaptionModule(backbone=tiny_clip, temperature=0.2)
    batch, tokens = batch_of(module)
    with torch.no_grad():
        t, positives = module.texts_of(batch, len(tokens))
        phi = module.phi(tokens, t)
        expected = torch.empty(len(tokens), len(t))
        for b, own in enumerate([1, 2, 3]):  # the first right text of each image
            patches = module.pacl.embed_tokens(tokens[b : b + 1])[0]
            scores = [float(patch @ t[own]) / 0.2 for patch in patches]
            weights = torch.tensor(scores).exp()
            pooled = sum(w * patch for w, patch in zip(weights / weights.sum(), patches, strict=True))
            for text in range(len(t)):
                expected[b, text] = F.cosine_similarity(pooled, t[text], dim=0)
        published = PACLModule.phi(module, tokens, t)
    assert positives.int().argmax(1).tolist() == [1, 2, 3]
    torch.testing.assert_close(phi, expected, atol=1e-5, rtol=0)
    own = torch.arange(3), torch.tensor([1, 2, 3])
    torch.testing.assert_close(phi[own], published[own], atol=1e-5, rtol=0)  # there both pool alike
    assert not torch.allclose(phi, published, atol=1e-3)


def test_a_step_trains_what_a_pacl_step_does(tiny_clip: str) -> None:
    module = OwnCaptionModule(backbone=tiny_clip, patches=None)
    batch, _ = batch_of(module)
    loss = module.training_step(batch, 0)
    assert loss is not None
    assert loss.isfinite()
    loss.backward()
    for name, parameter in module.pacl.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_a_run_leaves_a_head_that_loads(tiny_clip: str, tmp_path: Path) -> None:
    quiet = [f"--trainer.{name}=false" for name in ("enable_progress_bar", "enable_model_summary", "logger")]
    small = ["--data.scenes=24", "--data.size=32", "--data.batch_size=8", "--model.warmup=1", "--model.patches=null"]
    run = [*quiet, *small, f"--model.backbone={tiny_clip}", "--trainer.max_steps=2", f"--out={tmp_path / 'head'}"]
    assert main(run) == 0
    model = load_model(tmp_path / "head")
    start = PACLModule(backbone=tiny_clip).pacl
    assert model.config.trained
    moved = [not torch.equal(value, start.head_state()[key]) for key, value in model.head_state().items()]
    assert any(moved)


def test_images_in_chunks_are_refused(tiny_clip: str) -> None:
    module = OwnCaptionModule(backbone=tiny_clip, images_at_once=2)
    batch, tokens = batch_of(module)
    t, _ = module.texts_of(batch, len(tokens))
    with pytest.raises(UserError, match=r"--model\.images_at_once") as error:
        module.phi(tokens, t)
    assert "\n" not in str(error.value)
