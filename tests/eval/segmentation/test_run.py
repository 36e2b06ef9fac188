"""The command: every benchmark on drawn data, what it writes, killed and resumed, on two processes, and mistakes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eval.common.folders import start_run
from eval.common.result import Result, read_results
from eval.report.describe import changed
from eval.segmentation import drawn_data, generate
from eval.segmentation import measure as segmenting
from eval.segmentation import run as segmentation
from eval.segmentation.registry import BENCHMARKS
from eval.segmentation.results import FEWEST_IMAGES
from pacl.cli.messages import run_verb
from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import load_backbone
from pacl.models.model import PACL
from tests.paths import ROOT
from tests.tiny import save_tiny_clip

QUICK = ("--templates", "none", "--size", "48", "--window", "32/16", "--workers", "0", "--device", "cpu")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Seven drawn pictures in the layout of VOC 2012."""
    draw("voc20", tmp_path / "data", 7)
    return tmp_path / "data"


def draw(name: str, root: Path, count: int) -> None:
    """Drawn pictures without the note that says so: as if they were the benchmark's."""
    assert generate.main([name, "--data", str(root), "--count", str(count), "--size", "40x60"]) == 0
    (root / drawn_data.RECORD).unlink()


def run(tmp_path: Path, model: str, *words: str, out: str = "out") -> list[Result]:
    assert segmentation.main([*words, "--model", model, "--out", str(tmp_path / out), *QUICK]) == 0
    return read_results(tmp_path / out)


def figures(results: list[Result]) -> list[tuple]:
    """All that must be the same twice."""
    return [(r.dataset, r.method, r.protocol, r.scores, r.intervals, str(r.details)) for r in results]


# --- Every benchmark --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_and_its_lists_of_names(tmp_path, tiny_clip, name):
    draw(name, tmp_path / "data", 2)
    lists = BENCHMARKS[name].lists()
    words = (name, "--data", str(tmp_path / "data"), "--names", *lists, "--no_figures")
    results = run(tmp_path, tiny_clip, *words)
    assert [r.protocol["names"] for r in results] == list(lists)
    for result in results:
        assert (result.dataset, result.images, result.partial) == (name, 2, True)
        assert result.full == BENCHMARKS[name].full[BENCHMARKS[name].split]
        assert len(result.details["classes"]) == BENCHMARKS[name].classes
        assert 0 <= result.scores["miou"] <= 100
        assert result.intervals == {}  # of so few images it would say nothing


def test_drawn_pictures_are_no_result_of_the_benchmark(tmp_path, tiny_clip):
    root = str(tmp_path / "data")
    assert generate.main(["voc20", "--data", root, "--count", "2", "--size", "40x60"]) == 0
    (result,) = run(tmp_path, tiny_clip, "voc20", "--data", root)
    assert (result.dataset, result.images, result.full) == ("voc20-drawn", 2, 2)
    assert "drawn" in (tmp_path / "out" / "voc20-drawn" / "results.md").read_text()
    (result,) = run(tmp_path, tiny_clip, "voc20", "--data", root, "--limit", "1", out="less")
    assert (result.images, result.full, result.partial) == (1, 2, True)


def test_enough_images_have_an_interval(tmp_path, tiny_clip):
    root, count = str(tmp_path / "data"), FEWEST_IMAGES
    assert generate.main(["voc20", "--data", root, "--count", str(count), "--size", "40x60"]) == 0
    (result,) = run(tmp_path, tiny_clip, "voc20", "--data", root, "--no_figures")
    assert result.intervals["miou"][0] <= result.intervals["miou"][1]
    (result,) = run(tmp_path, tiny_clip, "voc20", "--data", root, "--no_figures", "--limit", str(count - 1), out="less")
    assert result.intervals == {}


def test_without_a_folder_each_run_has_its_own(tmp_path, tiny_clip, voc, monkeypatch):
    monkeypatch.setattr(segmentation, "OUT", tmp_path / "own")
    words = ["voc20", "--data", str(voc), "--model", tiny_clip, "--no_figures", *QUICK]
    for more in ([], ["--limit", "2"], []):
        assert segmentation.main([*words, *more]) == 0
    folders = sorted((tmp_path / "own").iterdir())
    assert len(folders) == 2
    assert all(folder.name.startswith("voc20-") for folder in folders)
    assert sorted(result.images for result in read_results(tmp_path / "own")) == [2, 7]


def test_a_benchmark_of_ones_own(tmp_path, tiny_clip):
    for folder, mode in (("images", "RGB"), ("masks", "L")):
        (tmp_path / folder).mkdir()
        Image.new(mode, (50, 40), 5).save(tmp_path / folder / "a.png")
    (tmp_path / "names.txt").write_text("sky\ngrass\n")
    common = (
        "custom", "--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks"),
        "--classes", str(tmp_path / "names.txt"), "--offset", "4",
    )  # fmt: skip
    (result,) = run(tmp_path, tiny_clip, *common)
    assert (result.full, result.split) == (1, "all")
    assert result.details["classes"] == ["sky", "grass"]
    iou = result.details["iou"]
    assert iou[0] in (0.0, None)  # no pixel is sky
    assert result.scores["pixel_accuracy"] == pytest.approx(iou[1])  # all are grass
    with pytest.raises(UserError, match="value 5"):
        run(tmp_path, tiny_clip, *common[:-1], "0", out="other")


# --- What it writes ---------------------------------------------------------------------------------------------


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
    printed = capsys.readouterr().out
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
        ((_, labels),) = next(bench.predict([folder[i].image()]))
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


# --- Killed, resumed, shared out --------------------------------------------------------------------------------


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


def test_a_folder_holds_the_counts_of_one_run(tmp_path, tiny_clip, voc):
    words = ("voc20", "--data", str(voc), "--method", "clip", "--no_figures")
    first = figures(run(tmp_path, tiny_clip, *words))
    for more, told in (
        (("--logit_scale", "3"), r"rows\.0\.protocol\.logit_scale"),
        (("--prior", "0.3"), r"rows\.0\.protocol\.prior"),
        (("--limit", "2"), "pictures"),
        (("--method", "clip", "naclip"), "rows"),
        (("--names", "plain"), r"rows\.0\.protocol\.names"),
        (("--boundary",), r"extras\.boundary"),
        (("--precision", "bf16"), r"arithmetic\.precision"),
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
        with pytest.raises(UserError, match=rf"other settings \(.*rows\.0\.config\.{field}\b"):
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
    with pytest.raises(UserError, match=r"rows\.0\.protocol\.template_texts, rows\.0\.templates"):
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


def test_each_benchmark_has_its_own_peak(tmp_path, tiny_clip):
    draw("voc20", tmp_path / "data", 1)
    root = str(tmp_path / "data")
    assert generate.main(["cityscapes", "--data", str(tmp_path / "large"), "--count", "1", "--size", "1024x2048"]) == 0
    (tmp_path / "large" / "cityscapes").rename(tmp_path / "data" / "cityscapes")
    words = ("cityscapes", "voc20", "--data", root, "--method", "clip", "--no_figures", "--refine", "1")
    large, small = (r.speed["peak_memory_beyond_the_model_mb"] for r in run(tmp_path, tiny_clip, *words))
    assert large > small + 100


@pytest.mark.slow
def test_two_processes_get_the_result_of_one(tmp_path, tiny_clip):
    draw("voc20", tmp_path / "data", 70)  # several blocks
    words = ("voc20", "--data", str(tmp_path / "data"), "--method", "clip", "naclip", "--no_figures")
    one = figures(run(tmp_path, tiny_clip, *words, out="one"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    more = ["-m", "eval.segmentation", *words, "--model", tiny_clip, "--out", str(tmp_path / "two"), *QUICK]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *more], check=True, cwd=ROOT, env=env, timeout=300)
    assert figures(read_results(tmp_path / "two")) == one
    assert len(list((tmp_path / "two" / "voc20" / "parts").iterdir())) == -(-70 // segmenting.BLOCK)


# --- Mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["voc22"], "voc22"),
        (["ade150"], "ADE20K"),
        (["voc20", "--split", "test"], "test.txt"),
        (["voc20", "--names", "scip"], "--names scip"),
        (["voc20", "--protocol", "nalcip"], "--protocol nalcip"),
        (["voc20", "--method", "pacl"], "--method pacl"),
        (["voc20", "--method", "dino"], "--method dino"),
        (["voc20", "--window", "big"], "--window big"),
        (["voc20", "--size", "0"], "--size 0"),
        (["voc20", "--limit", "0"], "limit 0"),
        (["voc20", "--batch", "0"], "--batch 0"),
        (["voc20", "--workers", "-1"], "--workers -1"),
        (["voc20", "--stride", "9"], "--stride 9"),
        (["voc20", "--prior", "inf"], "--prior inf"),
        (["voc20", "--prior", "nan"], "--prior nan"),
        (["voc20", "--prior", "much"], "--prior"),
        (["voc21", "--background", "threshold:0.01"], "--background threshold:0.01"),
        (["voc21", "--background", "contrast"], "--background contrast"),
        (["voc20", "--background", "threshold:0.5"], "--background threshold:0.5"),
        (["voc20", "--background", "nonsense"], "--background nonsense"),
        (["voc20", "--dilations", "5"], "--dilations 5"),
        (["voc20", "--window", "32/64"], "--window 32/64"),
        (["custom"], "--images, --masks, --classes"),
        (["voc20", "--logit_scal", "3"], "--logit_scale"),
        (["voc20", "--images", "x"], "--images x"),
        (["voc20", "--ignore", "0", "255"], "--ignore 0 255"),
        (["voc20", "--method", "clip", "--dense", "sclip"], "--dense sclip"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(tmp_path, tiny_clip, voc, capsys, words, named):
    common = ["--data", str(voc), "--model", tiny_clip, "--out", str(tmp_path / "out"), *QUICK]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run_verb(segmentation.PROG, lambda: segmentation.main([words[0], *common, *words[1:]]))
    out, err = capsys.readouterr()
    error = err.splitlines()[-1]
    assert (stop.value.code, out) == (2, "")
    assert error.startswith("eval.segmentation: error: ")
    assert named in error
    assert not list((tmp_path / "out").rglob("results.json"))


@pytest.mark.parametrize(("names", "synonyms"), [("sclip", True), ("plain", False)])
def test_synonyms_are_why_there_are_more_names_than_classes(tmp_path, tiny_clip, voc, capsys, names, synonyms):
    run(tmp_path, tiny_clip, "voc20", "--data", str(voc), "--names", names)
    assert ("synonyms" in capsys.readouterr().err) == synonyms


@pytest.mark.parametrize("flag", ["images", "masks", "classes", "only", "palette"])
def test_what_a_benchmark_of_ones_own_lacks_is_named_by_its_flag(tmp_path, flag):
    """The code calls the class file "names", the folders are made absolute, and so on."""
    (tmp_path / "names.txt").write_text("sky\n")
    there = {"images": tmp_path, "masks": tmp_path, "classes": tmp_path / "names.txt", flag: Path("three")}
    words = [word for name, path in there.items() for word in (f"--{name}", str(path))]
    with pytest.raises(ArgumentError) as error:
        segmentation.main(["custom", *words])
    assert (error.value.argument, error.value.value) == (flag, "three")


@pytest.mark.parametrize(
    ("model", "protocol", "noted"), [("photos", "sclip", 1), ("photos", "photos", 0), ("x", "tcl", 0)]
)
def test_a_model_with_a_protocol_of_its_own_is_noted(capsys, model, protocol, noted):
    segmentation.note_own_protocol(model, protocol)
    assert capsys.readouterr().err.count("--protocol photos") == noted


def test_data_of_all_benchmarks_are_looked_for_before_any_is_measured(tmp_path, tiny_clip, voc):
    with pytest.raises(UserError, match="cityscapes"):
        run(tmp_path, tiny_clip, "voc20", "cityscapes", "--data", str(voc))
    assert not (tmp_path / "out").exists()


def test_help_is_quick():
    code = "import sys, eval.segmentation.run as s; s.build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_what_a_run_was_is_told(tmp_path, tiny_clip, voc):
    run(tmp_path, tiny_clip, "voc20", "--data", str(voc), "--no_figures")
    told = json.loads((tmp_path / "out" / "voc20" / "run.json").read_text())
    assert told["rows"][0]["protocol"]["name"] == "sclip"
    assert told["rows"][0]["classes"][4] == ["bottle", "bottle"]
