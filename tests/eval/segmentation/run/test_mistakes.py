"""Mistakes on the command line, and its help."""

from __future__ import annotations

import subprocess
import sys

import pytest

from eval.segmentation import run as segmentation
from pacl.cli.messages import run_verb
from tests.eval.segmentation.run.command import QUICK, run
from tests.paths import ROOT


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


@pytest.mark.parametrize(
    ("model", "protocol", "noted"), [("photos", "sclip", 1), ("photos", "photos", 0), ("x", "tcl", 0)]
)
def test_a_model_with_a_protocol_of_its_own_is_noted(capsys, model, protocol, noted):
    segmentation.note_own_protocol(model, protocol)
    assert capsys.readouterr().err.count("--protocol photos") == noted


def test_help_is_quick():
    code = "import sys, eval.segmentation.run as s; s.build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
