"""Projection heads on two towers learn; towers train only where they have a learning rate."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader

from pacl.data.crop import SquareCrop
from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import load_backbone
from pacl.models.dual import WEIGHTS
from pacl.models.towers.base import weights_checksum
from pacl.training.loss import contrastive_loss
from pacl.training.pretrain_dual import DualEncoderModule
from tests.tiny import save_tiny_clip

SIDE = 32
COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "yellow": (220, 220, 20)}


class Squares(L.LightningDataModule):
    """Plain squares in four colours."""

    def train_dataloader(self) -> DataLoader:
        return DataLoader([batch_of_squares()] * 40, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader([batch_of_squares()], batch_size=None)


class Source:
    """The part of a `PairSource` that a stamp needs."""

    def __len__(self) -> int:
        return 1

    def name(self, index: int) -> str:
        return "nothing"


def batch_of_squares() -> dict:
    images = torch.tensor(list(COLOURS.values()), dtype=torch.uint8).view(4, 3, 1, 1).expand(4, 3, SIDE, SIDE)
    return {"images": images, "texts": [f"a {colour} square" for colour in COLOURS]}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def make_module(text: str, **settings: object) -> DualEncoderModule:
    """A small `DualEncoderModule`, with random weights that are the same each time."""
    L.seed_everything(0)
    small = {"image": "timm:test_efficientnet/random", "text": text, "dim": 8, "size": SIDE, "head_lr": 3e-2}
    return DualEncoderModule(**{**small, "warmup": 5, **settings})


def fit(
    module: DualEncoderModule, folder: Path, data: L.LightningDataModule | None = None, **settings: object
) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = L.Trainer(accelerator="cpu", devices=1, default_root_dir=folder, max_epochs=1, **quiet, **settings)
    trainer.fit(module, data or Squares())
    return trainer


def loss_of(module: DualEncoderModule) -> float:
    """The loss at a temperature that does not learn, over the four squares."""
    with torch.no_grad():
        images, texts = module.eval()(batch_of_squares())
    return float(contrastive_loss(images @ texts.T / 0.07))


@pytest.mark.parametrize("projection", ["linear", "mlp"])
def test_heads_learn_and_frozen_towers_stay(text: str, tmp_path: Path, projection: str) -> None:
    module = make_module(text, image=text, projection=projection, dropout=0.0, head_lr=1e-2)
    before = {key: value.clone() for key, value in module.towers.state_dict().items()}
    start = loss_of(module)
    trainer = fit(module, tmp_path, enable_checkpointing=False)
    assert loss_of(module) < start - 0.1
    assert float(trainer.callback_metrics["val_recall"]) > 0.8
    assert all(torch.equal(value, before[key]) for key, value in module.towers.state_dict().items())


@pytest.mark.parametrize("side", ["image", "text"])
def test_only_a_tower_with_a_learning_rate_trains(text: str, tmp_path: Path, side: str) -> None:
    module = make_module(text, **{f"{side}_lr": 1e-3})
    other = "text" if side == "image" else "image"
    before = {key: weights_checksum(getattr(module.towers, key).weights()) for key in (side, other)}
    trainer = fit(module, tmp_path, enable_checkpointing=False, max_steps=2)
    assert weights_checksum(getattr(module.towers, side).weights()) != before[side]
    assert weights_checksum(getattr(module.towers, other).weights()) == before[other]
    rates = {group["initial_lr"] for group in trainer.optimizers[0].param_groups}
    assert rates == {3e-2, 1e-3}


def test_gains_biases_and_temperature_do_not_decay(text: str, tmp_path: Path) -> None:
    module = make_module(text, projection="mlp", image_lr=1e-3)
    trainer = fit(module, tmp_path, enable_checkpointing=False, max_steps=1)
    for group in trainer.optimizers[0].param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}
    held = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert held == {id(p) for p in module.parameters() if p.requires_grad}


@pytest.mark.parametrize("name", ["local-dir:{}/dual", "hf-hub:somebody/dual"])
@pytest.mark.parametrize("tower_lr", [0.0, 1e-3], ids=["frozen", "tuned"])
def test_the_saved_weights_are_the_trained_ones(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tower_lr: float, name: str
) -> None:
    module = make_module(text, image_lr=tower_lr, text_lr=tower_lr)
    fit(module, tmp_path, enable_checkpointing=False, max_steps=2)
    module.save(tmp_path / "dual")
    monkeypatch.setattr("pacl.models.dual.hf_hub_download", lambda repository, file: str(tmp_path / "dual" / file))
    monkeypatch.setattr("pacl.models.towers.hub.reachable", lambda: True)
    loaded = load_backbone(name.format(tmp_path))
    batch = batch_of_squares()
    with torch.no_grad():
        images, texts = module.eval()(batch)
    torch.testing.assert_close(loaded.encode_image(loaded.normalize(batch["images"])), images)
    torch.testing.assert_close(loaded.encode_text(batch["texts"]), texts)
    assert loaded.logit_scale == pytest.approx(float(module.log_scale.exp()))
    assert (loaded.size, loaded.dim) == (SIDE, 8)


def test_a_failed_writing_leaves_the_old_file(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / WEIGHTS).write_bytes(b"old")

    def full_disk(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    module = make_module(text)
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(UserError, match="No space left on device"):
        module.save(tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]


def test_cached_tokens_replace_images(text: str) -> None:
    module = make_module(text).eval()
    batch = batch_of_squares()
    tokens = module.frozen_tokens(batch["images"])
    assert tokens.shape == (4, 1, module.towers.width)
    kept = {"tokens": tokens, "texts": batch["texts"]}
    for ours, theirs in zip(module(kept), module(batch), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_stamp_is_of_one_vector_an_image(text: str) -> None:
    stamp = make_module(text).token_stamp(SIDE, SquareCrop(), Source(), "float16")
    assert (stamp.patches, stamp.size) == (1, SIDE)
    with pytest.raises(ArgumentError) as error:
        make_module(text, image_lr=1e-4).token_stamp(SIDE, SquareCrop(), Source(), "float16")
    assert (error.value.argument, error.value.value) == ("image_lr", 1e-4)


@pytest.mark.parametrize(
    ("precision", "stamped"), [("32-true", "fp32"), ("bf16-mixed", "bf16"), ("16-mixed", "fp16"), ("bf16-true", "bf16")]
)
def test_the_stamp_has_the_precision_of_the_trainer_in_which_the_tower_runs(
    text: str, precision: str, stamped: str
) -> None:
    module = make_module(text)
    module._trainer = SimpleNamespace(precision=precision)
    assert module.token_stamp(SIDE, SquareCrop(), Source(), "float16").precision == stamped


def test_only_towers_that_train_are_in_training_mode(text: str) -> None:
    module = make_module(text, text_lr=1e-4).train()
    assert not any(each.training for each in module.towers.image.modules())
    assert all(each.training for each in module.towers.text.modules())
    assert not any(each.training for each in module.eval().modules())


def test_a_checkpoint_leaves_out_frozen_towers(text: str, tmp_path: Path) -> None:
    module = make_module(text, text_lr=1e-3)
    trainer = fit(module, tmp_path, max_steps=2)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    state = torch.load(path, weights_only=True)["state_dict"]
    assert {key.rpartition(".")[0].split(".")[0] or key for key in state} == {
        "image_head",
        "text_head",
        "scale",
        "towers",
    }
    assert all(key.startswith("towers.text.") for key in state if key.startswith("towers."))
    again = make_module(text, text_lr=1e-3, head_lr=0.0)
    again.load_state_dict(state, strict=False)
    for ours, theirs in zip(again.eval()(batch_of_squares()), module.eval()(batch_of_squares()), strict=True):
        assert torch.equal(ours, theirs)


def test_captions_of_a_small_set_are_embedded_before_the_first_step(text: str, tmp_path: Path) -> None:
    texts = batch_of_squares()["texts"]

    class Captions(list):
        def descriptions(self, index: int) -> list:
            return [(caption, ()) for caption in self[index]]

    data = Squares()
    data.parts = lambda: ([Captions([texts])], [])
    module = make_module(text)
    encoded: list[str] = []
    plain = module.towers.text.encode
    module.towers.text.encode = lambda some: encoded.extend(some) or plain(some)
    module.on_train_start = encoded.clear  # what came before is not counted
    fit(module, tmp_path, data, enable_checkpointing=False, max_steps=2)
    assert not encoded


def test_a_batch_without_images_has_no_rows(text: str) -> None:
    images, texts = make_module(text)({"images": torch.empty(0, 3, SIDE, SIDE, dtype=torch.uint8), "texts": []})
    assert images.shape == texts.shape == (0, 8)
    assert images.requires_grad


@pytest.mark.parametrize(("name", "value"), [("image_lr", -1.0), ("temperature", 0.0), ("dim", 0), ("size", 0)])
def test_settings_out_of_range_are_refused(text: str, name: str, value: float) -> None:
    with pytest.raises(ArgumentError) as error:
        make_module(text, **{name: value})
    assert (error.value.argument, error.value.value) == (name, value)


def test_images_of_another_size_are_refused(text: str) -> None:
    batch = {"images": torch.zeros(1, 3, 40, SIDE, dtype=torch.uint8), "texts": ["a red square"]}
    with pytest.raises(UserError, match="40 x 32"):
        make_module(text)(batch)
