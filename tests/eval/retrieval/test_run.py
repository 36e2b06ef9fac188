"""The retrieval command: its scores, its results, and two-stage retrieval."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eval.common.result import read_results
from eval.retrieval import run as retrieval
from eval.retrieval.caption_sets import CaptionSet
from eval.retrieval.measure import encode_and_measure
from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import load_backbone
from pacl.models.loading import load_model
from tests.tiny import phi, trained_head

PICTURES, EACH = 9, 5


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine images of random noise with five captions each; the first caption is the same for all images."""
    rng = np.random.default_rng(0)
    (tmp_path / "Images").mkdir()
    with (tmp_path / "captions.txt").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption"])
        for i in range(PICTURES):
            pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "Images" / f"{i}.png")
            rows.writerows([f"{i}.png", "a picture" if k == 0 else f"thing {i} seen {k} times"] for k in range(EACH))
    return tmp_path


def run(photos: Path, clip: str, *words: str, data: str = "captions.txt") -> dict[str, dict]:
    words = ("--data", str(photos / data), "--model", clip, "--workers", "0", "--out", str(photos / "out"), *words)
    assert retrieval.main(["custom", *words]) == 0
    results = json.loads((photos / "out" / "custom" / "results.json").read_text())["results"]
    return {result["method"]: result for result in results}


def test_chance_is_beside_every_recall(photos, tiny_clip, capsys):
    """What random orders find on average, counted."""
    found = run(photos, tiny_clip, "--limit", "6")["pooled"]
    rng, ranks = np.random.default_rng(0), []
    owners = np.repeat(np.arange(6), EACH)
    for _ in range(4000):
        order = owners[rng.permutation(len(owners))]
        ranks.append([np.flatnonzero(order == i)[0] + 1 for i in range(6)])
    chance = found["details"]["chance"]
    assert set(chance) == set(found["scores"])
    for k in (1, 5, 10):
        assert chance[f"i2t R@{k}"] == pytest.approx(100 * (np.array(ranks) <= k).mean(), abs=1)
        assert chance[f"t2i R@{k}"] == pytest.approx(100 * min(1, k / 6))
    printed = capsys.readouterr().out
    assert "chance" in printed
    assert "16.7" in printed
    assert tiny_clip in printed


def test_images_that_are_replaced_during_a_run_leave_no_results(photos, tiny_clip, monkeypatch):
    def replaced(*arguments):
        (photos / "Images" / "0.png").write_bytes((photos / "Images" / "1.png").read_bytes())
        return encode_and_measure(*arguments)

    monkeypatch.setattr("eval.retrieval.measure.encode_and_measure", replaced)
    with pytest.raises(UserError, match="custom"):
        run(photos, tiny_clip)
    assert not list((photos / "out").rglob("results.json"))


def test_recalls_equal_a_direct_computation(photos, tiny_clip):
    """Ranks are computed from the model's score of each image and caption, in full precision."""
    found = run(photos, tiny_clip, "--batch", "4")
    model = load_model(tiny_clip)
    texts, owners, squares = [], [], []
    for i in range(PICTURES):
        texts += ["a picture" if k == 0 else f"thing {i} seen {k} times" for k in range(EACH)]
        owners += [i] * EACH
        image = Image.open(photos / "Images" / f"{i}.png").resize((38, 32), Image.Resampling.BICUBIC)
        squares.append(torch.from_numpy(np.array(image.crop((3, 0, 35, 32)))).permute(2, 0, 1))
    pixels = model.clip.normalize(torch.stack(squares))
    with torch.inference_mode():
        scores = {
            "pooled": model.clip.encode_image(pixels) @ model.clip.encode_text(texts).T,
            "phi": phi(model, pixels, texts),
        }
    for method, table in scores.items():
        i2t = [1 + min(rank(row, t, [o == i for o in owners]) for t in own(i)) for i, row in enumerate(table)]
        t2i = [1 + rank(table[:, t], owners[t], [j == owners[t] for j in range(PICTURES)]) for t in range(len(texts))]
        for k in (1, 5, 10):
            assert found[method]["scores"][f"i2t R@{k}"] == pytest.approx(100 * np.mean([r <= k for r in i2t]))
            assert found[method]["scores"][f"t2i R@{k}"] == pytest.approx(100 * np.mean([r <= k for r in t2i]))
        assert found[method]["details"]["i2t median rank"] == np.median(i2t)
        assert found[method]["details"]["t2i median rank"] == np.median(t2i)


def own(i: int) -> range:
    return range(EACH * i, EACH * (i + 1))


def rank(row: torch.Tensor, item: int, right: list[bool]) -> int:
    """Number of negatives with at least the same score."""
    return sum(bool(score >= row[item]) and not ok for score, ok in zip(row, right, strict=True))


def test_equal_captions_are_separate_items(photos, tiny_clip, capsys):
    """Nine images share a caption: the image that fits it best is correct for only one of the nine queries."""
    with (photos / "same.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "caption"], *([f"{i}.png", "a picture"] for i in range(PICTURES))])
    for result in run(photos, tiny_clip, data="same.csv").values():
        assert result["details"]["captions"] == PICTURES
        assert result["scores"]["t2i R@1"] == pytest.approx(100 / PICTURES)
        assert result["scores"]["i2t R@1"] < 50  # eight negatives have the same score, except for rounding
    assert f"note: {PICTURES} of {PICTURES} captions" in capsys.readouterr().err


def test_captions_of_several_images_are_counted():
    captions = CaptionSet("x", "all", "x.csv", None, [["a cat", "a cat", "a dog"], ["a dog", "a hen"], ["a dog"]], 3)
    assert captions.ambiguous() == 3


def test_reranking_all_candidates_equals_phi(photos, tiny_clip):
    found = run(photos, tiny_clip, "--first_stage", "1000")
    assert list(found) == ["pooled", "phi", "pooled then phi"]
    assert found["pooled then phi"]["scores"] == found["phi"]["scores"]
    assert found["phi"]["scores"] != found["pooled"]["scores"]


def test_reranking_does_not_compute_all_pairs(photos, tiny_clip, monkeypatch):
    import eval.retrieval.measure

    monkeypatch.setattr(eval.retrieval.measure, "score_all_pairs", None)  # calling it fails
    found = run(photos, tiny_clip, "--first_stage", "2", "--method", "pooled")
    assert list(found) == ["pooled", "pooled then phi"]
    assert found["pooled then phi"]["protocol"]["first_stage"] == 2
    for way in ("i2t", "t2i"):  # two candidates change places, so recall at 5 is unchanged
        assert found["pooled then phi"]["scores"][f"{way} R@5"] == found["pooled"]["scores"][f"{way} R@5"]


def test_results_state_their_settings(photos, tiny_clip, capsys):
    run(photos, tiny_clip, "--limit", "4")
    printed = capsys.readouterr().out
    assert "4 of 9 images, 20 captions (captions.txt)" in printed
    result = read_results(photos / "out")[1]
    assert (result.task, result.dataset, result.split, result.images, result.full) == (
        "retrieval",
        "custom",
        "all",
        4,
        9,
    )
    assert result.partial
    assert result.protocol["queries"] == "every caption, equal ones too"
    assert result.protocol["temperature"] == pytest.approx(0.1)
    assert result.speed["images_per_second"] > 0
    page = (photos / "out" / "custom" / "results.md").read_text()
    assert "| phi |" in page
    assert "i2t R@10" in page
    assert sorted(path.name for path in (photos / "out" / "custom").iterdir()) == [
        *(".lock", "results.json", "results.md"),
    ]


def test_different_settings_have_different_folders(photos, tiny_clip, monkeypatch, capsys):
    monkeypatch.chdir(photos)

    def folder(*words: str) -> Path:
        words = ("--data", "captions.txt", "--model", tiny_clip, "--workers", "0", *words)
        assert retrieval.main(["custom", *words]) == 0
        return Path(capsys.readouterr().out.splitlines()[-1].removeprefix("results in "))

    first = folder("--method", "pooled")
    assert first.parent == Path("out/retrieval")
    assert folder("--method", "pooled") == first
    assert len({first, folder(), folder("--limit", "4"), folder("--first_stage", "2")}) == 4
    text = (photos / "captions.txt").read_text()
    (photos / "captions.txt").write_text(text.replace("thing 8", "object 8"))
    assert folder("--method", "pooled") != first

    run(photos, tiny_clip, "--limit", "4")
    with pytest.raises(UserError, match=r"out .*custom: .*\(images 4, now 9"):
        run(photos, tiny_clip)
    assert run(photos, tiny_clip, "--overwrite")["phi"]["images"] == 9


def test_a_limit_of_a_test_split_is_not_what_training_holds_out(photos, tiny_clip, capsys):
    """Images of a list of test images are others than those of the whole file."""
    (photos / "Flickr_8k.testImages.txt").write_text("".join(f"{i}.png\n" for i in range(PICTURES - 1)))
    words = ["flickr8k", "--data", str(photos), "--model", tiny_clip, "--workers", "0", "--method", "pooled"]
    for more, told in ((["--limit", "2"], True), ([], False), (["--limit", "2", "--split", "all"], False)):
        assert retrieval.main([*words, *more, "--out", str(photos / "out"), "--overwrite"]) == 0
        assert ("hold_out" in capsys.readouterr().err) == told


def test_unknown_words_are_reported(photos, tiny_clip, monkeypatch, capsys):
    model = load_model(tiny_clip)
    model.clip.vocabulary = frozenset(["a", "picture", "thing", "seen", "times", *map(str, range(8))])
    monkeypatch.setattr(retrieval, "load_pooled", lambda args: model)
    run(photos, tiny_clip)
    told = "eval.retrieval: warning: 1 word of the captions of custom not in this model's vocabulary: '8'\n"
    assert told in capsys.readouterr().err


def test_equal_images_and_what_is_not_used_are_said(photos, tiny_clip, capsys):
    run(photos, tiny_clip)
    before = capsys.readouterr().err
    shutil.copy(photos / "Images/0.png", photos / "Images/copy.png")
    shutil.copy(photos / "Images/0.png", photos / "Images/again.png")
    with (photos / "more.csv").open("w") as file:
        names = [*(f"{i}.png" for i in range(PICTURES)), "copy.png", "again.png"]
        file.write("image,caption,split\n" + "".join(f"{name},a thing {i},test\n" for i, name in enumerate(names)))
    run(photos, tiny_clip, "--overwrite", data="more.csv")
    told = capsys.readouterr().err
    assert "note: more.csv: columns (split)" in told
    assert "3 of 11 images" in told
    assert "columns" not in before
    assert "images are files" not in before


def test_results_are_reproducible(photos, tiny_clip):
    first = run(photos, tiny_clip, "--first_stage", "3", "--batch", "2")
    again = run(photos, tiny_clip, "--first_stage", "3", "--batch", "2")
    assert [r["scores"] for r in first.values()] == [r["scores"] for r in again.values()]


def test_a_broken_image_is_an_error(photos, tiny_clip):
    (photos / "Images" / "3.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"3\.png is not an image"):
        run(photos, tiny_clip)


def test_a_model_without_a_pooled_embedding_is_refused_as_it_was_named(photos, monkeypatch):
    monkeypatch.chdir(photos)
    trained_head(load_backbone("timm:test_resnet/random+static:words"), dense="clip", start="paper").save_pretrained(
        "head"
    )
    with pytest.raises(ArgumentError) as error:
        run(photos, "head", "--method", "phi")
    assert (error.value.argument, error.value.value) == ("model", "head")
    assert not (photos / "out").exists()


@pytest.mark.parametrize(
    ("argument", "value"), [("limit", 0), ("first_stage", 0), ("batch", 0), ("workers", -1), ("dense", "nothing")]
)
def test_invalid_arguments(argument, value, photos, tiny_clip):
    with pytest.raises(ArgumentError) as error:
        run(photos, tiny_clip, f"--{argument}", str(value))
    assert (error.value.argument, error.value.value) == (argument, value)
    assert not (photos / "out").exists()


def test_a_dense_variant_is_refused_where_no_patches_are_compared(photos, tiny_clip):
    with pytest.raises(ArgumentError) as error:
        run(photos, tiny_clip, "--method", "pooled", "--dense", "value")
    assert error.value.argument == "dense"
