"""The command as its user meets it: sources with every defect in; figures, a report, a sheet and exit codes out."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pacl.cli.data_check import build_parser, read_config
from pacl.cli.source_sheet import COLUMNS, TILE, SourceImages, source_sheet
from pacl.data import __main__ as dispatcher
from pacl.data.crop import SquareCrop
from pacl.data.inspection import Finding, Item, Reservoir, Statistics, inspect_all, read_items
from pacl.data.sources import Source
from pacl.errors import UserError
from pacl.results.contact_sheet import GAP
from tests.paths import ROOT, SHARED

Check = Callable[..., tuple[int, str, dict[str, Any]]]


def jpeg(seed: int, width: int = 40, height: int = 30) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own, with a table of eight images, four of them good.

    a and b are fine, and so are c, whose pixels are a's, and sub/a.jpg, which has a's name. d is cut short, e is
    missing, f has no caption, g is empty and has no caption either.
    """
    monkeypatch.chdir(tmp_path)
    contents = {"a": jpeg(0), "b": jpeg(1, 300, 400), "c": jpeg(0), "d": jpeg(3)[:400], "f": jpeg(5), "g": b""}
    for name, content in (contents | {"sub/a": jpeg(6)}).items():
        path = tmp_path / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    rows = ["a.jpg,a red cat", "a.jpg,two cats on a mat", "b.jpg,a dog", "c.jpg,a red cat", "d.jpg,a cow"]
    rows += ["e.jpg,a sheep", "f.jpg,", "g.jpg,", "sub/a.jpg,ein Haus am See"]
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption", *rows]) + "\n")
    (tmp_path / "fine.csv").write_text("\n".join(["image,caption", *rows[:4]]) + "\n")
    return tmp_path


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """Run the command in this process: (exit code, standard output, report)."""

    def check(*words: str, workers: str = "0") -> tuple[int, str, dict[str, Any]]:
        with pytest.raises(SystemExit) as stop:
            dispatcher.main(["check", *words, "--workers", workers])
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        if stop.value.code == 2:
            assert captured.err.count("\n") == 1
            return 2, captured.err, {}
        return stop.value.code, captured.out, json.loads(Path("out/check.json").read_text())

    return check


# --- what it counts -------------------------------------------------------------------------------------


def test_every_defect_is_counted_and_named(check: Check) -> None:
    code, out, report = check("pairs.csv")
    (record,) = report["sources"]
    assert (code, report["fine"]) == (1, False)
    assert (record["images"], record["total"], record["pairs"], record["bad"]) == (8, 8, 7, 4)
    assert (record["missing"], record["unreadable"], record["without_caption"]) == (1, 2, 2)
    assert {(each["image"], each["problem"]) for each in record["problems"]} == {
        ("images/d.jpg", "unreadable"),
        ("images/e.jpg", "missing"),
        ("images/f.jpg", "no caption"),
        ("images/g.jpg", "unreadable"),
        ("images/g.jpg", "no caption"),
    }
    assert record["captions_per_image"] == {"min": 0, "median": 1, "mean": 7 / 8, "max": 2}
    assert record["decoded"] == 5
    assert record["repeated"] == {  # sub/a.jpg of 8; c of the 5 decoded; "a red cat" of 7
        "names": pytest.approx(1 / 8),
        "images": pytest.approx(1 / 5),
        "captions": pytest.approx(1 / 7),
        "pairs": 0,
    }
    for told in ("missing: images/e.jpg does not exist", "images/d.jpg is broken", "images/g.jpg is empty (0 bytes)"):
        assert told in out
    assert "4 of 8 images are bad" in out


def test_what_is_not_used_is_counted(check: Check) -> None:
    Path("spare.csv").write_text("index,image,caption\n0,a.jpg,a cat\n1,a.jpg,a cat\n2,b.jpg,a dog\n")
    Path("only.txt").write_text("a.jpg\n")
    code, out, report = check("spare.csv", "--only", "only.txt")
    (record,) = report["sources"]
    assert (code, record["images"], record["repeated"]["pairs"]) == (0, 1, 0.5)
    assert record["unused"] == {
        "columns (index)": 1,
        "images that only.txt does not list": 1,
        "images that no row names": 4,  # c, d, f and g
    }
    assert all(f"{count} {kind}" in out for kind, count in record["unused"].items())


def test_a_folder_with_none_of_the_images_is_one_line_as_in_training(check: Check) -> None:
    Path("holiday").mkdir()
    code, err, _ = check("pairs.csv", "--images", "holiday")
    assert code == 2
    assert "holiday: has none of the 8 images of pairs.csv (first: a.jpg)" in err
    assert not Path("out").exists()


def test_out_is_two_other_flags(check: Check) -> None:
    code, err, _ = check("pairs.csv", "--out", "x.png")
    assert code == 2
    assert "--sheet x.png" in err
    assert "--report" in err


def test_a_missing_file_is_compared_with_what_is_there(check: Check) -> None:
    Path("other.csv").write_text("image,caption\na.jpg,a cat\nB.PNG,a dog\n")
    code, _, report = check("other.csv")
    assert code == 1
    assert "images/b.jpg" in report["sources"][0]["problems"][0]["message"]


@pytest.mark.parametrize(("backbone", "told"), [("timm:x+static:words", False), ("open_clip:ViT-B-16/openai", True)])
def test_tokens_of_a_clip_are_told_where_one_may_read_the_captions(check: Check, backbone: str, told: bool) -> None:
    Path("run.yaml").write_text(f"model:\n  backbone: {backbone}\ndata:\n  pairs: fine.csv\n")
    code, out, _ = check("run.yaml")
    assert code == 0
    assert ("CLIP" in out) == told


def test_lengths_sizes_and_words(check: Check) -> None:
    record = check("pairs.csv")[2]["sources"][0]
    assert record["caption_words"] == {"min": 2, "median": 3, "mean": 3, "max": 5}
    assert record["caption_tokens"]["min"] == 4  # "a cow", start and end
    assert record["caption_tokens"]["cut"] == 0
    assert record["width"] == {"min": 40, "median": 40, "mean": 92, "max": 300}
    assert record["height"] == {"min": 30, "median": 30, "mean": 104, "max": 400}
    assert record["aspect"]["min"] == 0.75
    assert record["small"] == {"side": 224, "share": 0.8}
    assert list(record["words"].items())[:3] == [("a", 6), ("red", 2), ("cat", 2)]
    assert record["decoded_per_second"] > 0


def test_captions_longer_than_clip_reads(check: Check) -> None:
    long, longest = " ".join(["dog"] * 75), " ".join(["dog"] * 76)
    Path("long.csv").write_text(f"a.jpg,{long}\nb.jpg,{longest}\n")
    assert check("long.csv")[2]["sources"][0]["caption_tokens"] == {
        "min": 77,
        "median": 77.5,
        "mean": 77.5,
        "max": 78,
        "cut": 0.5,
    }


def test_nouns_are_the_sources_own_where_it_has_them(check: Check) -> None:
    for name in ("garden_gnome", "see"):
        Path("classes", name).mkdir(parents=True)
        Path("classes", name, "1.jpg").write_bytes(jpeg(len(name)))
    code, out, report = check("classes")
    assert code == 0
    assert report["sources"][0]["nouns"] == {"garden gnome": 1, "see": 1}
    assert "frequent nouns      garden gnome, see" in out


def test_without_a_tagger_nouns_are_left_out(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> tuple[str, ...]:
        raise UserError("pip install 'pacl[nouns]'")

    monkeypatch.setattr("pacl.data.nouns.nouns", absent)
    code, out, report = check("fine.csv")
    assert (code, report["sources"][0]["nouns"]) == (0, None)
    assert "nouns" not in out
    monkeypatch.setattr("pacl.data.nouns.nouns", lambda caption: (caption.split()[-1],))
    assert check("fine.csv")[2]["sources"][0]["nouns"] == {"cat": 2, "mat": 1, "dog": 1}


def test_processes_count_the_same(check: Check) -> None:
    def without_time(report: dict[str, Any]) -> dict[str, Any]:
        del report["sources"][0]["decoded_per_second"]
        return report

    here, elsewhere = check("pairs.csv"), check("pairs.csv", workers="2")
    assert without_time(here[2]) == without_time(elsewhere[2])


def test_shards(check: Check) -> None:
    for number, names in enumerate(("ab", "cd")):
        with tarfile.open(f"{number}.tar", "w") as tar:
            for name in names:
                content = {"b": b"no image"}.get(name, jpeg(ord(name)))
                for suffix, data in (("jpg", content), ("txt", b"" if name == "c" else f"letter {name}".encode())):
                    entry = tarfile.TarInfo(f"{name}.{suffix}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    code, _, report = check("{0..1}.tar")
    (record,) = report["sources"]
    assert code == 1
    assert (record["images"], record["pairs"], record["bad"]) == (4, 3, 2)
    assert [(each["image"], each["problem"]) for each in record["problems"]] == [
        ("0.tar/b", "unreadable"),
        ("1.tar/c", "no caption"),
    ]
    assert check("{0..1}.tar", "--limit", "1")[0] == 0
    whole = Path("1.tar").read_bytes()
    Path("1.tar").write_bytes(whole[: len(whole) // 2])
    record = check("{0..1}.tar")[2]["sources"][0]
    assert record["broken_shards"] == 1
    code, err, _ = check("{0..2}.tar")
    assert code == 2
    assert "2.tar" in err


# --- how it is asked ------------------------------------------------------------------------------------


def test_exit_code_follows_max_bad(check: Check) -> None:
    assert check("fine.csv")[0] == 0
    assert check("pairs.csv", "--max_bad", "0.5")[0] == 0
    assert check("pairs.csv", "--max_bad", "0.49")[0] == 1


def test_held_out_images_that_are_also_in_training_are_counted(check: Check) -> None:
    """c is a copy of a."""
    Path("held.csv").write_text("image,caption\nimages/c.jpg,a cat\n")
    Path("copies.yaml").write_text("data: {init_args: {pairs: fine.csv, val: [{pairs: held.csv}]}}")
    code, out, report = check("copies.yaml")
    assert (code, report["held_in_training"]) == (0, 1)
    assert "1 of 1 held-out" in out
    Path("own.yaml").write_text("data: {init_args: {pairs: own.csv, hold_out: 1}}")
    Path("own.csv").write_text("image,caption\nimages/c.jpg,a cat\nimages/a.jpg,a cat\n")
    assert check("own.yaml")[2]["held_in_training"] == 1
    Path("own.csv").write_text("image,caption\nimages/b.jpg,a dog\nimages/a.jpg,a cat\n")
    code, out, report = check("own.yaml")
    assert report["held_in_training"] == 0
    assert "copies" not in out
    assert "copies" in check("fine.csv")[1]


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


def test_a_configuration(check: Check) -> None:
    Path("train.yaml").write_text(
        "data:\n"
        "  class_path: pacl.data.CaptionData\n"
        "  init_args:\n"
        "    train: [{pairs: fine.csv, hold_out: 1}, {pairs: pairs.csv, images: images, weight: 2}]\n"
        "    val: [{pairs: fine.csv}]\n"
        "    size: 64\n"
        "    cut: {mode: random, area: [0.4, 1.0], flip: 1}\n"
        "trainer: {max_steps: 1}\n"
    )
    train, other, val = read_config("train.yaml")
    assert train.crop == other.crop == SquareCrop("random", (0.4, 1.0), flip=1)
    assert val.crop == SquareCrop()
    assert train.source == Source("fine.csv", hold_out=1)
    code, out, report = check("train.yaml")
    assert code == 1
    assert [record["title"] for record in report["sources"]] == [
        "train[0] fine.csv (table)",
        "train[1] pairs.csv (table)",
        "val[0] fine.csv (table)",
    ]
    assert [record["images"] for record in report["sources"]] == [3, 8, 3]  # held-out ones too
    assert [record["in_training"] for record in report["sources"]] == [None, None, 1]
    assert report["sources"][0]["small"]["side"] == 64
    assert "train[1] pairs.csv (table): 4 of 8 images are bad" in out
    Path("short.yaml").write_text("data: {init_args: {pairs: fine.csv, images: images, hold_out: 2}}")
    assert [entry.source for entry in read_config("short.yaml")] == [Source("fine.csv", "images", hold_out=2)]


@pytest.mark.parametrize("name", ["flickr8k", "flickr8k_clip", "coco_vitb16", "cc3m_vitb16", "paper_vitb16"])
def test_the_configurations_that_travel_along_can_be_checked(name: str) -> None:
    assert read_config(str(ROOT / "configs" / f"{name}.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{train: [{pairs: a.csv, caption: x}]}", "data.train[0]: no setting 'caption'; did you mean"),
        (
            "{train: [{pairs: a.csv}], val: [{pears: b.csv}]}",
            "data.val[0]: no setting 'pears'; did you mean 'pairs'",
        ),
        ("{train: [{images: a}]}", "data.train[0]: lacks 'pairs'"),
        ("{train: [{pairs: a.csv, hold_out: many}]}", "hold_out 'many' is not int"),
        ("{train: [{pairs: a.csv, format: zip}]}", "format 'zip' is not"),
        ("{train: [a.csv]}", "data.train[0]: 'a.csv'"),
        ("{train: [{pairs: a.csv}], cut: {mode: round}}", "data.cut: mode 'round' is not"),
        ("{train: [{pairs: a.csv}], cut: {area: [2, 3]}}", "area"),
        ("{scenes: 10}", "no image-caption pairs"),
        ("[", "not YAML"),
        ("{train: [{pairs: 2024-13-45}]}", "not YAML"),
        ("[" * 1000, "not YAML"),
        ("{train: [{pairs: nowhere.csv}]}", "nowhere.csv does not exist"),
    ],
)
def test_mistakes_in_a_configuration_are_one_line(check: Check, text: str, message: str) -> None:
    Path("train.yaml").write_text(f"data: {{class_path: X, init_args: {text}}}")
    code, err, _ = check("train.yaml")
    assert code == 2
    assert err.startswith("pacl data check: error: ")
    assert message in err


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


# --- pieces ---------------------------------------------------------------------------------------------


def test_reservoir_is_uniform_and_in_order() -> None:
    counts = np.zeros(10)
    for seed in range(2000):
        sample: Reservoir[int] = Reservoir(3, seed)
        for i in range(10):
            sample.add(i)
        assert sample.items() == sorted(sample.items())
        counts[sample.items()] += 1
    np.testing.assert_allclose(counts / 2000, 0.3, atol=0.05)


def test_looks_never_runs_far_ahead() -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield Item("nowhere.jpg", [])

    found = inspect_all(endless(), 1)
    image, look = next(found)
    assert (image.name, look.problem) == ("nowhere.jpg", "missing")
    assert taken < 200
    found.close()  # type: ignore[attr-defined]


def test_nothing_readable_still_has_figures() -> None:
    tally = Statistics()
    tally.add(Item("a.jpg", []), Finding("missing", "a.jpg does not exist"))
    figures = tally.figures()
    assert (figures["bad"], figures["width"], figures["caption_tokens"], figures["small"]["share"]) == (
        1,
        None,
        None,
        None,
    )


def test_held_out_images_are_looked_at() -> None:
    images, total, _ = read_items(Source("pairs.csv", hold_out=3))
    assert total == 8
    assert len({image.name for image in images}) == 8


# --- the sheet ------------------------------------------------------------------------------------------


def test_the_sheet_shows_images_as_they_are_cut(check: Check) -> None:
    check("fine.csv", "--sheet", "deep/sheet.png")
    sheet = np.asarray(Image.open("deep/sheet.png"))
    assert sheet.shape[1] == GAP + COLUMNS * (TILE + GAP)
    assert TILE < sheet.shape[0] < 2 * TILE
    a = Item("images/a.jpg", [("a red cat", ())])
    tile = SquareCrop("pad").square(a.read, TILE, Random(0))
    drawn = source_sheet([SourceImages("a", [a], SquareCrop("pad"))])
    top = next(y for y in range(len(drawn)) if np.array_equal(drawn[y, GAP : GAP + TILE], tile[0]))
    np.testing.assert_array_equal(drawn[top : top + TILE, GAP : GAP + TILE], tile)


def test_rows_and_strips_add_up() -> None:
    image = Item("images/a.jpg", [("a", ())])
    heights = [len(source_sheet([SourceImages("t", [image] * n, SquareCrop())])) for n in (0, 1, 6, 7, 13)]
    assert heights[1] == heights[2] > heights[0] + TILE
    assert heights[4] - heights[3] == heights[3] - heights[2] > TILE
    both = source_sheet([SourceImages("t", [image], SquareCrop()), SourceImages("u", [image], SquareCrop())])
    assert len(both) == 2 * heights[1] - GAP


@pytest.mark.parametrize(
    "caption",
    ["", "猫が座っている" * 20, "قطة على السجادة", "a\ud800b", "🙂 " * 300, "x" * 3000, "two\nlines\tand\x07 a bell"],
)
def test_any_caption_can_be_drawn(caption: str) -> None:
    image = Item("images/a.jpg", [(caption, ())] if caption else [])
    sheet = source_sheet([SourceImages("t", [image], SquareCrop())])
    below = sheet[-60:, GAP : GAP + TILE]
    assert (below < 200).any()  # something is written there
    assert len(sheet) < 2 * TILE


# --- real data ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (SHARED / "data/coco").is_dir(), reason="the samples of COCO are not here")
def test_coco_with_most_images_missing(check: Check) -> None:
    data = SHARED / "data/coco"
    words = [str(data / "annotations/captions_val2017.json"), "--images", str(data / "images/val2017"), "--quick"]
    code, out, report = check(*words)
    (record,) = report["sources"]
    assert (code, record["images"], record["pairs"], record["missing"]) == (1, 5000, 25014, 4975)
    assert len(record["problems"]) == 4975
    assert "and 4,970 more, all in the report" in out


def test_names_with_control_characters_are_printed_with_escapes(here: Path, check: Check) -> None:
    name = "two\nlines\x1b[31m.csv"
    (here / "pairs.csv").rename(here / name)
    _, out, report = check(name, "--images", "images", "--max_bad", "0")
    assert "\x1b" not in out
    assert not any(line.startswith("lines") for line in out.splitlines())
    assert report["sources"][0]["title"]
