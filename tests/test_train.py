import csv
import math
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from pacl import train
from pacl.cli.resuming import advice_for
from pacl.cli.training_run import validation_interval
from pacl.data.caption_data import CaptionData
from pacl.data.crop import SquareCrop
from pacl.data.pairs import FilePairs
from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import load_backbone
from pacl.models.compatibility import compatibility
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.models.towers.open_clip_loading import bundled_folder
from pacl.training.loss import contrastive_loss
from pacl.training.module import MAX_LOGIT_SCALE, PACLModule, some_patches
from pacl.training.run_folder import RunFolder
from tests.tiny import save_tiny_clip

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.logger=false"]
SMALL = ["--data.scenes=24", "--data.size=32", "--data.batch_size=8", "--model.warmup=1", "--model.patches=null"]


@pytest.fixture(scope="module")
def clip_name(tmp_path_factory) -> str:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def run(clip_name: str, out: Path, *more: str) -> Path:
    arguments = [*SMALL, *QUIET, f"--model.backbone={clip_name}", f"--out={out}", *more]
    assert train.main(arguments) == 0
    return out


# ---------------------------------------------------------------- intervals and what is left over


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"max_steps": 60}, {"val_check_interval": 6, "check_val_every_n_epoch": None}),
        ({"max_steps": 3}, {"val_check_interval": 1, "check_val_every_n_epoch": None}),
        ({"max_steps": -1}, {}),
        ({"max_steps": 60, "val_check_interval": 20}, {"check_val_every_n_epoch": None}),
        ({"max_steps": 60, "val_check_interval": 0.5}, {}),
        ({"max_steps": -1, "val_check_interval": 2}, {"check_val_every_n_epoch": None}),
        ({"val_check_interval": 2, "check_val_every_n_epoch": 2}, {}),
        ({"max_steps": 60, "check_val_every_n_epoch": 2}, {}),
    ],
)
def test_validations_are_counted_in_steps_where_a_run_is(settings: dict[str, int], found: dict[str, int]) -> None:
    given = {"max_steps": -1, "val_check_interval": None, "check_val_every_n_epoch": 1, **settings}
    assert validation_interval(SimpleNamespace(**given)) == found


@pytest.mark.parametrize(
    ("checkpoints", "advice"),
    [(["best", "last"], "--ckpt_path last"), (["best"], "checkpoints/best.ckpt"), ([], "")],
)
def test_a_checkpoint_that_is_there_is_advised(tmp_path: Path, checkpoints: list[str], advice: str) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in checkpoints:
        (tmp_path / "checkpoints" / f"{name}.ckpt").touch()
    assert advice in advice_for(tmp_path)
    assert ("resume" in advice_for(tmp_path)) == bool(checkpoints)


@pytest.mark.parametrize(("images", "told"), [(27, True), (33, False)])  # 11 of 27 and 1 of 33 fill no batch of 16
def test_many_images_that_fill_no_batch_are_told_of(images: int, told: bool) -> None:
    data = CaptionData(batch_size=16)
    data.trainer = SimpleNamespace(global_rank=0, world_size=1)
    batches = SimpleNamespace(sources=[range(images)], stores=None)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        loader = data._loader(batches, [None], shuffle=True)
    assert len(loader) * 16 < images
    assert [f"{images}" in str(each.message) for each in found] == [True] * told


# ---------------------------------------------------------------- the command


def test_no_arguments_are_the_scenes_config(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        train.main(["--print_config"])
    without = capsys.readouterr().out
    with pytest.raises(SystemExit):
        train.main(["--config", "configs/scenes.yaml", "--print_config"])
    assert capsys.readouterr().out == without


def test_print_config_states_every_setting(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        train.main(["--print_config", "--model.lr=0.123"])
    assert stop.value.code in (0, None)
    printed = capsys.readouterr().out
    for line in ("lr: 0.123", "backbone: bundled", "class_path: pacl.scenes.SceneData", "dense: value"):
        assert line in printed


def test_help_explains_the_settings(capsys):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for words in ("--model.temperature", "softmax that pools patches", "--out", "--data.help", "--ckpt_path"):
        assert words in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.dense=none-such"], "none-such"),
        (["--model.start=middle"], "middle"),
        (["--no-such-flag=1"], "no-such-flag"),
        (["--data.batch_size=1"], "batch_size 1"),
        (["--model.temperature=-1"], "temperature -1"),
        (["--model.backbone=bundle"], "bundle"),
    ],
)
def test_mistakes_are_one_line(arguments, message, clip_name, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        run(clip_name, tmp_path, *arguments)
    assert len(str(error.value)) < 500


def test_a_folder_that_cannot_be_written_is_one_line(clip_name, tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ArgumentError) as error:
        run(clip_name, file / "below")
    assert error.value.argument == "out"


# ---------------------------------------------------------------- what a run leaves


@pytest.mark.parametrize("cache", ["memory", "null"])
def test_a_run_leaves_a_head_that_loads(clip_name, tmp_path, cache):
    out = run(
        clip_name,
        tmp_path / "out",
        "--trainer.max_steps=3",
        "--model.learn_temperature=true",
        "--model.text=linear",
        "--data.nouns=true",
        f"--data.cache={cache}",
    )
    model = load_model(str(out))
    assert model.config.trained
    assert model.config.dense == "value"
    start = PACL.untrained(load_backbone(clip_name), learn_temperature=True, text="linear")
    for name, tensor in model.head_state().items():
        assert not torch.equal(tensor, start.head_state()[name]), f"{name} did not train"
    frozen = load_backbone(clip_name).state_dict()
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in model.clip.state_dict().items())


def test_diagnostics_are_logged(clip_name, tmp_path):
    arguments = [a for a in SMALL if "scenes=" not in a]
    arguments += [*QUIET[:2], "--data.scenes=24", "--trainer.max_steps=4", "--trainer.log_every_n_steps=1"]
    train.main([*arguments, f"--model.backbone={clip_name}", f"--out={tmp_path}"])
    (log,) = tmp_path.glob("logs/version_0/metrics.csv")
    rows = list(csv.DictReader(log.open()))
    assert len(rows) == 4
    for name in ("loss", "accuracy", "logit_scale", "temperature", "pooling_entropy", "images_per_second"):
        assert math.isfinite(float(rows[-1][name])), name
    assert (tmp_path / "logs/version_0/config.yaml").is_file()


def test_checkpoints_hold_only_what_trains(clip_name, tmp_path):
    out = run(clip_name, tmp_path, "--trainer.max_steps=2")
    checkpoint = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    names = set(checkpoint["state_dict"])
    assert names == {
        "pacl.log_logit_scale",
        *(f"pacl.embedder.{part}.{kind}" for part in ("main.0", "main.2", "skip") for kind in ("weight", "bias")),
    }
    assert len(checkpoint["optimizer_states"][0]["state"]) == len(names)


def test_a_resumed_run_goes_on_where_it_was(clip_name, tmp_path):
    first = run(clip_name, tmp_path / "first", "--trainer.max_steps=3")
    shutil.copytree(first, tmp_path / "second")
    second = run(clip_name, tmp_path / "second", "--trainer.max_steps=6", "--ckpt_path=last")
    checkpoint = torch.load(second / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 6
    assert checkpoint["optimizer_states"][0]["state"][0]["step"] == 6  # Adam's moments went on too
    assert not torch.equal(load_model(str(first)).embedder.skip.weight, load_model(str(second)).embedder.skip.weight)


def test_the_same_seed_gives_the_same_head(clip_name, tmp_path):
    heads = [
        load_model(str(run(clip_name, tmp_path / name, "--trainer.max_steps=2", f"--seed_everything={seed}")))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    ]
    a, b, c = (head.embedder.main[0].weight for head in heads)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


# ---------------------------------------------------------------- one step


def logged(module: PACLModule) -> dict[str, float]:
    values: dict[str, float] = {}
    module.log = lambda name, value, **_: values.__setitem__(name, float(value))  # type: ignore[method-assign]
    return values


def test_the_loss_is_the_published_one_over_all_pairs(clip_name):
    module = PACLModule(clip_name, temperature=0.3, logit_scale=7.0)
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


def test_gradients_reach_what_trains_and_nothing_else(clip_name):
    module = PACLModule(clip_name, learn_temperature=True)
    logged(module)
    module.train()
    assert not module.pacl.clip.training
    module.training_step({"images": torch.rand(2, 3, 32, 32), "texts": ["a star", "a fish"]}, 0).backward()
    with_gradient = {name for name, p in module.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, _ in module.named_parameters() if ".clip." not in name}


@pytest.mark.parametrize("images", [0, 1])
def test_a_batch_without_negatives_is_skipped(clip_name, images):
    batch = {"images": torch.rand(images, 3, 32, 32), "texts": ["a star"][:images]}
    batch["positives"] = torch.ones(images, images, dtype=torch.bool)
    assert PACLModule(clip_name).training_step(batch, 0) is None


@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 8])
def test_embedding_a_batch_in_chunks_gives_the_same_gradients(clip_name, at_once):
    batch = {
        "images": torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8),
        "texts": ["a red star", "grass", "a boat", "snow"],
        "positives": torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0]]).bool(),
    }
    found = []
    for some in (None, at_once):
        torch.manual_seed(0)
        module = PACLModule(clip_name, learn_temperature=True, text="linear", patches=9, images_at_once=some)
        logged(module)
        loss = module.training_step(batch, 0)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in module.trained_parameters())])
    for whole, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, whole)


def test_the_frozen_tower_has_a_precision_of_its_own(clip_name, monkeypatch):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exact, rounded, auto = (PACLModule(clip_name, precision=p) for p in ("fp32", "bf16", "auto"))
    tokens = exact.frozen_tokens(images)
    assert tokens.dtype == rounded.frozen_tokens(images).dtype == torch.float32
    assert 0 < (rounded.frozen_tokens(images) - tokens).abs().max() < 0.2
    with torch.autocast("cpu", torch.bfloat16):  # a trainer of bf16-mixed: the head's tokens, not the tower
        assert torch.equal(exact.frozen_tokens(images), tokens.bfloat16())
    assert torch.equal(auto.frozen_tokens(images), tokens)
    monkeypatch.setattr("pacl.models.precision.has_bf16", lambda kind: True)
    assert torch.equal(auto.frozen_tokens(images), rounded.frozen_tokens(images))
    assert [module.tower_precision for module in (exact, rounded, auto)] == ["fp32", "bf16", "bf16"]
    auto._trainer = SimpleNamespace(precision="16-mixed")
    assert auto.tower_precision == "fp16"


def test_the_stamp_of_tokens_has_the_precision_of_the_tower(clip_name):
    source = FilePairs(Path("."), {"none.png": ["a star"]})
    stamps = [
        PACLModule(clip_name, precision=p).token_stamp(32, SquareCrop(), source, "bfloat16") for p in ("fp32", "bf16")
    ]
    assert [stamp.precision for stamp in stamps] == ["fp32", "bf16"]
    assert replace(stamps[0], precision="bf16") == stamps[1]


def test_the_tower_sees_every_image_once_at_any_chunk_size(clip_name, monkeypatch):
    module = PACLModule(clip_name, images_at_once=2)
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


def test_the_optimiser_decays_matrices_only_and_follows_the_schedule(clip_name):
    module = PACLModule(clip_name, learn_temperature=True, lr=0.01, scale_lr=0.1, weight_decay=0.2, warmup=10)
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


def test_the_logit_scale_stops_at_its_limit(clip_name):
    module = PACLModule(clip_name)
    with torch.no_grad():
        module.pacl.log_logit_scale.fill_(9.0)
    optimizer = torch.optim.SGD(module.trained_parameters(), lr=0.1)
    module.optimizer_step(0, 0, optimizer, None)
    assert module.pacl.log_logit_scale.exp().item() == pytest.approx(MAX_LOGIT_SCALE)


# ---------------------------------------------------------------- does it learn


def test_a_miniature_training_learns_where_things_are(tmp_path):
    """From random weights on the bundled CLIP: the loss falls and masks get far better."""
    if not (bundled_folder() / "clip" / "open_clip_model.safetensors").is_file():
        pytest.skip("the bundled CLIP is not here")
    from eval.scenes.evaluator import SceneEvaluator
    from eval.scenes.sets import SceneSet

    clip = load_backbone("bundled")
    evaluator = SceneEvaluator(clip, {"seen": SceneSet.render("val", 40, "seen", clip.size)}, {}, {})
    torch.manual_seed(0)
    before = evaluator.measure(PACL.untrained(clip, start="paper"))
    arguments = ["--model.start=paper", "--data.scenes=512", "--data.batch_size=128", "--model.patches=48"]
    arguments += ["--trainer.max_steps=60", "--trainer.log_every_n_steps=5"]
    train.main([*arguments, *QUIET[:2], f"--out={tmp_path}"])
    (log,) = tmp_path.glob("logs/version_0/metrics.csv")
    losses = [float(row["loss"]) for row in csv.DictReader(log.open())]
    assert losses[-1] < 0.6 * losses[0]
    assert "checkered" in (tmp_path / "README.md").read_text()  # the card lists the words of a closed vocabulary
    after = evaluator.measure(load_model(str(tmp_path)))
    assert after["objects/own/seen"] > before["objects/own/seen"] + 15
    assert after["grounds/own/seen"] > before["grounds/own/seen"] + 15


# ---------------------------------------------------------------- what must not end in a head


@pytest.mark.parametrize("content", [b"", b"no checkpoint" * 80])
def test_a_broken_checkpoint_is_one_line(clip_name, tmp_path, content):
    (tmp_path / "bad.ckpt").write_bytes(content)
    with pytest.raises(ArgumentError) as error:
        run(clip_name, tmp_path / "out", "--trainer.max_steps=1", f"--ckpt_path={tmp_path / 'bad.ckpt'}")
    assert (error.value.argument, error.value.value) == ("ckpt_path", str(tmp_path / "bad.ckpt"))
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_run_without_a_step_writes_no_head(clip_name, tmp_path):
    with pytest.raises(ArgumentError) as error:
        run(clip_name, tmp_path, "--trainer.max_steps=0")
    assert error.value.argument == "trainer.max_steps"
    assert not (tmp_path / "config.json").exists()


def test_at_its_limit_the_logit_scale_still_learns(clip_name):
    module = PACLModule(clip_name, logit_scale=MAX_LOGIT_SCALE)
    logged(module)
    batch = {"images": torch.rand(3, 3, 32, 32), "texts": ["a star", "a fish", "sky"]}
    module.training_step(batch, 0).backward()
    assert module.pacl.log_logit_scale.grad.abs() > 0


@pytest.mark.parametrize("more", [[], ["--save_every=1"]])
def test_a_head_that_is_not_finite_is_not_saved(clip_name, tmp_path, more):
    with pytest.raises(UserError, match=r"finite|nan"):
        run(clip_name, tmp_path, "--trainer.max_steps=4", "--model.lr=1e30", *more)
    assert not (tmp_path / "config.json").exists()
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_a_resumed_run_has_the_rates_of_its_own_number_of_steps(clip_name, tmp_path):
    """Of the schedule of all its steps, and not those that the checkpoint ended with."""
    rates = ["--model.lr=0.1", "--model.warmup=0", "--trainer.log_every_n_steps=1", "--trainer.logger=true"]
    run(clip_name, tmp_path, "--trainer.max_steps=4", *rates)
    run(clip_name, tmp_path, "--trainer.max_steps=8", *rates, "--ckpt_path=last")
    (log,) = (tmp_path / "logs").glob("version_1/metrics.csv")
    with log.open() as file:
        found = [float(row["lr"]) for row in csv.DictReader(file) if row["lr"]]
    assert found[0] == pytest.approx(0.05)  # half of a cosine of eight steps


@pytest.mark.parametrize(
    "argument",
    [
        *("head=best", "save_every=0", "ckpt_path=last", "ckpt_path=no.ckpt"),
        *("trainer.accumulate_grad_batches=2", "trainer.precision=bf16-true"),
        *("model.patches=0", "model.images_at_once=-1", "model.hidden=0", "model.warmup=-1", "model.lr=-1.0"),
    ],
)
def test_values_that_do_not_work_are_named(clip_name, tmp_path, argument):
    with pytest.raises(ArgumentError) as error:
        run(clip_name, tmp_path, "--trainer.max_steps=2", f"--{argument}")
    assert f"{error.value.argument}={error.value.value}" == argument


def test_the_last_weights_are_saved_if_the_run_ends_before_a_validation(clip_name, tmp_path, capsys):
    for i in range(6):
        Image.new("RGB", (32, 32), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
    table = "".join(f"{i}.png,a dog number {i}\n" for i in range(6))
    (tmp_path / "pairs.csv").write_text("image,caption\n" + table)
    settings = ["--data=pacl.data.CaptionData", f"--data.pairs={tmp_path / 'pairs.csv'}", "--data.hold_out=2"]
    settings += [
        "--data.batch_size=2",
        "--head=best",
        "--trainer.max_steps=1",
        "--trainer.val_check_interval=2",
        f"--out={tmp_path / 'out'}",
    ]
    assert train.main([*settings, *QUIET, f"--model.backbone={clip_name}"]) == 0
    assert (tmp_path / "out" / "config.json").exists()
    err = capsys.readouterr().err
    assert "training on 4 images, holding out 2" in err
    assert "last weights" in err


def test_one_callback_may_stand_alone(clip_name, tmp_path):
    run(
        clip_name,
        tmp_path,
        "--trainer.max_steps=1",
        "--trainer.callbacks=tests.killer.Stopper",
        "--trainer.callbacks.step=9",
    )


def test_the_head_knows_its_size_and_its_card_the_run(clip_name, tmp_path):
    out = run(clip_name, tmp_path, "--trainer.max_steps=2", "--data.size=48", "--model.warmup=9")
    assert load_model(str(out)).config.size == 48
    card = (out / "README.md").read_text()
    for words in (
        "24 procedural scenes",
        "2 steps over 16 images",
        "batch_size 8",
        "cut.mode squash",
        "seed 0",
        "loss |",
    ):
        assert words in card
    assert re.search(r"\bwarmup 1\b", card)  # a quarter of the 2 steps, not the 9 that were asked for


def test_a_short_run_leaves_its_warm_up(clip_name):
    module = PACLModule(clip_name, warmup=50, lr=1.0)
    module._trainer = SimpleNamespace(estimated_stepping_batches=20)  # type: ignore[assignment]
    with pytest.warns(UserWarning, match="warmup 50: .* 5,"):
        schedule = module.configure_optimizers()["lr_scheduler"]["scheduler"]
    assert module.warmup == 5
    assert schedule.lr_lambdas[0](4) == 1
    assert schedule.lr_lambdas[0](19) < 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.size=0"], "size 0"),
        (["--data.workers=-1"], "workers -1"),
        (["--trainer.strategy=foo"], "foo"),
        (["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val_recall"], "val_recall"),
    ],
)
def test_other_values_that_do_not_work(clip_name, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        run(clip_name, tmp_path, "--trainer.max_steps=2", *arguments)


# ---------------------------------------------------------------- the folder of a run


def files(folder: Path) -> dict[str, bytes]:
    kept = [path for path in folder.rglob("*") if path.is_file() and path.name != "config.yaml"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def test_a_second_run_does_not_replace_the_first(clip_name, tmp_path):
    run(clip_name, tmp_path, "--trainer.max_steps=2")
    first = files(tmp_path)
    with pytest.raises(ArgumentError) as error:
        run(clip_name, tmp_path, "--trainer.max_steps=3")
    assert (error.value.argument, error.value.value) == ("out", tmp_path)
    assert files(tmp_path) == first
    elsewhere = run(clip_name, tmp_path / "other", "--trainer.max_steps=1") / "checkpoints" / "last.ckpt"
    with pytest.raises(ArgumentError):  # a checkpoint of elsewhere does not make this folder its own
        run(clip_name, tmp_path, "--trainer.max_steps=3", f"--ckpt_path={elsewhere}")
    with pytest.raises(ArgumentError) as error:
        run(clip_name, tmp_path, "--trainer.max_steps=3", "--overwrite", "--data.batch_size=1")
    assert error.value.argument == "data.batch_size"
    assert {name: value for name, value in files(tmp_path).items() if "other" not in name} == first
    run(clip_name, tmp_path, "--trainer.max_steps=3", "--overwrite")
    assert files(tmp_path)["model.safetensors"] != first["model.safetensors"]


def test_of_two_runs_at_once_the_second_stops(clip_name, tmp_path):
    with RunFolder(tmp_path, (), "out", False, False, "").claim():
        with pytest.raises(ArgumentError) as error:
            run(clip_name, tmp_path, "--trainer.max_steps=1", "--overwrite")
        assert (error.value.argument, error.value.value) == ("out", tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_the_head_of_a_stopped_run_can_be_written_without_more_steps(clip_name, tmp_path, capsys):
    stop = ["--trainer.callbacks=tests.killer.Killer", "--trainer.callbacks.step=2", "--trainer.callbacks.moment=after"]
    arguments = [*SMALL, *QUIET, f"--model.backbone={clip_name}", f"--out={tmp_path}", "--trainer.max_steps=5"]
    assert train.main([*arguments, *stop, "--trainer.callbacks.number=15"]) == 128 + 15
    assert not (tmp_path / "config.json").exists()
    run(clip_name, tmp_path, "--trainer.max_steps=1", "--ckpt_path=last")
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(load_model(str(tmp_path)).embedder.skip.weight, state["pacl.embedder.skip.weight"])


# ---------------------------------------------------------------- what the machine does not allow


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("strategy", name) for name in ("ddp_spawn", "ddp_fork", "fsdp", "deepspeed", "foo")),
        *(("devices", number) for number in ("[0]", "0,1", "0", "-2")),
        *(("accelerator", name) for name in ("cuda", "gpu", "mps", "tpu", "foo")),
        *(("num_nodes", number) for number in ("0", "2")),
        *(("precision", name) for name in ("16-mixed", "64-true", "transformer-engine")),
    ],
)
def test_trainer_settings_that_do_not_work_here_name_their_flag(clip_name, tmp_path, flag, value, monkeypatch):
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    more = ["--trainer.devices=2"] if flag == "strategy" and value.startswith("ddp") else []
    cpu = [] if flag == "accelerator" else ["--trainer.accelerator=cpu"]
    with pytest.raises(ArgumentError) as error:
        run(clip_name, tmp_path, "--trainer.max_steps=1", *cpu, f"--trainer.{flag}={value}", *more)
    assert error.value.argument == f"trainer.{flag}"
    assert "None" not in error.value.reason
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "--model.images_at_once 8"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "--model.patches 49"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "--data.workers"),
        (torch.distributed.DistNetworkError("failed to bind (errno: 98 - EADDRINUSE)"), "MASTER_PORT"),
        (RuntimeError("[gloo/pair.cc:534] Connection closed by peer [127.0.0.1]"), "processes"),
        (OSError(28, "No space left on device", "metrics.csv"), "metrics.csv"),
    ],
)
@pytest.mark.parametrize("saved", [False, True])
def test_what_the_machine_does_is_one_line_with_what_is_kept(clip_name, tmp_path, monkeypatch, error, advice, saved):
    original = PACLModule.training_step

    def fail(self, batch, index):
        if self.global_step == 2:
            raise error
        return original(self, batch, index)

    monkeypatch.setattr(PACLModule, "training_step", fail)
    big = ["--data.batch_size=16"]
    with pytest.raises(UserError) as found:
        run(clip_name, tmp_path, "--trainer.max_steps=4", f"--save_every={1 if saved else 9}", *big)
    assert advice in str(found.value)
    assert ("--ckpt_path last" in str(found.value)) == saved == (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_an_error_of_the_program_keeps_its_traceback(clip_name, tmp_path, monkeypatch):
    monkeypatch.setattr(PACLModule, "training_step", lambda *_: {}["no key"])
    with pytest.raises(KeyError):
        run(clip_name, tmp_path, "--trainer.max_steps=1")


# ---------------------------------------------------------------- what is shown


def captioned(folder: Path, count: int) -> list[str]:
    for i in range(count):
        Image.new("RGB", (32, 32), (10 * i, 0, 0)).save(folder / f"{i}.png")
    (folder / "t.csv").write_text("image,caption\n" + "".join(f"{i}.png,a dog number {i}\n" for i in range(count)))
    return ["--data=pacl.data.CaptionData", f"--data.pairs={folder / 't.csv'}", "--data.hold_out=8"]


def test_an_interval_of_validation_may_be_longer_than_an_epoch(clip_name, tmp_path):
    """Of 12 images that train, of which a batch has 8; Lightning's error has a traceback."""
    data = [*captioned(tmp_path, 20), "--data.batch_size=8", "--trainer.max_epochs=4", "--trainer.max_steps=-1"]
    run(clip_name, tmp_path / "out", *data, "--trainer.val_check_interval=2")
    assert (tmp_path / "out" / "checkpoints" / "best.ckpt").is_file()
    with pytest.raises(UserError, match=r"--trainer\.check_val_every_n_epoch null"):
        run(
            clip_name,
            tmp_path / "other",
            *data,
            "--trainer.val_check_interval=2",
            "--trainer.check_val_every_n_epoch=2",
        )


def test_the_baseline_of_a_resumed_run_is_that_of_its_first_step(clip_name, tmp_path):
    data, out = captioned(tmp_path, 20), tmp_path / "out"
    run(clip_name, out, *data, "--data.batch_size=4", "--trainer.max_steps=3", "--model.lr=0.1")
    first = [line for line in (out / "README.md").read_text().splitlines() if "before the first step" in line]
    run(clip_name, out, *data, "--data.batch_size=4", "--trainer.max_steps=6", "--model.lr=0.1", "--ckpt_path=last")
    assert [line for line in (out / "README.md").read_text().splitlines() if "before the first step" in line] == first
    recalls = [line for line in (out / "README.md").read_text().splitlines() if line.startswith("| val_")]
    assert len(recalls) == 1 + 7
    assert all(float(line.split("|")[3]) > 0 for line in recalls)  # by chance
    assert Image.open(out / "training.png").size[0] > 300


def test_the_card_of_a_resumed_run_has_its_last_validation(clip_name, tmp_path):
    data, out = captioned(tmp_path, 20), tmp_path / "out"
    run(clip_name, out, *data, "--data.batch_size=4", "--trainer.max_steps=3")
    first = [line for line in (out / "README.md").read_text().splitlines() if line.startswith("| val_")]
    never = ["--trainer.val_check_interval=9", "--trainer.check_val_every_n_epoch=null"]
    run(clip_name, out, *data, "--data.batch_size=4", "--trainer.max_steps=4", *never, "--ckpt_path=last")
    assert [line for line in (out / "README.md").read_text().splitlines() if line.startswith("| val_")] == first
    assert all(float(line.split("|")[3]) > 0 for line in first)  # by chance


def best_of_all(folder: Path) -> bytes:
    """Give the best checkpoint of a run a score that no validation exceeds; the file."""
    path = folder / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    state["last_figures"]["val_recall"] = 1.5
    torch.save(state, path)
    return path.read_bytes()


@pytest.mark.parametrize("way", ["moved", "copied", "other folder"])
def test_the_best_weights_go_along_with_a_run(clip_name, tmp_path, way):
    settings = [*captioned(tmp_path, 20), "--data.batch_size=4", "--trainer.val_check_interval=2", "--head=best"]
    first, second = tmp_path / "first", tmp_path / "second"
    run(clip_name, first, *settings, "--trainer.max_steps=2")
    best, last = best_of_all(first), "last"
    match way:
        case "moved":
            first.rename(second)
        case "copied":
            shutil.copytree(first, second)
        case _:
            last = str(first / "checkpoints" / "last.ckpt")
    run(clip_name, second, *settings, "--trainer.max_steps=4", f"--ckpt_path={last}")
    run(clip_name, second, *settings, "--trainer.max_steps=6", "--ckpt_path=last")
    assert (second / "checkpoints" / "best.ckpt").read_bytes() == best
    state = torch.load(second / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(load_model(str(second)).embedder.skip.weight, state["pacl.embedder.skip.weight"])
    card = (second / "README.md").read_text()
    assert "after step 2" in card
    assert "| val_recall | 1.5 |" in card


def test_the_best_weights_of_a_killed_run_may_be_later_than_its_last(clip_name, tmp_path, capsys):
    """Killed between a validation and the next save. Step and score are those of the weights that are used."""
    out, checkpoints = tmp_path / "out", tmp_path / "out" / "checkpoints"
    settings = [*captioned(tmp_path, 20), "--data.batch_size=4", "--trainer.val_check_interval=2", "--head=best"]
    run(clip_name, out, *settings, "--trainer.max_steps=2")
    earlier = (checkpoints / "last.ckpt").read_bytes()
    run(clip_name, out, *settings, "--trainer.max_steps=4", "--ckpt_path=last")
    (checkpoints / "last.ckpt").replace(checkpoints / "best.ckpt")
    best_of_all(out)
    (checkpoints / "last.ckpt").write_bytes(earlier)
    (out / "config.json").unlink()
    run(clip_name, out, *settings, "--trainer.max_steps=1", "--ckpt_path=last")
    card = (out / "README.md").read_text()
    for words in ("4 steps over 16 images", "after step 4", "| val_recall | 1.5 |"):
        assert words in card
    assert str(checkpoints / "best.ckpt") in capsys.readouterr().err


def test_a_damaged_best_checkpoint_is_one_line(clip_name, tmp_path):
    settings = [*captioned(tmp_path, 20), "--data.batch_size=4"]
    out = run(clip_name, tmp_path / "out", *settings, "--trainer.max_steps=2")
    (out / "checkpoints" / "best.ckpt").write_bytes(b"broken")
    with pytest.raises(ArgumentError, match=r"best\.ckpt"):
        run(clip_name, out, *settings, "--trainer.max_steps=3", "--ckpt_path=last")


def test_output_is_quiet(clip_name, tmp_path, capsys):
    data = captioned(tmp_path, 20)
    arguments = [*SMALL[1:], *data, f"--model.backbone={clip_name}", f"--out={tmp_path / 'out'}", "--data.batch_size=4"]
    arguments = [argument for argument in arguments if "data.size" not in argument]
    assert train.main([*arguments, "--trainer.max_steps=3", "--trainer.accelerator=cpu"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "FLOPs" not in err
    assert ".py:" not in err
    assert "chance" in err


def test_the_help_begins_with_what_most_need(capsys):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    first = capsys.readouterr().out.splitlines()[:30]
    assert sum(line.startswith("usage") for line in first) == 1
    for flag in ("--data.pairs", "--trainer.max_steps", "--out", "--model.backbone"):
        assert any(line.strip().startswith(flag) for line in first), flag


@pytest.mark.parametrize(
    "setting",
    [
        *("max_steps=0", "max_epochs=0", "limit_train_batches=0", "limit_train_batches=0.0", "val_check_interval=0"),
        *("check_val_every_n_epoch=0", "gradient_clip_val=-1", "gradient_clip_val=.nan"),
    ],
)
def test_numbers_of_the_trainer_that_cannot_work_are_refused_at_once(clip_name, tmp_path, setting):
    with pytest.raises(ArgumentError) as error:
        run(clip_name, tmp_path / "out", f"--trainer.{setting}")
    assert error.value.argument == f"trainer.{setting.partition('=')[0]}"
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("[!.]*"))


def test_logging_can_be_turned_off(clip_name, tmp_path):
    run(clip_name, tmp_path, "--trainer.max_steps=1", "--trainer.log_every_n_steps=0")


@pytest.mark.parametrize("value", ["", "null"])
def test_a_value_that_was_changed_before_it_is_refused_has_its_flag(value, clip_name, tmp_path):
    words = [f"--model.backbone={clip_name}", "--data=pacl.data.CaptionData", f"--data.pairs={value}"]
    with pytest.raises(ArgumentError) as error:
        train.main([*words, f"--out={tmp_path / 'out'}", "--data.cache=null"])
    assert error.value.argument == "data.pairs"
