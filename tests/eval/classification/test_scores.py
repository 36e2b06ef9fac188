"""Each half of the images is scored with the settings that are best on the other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from eval.classification import scores
from eval.classification.scores import (
    Images,
    Setting,
    all_scores,
    average_precision,
    choose,
    compare,
    main,
    on_all,
    row,
    table,
)
from pacl.classification.scorer import score_images
from pacl.errors import ArgumentError, UserError
from pacl.models.loading import load_model
from pacl.prompts import Label

TRUTH = np.eye(2, dtype=bool)[[0, 0, 0, 0, 1, 1, 1, 1]]
EVEN, ODD = Setting("photo"), Setting("paper")
RIGHT = np.where(TRUTH, 1.0, 0.0)
VALUES = {  # one setting is right about images 0, 2, ..., the other about 1, 3, ...
    EVEN: np.where((np.arange(8) % 2 == 0)[:, None], RIGHT, 1 - RIGHT),
    ODD: np.where((np.arange(8) % 2 == 1)[:, None], RIGHT, 1 - RIGHT),
}


def test_settings_are_chosen_on_the_other_half() -> None:
    assert choose([EVEN, ODD], VALUES.__getitem__, TRUTH) == (ODD, EVEN)
    found = row("x", (ODD, EVEN), VALUES.__getitem__, TRUTH)
    assert not found.hits.any()
    assert row("x", (EVEN, ODD), VALUES.__getitem__, TRUTH).hits.all()
    assert row("x", (EVEN, ODD), VALUES.__getitem__, TRUTH).precision == 1


def test_the_table_has_the_gain_over_the_chosen_pooled_score() -> None:
    base = row("pooled, chosen", (EVEN, EVEN), VALUES.__getitem__, TRUTH)
    best = row("phi, chosen", (EVEN, ODD), VALUES.__getitem__, TRUTH)
    lines = table([base, best], base.hits).splitlines()
    assert "+50.0" in lines[-1]
    assert "+" not in lines[-2]


def test_all_scores_of_a_model_are_compared(
    colour_photos: Path, tiny_clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pacl.images import open_image

    monkeypatch.setattr(scores, "TEMPERATURES", (0.1, 1.0))
    files = sorted((colour_photos / "test").rglob("*.png"))
    labels = [Label(name, (name,)) for name in ("blue", "green", "red")]
    truth = np.eye(3, dtype=bool)[np.repeat([0, 1, 2], 4)]
    model = load_model(tiny_clip, device="cpu")
    images = Images(lambda i: open_image(files[i]), truth, labels)
    pooled, phi = all_scores(model, images, list({model.config.dense, "value", "clip"}))
    own = Setting("none", model.config.dense, float(model.temperature))
    rows = compare(pooled, phi, own, truth)
    assert [len(each.hits) for each in rows] == [12] * 6
    assert {model.config.dense, "value", "clip"} >= {key.dense for each in rows for key in each.settings if key.dense}
    vector = model.clip.encode_image(scores.preprocessing(model)(scores.Image.open(files[0]))[None])
    expected = (vector @ model.clip.encode_text(["blue", "green", "red"]).T).argmax().item() == 0
    assert rows[0].hits[0] == expected
    every = on_all(pooled, phi, own, truth)
    assert [(each.score, each.settings[0].templates) for each in every] == [
        (score, name) for name in scores.TEMPLATES for score in ("pooled", "phi", "pooled + phi")
    ]
    for name in scores.TEMPLATES:  # the scores of pacl classify
        both = pooled[Setting(name)], phi[own._replace(templates=name)]
        for score, values in zip(("clip", "phi", "both"), (*both, sum(both) / 2), strict=True):
            asked = score_images(model, files, ["blue", "green", "red"], score, templates=name)
            np.testing.assert_allclose(values, asked.numpy(), atol=1e-5)


def test_average_precision_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        values, relevant = rng.normal(size=30), rng.random(30) < 0.3
        assert average_precision(values, relevant) == pytest.approx(average_precision_score(relevant, values))


def test_images_with_the_same_score_have_the_same_rank_in_any_order() -> None:
    rng = np.random.default_rng(0)
    values, relevant = rng.integers(0, 5, 30).astype(np.float32), rng.random(30) < 0.3
    found = average_precision(values, relevant)
    assert found == pytest.approx(average_precision_score(relevant, values))  # which counts ties at once, too
    order = rng.permutation(30)
    assert average_precision(values[order], relevant[order]) == pytest.approx(found)
    assert average_precision(np.zeros(4), np.array([True, False, False, False])) == 0.25


def test_the_command(
    colour_photos: Path,
    tiny_clip: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "found.json"
    words = ["custom", "--data", str(colour_photos), "--split", "test", "--limit", "6", "--model", tiny_clip]
    assert main([*words, "--out", str(out)]) == 0
    assert "6 images, 3 names" in capsys.readouterr().out
    assert len(json.loads(out.read_text())["rows"]) == 6
    assert json.loads(out.read_text())["arguments"]["precision"] in ("fp32", "bf16")
    assert main([*words, "--all", "--templates", "imagenet", "--out", str(tmp_path / "all.json")]) == 0
    assert len(json.loads((tmp_path / "all.json").read_text())["rows"]) == 4 * 3 + 6
    with pytest.raises(UserError):
        main([*words, "--templates", "nothing"])
    before = out.read_bytes()
    with pytest.raises(ArgumentError, match="limit 6, now 8"):
        main([*words, "--limit", "8", "--out", str(out)])
    assert out.read_bytes() == before
    monkeypatch.setattr(scores, "all_scores", None)  # refused before anything is encoded
    with pytest.raises(ArgumentError) as error:
        main([*words, "--tokens", "clip", "nope"])
    assert (error.value.argument, error.value.value) == ("tokens", "nope")
    with pytest.raises(UserError):
        main(["nothing", "--data", str(colour_photos)])
    names = tmp_path / "names.txt"
    names.write_text("blue=Blue\ngreen=Green\nred=Red\n")
    with pytest.raises(ArgumentError, match="did you mean"):
        main([*words, "--names", str(names)])
    with pytest.raises(ArgumentError, match="names"):
        main(["voc20", "--data", str(tmp_path), "--names", str(names)])
    with pytest.raises(ArgumentError, match="out"):
        main([*words, "--out", str(names)])
    assert names.read_text().startswith("blue=Blue")
