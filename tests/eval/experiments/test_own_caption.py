"""The baseline that pools images with their own captions: its phi, its training, the saved head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.experiments import own_caption
from eval.experiments.own_caption import OwnCaptionModule
from pacl.cli.messages import run_verb
from pacl.errors import UserError
from pacl.models.backbone import load_backbone
from pacl.models.compatibility import compatibility
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.training.module import PACLModule

TEXTS = ["a red star", "grass", "a boat", "snow"]
POSITIVES = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)  # the first counts
IMAGES = torch.randint(0, 256, (3, 3, 32, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
BATCH = {"images": IMAGES, "texts": TEXTS, "positives": POSITIVES}


def quiet(module: PACLModule) -> PACLModule:
    """A module outside a trainer cannot log."""
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    return module


def naive_phi(v: Tensor, t: Tensor, own: list[int], temperature: float) -> Tensor:
    """Patches [B, P, D], texts [T, D] and the index of each image's own text -> [B, T], one image at a time."""
    rows = []
    for patches, text in zip(v, own, strict=True):
        shares = [float(torch.exp(patch @ t[text] / temperature)) for patch in patches]
        pooled = sum(share * patch for share, patch in zip(shares, patches, strict=True)) / sum(shares)
        rows.append([float(pooled @ other / pooled.norm()) for other in t])
    return torch.tensor(rows)


def test_phi_pools_with_the_first_positive_of_each_image(tiny_clip: str) -> None:
    module = OwnCaptionModule(tiny_clip, temperature=0.3)
    with torch.no_grad():
        tokens = module.tokens_of(BATCH)
        t, positives = module.texts_of(BATCH)
        phi = module.phi(tokens, t)
        v = module.pacl.embed_tokens(tokens)
    assert torch.equal(positives, POSITIVES)
    torch.testing.assert_close(phi, naive_phi(v, t, [1, 0, 3], 0.3), atol=1e-5, rtol=0)
    usual = compatibility(v, t, temperature=0.3)
    assert (phi - usual).abs().max() > 1e-4
    for image, text in enumerate([1, 0, 3]):  # with the text that pooled it, an image's phi is the usual one
        torch.testing.assert_close(phi[image, text], usual[image, text])


def test_with_one_text_it_is_the_usual_phi(tiny_clip: str) -> None:
    module = OwnCaptionModule(tiny_clip)
    batch = {**BATCH, "texts": TEXTS[:1], "positives": torch.ones(3, 1, dtype=torch.bool)}
    with torch.no_grad():
        tokens = module.tokens_of(batch)
        t, _ = module.texts_of(batch)
        torch.testing.assert_close(module.phi(tokens, t), PACLModule(tiny_clip).phi(tokens, t))


def test_a_step_trains_what_the_usual_one_trains(tiny_clip: str) -> None:
    losses, trained = [], []
    for kind in (OwnCaptionModule, PACLModule):
        module = quiet(kind(tiny_clip, learn_temperature=True, text="linear"))
        loss = module.training_step(BATCH, 0)
        assert loss is not None
        loss.backward()
        losses.append(float(loss.detach()))
        trained.append({name for name, parameter in module.named_parameters() if parameter.grad is not None})
    assert losses[0] != losses[1]
    assert trained[0] == trained[1]
    assert "pacl.log_temperature" in trained[0]


def test_it_takes_all_images_at_once(tiny_clip: str) -> None:
    module = quiet(OwnCaptionModule(tiny_clip, images_at_once=2))
    with pytest.raises(UserError, match="images_at_once"):
        module.training_step(BATCH, 0)


SMALL = [
    "--data.scenes=24", "--data.size=32", "--data.batch_size=8", "--model.warmup=1", "--model.patches=null",
    "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.logger=false",
    "--trainer.max_steps=3",
]  # fmt: skip


def test_the_command_trains_on_scenes_and_saves_a_head(tiny_clip: str, tmp_path: Path) -> None:
    from pacl import train

    heads = []
    for name, main in (("own", own_caption.main), ("usual", train.main)):
        assert main([*SMALL, f"--model.backbone={tiny_clip}", f"--out={tmp_path / name}"]) == 0
        heads.append(load_model(tmp_path / name))
    own, usual = heads
    assert own.config == usual.config
    assert own.config.trained
    start = PACL.untrained(load_backbone(tiny_clip), dense=own.config.dense)
    changed = [not torch.equal(model.embedder.skip.weight, start.embedder.skip.weight) for model in heads]
    assert changed == [True, True]
    assert not torch.equal(own.embedder.skip.weight, usual.embedder.skip.weight)
    images = own.clip.normalize(torch.rand(2, 3, 32, 32))
    torch.testing.assert_close(own.encode_patches(images)[0].norm(dim=-1), torch.ones(2, 16))


def test_mistakes_are_one_line(tiny_clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL, f"--model.backbone={tiny_clip}", f"--out={tmp_path}", "--model.images_at_once=4"]
    with pytest.raises(SystemExit) as stop:
        run_verb("own_caption", lambda: own_caption.main(words))
    assert stop.value.code == 2
    assert "images_at_once" in capsys.readouterr().err.splitlines()[-1]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        own_caption.main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("usage: eval.experiments.own_caption")
    assert "--model.temperature" in shown


def test_pooling_is_by_a_softmax_that_sums_to_one(tiny_clip: str) -> None:
    """Equal patches pool to themselves, for any caption."""
    module = OwnCaptionModule(tiny_clip)
    tokens = torch.randn(3, 1, module.pacl.clip.width).expand(3, 5, -1)
    with torch.no_grad():
        t, _ = module.texts_of(BATCH)
        v = module.pacl.embed_tokens(tokens)[:, 0]  # [B, D]
        torch.testing.assert_close(module.phi(tokens, t), F.normalize(v, dim=-1) @ t.T)
