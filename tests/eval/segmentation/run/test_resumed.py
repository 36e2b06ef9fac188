"""Runs that were killed, resumed and shared out; a folder holds one run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from eval.common.folders import start_run
from eval.common.result import Result, read_results
from eval.segmentation import measure as segmenting
from eval.segmentation import run as segmentation
from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import load_backbone
from pacl.models.model import PACL
from tests.eval.segmentation.run.command import QUICK, draw, figures, run
from tests.paths import ROOT
from tests.tiny import save_tiny_clip


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path, tiny_clip, voc, monkeypatch):
    monkeypatch.setattr(segmenting, "BLOCK", 2)
    words = ("voc20", "--data", str(voc), "--method", "clip", "naclip", "--no_figures")
    whole = figures(run(tmp_path, tiny_clip, *words, out="whole"))

    counts = []
    count = segmenting.Bench.count

    def killed(self, index, *rest):
        counts.append(index)
        if len(counts) == 3:
            raise KeyboardInterrupt
        return count(self, index, *rest)

    monkeypatch.setattr(segmenting.Bench, "count", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tiny_clip, *words)
    assert not (tmp_path / "out" / "voc20" / "results.json").exists()
    assert figures(run(tmp_path, tiny_clip, *words)) == whole
    assert counts == [[0, 1], [2, 3], [4, 5], [4, 5], [6]]
    assert figures(run(tmp_path, tiny_clip, *words)) == whole  # nothing left to do
    assert len(counts) == 5


def test_a_finished_run_is_neither_resumed_nor_drawn_again(tmp_path, tiny_clip, voc, monkeypatch, capsys):
    words = ("voc20", "--data", str(voc), "--method", "clip")
    whole = figures(run(tmp_path, tiny_clip, *words))
    predict, drawn = segmenting.Bench.predict, []
    monkeypatch.setattr(segmenting.Bench, "predict", lambda self, *rest: drawn.append(1) or predict(self, *rest))
    capsys.readouterr()
    assert figures(run(tmp_path, tiny_clip, *words)) == whole
    assert not drawn
    assert "resumes" not in capsys.readouterr().err
    sheet = tmp_path / "out" / "voc20" / "sheet.jpg"
    sheet.unlink()
    run(tmp_path, tiny_clip, *words)
    assert drawn
    assert sheet.is_file()


@pytest.mark.parametrize(("more", "warned"), [((), True), (("--limit", "3"), False), (("--partial",), False)])
def test_fewer_images_than_the_benchmark_has_are_warned_of_unless_asked_for(
    tmp_path, tiny_clip, voc, capsys, more, warned
):
    (result,) = run(tmp_path, tiny_clip, "voc20", "--data", str(voc), "--method", "clip", "--no_figures", *more)
    assert result.partial
    assert any("of the 1,449 images" in line for line in capsys.readouterr().err.splitlines()) == warned


def test_a_folder_holds_the_counts_of_one_run(tmp_path, tiny_clip, voc):
    words = ("voc20", "--data", str(voc), "--method", "clip", "--no_figures")
    first = figures(run(tmp_path, tiny_clip, *words))
    for more, told in (
        (("--logit_scale", "3"), "logit_scale"),
        (("--prior", "0.3"), "prior"),
        (("--limit", "2"), "pictures"),
        (("--method", "clip", "naclip"), "rows"),
        (("--names", "plain"), "names"),
        (("--boundary",), "boundary"),
        (("--precision", "bf16"), "precision"),
    ):
        with pytest.raises(UserError, match=rf"other settings \(.*{told}.*\)"):
            run(tmp_path, tiny_clip, *words, *more)
    assert figures(read_results(tmp_path / "out")) == first
    assert run(tmp_path, tiny_clip, *words, "--limit", "2", "--overwrite")[0].images == 2


def test_results_alone_are_not_replaced_either(tmp_path, tiny_clip, voc):
    """Of the partial counts nothing is needed any more, and somebody may delete them."""
    words = ("voc20", "--data", str(voc), "--method", "clip", "--no_figures")
    first = figures(run(tmp_path, tiny_clip, *words))
    out = tmp_path / "out" / "voc20"
    shutil.rmtree(out / "parts")
    for file in ("run.json", "results.json"):
        with pytest.raises(ArgumentError) as error:
            run(tmp_path, tiny_clip, *words, "--limit", "2")
        assert error.value.argument == "out"
        assert figures(read_results(tmp_path / "out")) == first
        if file == "run.json":
            (out / file).unlink()


def test_nothing_of_a_replaced_run_stays(tmp_path, tiny_clip, voc):
    words = ("voc20", "--data", str(voc), "--limit", "2")
    run(tmp_path, tiny_clip, *words, "--method", "clip", "naclip")
    out = tmp_path / "out" / "voc20"
    (out / "notes.txt").touch()  # of the user
    run(tmp_path, tiny_clip, *words, "--method", "naclip", "--overwrite", "--no_figures")
    assert {path.name for path in out.iterdir() if path.name != ".lock"} == {
        *("results.json", "results.md", "classes.csv", "run.json", "parts", "notes.txt"),
    }


def test_a_run_that_was_replaced_meanwhile_writes_no_results(tmp_path, tiny_clip, voc, monkeypatch):
    words = ("voc20", "--data", str(voc), "--method", "clip", "--no_figures", "--limit", "2")
    gather = segmenting.gather

    def replaced(*arguments):
        counts = gather(*arguments)
        start_run(tmp_path / "out" / "voc20", {"size": 1}, overwrite=True)
        return counts

    monkeypatch.setattr(segmenting, "gather", replaced)
    with pytest.raises(ArgumentError) as error:
        run(tmp_path, tiny_clip, *words)
    assert error.value.argument == "out"
    assert not (tmp_path / "out" / "voc20" / "results.json").exists()


@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationClass"])
def test_files_that_are_replaced_during_a_run_leave_no_results(tmp_path, tiny_clip, voc, monkeypatch, folder):
    words = ("voc20", "--data", str(voc), "--method", "clip", "--no_figures")
    gather = segmenting.gather

    def replaced(*arguments):
        path = next(voc.rglob(f"{folder}/*.*"))
        path.write_bytes(path.read_bytes())
        return gather(*arguments)

    monkeypatch.setattr(segmenting, "gather", replaced)
    with pytest.raises(UserError, match="voc20"):
        run(tmp_path, tiny_clip, *words)
    monkeypatch.setattr(segmenting, "gather", gather)
    assert not (tmp_path / "out" / "voc20" / "results.json").exists()
    with pytest.raises(ArgumentError, match="pictures"):
        run(tmp_path, tiny_clip, *words)
    assert run(tmp_path, tiny_clip, *words, "--overwrite")[0].images == 7


@pytest.mark.parametrize("sizes", [("48", "64"), ("48", "48")])
def test_two_commands_at_once_share_a_folder_only_with_the_same_settings(tmp_path, tiny_clip, voc, sizes):
    out = tmp_path / "out"
    words = ["voc20", "--data", str(voc), "--model", tiny_clip, "--no_figures", "--out", str(out), *QUICK]
    command = [sys.executable, "-m", "eval.segmentation", *words]
    started = [subprocess.Popen([*command, "--size", size], cwd=ROOT, stderr=subprocess.PIPE) for size in sizes]
    errors = [process.communicate(timeout=300)[1] for process in started]
    codes = [process.returncode for process in started]
    assert sorted(codes) == ([0, 0] if sizes[0] == sizes[1] else [0, 2])
    (result,) = read_results(out)
    assert str(result.protocol["size"]) == sizes[codes.index(0)]
    claimed = json.loads((out / "voc20" / "run.json").read_text())
    assert str(claimed["rows"][0]["protocol"]["size"]) == sizes[codes.index(0)]
    assert all(b"--out" in error.splitlines()[-1] for code, error in zip(codes, errors, strict=True) if code)


def test_the_sheet_shows_the_predictions_that_were_measured(tmp_path, voc, monkeypatch):
    """With --present: of the classes that each image shows."""
    from eval.segmentation import prediction_sheet

    drawn = []
    monkeypatch.setattr(prediction_sheet, "prediction_sheet", lambda path, samples, *_: drawn.extend(samples))
    run(tmp_path, "bundled", "voc20", "--data", str(voc), "--method", "clip", "--present", "--limit", "3")
    assert drawn
    for sample in drawn:
        (labels,) = sample.predictions.values()
        assert set(np.unique(labels)) <= segmenting.present(sample.target)


def test_a_head_of_another_configuration_is_another_run(tmp_path, tiny_clip, voc):
    """Its weights may be the same: what it does with them is not."""
    clip = load_backbone(tiny_clip)
    words = ("voc20", "--data", str(voc), "--no_figures", "--limit", "1")
    (tmp_path / "own.yaml").write_text("prior: null\nscales: null\n")

    def measure(**options: object) -> Result:
        PACL.untrained(clip, dense="value", **options).save_pretrained(tmp_path / "head")
        return run(tmp_path, str(tmp_path / "head"), *words, "--protocol", str(tmp_path / "own.yaml"))[0]

    measure(prior=0.5)
    measure(prior=0.5, contrast_margin=0.1)  # which only a single prompt of `pacl segment` reads
    for field, value in (("prior", 0.6), ("smoothing", 0.2), ("scales", (1, 1.5)), ("temperature", 1.0)):
        with pytest.raises(UserError, match=rf"other settings \(.*{field}\b"):
            measure(**{"prior": 0.5, field: value})


def test_another_model_is_named_as_such(tmp_path, tiny_clip, voc):
    words = ("voc20", "--data", str(voc), "--method", "pacl", "--no_figures", "--limit", "1")
    model = PACL.untrained(load_backbone(tiny_clip), dense="value")
    model.config.trained = True
    for n in range(2):
        with torch.no_grad():
            for parameter in model.embedder.parameters():
                parameter += n
        model.save_pretrained(tmp_path / f"head{n}")
    run(tmp_path, str(tmp_path / "head0"), *words)
    for other in (str(tmp_path / "head1"), save_tiny_clip(tmp_path / "clip", seed=5)):
        with pytest.raises(ArgumentError, match="a run of another model;"):
            run(tmp_path, other, *words[:3], "--no_figures", "--limit", "1")


def test_what_changed_on_disk_is_another_run(tmp_path, tiny_clip, voc):
    """A picture drawn anew, and a file of templates: both keep their names."""
    (tmp_path / "t.txt").write_text("a {}.\n")
    words = ["voc20", "--data", str(voc), "--method", "clip", "--no_figures", "--model", tiny_clip]
    words += [*QUICK, "--templates", str(tmp_path / "t.txt"), "--out", str(tmp_path / "out")]
    assert segmentation.main(words) == 0
    (tmp_path / "t.txt").write_text("the {}.\n")
    with pytest.raises(UserError, match=r"template_texts, templates"):
        segmentation.main(words)
    (tmp_path / "t.txt").write_text("a {}.\n")
    assert segmentation.main(words) == 0
    picture = next(voc.rglob("*.jpg"))
    Image.open(picture).rotate(180).save(picture)
    with pytest.raises(UserError, match=r"other settings \(pictures\)"):
        segmentation.main(words)


@pytest.mark.parametrize("damage", [b"", b"half"])
def test_a_damaged_part_is_measured_again_and_a_damaged_claim_refused(tmp_path, tiny_clip, voc, damage):
    words = ("voc20", "--data", str(voc), "--method", "clip", "--no_figures")
    first = figures(run(tmp_path, tiny_clip, *words))
    (tmp_path / "out" / "voc20" / "parts" / "00000.npz").write_bytes(damage)
    assert figures(run(tmp_path, tiny_clip, *words)) == first
    (tmp_path / "out" / "voc20" / "run.json").write_bytes(damage)
    with pytest.raises(UserError, match=r"its run\.json is damaged"):
        run(tmp_path, tiny_clip, *words)
    assert figures(run(tmp_path, tiny_clip, *words, "--overwrite")) == first


@pytest.mark.slow
def test_two_processes_get_the_result_of_one(tmp_path, tiny_clip):
    draw("voc20", tmp_path / "data", 70)  # several blocks
    words = (
        "voc20",
        "--data",
        str(tmp_path / "data"),
        "--method",
        "clip",
        "naclip",
        "--no_figures",
        "--precision",
        "fp32",
    )
    one = figures(run(tmp_path, tiny_clip, *words, out="one"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    more = ["-m", "eval.segmentation", *words, "--model", tiny_clip, "--out", str(tmp_path / "two"), *QUICK]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *more], check=True, cwd=ROOT, env=env, timeout=300)
    assert figures(read_results(tmp_path / "two")) == one
    assert len(list((tmp_path / "two" / "voc20" / "parts").iterdir())) == -(-70 // segmenting.BLOCK)


def test_what_a_run_was_is_told(tmp_path, tiny_clip, voc):
    run(tmp_path, tiny_clip, "voc20", "--data", str(voc), "--no_figures")
    told = json.loads((tmp_path / "out" / "voc20" / "run.json").read_text())
    assert told["rows"][0]["protocol"]["name"] == "sclip"
    assert told["rows"][0]["classes"][4] == ["bottle", "bottle"]
