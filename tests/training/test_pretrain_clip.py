"""A miniature CLIP learns and is saved."""

import json
import math
from pathlib import Path

import pytest
import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader

from pacl.errors import UserError
from pacl.training.contrastive import Export
from pacl.training.pretrain_clip import CONFIG, WEIGHTS, CLIPModule, Towers, save_clip

TINY = Towers(image_size=32, width=64, layers=2, text_width=32, text_layers=1, dim=32)
WORDS = ("red", "green", "blue", "yellow", "a", "square")


class Squares(L.LightningDataModule):
    """Plain squares: a data module that knows nothing of scenes."""

    vocabulary = WORDS

    def train_dataloader(self) -> DataLoader:
        colours = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "yellow": (220, 220, 20)}
        images = torch.tensor(list(colours.values()), dtype=torch.uint8).view(4, 3, 1, 1).expand(4, 3, 32, 32)
        batch = {"images": images, "texts": [f"a {colour} square" for colour in colours]}
        return DataLoader([batch] * 40, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader([next(iter(self.train_dataloader()))], batch_size=None)


def tiny_trainer(tmp_path: Path, **changes: object) -> L.Trainer:
    settings: dict = {
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": 40,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": tmp_path,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(**settings | changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[CLIPModule, L.Trainer, Path]:
    folder = tmp_path_factory.mktemp("clip")
    L.seed_everything(0)
    module = CLIPModule(TINY, WORDS, learning_rate=3e-3, warmup=5, patch_dropout=0.5, dropout_until=0.5)
    trainer = tiny_trainer(folder, callbacks=[Export(str(folder / "clip"), every=20)])
    trainer.fit(module, Squares())
    return module, trainer, folder / "clip"


def test_it_learns(trained: tuple[CLIPModule, L.Trainer, Path]) -> None:
    _, trainer, _ = trained
    assert float(trainer.callback_metrics["loss"]) < 0.5 * math.log(4)
    assert float(trainer.callback_metrics["val_recall"]) == 1.0
    assert float(trainer.callback_metrics["val_recall_chance"]) == pytest.approx(trained[0].chance["val_recall"])


def test_no_patches_are_dropped_at_the_end(trained: tuple[CLIPModule, L.Trainer, Path]) -> None:
    assert isinstance(trained[0].clip.visual.patch_dropout, torch.nn.Identity)


def test_the_saved_weights_are_the_trained_ones(trained: tuple[CLIPModule, L.Trainer, Path]) -> None:
    """open_clip loads the folder, and the weights are the trained ones in float16, bit for bit."""
    import open_clip

    module, _, folder = trained
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]
    loaded = open_clip.create_model(f"local-dir:{folder}")
    ours, theirs = module.clip.state_dict(), loaded.state_dict()
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        assert torch.equal(value.half().float(), theirs[name].float()), name


def test_the_stored_folder_is_a_backbone(trained: tuple[CLIPModule, L.Trainer, Path]) -> None:
    from pacl.models.backbone import load_backbone

    module, _, folder = trained
    clip = load_backbone(f"local-dir:{folder}")
    assert clip.vocabulary == set(WORDS)
    assert (clip.patch, clip.size, clip.width, clip.dim) == (8, 32, 64, 32)
    assert clip.mean == TINY.mean
    texts = ["a red square", "a blue square"]
    with torch.inference_mode():
        expected = module.eval()({"images": torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "texts": texts})[1]
    torch.testing.assert_close(clip.encode_text(texts), expected, atol=5e-3, rtol=0)


def test_configuration_has_the_ids_of_its_words(trained: tuple[CLIPModule, L.Trainer, Path]) -> None:
    config = json.loads((trained[2] / CONFIG).read_text())
    assert config["vocabulary"] == sorted(WORDS)
    assert len(config["token_ids"]) == config["model_cfg"]["text_cfg"]["vocab_size"] == len(WORDS) + 3
    assert config["model_cfg"]["vision_cfg"]["patch_dropout"] == 0


def test_without_a_vocabulary_the_whole_table() -> None:
    module = CLIPModule(TINY)
    assert module.clip.token_embedding.weight.shape[0] == 49408


def test_a_failed_writing_leaves_the_old_file(
    trained: tuple[CLIPModule, L.Trainer, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / WEIGHTS).write_bytes(b"old")

    def full_disk(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(UserError, match="No space left on device"):
        save_clip(trained[0], tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]


def test_gains_biases_and_embeddings_do_not_decay(trained: tuple[CLIPModule, L.Trainer, Path]) -> None:
    module, trainer, _ = trained
    optimizer = trainer.optimizers[0]
    decayed, rest = optimizer.param_groups
    assert decayed["weight_decay"] > 0
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert rest["weight_decay"] == 0
    kept = {id(p) for p in rest["params"]}
    names = {name for name, p in module.clip.named_parameters() if id(p) in kept}
    assert {"logit_scale", "token_embedding.weight", "visual.positional_embedding", "ln_final.weight"} <= names
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(module.clip.parameters()))


def test_images_of_another_size_are_refused() -> None:
    batch = {"images": torch.zeros(1, 3, 40, 32, dtype=torch.uint8), "texts": ["a red square"]}
    with pytest.raises(UserError, match="40 x 32"):
        CLIPModule(TINY, WORDS)(batch)
