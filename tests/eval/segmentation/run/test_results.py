"""What a run writes."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from eval.common.result import Result, read_results
from eval.report.describe import changed
from eval.segmentation import measure as segmenting
from eval.segmentation import run as segmentation
from pacl.models.backbone import load_backbone
from pacl.models.model import PACL
from tests.eval.segmentation.run.command import QUICK, run


def test_without_a_folder_each_run_has_its_own(tmp_path, tiny_clip, voc, monkeypatch):
    monkeypatch.setattr(segmentation, "OUT", tmp_path / "own")
    words = ["voc20", "--data", str(voc), "--model", tiny_clip, "--no_figures", *QUICK]
    for more in ([], ["--limit", "2"], []):
        assert segmentation.main([*words, *more]) == 0
    folders = sorted((tmp_path / "own").iterdir())
    assert len(folders) == 2
    assert all(folder.name.startswith("voc20-") for folder in folders)
    assert sorted(result.images for result in read_results(tmp_path / "own")) == [2, 7]


def test_all_methods_in_one_run_and_all_that_is_written(tmp_path, voc, capsys):
    out = tmp_path / "out" / "voc21"
    methods = ("clip", "value", "maskclip", "sclip", "clearclip", "naclip", "pacl")
    words = ("voc21", "--data", str(voc), "--method", *methods, "--boundary", "--patches", "--limit", "3")
    results = run(tmp_path, "bundled", *words)
    assert [r.method for r in results] == list(methods)
    assert [r.model["trained"] for r in results] == [False] * 6 + [True]
    assert [r.model["dense"] for r in results] == [*methods[:6], "value"]
    for result in results:
        assert set(result.scores) == {
            *("miou", "pixel_accuracy", "mean_accuracy", "boundary_miou", "patch_accuracy", "upper_bound_miou"),
        }
        assert result.scores["upper_bound_miou"] > 50
        assert result.protocol["name"] == "sclip"
        assert result.protocol["changed"] == ["size", "templates", "window", "window_step"]
        assert {"images_per_second", "peak_memory_mb", "peak_memory_beyond_the_model_mb"} <= set(result.speed)
    assert {p.name for p in out.iterdir()} == {
        *("results.json", "results.md", "classes.csv", "classes.png", "sheet.jpg", "run.json", "parts", ".lock"),
        *(f"confusion-{method}.png" for method in methods),
    }
    rows = list(csv.reader((out / "classes.csv").open()))
    assert len(rows) >= 22
    printed, notes = capsys.readouterr()
    assert "3 of 1,449 images," in notes
    assert "3 of 1,449 images: a subset" in printed
    assert all(method in printed for method in methods)


def test_the_scores_are_those_of_the_predicted_maps(tmp_path, tiny_clip, voc):
    """Counted once more, pixel by pixel, from what the bench predicts."""
    (result,) = run(tmp_path, tiny_clip, "voc20", "--data", str(voc), "--method", "value", "--names", "plain")
    args = segmentation.build_parser().parse_args(
        ["voc20", "--data", str(voc), "--model", tiny_clip, "--names", "plain", *QUICK]
    )
    task = segmentation.select("voc20", args)
    folder = task.folders[0]
    model = segmentation.methods(segmentation.load(args), ["value"])["value"]
    bench = segmenting.Bench(
        folder, [segmenting.Row("value", model, task.protocols[0], folder.labels, False)], segmenting.Extras()
    )
    hits, union = dict.fromkeys(range(20), 0), dict.fromkeys(range(20), 0)
    right = total = 0
    for i in range(len(folder)):
        ((*_, labels),) = next(bench.predict([folder[i].image()]))
        for true, found in zip(folder[i].mask.ravel().tolist(), labels.ravel().tolist(), strict=True):
            if true < 0:
                continue
            total += 1
            right += true == found
            hits[true] += true == found
            for c in {true, found}:
                union[c] += 1
    iou = [100 * hits[c] / union[c] if union[c] else None for c in range(20)]
    assert result.details["iou"] == pytest.approx(iou)
    assert result.scores["miou"] == pytest.approx(np.mean([x for x in iou if x is not None]))
    assert result.scores["pixel_accuracy"] == pytest.approx(100 * right / total)


def test_the_prior_counts_and_is_stated(tmp_path, tiny_clip, voc):
    """By the flag; and where a protocol leaves it to the model, the model's own."""
    PACL.untrained(load_backbone(tiny_clip), dense="value", prior=1.0).save_pretrained(tmp_path / "head")
    for name, prior in (("off", "0"), ("own", "null")):
        (tmp_path / f"{name}.yaml").write_text(f"prior: {prior}\n")

    def measured(name: str, *words: str) -> Result:
        protocol = ("--protocol", str(tmp_path / f"{name}.yaml"), *words)
        common = ("voc20", "--data", str(voc), "--no_figures")
        return run(tmp_path, str(tmp_path / "head"), *common, *protocol, out="-".join([name, *words]))[0]

    results = [measured("off"), measured("own"), measured("off", "--prior", "1"), measured("own", "--prior", "0")]
    assert [result.protocol["prior"] for result in results] == [0, 1, 1, 0]
    assert ["prior" in result.protocol["changed"] for result in results] == [False, False, True, True]
    assert "prior 1" in changed(results[2])
    off, own, as_own, as_off = (result.details["iou"] for result in results)
    assert off == as_off != own == as_own
