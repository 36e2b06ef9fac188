"""The command on shards and lists: one or several processes, stopped and resumed; the labels of pacl segment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pacl.bulk import main
from pacl.errors import ArgumentError, UserError
from pacl.jobs.folder import read_results
from pacl.models.backbone import load_backbone
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.jobs.tars import png, write_shards
from tests.paths import ROOT
from tests.tiny import configure_clip, save_tiny_clip

WORDS = ["a blue fish", "a red boat", "sand"]
OPTIONS = ["--model", "bundled", "--device", "cpu", "--size", "64"]


def all_records(out: Path) -> dict[str, dict]:
    return {record["image"]: record for path in (out / "results").glob("*.gz") for record in read_results(path)}


def test_a_list_has_the_labels_of_single_images_and_names_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(png(i, (40, 50 + i)))
    (tmp_path / "list.txt").write_text("0.png\n1.png\nmissing.png\n2.png\n3.png\n")
    words = [str(tmp_path / "list.txt"), *WORDS, "--images", str(tmp_path), "--lines", "2", "--out"]
    assert main([*words, str(tmp_path / "out"), *OPTIONS]) == 0
    found = all_records(tmp_path / "out")
    assert "error" in found.pop(str(tmp_path / "missing.png"))
    assert len(found) == 4
    segmenter = Segmenter(load_model("bundled", device="cpu"), SegmenterSettings(size=64))
    for path, record in found.items():
        segmenter.set_image(path)
        expected = segmenter.predict(WORDS).index
        labels = np.zeros_like(expected)
        for label in record["labels"]:
            labels[coco_mask.decode(label["rle"]).astype(bool)] = label["id"]
        assert (labels == expected).mean() > 0.999  # a batch rounds differently
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["images"], manifest["failed"], len(manifest["units"])) == (5, 1, 3)
    assert "nothing was left" not in capsys.readouterr().err
    assert main(["--verify", "--out", str(tmp_path / "out")]) == 0
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").iterdir()}
    capsys.readouterr()
    assert main([*words, str(tmp_path / "out"), *OPTIONS]) == 0
    assert "nothing was left to do" in capsys.readouterr().err
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").iterdir()}
    with pytest.raises(ArgumentError) as refused:
        main([*words, str(tmp_path / "out"), *OPTIONS, "--stride", "4"])
    assert refused.value.argument == "out"


def test_the_same_list_in_another_folder_is_never_finished_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(("one", "other")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(png(seed))
    (tmp_path / "list.txt").write_text("a.png\n")
    words = [str(tmp_path / "list.txt"), *WORDS, "--out", str(tmp_path / "out"), *OPTIONS]
    monkeypatch.chdir(tmp_path / "one")
    assert main(words) == 0
    before = all_records(tmp_path / "out")
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(ArgumentError) as refused:
        main(words)
    assert refused.value.argument == "out"
    capsys.readouterr()
    monkeypatch.chdir(tmp_path / "one")
    assert main(words) == 0
    assert "none of" not in capsys.readouterr().err
    assert all_records(tmp_path / "out") == before
    (tmp_path / "list.txt").write_text(f"a.png\n{tmp_path}/other/a.png\n")
    assert main(words) == 0
    assert "none of the 1 finished unit" in capsys.readouterr().err
    assert len(all_records(tmp_path / "out")) == 2


@pytest.mark.parametrize("source", ["list.txt", "photos"])
@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
def test_all_results_of_a_job_name_images_in_one_way(
    source: str, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for i in range(2):
        Path(f"photos/{i}.png").write_bytes(png(i))
    Path("list.txt").write_text("photos/0.png\nphotos/1.png\n")
    absolute = [str(tmp_path / source)] if source == "photos" else [source, "--images", "."]
    first, then = ([source], absolute) if relative else (absolute, [source])
    rest = [*WORDS, "--lines", "1", "--out", "out", *OPTIONS]
    assert main([*first, *rest]) == 0
    os.remove(next(Path("out/done").iterdir()))  # the others were stopped
    with pytest.raises(ArgumentError) as refused:
        main([*then, *rest])
    assert refused.value.argument == "out"
    assert main([*first, *rest]) == 0


@pytest.mark.slow
def test_three_processes_share_the_shards_and_a_killed_one_loses_nothing(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    data = write_shards(tmp_path / "data", 5, 6)

    def command(out: Path, rank: int, count: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "pacl.bulk", str(data), *WORDS, "--out", str(out), *OPTIONS],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "WORLD_SIZE": str(count)},
            stderr=subprocess.DEVNULL,
        )

    assert command(tmp_path / "one", 0, 1).wait(600) == 0
    several = [command(tmp_path / "three", rank, 3) for rank in range(3)]
    while not list((tmp_path / "three").glob("done/*")) and any(each.poll() is None for each in several):
        pass
    several[2].kill()
    several[2].wait(600)
    assert [each.wait(600) for each in several[:2]] == [0, 0]
    last = command(tmp_path / "three", 0, 1)  # what the killed one held when the others ended
    assert last.wait(600) == 0
    assert all_records(tmp_path / "three") == all_records(tmp_path / "one")
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("one", "three")]
    assert manifests[0] == manifests[1]
    assert manifests[0]["images"] == 30
    assert main(["--verify", "--out", str(tmp_path / "three")]) == 0


def test_of_a_folder_every_photo_is_segmented_once_and_the_rest_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos/sub").mkdir(parents=True)
    for i, name in enumerate(["a.png", "sub/b.PNG", "sub/c.mask.png", "sub/.hidden.png", "d.heic", "e"]):
        Path("photos", name).write_bytes(png(i))
    for name in ("a.mask.png", "a.overlay.png"):  # results of pacl segment, with their record
        Path("photos", name).write_bytes(png(9))
    Path("photos/a.json").write_text("{}")
    Path("photos/z.png").symlink_to("a.png")
    assert main(["photos", *WORDS, "--out", "out", *OPTIONS]) == 0
    assert set(all_records(Path("out"))) == {"photos/a.png", "photos/sub/b.PNG", "photos/sub/c.mask.png"}
    said = capsys.readouterr().err
    assert "left out 2 results" in said
    assert "left out 1 path" in said
    assert "2 files not read, by their names: d.heic, e;" in said
    with pytest.raises(ArgumentError):
        main(["photos", *WORDS, "--images", "photos", "--out", "out2", *OPTIONS])


@pytest.mark.parametrize(
    ("lines", "said"), [("a.png\nb.png\na.png", 1), ("a.png\r\na.png\r\na.png", 2), ("a.png\nb.png", 0)]
)
def test_an_image_that_is_listed_again_is_said(
    lines: str, said: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("a.png", "b.png")):
        Path(name).write_bytes(png(i))
    Path("list.txt").write_text(lines)
    assert main(["list.txt", *WORDS, "--out", "out", *OPTIONS]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "note:" in line]
    assert len(notes) == (said > 0)
    assert all(f" {said} line" in note for note in notes)
    assert json.loads(Path("out/manifest.json").read_text())["images"] == len(lines.split())


def test_a_folder_of_images_and_shards_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either would be left out."""
    monkeypatch.chdir(tmp_path)
    Path("photos/sub").mkdir(parents=True)
    Path("photos/a.png").write_bytes(png(0))
    Path("photos/sub/backup.tar.gz").touch()
    with pytest.raises(UserError, match=r"a\.png.*backup\.tar\.gz"):
        main(["photos", *WORDS, "--out", "out", *OPTIONS])
    assert not Path("out").exists()


def test_a_folder_of_shards_says_which_images_beside_them_are_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("webdataset")
    folder = write_shards(tmp_path / "data", 1, 1)
    (folder / "a.heic").touch()
    assert main([str(folder), *WORDS, "--out", str(tmp_path / "out"), *OPTIONS]) == 0
    assert set(all_records(tmp_path / "out")) == {"000.tar/000"}
    assert "1 file not read, by their names: a.heic" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--out", "x"],
        ["missing.txt", "a dog", "--out", "x"],
        ["list.txt", "--out", "x"],
        ["list.txt", "a dog", "--lines", "0", "--out", "x"],
        ["list.txt", "a dog", "--workers", "0", "--out", "x"],
        ["list.txt", "a dog", "--out", "list.txt", *OPTIONS],
        ["list.txt", "--verify", "--out", "x"],
        ["--verify", "--out", "x"],
    ],
)
def test_mistakes_are_named(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("a.png\n")
    with pytest.raises(UserError):
        main(words)
    assert not Path("x").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["0.tar", "1.tar", "cat"],
        ["list.txt", "l2.lst", "cat"],
        ["0.tar", "cat", "x.jpg", "photos/y.jpg"],
        ["list.txt", "here", "cat"],
    ],
    ids=" ".join,
)
def test_a_second_source_is_no_label(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell makes many words of a pattern without quotes."""
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("a.png\n")
    Path("a.png").write_bytes(png(0))
    Path("here").mkdir()
    with pytest.raises(UserError, match=r"--prompt"):
        main([*words, "--out", "x", *OPTIONS])
    assert not Path("x").exists()


def test_any_word_may_be_a_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("a.png\n")
    Path("a.png").write_bytes(png(0))
    Path("here").mkdir()
    assert main(["list.txt", "sand", "--prompt", "here", "--prompt", "0.tar", "--out", "x", *OPTIONS]) == 0
    assert [name for name, _ in json.loads(Path("x/run.json").read_text())["labels"]] == ["sand", "here", "0.tar"]


def test_a_source_without_an_image_that_can_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("broken.png\nempty.png\n")
    Path("broken.png").write_bytes(png(0)[:100])
    Path("empty.png").touch()
    with pytest.raises(UserError, match="none of its 2 images"):
        main(["list.txt", *WORDS, "--out", "x", *OPTIONS])
    assert {bool(record["error"]) for record in all_records(Path("x")).values()} == {True}


def test_a_file_of_templates_that_has_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("a.png\n")
    Path("a.png").write_bytes(png(0))
    words = ["list.txt", *WORDS, "--out", "x", *OPTIONS, "--templates", "t.txt"]
    Path("t.txt").write_text("a {}.")
    assert main(words) == 0
    Path("t.txt").write_text("the {}.")
    with pytest.raises(ArgumentError) as refused:
        main(words)
    assert refused.value.argument == "out"


@pytest.mark.parametrize("change", ["smoothing", "temperature", "contrast_margin", "quick_gelu"])
def test_a_model_with_other_settings_does_not_go_on(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("a.png\n")
    Path("a.png").write_bytes(png(0))
    name = save_tiny_clip(tmp_path / "clip")
    model = name
    if change != "quick_gelu":
        PACL.untrained(load_backbone(name)).save_pretrained("head")
        model = "head"
    words = ["list.txt", "sky", "sand", "--out", "x", "--model", model, "--device", "cpu", "--size", "64"]
    assert main(words) == 0
    assert main(words) == 0
    if change == "quick_gelu":
        configure_clip(name, quick_gelu=True)
    else:
        config = json.loads(Path("head/config.json").read_text())
        Path("head/config.json").write_text(json.dumps({**config, change: 0.5}))
    with pytest.raises(ArgumentError, match=rf"model\..*{change}") as refused:
        main(words)
    assert refused.value.argument == "out"
