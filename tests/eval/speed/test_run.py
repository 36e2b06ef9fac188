"""The command: every part at tiny sizes, and what it refuses."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from eval.speed.report import read
from eval.speed.run import PARTS, PARTS_OF, main
from pacl.errors import ArgumentError, UserError

METHODS = {
    "phi": {"bare products", "reference", "chunked"},
    "segment": {
        "tower",
        "set_image",
        "one after another",
        "predict_batch",
        "files: mask",
        "files: overlay, mask, rle",
        "one window after another",
    },
    "train": {"tower", "step", "step from kept tokens", "its forward pass", "its AdamW"},
    "data": {"decode in full", "decode reduced", "random crop, reduced"},
    "retrieval": {"bare products of all pairs", "phi", "pooled then phi"},
    "growth": {"tower", "chunked"},
}
QUICK = ["--quick", "--device", "cpu", "--runs", "1"]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_at_tiny_sizes(part: str, tiny_clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", tiny_clip] if part in PARTS_OF["model"] else []
    assert main([part, *QUICK, *model, "--out", str(tmp_path / "out")]) == 0
    rows, made = read(tmp_path / "out" / "speed.json")
    assert {row.part for row in rows} == {part}
    assert METHODS[part] <= {row.method for row in rows}
    assert all(min(row.ms) > 0 and row.peak_mb is not None for row in rows)
    assert any(row.fraction for row in rows) or part == "growth"
    assert (made["quick"], made["runs"]) == (True, 1)
    assert "speed.md" in capsys.readouterr().out


def test_both_precisions_and_the_share_of_equal_labels(tiny_clip: str, tmp_path: Path, photo: Path) -> None:
    arguments = [
        "--model",
        tiny_clip,
        "--precision",
        "fp32",
        "bf16",
        "--photos",
        str(photo),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(["segment", *QUICK, *arguments]) == 0
    rows, _ = read(tmp_path / "o" / "speed.json")
    rounded = [row for row in rows if row.precision == "bf16" and "one image" in row.case]
    assert {row.reference for row in rounded} >= {"tower, fp32", "set_image, fp32"}
    (equal,) = (row for row in rows if row.figures.get("equal_labels"))
    assert 0.5 < equal.figures["equal_labels_of_the_worst"] <= equal.figures["equal_labels"] <= 1


def test_data_of_a_table_and_of_shards(tmp_path: Path) -> None:
    Image.new("RGB", (96, 64)).save(tmp_path / "image.jpg")
    (tmp_path / "pairs.csv").write_text("image,caption\nimage.jpg,black\n")
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        tar.add(tmp_path / "image.jpg", "0.jpg")
    for source in ("pairs.csv", "0.tar"):
        out = tmp_path / f"{source}-out"
        assert main(["data", *QUICK, "--source", str(tmp_path / source), "--out", str(out)]) == 0
        rows, _ = read(out / "speed.json")
        assert len(rows) == 5
        assert all("1 image, median 96 x 64" in row.case for row in rows)


def test_a_source_without_readable_images(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("0.jpg"), io.BytesIO())
    with pytest.raises(UserError, match=r"0\.tar"):
        main(["data", *QUICK, "--source", str(tmp_path / "0.tar"), "--out", str(tmp_path / "out")])


def test_results_are_replaced_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the same command's own folder
        assert main(["phi", *QUICK]) == 0
    assert (tmp_path / "out" / "speed" / "phi-cpu-quick" / "speed.json").is_file()
    assert main(["phi", *QUICK, "--cpu_time"]) == 0  # of other settings
    assert sorted(path.name for path in Path("out", "speed").iterdir()) == ["phi-cpu-quick", "phi-cpu-quick-2"]
    assert [read(path)[1]["clock"] for path in sorted(Path("out", "speed").glob("*/speed.json"))] == [
        "wall time",
        "CPU time",
    ]
    assert main(["phi", *QUICK, "--out", "mine"]) == 0
    with pytest.raises(ArgumentError) as error:
        main(["data", *QUICK, "--out", "mine"])
    assert error.value.argument == "out"
    assert main(["data", *QUICK, "--out", "mine", "--overwrite"]) == 0
    assert {row.part for row in read(Path("mine/speed.json"))[0]} == {"data"}


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        (["pih"], "parts"),
        (["--runs", "0"], "runs"),
        (["--images", "x"], "images"),
        (["phi", "--model", "x"], "model"),
        (["data", "--photos", "x"], "photos"),
        (["--device", "tpu"], "device"),
    ],
)
def test_wrong_arguments(words: list[str], argument: str) -> None:
    with pytest.raises(ArgumentError) as error:
        main(words)
    assert error.value.argument == argument


def test_photos_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.png"):
        main(["segment", *QUICK, "--photos", str(tmp_path / "none.png"), "--out", str(tmp_path / "out")])
