"""A run passes where it is the published one and near it; what is not the same is named, never compared."""

from __future__ import annotations

import math

import pytest

from eval.common.result import Result, write_results
from eval.report import reproduce
from eval.report.published import compare, published, published_rows
from eval.segmentation.registry import BENCHMARKS
from pacl.cli.messages import run_verb
from pacl.errors import UserError

CLIP = "open_clip:ViT-B-16-quickgelu/openai"


def a_run(miou: float = 80.4, **changes) -> Result:
    """SCLIP on VOC20, as published, but for the changes; a dict is merged into the field."""
    values = {
        "task": "segmentation", "dataset": "voc20", "split": "val", "images": 1449, "full": 1449, "method": "sclip",
        "model": {"name": CLIP, "clip": CLIP, "trained": False},
        "protocol": {"name": "sclip", "names": "sclip", "size": 336, "refine": 0, "changed": []},
        "scores": {"miou": miou, "pixel_accuracy": 90.0},
    }  # fmt: skip
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    return Result(**values)


def naclip(miou: float, **protocol) -> Result:
    return a_run(miou, method="naclip", protocol={"name": "naclip", "refine": 10, **protocol})


@pytest.mark.parametrize(
    ("miou", "word"), [(80.4, "pass"), (80.9, "pass"), (79.9, "pass"), (80.91, "fail"), (79.89, "fail")]
)
def test_within_half_a_point(miou, word):
    assert compare(a_run(miou)).word == word
    assert compare(a_run(miou), tolerance=1).word == "pass"


def test_the_row_is_that_of_the_settings():
    assert compare(naclip(83.2)).row.title == "NACLIP with PAMR"
    assert compare(naclip(83.2)).word == "pass"
    without = compare(naclip(79.5, refine=0, changed=["refine"]))
    assert (without.row.title, without.word) == ("NACLIP without PAMR", "pass")
    assert compare(naclip(83.0, refine=0, changed=["refine"])).word == "fail"
    other = compare(naclip(83.0, refine=5, changed=["refine"]))
    assert other.word == "-"
    assert other.reasons in (("changed: refine 5",), ("refine 5 instead of 0",))


def test_a_row_with_a_proxy_needs_that_proxy():
    row = {"method": "proxyclip", "protocol": {"name": "proxyclip", "names": "proxyclip"}}
    assert compare(a_run(80.3, model={"clip": f"{CLIP},proxy=timm:vit_base_patch8_224.dino"}, **row)).word == "pass"
    assert compare(a_run(80.3, model={"clip": f"{CLIP},proxy=timm:vit_small_patch8_224.dino"}, **row)).word == "-"
    assert compare(a_run(80.3, **row)).word == "-"


def test_a_row_of_unknown_settings_can_pass_and_never_fails():
    assert compare(a_run(75.0, method="maskclip")).word == "pass"
    assert compare(a_run(60.0, method="maskclip")).word == "assumed"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": 43}, "subset: 43 of 1449 images"),
        ({"images": 43, "full": 43}, "subset: 43 of 1449 images"),  # whatever the result thinks
        ({"images": 1464, "full": 1464, "split": "train"}, "split train instead of val"),
        ({"model": {"clip": "bundled"}}, "other weights: bundled"),
        ({"model": {"trained": True}}, f"other weights: a trained head on {CLIP}"),
        ({"protocol": {"names": "plain", "changed": ["names"]}}, "other names: plain instead of sclip"),
        ({"protocol": {"size": 448, "changed": ["size"]}}, "changed: size 448"),
        ({"scores": {"miou": math.nan}}, "no mIoU in the result"),
        ({"dataset": "camvid"}, "no figure is published on camvid"),
        ({"method": "naclip"}, "no figure is published of naclip with protocol sclip"),
        ({"protocol": {"name": "mine.yaml"}}, "no figure is published of sclip with protocol mine.yaml"),
        ({"task": "retrieval"}, "retrieval: only mIoU is compared"),
    ],
)
def test_what_is_not_the_same_is_named(changes, reason):
    verdict = compare(a_run(**changes))
    assert verdict.passed is None
    assert verdict.reasons == (reason,)


def test_all_reasons_are_named():
    verdict = compare(a_run(images=3, model={"clip": "bundled"}, protocol={"size": 100, "changed": ["size"]}))
    assert verdict.reasons == ("other weights: bundled", "subset: 3 of 1449 images", "changed: size 100")


def write(folder, *results: Result) -> str:
    write_results(folder, results)
    return str(folder)


@pytest.mark.parametrize(
    ("mious", "code"), [([80.4], 0), ([80.4, 70.0], 1), ([70.0], 1)]
)  # of several, one failure is enough
def test_exit_codes(mious, code, tmp_path, capsys):
    assert reproduce.main([write(tmp_path, *map(a_run, mious))]) == code
    assert ("fail" in capsys.readouterr().out) == (code == 1)


def test_nothing_comparable_is_two(tmp_path, capsys):
    assert reproduce.main([write(tmp_path, a_run(images=43), a_run(30.0, method="clip", images=9))]) == 2
    printed = capsys.readouterr().out
    assert "Not comparable: 2 of 2 results" in printed
    assert "voc20, sclip, protocol sclip, names sclip, 43 images: subset: 43 of 1449 images" in printed
    assert reproduce.main([write(tmp_path / "b", a_run(60.0, method="maskclip"))]) == 2  # the settings are not certain


def test_protocols_and_tolerance(tmp_path):
    folder = write(tmp_path, a_run(70.0), naclip(83.0))
    assert reproduce.main([folder]) == 1
    assert reproduce.main([folder, "--protocol", "naclip"]) == 0
    assert reproduce.main([folder, "--tolerance", "11"]) == 0
    with pytest.raises(UserError, match="protocols"):
        reproduce.main([folder, "--protocol", "clearclip"])


def test_without_results_it_says_what_to_run(capsys):
    assert reproduce.main(["--protocol", "naclip"]) == 0
    printed = capsys.readouterr().out
    assert f"--model {CLIP} --protocol naclip --method naclip --refine 0 --precision fp32 --out" in printed
    assert "NACLIP with PAMR: voc21 64.1" in printed
    assert "sclip --method" not in printed


def test_its_commands_are_those_of_the_segmentation():
    from eval.segmentation.run import build_parser

    rows = [row for row in published_rows() if row.protocol]
    outs = set()
    for command, own in reproduce.commands(rows):
        args = build_parser().parse_args(command.split()[3:])
        assert args.method == [row.method for row in own]
        assert set(args.benchmarks) <= set(BENCHMARKS)
        outs.add(args.out)
    assert len(outs) == len(reproduce.commands(rows)) == 5


@pytest.mark.parametrize("words", [["absent.json"], ["--tolerance", "-1"], ["--protocol", "tcl"]])
def test_bad_input_is_one_line(words, capsys):
    with pytest.raises(SystemExit) as stop:
        run_verb("eval.report.reproduce", lambda: reproduce.main(words))
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_published_table_is_sound():
    rows = published_rows()
    for row in rows:
        assert row.source in published()["sources"]
        assert set(row.scores) <= set(BENCHMARKS)
        assert all(0 < score < 100 for score in row.scores.values())
        assert (row.protocol is None) == (row.method is None)
        assert row.protocol or row.family
    keys = [(row.method, row.protocol, str(row.changed)) for row in rows if row.protocol]
    assert len(keys) == len(set(keys))


def test_protocols_of_the_table_are_those_of_the_runs():
    """The settings that a row needs changed are not the protocol's own."""
    from eval.segmentation.protocol import read_protocol

    for row in published_rows():
        for name in row.scores if row.protocol else ():
            protocol = read_protocol(str(row.protocol), name, background=BENCHMARKS[name].background)
            for key, value in row.changed.items():
                assert protocol.described()[key] != value
