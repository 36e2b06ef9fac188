"""Labels of whole images, from the masks of a segmentation benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from eval.classification.image_labels import average_precision, main, measure
from pacl.classification.scorer import classify_images
from pacl.data.masks import MaskFolder
from pacl.errors import ArgumentError, UserError
from pacl.models.loading import load_model
from tests.colours import noise

SHOWN = [{1}, {1, 2}, {2, 3}, {0}, set[int]()]  # the last two show the background, or nothing


@pytest.fixture
def words(tmp_path: Path, tiny_clip: str) -> list[str]:
    """The command's words for five images whose masks show `SHOWN`."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i, shown in enumerate(SHOWN):
        mask = np.full((32, 32), 255, np.uint8)
        for row, c in enumerate(sorted(shown)):
            mask[8 * row : 8 * row + 8] = c
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
        Image.fromarray(noise(32, 32, seed=i)).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "names.txt").write_text("nothing\ndog\ncat;kitten\nlamp\n")
    return ["custom", "--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks"), "--has_background",
            "--classes", str(tmp_path / "names.txt"), "--model", tiny_clip, "--precision", "fp32"]  # fmt: skip


def test_figures_are_those_of_the_probabilities(words: list[str], tmp_path: Path, tiny_clip: str) -> None:
    model = load_model(tiny_clip)
    folder = MaskFolder(*(str(tmp_path / name) for name in ("images", "masks", "names.txt")))
    found = measure(model, folder, range(1, 4), ["none", "photo"])
    assert [(f.score, f.templates) for f in found] == [
        (score, name) for name in ("none", "photo") for score in ("clip", "phi", "both")
    ]
    truth = np.array([[c in shown for c in (1, 2, 3)] for shown in SHOWN[:3]])
    paths = [tmp_path / "images" / f"{i}.png" for i in range(3)]
    for f in found:
        best = classify_images(model, paths, ["dog", "cat;kitten", "lamp"], f.score, templates=f.templates).argmax(1)  # type: ignore[arg-type]
        assert (f.images, f.classes) == (3, 3)
        assert f.hit == pytest.approx(np.mean([truth[i, c] for i, c in enumerate(best.tolist())]))
        assert 0 < f.precision <= 1


def test_average_precision_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        scores, relevant = rng.normal(size=30), rng.random(30) < 0.3
        assert average_precision(scores, relevant) == pytest.approx(average_precision_score(relevant, scores))


def test_images_with_the_same_score_have_the_same_rank_in_any_order() -> None:
    rng = np.random.default_rng(0)
    scores, relevant = rng.integers(0, 5, 30).astype(np.float32), rng.random(30) < 0.3
    found = average_precision(scores, relevant)
    assert found == pytest.approx(average_precision_score(relevant, scores))  # which counts ties at once, too
    order = rng.permutation(30)
    assert average_precision(scores[order], relevant[order]) == pytest.approx(found)
    assert average_precision(np.zeros(4), np.array([True, False, False, False])) == 0.25


def test_the_command(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["rows"]
    table = capsys.readouterr().out
    assert [each["score"] for each in found] == ["clip", "phi", "both"]
    assert all(f"{100 * each['precision']:.1f}" in table for each in found)
    with pytest.raises(UserError):
        main([*words, "--templates", "nothing"])
    assert main([*words, "--out", str(tmp_path / "found.json")]) == 0  # its own figures are replaced
    with pytest.raises(ArgumentError, match="limit none, now 2"):
        main([*words, "--limit", "2", "--out", str(tmp_path / "found.json")])
    assert json.loads((tmp_path / "found.json").read_text())["rows"] == found
    assert main([*words, "--limit", "2", "--out", str(tmp_path / "found.json"), "--overwrite"]) == 0
    classes = words[words.index("--classes") + 1]
    before = Path(classes).read_bytes()
    with pytest.raises(ArgumentError):
        main([*words, "--out", classes])
    assert Path(classes).read_bytes() == before


def test_a_model_of_separate_towers_has_phi_alone(words: list[str], tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    assert main([*words, "--model", "photos", "--limit", "2", "--out", str(out)]) == 0
    assert [each["score"] for each in json.loads(out.read_text())["rows"]] == ["phi"]
