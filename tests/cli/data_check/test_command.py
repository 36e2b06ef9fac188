"""Flags, exit codes, reports and how the command ends."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from pacl.cli.data_check import TRAINING_ALLOWS, build_parser
from pacl.data import CaptionData
from pacl.data import __main__ as dispatcher
from tests.cli.data_check.sources import Check
from tests.paths import ROOT


def test_exit_code_follows_max_bad(check: Check) -> None:
    assert check("fine.csv")[0] == 0
    assert check("pairs.csv", "--max_bad", "0.5")[0] == 0
    assert check("pairs.csv", "--max_bad", "0.49")[0] == 1


@pytest.mark.parametrize(
    ("images", "hold_out", "enough"),
    [
        ("a", 0, False),
        ("ab", 0, True),
        ("ab", 0.1, False),
        ("abf", 0.1, True),
        ("ab", None, False),
        ("abf", None, True),
    ],
)
def test_too_few_images_to_train_on_are_not_fine(
    check: Check, images: str, hold_out: float | None, enough: bool
) -> None:
    """As training refuses them: those that are held out do not train."""
    rows = [f"{name}.jpg,a picture of {name}" for name in images]
    Path("few.csv").write_text("\n".join(["image,caption", *rows]) + "\n")
    Path("few.yaml").write_text(f"data: {{pairs: few.csv, hold_out: {hold_out}}}")
    what = "few.csv" if hold_out is None else "few.yaml"
    code, out, report = check(what)
    assert (code, report["fine"]) == ((0, True) if enough else (1, False))
    assert ("only 1 image to train on" in out) is not enough
    assert ("few images" in out) is enough


def test_limit_takes_images_from_all_over(check: Check) -> None:
    record = check("pairs.csv", "--limit", "4")[2]["sources"][0]  # a, c, e and g
    assert (record["images"], record["total"], record["missing"], record["unreadable"]) == (4, 8, 1, 1)


def test_quick_sees_every_file_and_decodes_a_few(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacl.cli.data_check.QUICK", 2)
    record = check("pairs.csv", "--quick")[2]["sources"][0]
    assert record["decoded"] == 1  # a; the other one would have been e
    assert (record["images"], record["missing"]) == (8, 1)
    assert [each["message"] for each in record["problems"] if each["problem"] == "unreadable"] == [
        "images/g.jpg is empty (0 bytes)"
    ]


def test_reports_and_sheets_replace_nothing_else(check: Check) -> None:
    Image.new("RGB", (64, 64)).save("a.jpg")
    Path("spare.csv").write_text("image,caption\na.jpg,a cat\n")
    Path("mine.json").write_text('[{"image": "a.jpg", "caption": "a dog"}]')
    Image.new("RGB", (4, 4)).save("mine.png")
    before = [Path(name).read_bytes() for name in ("mine.json", "mine.png")]
    assert check("spare.csv", "--report", "mine.json")[0] == 2
    assert check("spare.csv", "--sheet", "mine.png")[0] == 2
    assert [Path(name).read_bytes() for name in ("mine.json", "mine.png")] == before
    assert check("spare.csv")[0] == check("spare.csv")[0] != 2  # its own are replaced


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.csv"], "nowhere.csv does not exist"),
        (["nowhere.yaml"], "nowhere.yaml does not exist"),
        (["train.yaml", "--images", "images"], "--images images: train.yaml"),
        (["pairs.csv", "--max_bad", "2"], "--max_bad 2.0"),
        (["pairs.csv", "--limit", "0"], "--limit: 0: must be 1 or more"),
        (["pairs.csv", "--sheet", "sheet.txt"], "--sheet sheet.txt: must end in .png"),
        (["pairs.csv", "--sheet", "pairs.csv/sheet.png"], "--sheet pairs.csv"),
        (["pairs.csv", "--image", "x"], "--image: no such option; did you mean --images?"),
        ([], "WHAT"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(check: Check, words: list[str], message: str) -> None:
    code, err, _ = check(*words)
    assert code == 2
    assert message in err


def test_the_dispatcher(capsys: pytest.CaptureFixture[str]) -> None:
    for words, code in ((["--help"], 0), ([], 2), (["chek"], 2)):
        with pytest.raises(SystemExit) as stop:
            dispatcher.main(words)
        captured = capsys.readouterr()
        assert stop.value.code == code
        assert "check" in (captured.err if code else captured.out)


def test_every_source_flag_is_a_field_of_source() -> None:
    args = build_parser().parse_args(["x.csv", "--image_column", "a", "--names", "b", "--format", "table"])
    assert (args.image_column, args.names, args.format, args.template) == ("a", "b", "table", None)


@pytest.mark.parametrize("words", [["--help"], ["check", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pacl.data", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    imported = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    assert "pacl.errors" in imported
    assert imported.isdisjoint({"torch", "pytorch_lightning", "open_clip", "webdataset"})


def test_ctrl_c_ends_every_process(here: Path) -> None:
    rows = [f"{i}.jpg,a cat" for i in range(3000)]
    for i in range(3000):
        (here / "images" / f"{i}.jpg").symlink_to(here / "images" / "b.jpg")
    Path("many.csv").write_text("\n".join(rows))
    words = ["many.csv", "--workers", "2", "--sheet", "begun/sheet.png"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pacl.data", "check", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    while not Path("begun").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1.5)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)  # every process holds the pipe: it ends when the last one has
    assert process.returncode in (130, -signal.SIGINT)  # CPython's own, where it was interrupted inside exec()
    assert " ".join(err.split()) == "pacl data check: interrupted"


def test_names_with_control_characters_are_printed_with_escapes(here: Path, check: Check) -> None:
    name = "two\nlines\x1b[31m.csv"
    (here / "pairs.csv").rename(here / name)
    _, out, report = check(name, "--images", "images", "--max_bad", "0")
    assert "\x1b" not in out
    assert not any(line.startswith("lines") for line in out.splitlines())
    assert report["sources"][0]["title"]


@pytest.mark.parametrize(
    ("rows", "alike"),
    [
        (["a.jpg,a cat", "b.jpg,a cat", "f.jpg,a cat"], "captions"),
        (["a.jpg,a cat", "c.jpg,a dog"], "images"),
        (["a.jpg,a cat", "b.jpg,a dog", "f.jpg,a cow"], None),
        (["a.jpg,a cat"], None),
    ],
)
def test_pairs_that_are_all_alike_are_said(check: Check, rows: list[str], alike: str | None) -> None:
    Path("own.csv").write_text("\n".join(["image,caption", *rows]))
    code, out, report = check("own.csv")
    too_few = len(rows) < 3
    assert (code, report["alike"]) == (int(too_few), alike)
    assert (f"all {alike} that train are the same" in out) == (alike is not None)
    assert report["fine"] == (alike is None and not too_few)
    assert any(line.startswith("fine") for line in out.splitlines()) == report["fine"]


@pytest.mark.parametrize(
    ("words", "captions", "images"),
    [([], False, False), (["--quick"], False, True), (["--limit", "2"], True, True)],
    ids=["all", "quick", "limit"],
)
def test_alike_is_said_of_a_sample_where_only_that_was_read(
    check: Check, words: list[str], captions: bool, images: bool
) -> None:
    for rows, sampled in ((["a.jpg,a cat", "b.jpg,a cat"], captions), (["a.jpg,a cat", "c.jpg,a dog"], images)):
        Path("own.csv").write_text("\n".join(["image,caption", *rows]))
        assert ("that were read" in check("own.csv", *words)[1]) == sampled


def test_sources_with_one_caption_each_are_compared_with_each_other(check: Check) -> None:
    for name, caption in (("first", "a cat"), ("second", "a dog")):
        Path(f"{name}.csv").write_text(f"image,caption\na.jpg,{caption}\nb.jpg,{caption}\n")
    Path("own.yaml").write_text("data: {train: [{pairs: first.csv}, {pairs: second.csv}]}")
    assert check("own.yaml")[2]["alike"] is None
    Path("own.yaml").write_text("data: {train: [{pairs: first.csv}], val: [{pairs: second.csv}]}")
    assert check("own.yaml")[2]["alike"] == "captions"


def test_advice_names_flags_for_a_source_and_keys_for_a_configuration(check: Check) -> None:
    Path("odd.csv").write_text("a,b\n1,2\n")
    Path("odd.yaml").write_text("data: {pairs: odd.csv}\n")
    for what, advice in (("odd.csv", "set --image_column and --caption_column"), ("odd.yaml", "set image_column and")):
        code, err, _ = check(what)
        assert code == 2
        assert advice in err


def test_the_share_that_training_allows_is_its_default() -> None:
    default = inspect.signature(CaptionData.__init__).parameters["max_skipped"].default
    assert default == TRAINING_ALLOWS
