import csv
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from pacl.data.masks import MaskFolder
from pacl.errors import UserError
from pacl.models.backbone import load_backbone
from pacl.models.model import PACL
from pacl.results.contact_sheet import GAP
from pacl.results.fonts import BACKGROUND
from pacl.training.callbacks import ImageGrid, SegmentationValidator
from tests.colours import ColourModel, noise, picture
from tests.tiny import phi

CAPTIONS = ["a red star", "a boat", "grass", "a dog on snow", "the sky", "a cat"]


class Module(LightningModule):
    """Trains a head on noise; every step draws random numbers, encodes texts and logs."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pacl = PACL.untrained(load_backbone(name), start="paper")

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        images = torch.rand(2, 3, 32, 32) + random.random() + np.random.rand()  # noqa: NPY002
        scores = phi(self.pacl, images, [CAPTIONS[int(i)] for i in batch])
        return -(self.pacl.logit_scale * scores).diagonal().mean()

    def validation_step(self, batch: torch.Tensor, _: int) -> None:
        self.log("val_loss", float(batch.sum()))

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW((p for p in self.parameters() if p.requires_grad), lr=1e-2)

    def train_dataloader(self) -> Any:
        return DataLoader(range(6), batch_size=2, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(range(2))

    def state_dict(self, *arguments: Any, **options: Any) -> Any:
        return {f"pacl.{name}": value for name, value in self.pacl.head_state().items()}


def fit(module: LightningModule, callbacks: list[Callback], root: Path, **options: Any) -> Trainer:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    settings = {"max_epochs": 3, "logger": False, "enable_checkpointing": False, "accelerator": "cpu", **options}
    trainer = Trainer(
        default_root_dir=root,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **settings,
    )
    trainer.fit(module)
    return trainer


@pytest.fixture
def colour_model() -> ColourModel:
    return ColourModel()


@pytest.fixture
def folder(tmp_path: Path) -> MaskFolder:
    """Two images of a red and a blue square on grey; the second one's mask calls the blue square red."""
    (tmp_path / "names.txt").write_text("grey\nred\nblue\n")
    for name, colour, value in (("a", "red", 1), ("b", "blue", 1)):
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True)
        Image.fromarray(picture(64, 96, (16, 48, 32, 64), colour)).save(tmp_path / f"images/{name}.png")
        mask = np.zeros((64, 96), np.uint8)
        mask[16:48, 32:64] = value
        mask[0] = 255
        Image.fromarray(mask).save(tmp_path / f"masks/{name}.png")
    return MaskFolder(str(tmp_path / "images"), str(tmp_path / "masks"), str(tmp_path / "names.txt"))


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "wide.png", tmp_path / "tall.jpg"]
    Image.fromarray(noise(40, 60)).save(paths[0])
    Image.fromarray(noise(90, 50, seed=1)).save(paths[1])
    return list(map(str, paths))


# ---------------------------------------------------------------- the score


def test_score_is_that_of_the_classes_of_the_names_file(colour_model, folder):
    """By hand, except for pixels where upsampling moves an edge: one image is all correct, the other half."""
    scores = SegmentationValidator(folder).score(colour_model)
    square, whole = 32 * 32, 63 * 96
    assert scores["pixel_accuracy"] == pytest.approx(1 - square / (2 * whole), abs=0.01)
    assert scores["miou"] == pytest.approx((1 + 0.5 + 0) / 3, abs=0.03)


def test_size_is_the_short_side_for_the_model(colour_model, folder):
    SegmentationValidator(folder, size=32).score(colour_model)
    assert {shape[2:] for shape in colour_model.batches} == {(32, 48)}


def test_it_is_logged_where_checkpoints_and_loggers_see_it(tiny_clip, folder, tmp_path):
    score, module = SegmentationValidator(folder), Module(tiny_clip)
    before = score.score(module.pacl)
    best = ModelCheckpoint(tmp_path / "best", monitor="miou", mode="max")
    options = {"logger": CSVLogger(tmp_path, name="logs"), "enable_checkpointing": True}
    trainer = fit(module, [score, best], tmp_path, **options)
    now = score.score(module.pacl)
    for name, value in now.items():
        assert float(trainer.callback_metrics[name]) == pytest.approx(value)
    assert now != before
    assert best.best_model_score is not None
    with open(Path(trainer.logger.log_dir, "metrics.csv")) as file:
        rows = [row for row in csv.DictReader(file) if row["miou"]]
    assert len(rows) == 1 + 3  # before the first step, and after each epoch
    assert float(rows[0]["miou"]) == pytest.approx(before["miou"])
    assert float(rows[-1]["miou"]) == pytest.approx(now["miou"])
    assert float(rows[-1]["pixel_accuracy"]) == pytest.approx(now["pixel_accuracy"])


def test_every_other_validation(tiny_clip, folder, tmp_path, monkeypatch):
    calls = []
    score = SegmentationValidator(folder, every_n_validations=2)
    monkeypatch.setattr(score, "score", lambda model: calls.append(1) or {"miou": 0.5, "pixel_accuracy": 0.5})
    fit(Module(tiny_clip), [score], tmp_path)
    assert len(calls) == 1 + 2  # at the start; after epochs 0 and 2
    assert score.measured_at == {"miou": 9, "pixel_accuracy": 9}
    trainer = fit(Module(tiny_clip), [score], tmp_path, max_epochs=2)
    assert score.measured_at == {"miou": 3, "pixel_accuracy": 3}
    assert trainer.global_step == 6


def test_validations_are_counted_not_epochs(tiny_clip, folder, photos, tmp_path, monkeypatch):
    """Of 3 steps an epoch: validations after steps 2, 4, 6, 8 and 10, in epochs 0, 1, 1, 2 and 3."""
    score, grid = SegmentationValidator(folder, every_n_validations=2), ImageGrid(photos, ["a dog"], None, 2, cell=64)
    steps: list[int] = []

    class Steps(Callback):
        def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
            if not trainer.sanity_checking:
                steps.append(score.measured_at["miou"])

    monkeypatch.setattr(score, "score", lambda model: {"miou": 0.5})
    often = {"max_epochs": 9, "max_steps": 10, "val_check_interval": 2, "check_val_every_n_epoch": None}
    fit(Module(tiny_clip), [score, grid, Steps()], tmp_path, **often)
    assert steps == [2, 2, 6, 6, 10]
    assert {path.name for path in (tmp_path / "grids").iterdir()} == {f"grid-{step}.png" for step in (0, 2, 6, 10)}


def test_other_ranks_draw_nothing():
    trainer = SimpleNamespace(is_global_zero=False, sanity_checking=False, global_step=0)
    module: Any = SimpleNamespace(pacl=None)
    grid = ImageGrid(["none.png"], ["red"])
    for hook in (grid.on_train_start, grid.on_validation_end, grid.on_train_end):
        hook(trainer, module)


@pytest.mark.slow
def test_two_ranks_know_the_same_score(tiny_clip, folder, tmp_path):
    fit(
        Module(tiny_clip),
        [SegmentationValidator(folder), ImageGrid([str(tmp_path / "images/a.png")], ["red", "blue"]), Report(tmp_path)],
        tmp_path,
        strategy="ddp_spawn",
        devices=2,
        max_epochs=1,
        enable_checkpointing=True,
    )
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first == second
    assert first["miou"] == pytest.approx(first["own"])


class Report(Callback):
    """Writes what a rank knows of the score, and what it is by its own count."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.sanity_checking:
            (score,) = (callback for callback in trainer.callbacks if isinstance(callback, SegmentationValidator))
            known = {"miou": float(trainer.callback_metrics["miou"]), "own": score.score(module.pacl)["miou"]}
            torch.save(known, self.folder / f"rank{trainer.global_rank}.pt")


# ---------------------------------------------------------------- the grid


def test_a_grid_before_training_after_validation_and_at_the_end(tiny_clip, photos, tmp_path):
    module = Module(tiny_clip)
    grid = ImageGrid(photos, ["a dog", "grass"], every_n_validations=2, cell=64)
    start = grid.draw(module.pacl)
    fit(module, [grid], tmp_path, max_epochs=4)
    # 3 steps an epoch: before the first, after epochs 0 and 2, and at the end of epoch 3
    assert sorted(path.name for path in (tmp_path / "grids").iterdir()) == [
        f"grid-{step}.png" for step in (0, 12, 3, 9)
    ]
    drawn = [np.asarray(Image.open(tmp_path / f"grids/grid-{step}.png")) for step in (0, 12)]
    assert np.array_equal(drawn[0], start)
    assert np.array_equal(drawn[1], grid.draw(module.pacl))
    assert drawn[0].shape != drawn[1].shape or not np.array_equal(*drawn)


def test_tensorboard_gets_it_too(tiny_clip, photos, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, name="logs")
    fit(Module(tiny_clip), [ImageGrid(photos, ["a dog"], cell=64)], tmp_path, max_epochs=1, logger=logger)
    events = EventAccumulator(logger.log_dir).Reload()
    assert [event.step for event in events.Images("grid")] == [0, 3]


@pytest.mark.parametrize(("prompts", "columns"), [(1, 3), (4, 6), (5, 2)])
def test_one_row_per_image_with_heat_maps_of_few_prompts(colour_model, photos, prompts, columns, monkeypatch):
    shapes = []
    sheet = "pacl.training.callbacks.contact_sheet"
    monkeypatch.setattr(sheet, lambda rows: shapes.append([len(row.tiles) for row in rows]))
    colours = ["red", "green", "blue", "teal", "a red"][:prompts]
    ImageGrid(photos, colours).draw(colour_model)
    assert shapes == [[columns, columns]]


def test_positions_of_the_tiles(colour_model, tmp_path):
    """The image is at the top left, and beside it the same with a fill that changes the red square."""
    image = picture(200, 320, (50, 150, 100, 220))
    Image.fromarray(image).save(tmp_path / "x.png")
    grid = ImageGrid([str(tmp_path / "x.png")], ["red", "grey"], cell=320).draw(colour_model)
    assert (grid[:GAP] == BACKGROUND).all()
    first, second, red, grey = (grid[GAP : GAP + 200, GAP + i * (320 + GAP) :][:, :320].astype(int) for i in range(4))
    assert np.array_equal(first, image)
    assert abs(second[100, 160] - (255, 0, 0)).sum() > 100  # label 1 is blue
    red, grey = red.sum(2), grey.sum(2)
    assert red[100, 160] > red[10, 10]  # its cosines are higher inside the square
    assert grey[100, 160] < grey[10, 10]


def test_large_images_are_drawn_small(colour_model, tmp_path):
    Image.fromarray(noise(1500, 3000)).save(tmp_path / "x.jpg")
    assert ImageGrid([str(tmp_path / "x.jpg")], ["red", "grey"]).draw(colour_model).shape[1] < 5 * 360
    assert max(side for shape in colour_model.batches for side in shape[2:]) <= 128


# ---------------------------------------------------------------- the training is not changed


def test_training_is_the_same_to_the_bit(tiny_clip, folder, photos, tmp_path):
    weights, randomness = [], []
    prompts = [*CAPTIONS[:2], "a red kite"]  # texts that training meets as well, here in another batch
    (tmp_path / "names.txt").write_text("\n".join(CAPTIONS[2:]))
    for callbacks in ([], [SegmentationValidator(folder, templates="photo"), ImageGrid(photos, prompts, cell=64)]):
        module = Module(tiny_clip)
        fit(module, callbacks, tmp_path)
        weights.append(module.pacl.head_state())
        randomness.append((torch.rand(3).tolist(), np.random.rand(), random.random()))  # noqa: NPY002
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert randomness[0] == randomness[1]


def test_the_model_is_left_as_it_was(tiny_clip, folder, photos):
    pacl = Module(tiny_clip).pacl.train()
    pacl.embedder.skip.eval()  # a mode of its own is not touched either
    modes = {name: module.training for name, module in pacl.named_modules()}
    SegmentationValidator(folder).score(pacl)
    ImageGrid(photos, ["a cat", "a dog"]).draw(pacl)
    with pytest.raises(UserError):
        ImageGrid(["none.png"], ["a cat"]).draw(pacl)
    assert {name: module.training for name, module in pacl.named_modules()} == modes
    assert all(parameter.grad is None for parameter in pacl.parameters())
    assert torch.is_grad_enabled()


# ---------------------------------------------------------------- settings


def test_yaml_configures_them(folder, tmp_path):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--callbacks", type=list[Callback])
    (tmp_path / "c.yaml").write_text(f"""
callbacks:
- class_path: pacl.training.callbacks.SegmentationValidator
  init_args:
    data: {{images: {folder.images}, masks: {folder.masks}, names: {folder.names}, ignore: [255], limit: 1}}
    size: 48
- class_path: pacl.training.callbacks.ImageGrid
  init_args: {{images: [a.jpg], prompts: [a dog, "a cat;kitten=cat"]}}
""")
    config = parser.parse_args([f"--config={tmp_path / 'c.yaml'}"])
    score, grid = parser.instantiate_classes(config).callbacks
    assert len(score.data) == 1
    assert (score.data.ignore, score.size, score.every_n_validations) == ((255,), 48, 1)
    assert (grid.images, grid.prompts) == (["a.jpg"], ["a dog", "a cat;kitten=cat"])


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"every_n_validations": 0}, "every_n_validations"),
        ({"size": 1}, "size"),
        ({"templates": "none-such"}, None),
        ({"images": "/no/such"}, None),
        ({"names": "/no/such"}, None),
        ({"names": "one"}, None),
    ],
)
def test_errors_of_the_score_come_before_the_data_are_read(
    settings, argument, tiny_clip, folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("one").write_text("a dog")
    settings = dict(settings)
    wrong = str(next(iter(settings.values())))
    paths = {name: settings.pop(name, getattr(folder, name)) for name in ("images", "masks", "names")}
    module = Module(tiny_clip)
    module.train_dataloader = lambda: pytest.fail("the training data were read")  # type: ignore[method-assign]
    with pytest.raises(UserError, match=re.escape(wrong)) as error:
        fit(module, [SegmentationValidator(MaskFolder(**paths), **settings)], tmp_path)
    assert argument is None or error.value.argument == argument


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"every_n_validations": 0}, "every_n_validations"),
        ({"images": []}, "images"),
        ({"images": ["/no/such.png"]}, None),
        ({"prompts": []}, "prompts"),
        ({"prompts": ["=x"]}, None),
        ({"cell": 8}, "cell"),
        ({"size": 1}, "size"),
    ],
)
def test_errors_of_the_grid_come_before_the_data_are_read(settings, argument, tiny_clip, photos, tmp_path):
    module = Module(tiny_clip)
    module.train_dataloader = lambda: pytest.fail("the training data were read")  # type: ignore[method-assign]
    with pytest.raises(UserError) as error:
        fit(module, [ImageGrid(**{"images": photos, "prompts": ["a dog"], **settings})], tmp_path)
    assert argument is None or error.value.argument == argument
