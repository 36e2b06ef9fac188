"""The command, from folders to tables; its figures against scores computed one picture at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eval.accuracy import accuracies
from eval.classification import main, zero_shot
from eval.image_features import batches, embed, preprocessing
from eval.image_sets import open_image_set
from eval.result import read_results
from pacl.errors import UserError
from pacl.loading import load_model
from pacl.prompts import get_templates

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 40, 200)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nearly plain colours: 12 of each to train on, 4 of each to test on."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for name, colour in COLOURS.items():
            for i in range(count):
                path = tmp_path / "photos" / part / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.array(colour) + rng.integers(-25, 26, (36, 44, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return tmp_path / "photos"


def run(photos: Path, out: Path, clip: str, *more: str) -> list:
    flags = ["--workers", "0", "--batch", "5", "--templates", "paper"]
    assert main(["custom", "--data", str(photos), "--model", clip, "--out", str(out), *flags, *more]) == 0
    return read_results(out)


def test_scores_are_those_of_the_formulas(photos, tiny_clip):
    model = load_model(tiny_clip)
    images = open_image_set("custom", photos)
    templates = get_templates("paper")
    counts = zero_shot(model, images, templates, batch=5, workers=0)
    right = dict.fromkeys(counts, 0)
    texts = model.encode_prompts(images.keys, templates)
    for index in range(len(images)):
        square = preprocessing(model)(Image.open(images.pictures[index]))[None]
        pooled = model.clip.encode_image(square) @ texts.T
        phi = model.phi(model.encode_image(square)[0], texts)
        for method, scores in (("pooled", pooled), ("phi", phi), ("mean", (pooled + phi) / 2)):
            right[method] += int(scores.argmax() == images.labels[index])
    assert {method: accuracies(each)["top1"] for method, each in counts.items()} == pytest.approx(
        {method: 100 * value / 12 for method, value in right.items()}
    )


def test_of_synonyms_the_best_counts(photos, tiny_clip, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("dog;cat;owl=blue\nred;dog=green\nfish=red\n")
    model = load_model(tiny_clip)
    images = open_image_set("custom", photos, names=names)
    assert [len(prompts) for prompts in images.prompts] == [3, 2, 1]
    counts = zero_shot(model, images, ("{}",), batch=12, workers=0)
    texts = model.encode_prompts(["dog", "cat", "owl", "red", "dog", "fish"])
    squares, labels = next(batches(images, model, 12, 0))
    pooled = embed(model, squares)[0] @ texts.T
    best = torch.stack([pooled[:, :3].amax(1), pooled[:, 3:5].amax(1), pooled[:, 5]], dim=1)
    assert counts["pooled"][:, 0].sum() == (best.argmax(1) == labels).sum()


def test_the_command_writes_the_same_digits_twice(photos, tiny_clip, tmp_path, capsys):
    flags = ("--probe", "--shots", "1", "4", "all", "--seeds", "0", "1", "--features", "pooled", "patches")
    first = run(photos, tmp_path / "a", tiny_clip, *flags)
    second = run(photos, tmp_path / "b", tiny_clip, *flags)
    third = run(photos, tmp_path / "a", tiny_clip, *flags)  # with kept features
    methods = ["pooled", "phi", "mean"]
    methods += [f"probe {kind} {shots}" for kind in ("pooled", "patches") for shots in ("1", "4", "all")]
    assert [result.method for result in first] == methods
    for one, other, again in zip(first, second, third, strict=True):
        assert one.scores == other.scores == again.scores
        assert one.intervals == other.intervals
        assert one.details == other.details == again.details
    by_method = {result.method: result for result in first}
    assert by_method["probe pooled all"].scores["top1"] > 90  # colours are easily told apart
    assert set(by_method["phi"].scores) == {"top1", "top5", "mean_per_class"}
    low, high = by_method["phi"].intervals["top1"]
    assert low <= by_method["phi"].scores["top1"] <= high
    protocol = by_method["phi"].protocol
    assert (protocol["name"], protocol["templates"], protocol["template_count"]) == ("zero-shot", "paper", 7)
    assert (protocol["names"], protocol["main"], protocol["size"]) == ("folders", "top1", 32)
    probed = by_method["probe pooled 4"]
    assert [each["seed"] for each in probed.details["seeds"]] == [0, 1]
    assert probed.scores["top1"] == pytest.approx(np.mean([each["top1"] for each in probed.details["seeds"]]))
    assert all(
        result.speed["images_per_second"] > 0 and result.speed["peak_memory_mb"] > 0 for result in by_method.values()
    )
    assert len(by_method["probe pooled all"].details["seeds"]) == 1
    page = (tmp_path / "a/results.md").read_text()
    assert f"**{by_method['phi'].scores['top1']:.1f}**" in page
    assert "custom test" in capsys.readouterr().out


def test_few_shot_runs_embed_only_what_they_draw(photos, tiny_clip, tmp_path):
    from safetensors.torch import load_file

    run(photos, tmp_path / "out", tiny_clip, "--probe", "--shots", "2", "--seeds", "0")
    (kept,) = (tmp_path / "out/custom/features").glob("custom-train-*")
    assert len(load_file(kept)["pooled"]) == 3 * (2 + 2)


def test_a_part_says_that_it_is_one(photos, tiny_clip, tmp_path, capsys):
    results = run(photos, tmp_path / "out", tiny_clip, "--limit", "6")
    assert all(result.partial and (result.images, result.full) == (6, 12) for result in results)
    assert "6/12" in capsys.readouterr().out
    assert results[0].details["classes_measured"] == 3
    assert set(results[0].details["per_class"]) == {"blue", "green", "red"}


def test_pets_are_scored_by_class(tiny_clip, tmp_path):
    root = tmp_path / "oxford-iiit-pet"
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    (root / "annotations/test.txt").write_text("Bengal_1 6 1 2\nBengal_2 6 1 2\npug_1 26 2 18\n")
    for name in ("Bengal_1", "Bengal_2", "pug_1"):
        Image.new("RGB", (40, 30)).save(root / "images" / f"{name}.jpg")
    main(["oxford_pets", "--data", str(tmp_path), "--model", tiny_clip, "--out", str(tmp_path / "o"), "--workers", "0",
          "--templates", "none"])  # fmt: skip
    results = read_results(tmp_path / "o")
    assert {result.protocol["main"] for result in results} == {"mean_per_class"}
    assert results[0].details["classes_measured"] == 2
    assert (results[0].images, results[0].full) == (3, 3_669)


def test_mistakes_are_one_line(photos, tiny_clip, tmp_path):
    def told(*argv: str) -> str:
        with pytest.raises(UserError) as error:
            main([*argv, "--model", tiny_clip, "--out", str(tmp_path / "out")])
        return str(error.value)

    data = ("--data", str(photos), "--workers", "0")
    assert "no such data set" in told("cifar11", *data)
    assert "--batch 0" in told("custom", *data, "--batch", "0")
    assert "templates" in told("custom", *data, "--templates", "nothing")
    assert "imagenet_a has no training pictures" in told_probe_of_imagenet_a(told, tmp_path)
    assert "class 'blue' has 12 training pictures" in told(
        "custom", *data, "--probe", "--shots", "16", "--workers", "0"
    )
    (photos / "test/red/0.png").write_bytes(b"broken")
    assert "test/red/0.png" in told("custom", *data)


def told_probe_of_imagenet_a(told, tmp_path: Path) -> str:
    folder = tmp_path / "imagenet-a/n01498041"
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "a.jpg")
    return told("imagenet_a", "--data", str(tmp_path), "--probe")


def test_damaged_weights_give_no_figures(photos, tiny_clip):
    model = load_model(tiny_clip)
    with torch.no_grad():
        model.embedder.skip.bias.fill_(torch.nan)
    with pytest.raises(UserError, match="no numbers"):
        zero_shot(model, open_image_set("custom", photos), ("{}",), batch=4, workers=0)


def test_names_that_the_model_cannot_read_are_told(tiny_clip, capsys):
    from types import SimpleNamespace

    from eval.classification import warn_of_names

    model = load_model(tiny_clip)
    images = SimpleNamespace(
        prompts=(("a" + " very" * 20 + " long name",), ("cat",)), benchmark=SimpleNamespace(name="x")
    )
    warn_of_names(model, images, ("a photo of a {}.",))
    assert "1 of 2 names do not fit" in capsys.readouterr().err
    model.clip.vocabulary = frozenset(["cat"])
    warn_of_names(model, images, ("{}",))
    assert "never taught words" in capsys.readouterr().err
