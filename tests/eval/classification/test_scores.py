"""Each half of the images is scored with the settings that are best on the other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eval.classification import scores
from eval.classification.scores import Images, Setting, choose, compare, main, row, table
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
    lines = table([base, best]).splitlines()
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
    rows = compare(model, Images(lambda i: open_image(files[i]), truth, labels), ["value", "clip"])
    assert [len(each.hits) for each in rows] == [12] * 6
    assert {"value", "clip"} >= {key.dense for each in rows for key in each.settings if key.dense}
    pooled = model.clip.encode_image(scores.preprocessing(model)(scores.Image.open(files[0]))[None])
    expected = (pooled @ model.clip.encode_text(["blue", "green", "red"]).T).argmax().item() == 0
    assert rows[0].hits[0] == expected


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
