"""What all pretrained models share: validation, the schedule, steps without images, and the export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader

from pacl.training.contrastive import Export
from pacl.training.pretrain_clip import CLIPModule
from tests.training.test_pretrain_clip import TINY, WORDS, Squares, tiny_trainer


class Batches(L.LightningDataModule):
    """The same batches for training and validation."""

    def __init__(self, *batches: dict[str, Any]) -> None:
        super().__init__()
        self.batches = list(batches)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]

    val_dataloader = train_dataloader


def batch(images: int, texts: list[str], positives: list[list[int]]) -> dict[str, Any]:
    """Noise with texts; the size of every image is 32."""
    noise = torch.randint(256, (images, 3, 32, 32), dtype=torch.uint8)
    return {"images": noise, "texts": texts, "positives": torch.tensor(positives).view(images, len(texts)).bool()}


def test_images_of_one_caption_are_no_negatives_in_validation(tmp_path: Path) -> None:
    """Eight images of one caption, as in a folder of a class: every answer is right."""
    data = Batches(*[batch(4, ["a red square"], [[1]] * 4)] * 2)
    module = CLIPModule(TINY, WORDS)
    (figures,) = tiny_trainer(tmp_path).validate(module, data, verbose=False)
    assert figures["val_recall"] == 1


def test_a_step_with_fewer_than_two_readable_images_is_skipped(tmp_path: Path) -> None:
    nothing, one = batch(0, [], []), batch(1, ["a red square"], [[1]])
    module = CLIPModule(TINY, WORDS)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    tiny_trainer(tmp_path, max_steps=2, limit_val_batches=0).fit(module, Batches(nothing, one))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_short_run_does_not_end_in_its_warm_up(tmp_path: Path) -> None:
    rates: list[float] = []

    class Rates(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    module = CLIPModule(TINY, WORDS, learning_rate=1e-3, warmup=100)
    with pytest.warns(UserWarning, match="warmup 100"):
        tiny_trainer(tmp_path, max_steps=8, limit_val_batches=0, callbacks=[Rates()]).fit(module, Squares())
    assert max(rates) == rates[1] == 1e-3
    assert rates[-1] < 1e-4


@pytest.mark.parametrize(("every", "saves"), [(2, 2), (3, 2), (0, 1)])
def test_each_model_is_exported_once(tmp_path: Path, every: int, saves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the last step is one of those after which the model is exported."""
    steps: list[int] = []
    monkeypatch.setattr(CLIPModule, "save", lambda module, folder: steps.append(module.global_step))
    export = Export(str(tmp_path / "clip"), every)
    tiny_trainer(tmp_path, max_steps=4, limit_val_batches=0, callbacks=[export]).fit(CLIPModule(TINY, WORDS), Squares())
    assert len(steps) == len(set(steps)) == saves
    assert steps[-1] == 4
