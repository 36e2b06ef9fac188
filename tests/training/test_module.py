"""One step of training: loss, gradients, the frozen tower, the optimiser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pacl.data.crop import SquareCrop
from pacl.data.pairs import FilePairs
from pacl.errors import ArgumentError, UserError
from pacl.models.compatibility import compatibility
from pacl.training.loss import contrastive_loss
from pacl.training.module import MAX_LOGIT_SCALE, PACLModule, some_patches
from tests.tiny import configure_clip, save_tiny_clip


def logged(module: PACLModule) -> dict[str, float]:
    values: dict[str, float] = {}
    module.log = lambda name, value, **_: values.__setitem__(name, float(value))  # type: ignore[method-assign]
    return values


def test_the_loss_is_the_published_one_over_all_pairs(tiny_clip):
    module = PACLModule(tiny_clip, temperature=0.3, logit_scale=7.0)
    values = logged(module)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    texts = ["a red star", "grass", "a boat", "snow"]
    positives = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    loss = module.training_step({"images": images, "texts": texts, "positives": positives}, 0)

    v, _ = module.pacl.encode_patches(module.pacl.clip.normalize(images))
    phi = compatibility(v, module.pacl.encode_text(texts), temperature=0.3, impl="reference")
    torch.testing.assert_close(loss, contrastive_loss(7.0 * phi, positives))
    assert values["accuracy"] == pytest.approx(float(positives[range(3), phi.argmax(1)].float().mean()))
    assert values["logit_scale"] == pytest.approx(7.0)
    assert 0 < values["pooling_entropy"] <= 1


def test_gradients_reach_what_trains_and_nothing_else(tiny_clip):
    module = PACLModule(tiny_clip, learn_temperature=True)
    logged(module)
    module.train()
    assert not module.pacl.clip.training
    module.training_step({"images": torch.rand(2, 3, 32, 32), "texts": ["a star", "a fish"]}, 0).backward()
    with_gradient = {name for name, p in module.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, _ in module.named_parameters() if ".clip." not in name}


@pytest.mark.parametrize("images", [0, 1])
def test_a_batch_without_negatives_is_skipped(tiny_clip, images):
    batch = {"images": torch.rand(images, 3, 32, 32), "texts": ["a star"][:images]}
    batch["positives"] = torch.ones(images, images, dtype=torch.bool)
    assert PACLModule(tiny_clip).training_step(batch, 0) is None


@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 8])
def test_embedding_a_batch_in_chunks_gives_the_same_gradients(tiny_clip, at_once):
    batch = {
        "images": torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8),
        "texts": ["a red star", "grass", "a boat", "snow"],
        "positives": torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0]]).bool(),
    }
    found = []
    for some in (None, at_once):
        torch.manual_seed(0)
        module = PACLModule(tiny_clip, learn_temperature=True, text="linear", patches=9, images_at_once=some)
        logged(module)
        loss = module.training_step(batch, 0)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in module.trained_parameters())])
    for whole, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, whole)


def test_the_frozen_tower_has_a_precision_of_its_own(tiny_clip, monkeypatch):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exact, rounded, auto = (PACLModule(tiny_clip, precision=p) for p in ("fp32", "bf16", "auto"))
    tokens = exact.frozen_tokens(images)
    assert tokens.dtype == rounded.frozen_tokens(images).dtype == torch.float32
    assert 0 < (rounded.frozen_tokens(images) - tokens).abs().max() < 0.2
    with torch.autocast("cpu", torch.bfloat16):  # a trainer of bf16-mixed: the head's tokens, not those of a cache
        assert torch.equal(exact.frozen_tokens(images), tokens)
        assert torch.equal(exact.tokens_of({"images": images}), tokens.bfloat16())
    assert torch.equal(auto.frozen_tokens(images), tokens)
    monkeypatch.setattr("pacl.models.precision.has_bf16", lambda kind: True)
    assert torch.equal(auto.frozen_tokens(images), rounded.frozen_tokens(images))
    assert [module.tower_precision for module in (exact, rounded, auto)] == ["fp32", "bf16", "bf16"]
    auto._trainer = SimpleNamespace(precision="16-mixed")
    assert auto.tower_precision == "fp16"


def test_the_stamp_of_tokens_has_the_precision_of_the_tower(tiny_clip):
    source = FilePairs(Path("."), {"none.png": ["a star"]})
    stamps = [
        PACLModule(tiny_clip, precision=p).token_stamp(32, SquareCrop(), source, "bfloat16") for p in ("fp32", "bf16")
    ]
    assert [stamp.precision for stamp in stamps] == ["fp32", "bf16"]
    assert replace(stamps[0], precision="bf16") == stamps[1]


def test_the_tower_sees_every_image_once_at_any_chunk_size(tiny_clip, monkeypatch):
    module = PACLModule(tiny_clip, images_at_once=2)
    logged(module)
    seen = []
    forward = module.pacl.clip.patch_tokens
    monkeypatch.setattr(module.pacl.clip, "patch_tokens", lambda x, *more: (seen.append(len(x)), forward(x, *more))[1])
    batch = {"images": torch.rand(5, 3, 32, 32), "texts": [f"star {i}" for i in range(5)]}
    module.training_step(batch, 0).backward()
    assert seen == [2, 2, 1]


def test_some_patches_are_drawn_without_replacement_and_for_each_image():
    tokens = torch.arange(2 * 50).view(2, 50, 1).float()
    drawn = some_patches(tokens, 20, torch.Generator().manual_seed(0)).squeeze(-1)
    assert all(len(set(row.tolist())) == 20 for row in drawn)
    assert set(drawn[0].tolist()) <= set(range(50))
    assert set((drawn[1] - 50).tolist()) != set(drawn[0].tolist())
    assert some_patches(tokens, 50, torch.Generator()) is tokens
    assert some_patches(tokens, None, torch.Generator()) is tokens


def test_the_optimiser_decays_matrices_only_and_follows_the_schedule(tiny_clip):
    module = PACLModule(tiny_clip, learn_temperature=True, lr=0.01, scale_lr=0.1, weight_decay=0.2, warmup=10)
    module._trainer = SimpleNamespace(estimated_stepping_batches=110)  # type: ignore[assignment]
    configured = module.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0, 0.0]
    assert [{p.ndim for p in group["params"]} for group in optimizer.param_groups] == [{2}, {1}, {0}]
    rates = []
    for _ in range(111):
        rates.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[2]["lr"] == pytest.approx(10 * rates[-1])
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(0.001)
    assert rates[9] == rates[10] == pytest.approx(0.01)
    assert rates[60] == pytest.approx(0.005)
    assert rates[110] == pytest.approx(0, abs=1e-9)


def test_the_logit_scale_stops_at_its_limit(tiny_clip):
    module = PACLModule(tiny_clip)
    with torch.no_grad():
        module.pacl.log_logit_scale.fill_(9.0)
    optimizer = torch.optim.SGD(module.trained_parameters(), lr=0.1)
    module.optimizer_step(0, 0, optimizer, None)
    assert module.pacl.log_logit_scale.exp().item() == pytest.approx(MAX_LOGIT_SCALE)


def test_at_its_limit_the_logit_scale_still_learns(tiny_clip):
    module = PACLModule(tiny_clip, logit_scale=MAX_LOGIT_SCALE)
    logged(module)
    batch = {"images": torch.rand(3, 3, 32, 32), "texts": ["a star", "a fish", "sky"]}
    module.training_step(batch, 0).backward()
    assert module.pacl.log_logit_scale.grad.abs() > 0


def test_a_short_run_leaves_its_warm_up(tiny_clip):
    module = PACLModule(tiny_clip, warmup=50, lr=1.0)
    module._trainer = SimpleNamespace(estimated_stepping_batches=20)  # type: ignore[assignment]
    with pytest.warns(UserWarning, match="warmup 50: .* 5,"):
        schedule = module.configure_optimizers()["lr_scheduler"]["scheduler"]
    assert module.warmup == 5
    assert schedule.lr_lambdas[0](4) == 1
    assert schedule.lr_lambdas[0](19) < 0.02


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"quick_gelu": True}, "quick_gelu"),
        ({"preprocess": {"mean": [0.1, 0.2, 0.3]}}, "mean"),
        ({"vision": {"head_width": 32}}, "towers"),
    ],
)
def test_a_run_does_not_go_on_with_a_clip_of_other_settings(changes, argument, tmp_path):
    name = save_tiny_clip(tmp_path / "clip")
    module = PACLModule(name)
    state = {key: value for key, value in module.named_parameters() if value.requires_grad}
    checkpoint = {"state_dict": state, "global_step": 1}
    module.on_save_checkpoint(checkpoint)
    PACLModule(name).on_load_checkpoint(checkpoint)
    with pytest.raises(ArgumentError) as error:
        PACLModule(configure_clip(name, **changes)).on_load_checkpoint(checkpoint)
    assert error.value.argument == argument
    del checkpoint["objective"]["towers"]
    with pytest.raises(UserError, match="version"):
        PACLModule(name).on_load_checkpoint(checkpoint)


def test_images_are_segmented_in_training_as_by_the_saved_head(tiny_clip: str) -> None:
    """`data.size` is another than the tower's own."""
    module = PACLModule(tiny_clip)
    own = module.pacl.config.size
    module._trainer = SimpleNamespace(datamodule=SimpleNamespace(image_size=lambda: own + 8))  # type: ignore[assignment]
    module.setup("fit")
    assert module.pacl.config.size == own + 8
