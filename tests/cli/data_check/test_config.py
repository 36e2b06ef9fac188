"""The sources of a training's configuration."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from pacl.cli.configured_sources import read_config
from pacl.data import sources
from pacl.data.crop import SquareCrop
from pacl.data.sources import Source
from tests.cli.data_check.sources import Check
from tests.paths import ROOT


@pytest.mark.parametrize(("backbone", "told"), [("timm:x+static:words", False), ("open_clip:ViT-B-16/openai", True)])
def test_tokens_of_a_clip_are_told_where_one_may_read_the_captions(check: Check, backbone: str, told: bool) -> None:
    Path("run.yaml").write_text(f"model:\n  backbone: {backbone}\ndata:\n  pairs: fine.csv\n")
    code, out, _ = check("run.yaml")
    assert code == 0
    assert ("CLIP" in out) == told


def test_held_out_images_that_are_also_in_training_are_counted(check: Check) -> None:
    """c is a copy of a."""
    Path("held.csv").write_text("image,caption\nimages/c.jpg,a cat\n")
    Path("copies.yaml").write_text("data: {init_args: {pairs: fine.csv, val: [{pairs: held.csv}]}}")
    code, out, report = check("copies.yaml")
    assert (code, report["held_in_training"], report["fine"]) == (0, 1, False)
    assert not any(line.startswith("fine") for line in out.splitlines())
    assert "1 of 1 held-out" in out
    Path("own.yaml").write_text("data: {init_args: {pairs: own.csv, hold_out: 1}}")
    Path("own.csv").write_text("image,caption\nimages/c.jpg,a cat\nimages/a.jpg,a cat\n")
    assert check("own.yaml")[2]["held_in_training"] == 1
    Path("own.csv").write_text("image,caption\nimages/b.jpg,a dog\nimages/a.jpg,a cat\n")
    code, out, report = check("own.yaml")
    assert report["held_in_training"] == 0
    assert "copies" not in out
    assert "copies" in check("fine.csv")[1]


def test_held_out_images_that_are_there_twice_are_counted(check: Check) -> None:
    sources = "[{pairs: fine.csv, hold_out: 1}, {pairs: same.csv, hold_out: 1}]"
    Path("same.csv").write_text(Path("fine.csv").read_text())
    Path("two.yaml").write_text(f"data: {{train: {sources}}}")
    code, out, report = check("two.yaml")
    assert (code, report["held_twice"], report["fine"]) == (0, 1, False)
    assert "1 of 2 held-out images are copies of others" in out
    Path("two.yaml").write_text("data: {train: [{pairs: fine.csv, hold_out: 1}]}")
    assert check("two.yaml")[2]["held_twice"] == 0


def test_held_out_images_are_those_that_a_list_names(check: Check) -> None:
    Path("train.txt").write_text("a.jpg\n")
    Path("val.txt").write_text("b.jpg\n")
    Path("split.yaml").write_text(
        "data: {train: [{pairs: fine.csv, only: train.txt}], val: [{pairs: fine.csv, only: val.txt}]}"
    )
    _, out, report = check("split.yaml")
    assert report["held_in_training"] == 0
    assert [record["images"] for record in report["sources"]] == [1, 1]
    assert "also in training, under" not in out
    Path("split.yaml").write_text("data: {train: [{pairs: fine.csv}], val: [{pairs: fine.csv, hold_out: 1}]}")
    code, err, _ = check("split.yaml")
    assert code == 2
    assert "hold_out" in err


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


def test_numbers_in_quotation_marks_are_numbers_as_in_training(check: Check) -> None:
    Path("run.yaml").write_text("data: {train: [{pairs: fine.csv, hold_out: '1'}], size: '64', cut: {flip: '1'}}")
    (entry,) = read_config("run.yaml")
    assert (entry.source.hold_out, entry.side, entry.crop.flip) == (1, 64, 1.0)
    assert check("run.yaml")[0] == 0


def test_tables_and_lists_are_read_once(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("only.txt").write_text("a.jpg\nb.jpg\n")
    Path("once.yaml").write_text(
        "data: {train: [{pairs: fine.csv, only: only.txt, hold_out: 1}], val: [{pairs: fine.csv, only: only.txt}]}"
    )
    read: list[str] = []
    for name in ("read_list", "read_table"):
        own = getattr(sources, name)
        monkeypatch.setattr(sources, name, lambda path, *args, own=own: (read.append(str(path)), own(path, *args))[1])
    assert check("once.yaml")[2]["sources"][0]["images"] == 2
    assert sorted(read) == ["fine.csv", "fine.csv", "only.txt", "only.txt"]  # once for each source


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
        ("{train: [{images: a}]}", "data.train[0]: the following arguments are required: pairs"),
        ("{train: [{pairs: a.csv, hold_out: many}]}", "data.train[0].hold_out many: must be one of int, float"),
        ("{train: [{pairs: a.csv, format: zip}]}", "data.train[0].format zip: must be one of auto, table"),
        ("{train: [a.csv]}", "data.train[0]: 'a.csv'"),
        ("{train: [{pairs: a.csv}], cut: {mode: round}}", "data.cut.mode round: must be one of random"),
        ("{train: [{pairs: a.csv}], cut: {area: [2, 3]}}", "area"),
        (
            "{train: [{pairs: a.csv}], cut: {area: [0.5]}}",
            "data.cut.area [0.5]: must be of type tuple with 2 elements",
        ),
        ("{train: [{pairs: a.csv}], cut: {area: [0.5, x]}}", "data.cut.area"),
        ("{train: [{pairs: a.csv}], size: 224.5}", "data.size 224.5: must be one of int"),
        ("{train: [{pairs: a.csv}], size: [224]}", "data.size"),
        ("{train: [{pairs: a.csv}], size: 0}", "data.size 0"),
        ("{train: [{pairs: fine.csv}], hold_out: 1}", "data.hold_out 1"),
        ("{train: [{pairs: '0.tar', only: a.txt}]}", "only a.txt"),
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


def test_images_of_shards_that_are_held_out_elsewhere_are_counted_as_in_training(check: Check) -> None:
    with tarfile.open("0.tar", "w") as tar:
        for name in "ab":
            for path, content in ((f"{name}.jpg", Path(f"images/{name}.jpg").read_bytes()), (f"{name}.txt", b"a cat")):
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    Path("shards.yaml").write_text("data: {train: [{pairs: 0.tar}], val: [{pairs: fine.csv, images: images}]}")
    code, out, report = check("shards.yaml")
    assert (code, report["fine"]) == (0, False)
    assert "100% of its images are also in training" in out
