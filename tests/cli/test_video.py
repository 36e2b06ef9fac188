"""`pacl segment` with videos."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pacl.cli.inputs import find_images, is_result
from pacl.cli.interruptions import Interruptions
from pacl.segment import main
from pacl.video.reading import Frame, Video, open_video, read_frames
from pacl.video.results import VideoResults
from tests.commands import Run, runner
from tests.paths import ROOT
from tests.video.clips import moving_scene, read_clip, write_clip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own that holds clip.mp4, ten frames a second for a second."""
    # The random model gives nearly all pixels to one label.
    monkeypatch.setattr("pacl.segmentation.image_doubts.SWALLOWED", 1.0)
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4", moving_scene(10, noise=20))
    return tmp_path


@pytest.fixture
def run(tiny_clip: str, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command on the tiny CLIP: (exit code, standard output, standard error)."""
    return runner("pacl segment", main, tiny_clip, capfd)


def records(path: str = "out/clip.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def results(folder: str = "out") -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*")}


def test_an_overlay_and_a_record_for_each_frame(run: Run) -> None:
    code, out, err = run("clip.mp4", "a dog", "grass")
    assert (code, err) == (0, "")
    assert results() == {"clip.overlay.mp4", "clip.jsonl"}
    assert "out/clip.overlay.mp4" in out
    assert "out/clip.jsonl" in out
    frames, fps = read_clip(Path("out/clip.overlay.mp4"))
    assert (len(frames), fps) == (10, pytest.approx(10))
    assert len({frame.shape for frame in frames}) == 1
    found = records()
    assert [record["frame"] for record in found] == list(range(10))
    assert [record["time"] for record in found] == pytest.approx([i / 10 for i in range(10)])
    for record in found:
        assert (record["image"], record["width"], record["height"]) == ("clip.mp4", 64, 48)
        assert sum(label["share"] for label in record["labels"]) == pytest.approx(1)
        assert {"label", "id", "prompts", "share", "score", "box"} == record["labels"][0].keys()


@pytest.mark.parametrize("formats", ["overlay", "mask"])
@pytest.mark.parametrize(("step", "segmented"), [(1, 10), (3, 4), (7, 2), (20, 1)])
def test_a_video_has_the_same_length_with_any_step(run: Run, formats: str, step: int, segmented: int) -> None:
    _, out, _ = run("clip.mp4", "a dog", "grass", "--step", str(step), "--format", formats)
    assert f"{segmented} of 10 frames segmented, 1.0 s" in out


def test_masks_and_run_lengths_of_every_third_frame(run: Run) -> None:
    code, _, _ = run("clip.mp4", "a dog", "grass", "--step", "3", "--format", "overlay,mask,rle")
    assert code == 0
    numbers = [0, 3, 6, 9]
    assert {path.name for path in Path("out/clip.masks").iterdir()} == {f"{i:06d}.mask.png" for i in numbers}
    assert len(read_clip(Path("out/clip.overlay.mp4"))[0]) == 10  # the frames between show the last labels
    for record in records():
        (path,) = record["files"]["mask"]
        mask = np.asarray(Image.open(path))
        for label in record["labels"]:
            np.testing.assert_array_equal(coco_mask.decode(label["rle"]), mask == label["id"])


def test_a_later_run_replaces_all_results_of_an_earlier_one(run: Run) -> None:
    run("clip.mp4", "a dog", "grass", "--format", "overlay,mask", "--step", "2")
    run("clip.mp4", "a dog", "grass", "--format", "mask", "--step", "4")
    assert len(list(Path("out/clip.masks").iterdir())) == 3
    assert [record["frame"] for record in records()] == [0, 4, 8]


@pytest.mark.parametrize("name", ["clip.jsonl", "clip.overlay.avi", "clip.masks/000004.mask.png"])
def test_files_that_were_not_written_here_are_not_replaced(run: Run, here: Path, name: str) -> None:
    path = here / "out" / name
    path.parent.mkdir(parents=True)
    Image.new("L", (64, 48)).save(path, format="PNG")
    before = path.read_bytes()
    words = ("clip.mp4", "a dog", "grass", "--format", "overlay,mask", "--step", "4")
    for flags in ([], ["--overwrite"]):
        code, _, err = run(*words, *flags)
        assert (code, len(err.splitlines()), name in err) == (2, 1, True)
        assert {each: each.read_bytes() for each in path.parent.iterdir()} == {path: before}
    path.unlink()
    assert run(*words)[0] == 0
    mask = here / "out/clip.masks/000004.mask.png"
    mask.write_bytes(before)  # it was drawn again by hand
    assert run(*words)[0] == 2
    assert run(*words[:3], "--format", "rle")[0] == 0
    assert mask.read_bytes() == before


def test_files_of_other_labels_do_not_stay_beside_new_records(run: Run) -> None:
    words = ("clip.mp4", "grass", "--step", "9", "--format")
    assert run(*words, "overlay,mask", "--prompt", "a dog")[0] == 0
    assert run(*words, "rle", "--prompt", "a dog")[0] == 0
    assert {"clip.overlay.mp4", "clip.masks/000000.mask.png"} < results()  # the same labels: they go together
    code, _, err = run(*words, "rle", "--prompt", "a cat")
    assert (code, results()) == (0, {"clip.jsonl"})
    assert "1 earlier result " in err
    assert "removed 3 files such as out/clip" in err  # the overlay and the masks of two frames


@pytest.mark.parametrize("change", [["--smooth", "2"], ["--step", "4"], ["--overwrite"]], ids=str)
def test_files_of_other_smoothing_or_steps_do_not_stay_beside_new_records(run: Run, change: list[str]) -> None:
    words = ("clip.mp4", "a dog", "grass", "--step", "9", "--smooth", "0", "--format")
    assert run(*words, "overlay,mask")[0] == 0
    assert records()[0]["video"] == {"step": 9, "smooth": 0}
    assert run(*words, "rle", *change)[0] == 0
    assert results() == {"clip.jsonl"}


def test_records_of_earlier_versions_that_do_not_state_the_smoothing_are_of_others(run: Run) -> None:
    words = ("clip.mp4", "a dog", "grass", "--step", "9", "--format")
    assert run(*words, "overlay")[0] == 0
    lines = [{key: value for key, value in record.items() if key != "video"} for record in records()]
    Path("out/clip.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(*words, "rle")[0] == 0
    assert results() == {"clip.jsonl"}


def test_records_keep_the_masks_of_earlier_formats(run: Run) -> None:
    words = ("clip.mp4", "a dog", "grass", "--step", "9", "--format")
    for formats in ("rle,mask", "polygons", "overlay"):
        assert run(*words, formats)[0] == 0
    for record in records():
        assert all({"rle", "polygons"} < label.keys() for label in record["labels"])
        assert record["files"] == {"mask": [f"out/clip.masks/{record['frame']:06d}.mask.png"]}


def test_files_of_an_earlier_video_of_the_same_path_are_deleted(run: Run, here: Path) -> None:
    words = ("clip.mp4", "a dog", "grass", "--step", "9", "--format")
    assert run(*words, "overlay,mask")[0] == 0
    assert run(*words, "rle")[0] == 0
    assert "clip.overlay.mp4" in results()
    write_clip(here / "clip.mp4", moving_scene(12, noise=20))
    assert run(*words, "rle")[0] == 0
    assert results() == {"clip.jsonl"}


def test_videos_of_the_same_relative_path_keep_their_own_results(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, folder in enumerate(("one", "two")):
        (here / folder).mkdir()
        write_clip(here / folder / "clip.mp4", moving_scene(2 + number))
        monkeypatch.chdir(here / folder)
        assert run("clip.mp4", "a dog", "grass", "--format", "rle", "--out", "../out")[0] == 0
    assert {path.name for path in here.glob("out/*")} == {"clip.jsonl", "clip_mp4.jsonl"}


def test_without_smoothing_the_masks_are_those_of_the_frames_as_images(run: Run) -> None:
    run("clip.mp4", "a dog", "grass", "--format", "mask", "--smooth", "0", "--prior", "-1")
    Path("frames").mkdir()
    for i, frame in enumerate(read_clip(Path("clip.mp4"))[0]):
        Image.fromarray(frame).save(f"frames/{i:06d}.png")
    run("frames", "a dog", "grass", "--format", "mask", "--out", "images", "--prior", "-1")
    for path in Path("images").glob("*.png"):
        np.testing.assert_array_equal(
            np.asarray(Image.open(path)), np.asarray(Image.open(f"out/clip.masks/{path.name}"))
        )


def test_json_is_a_line_for_each_frame_on_standard_output(run: Run) -> None:
    code, out, err = run("clip.mp4", "a dog", "grass", "--json", "--step", "5")
    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == records()


def test_an_odd_name_stays_in_its_line(run: Run) -> None:
    shutil.copy("clip.mp4", "a\x1b[2J\nb.mp4")
    code, out, err = run("a\x1b[2J\nb.mp4", "a dog", "grass", "--step", "9")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 3  # a line of labels, and two files
    assert "\x1b" not in out


def test_odd_sizes_and_labels_without_end(run: Run) -> None:
    write_clip(Path("odd.avi"), moving_scene(3, (45, 81)), fourcc="MJPG")
    code, _, err = run("odd.avi", *(f"thing {i}" for i in range(40)))
    assert (code, err) == (0, "")
    assert len(read_clip(Path("out/odd.overlay.mp4"))[0]) == 3


def test_a_single_prompt_and_refinement(run: Run) -> None:
    code, _, err = run("clip.mp4", "a dog", "--background", "prompt:grass", "--refine", "2", "--step", "4")
    assert (code, err) == (0, "")
    assert records()[0]["background"]["rule"] == "prompt:grass"


def test_several_videos_and_images(run: Run) -> None:
    Path("other").mkdir()
    shutil.copy("clip.mp4", "other/clip.mp4")
    Image.fromarray(moving_scene(1)[0]).save("clip.png")
    Path("bad.mp4").write_bytes(b"bad" * 99)
    code, out, err = run("clip.png", "clip.mp4", "other/clip.mp4", "bad.mp4", "a dog", "grass", "--step", "9")
    assert code == 1
    assert "bad.mp4" in err
    assert err.count("\n") == 1
    assert "Traceback" not in out
    assert {name for name in results() if name.endswith(".jsonl")} == {"clip_mp4.jsonl", "clip_mp4-2.jsonl"}
    assert {"clip.json", "clip.overlay.png", "clip.mask.png"} <= results()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["clip.mp4", "cat", "--step", "0"], "--step 0"),
        (["clip.mp4", "cat", "--step", "x"], "--step"),
        (["clip.mp4", "cat", "--smooth", "-1"], "--smooth -1"),
        (["clip.mp4", "cat", "--smooth", "nan"], "--smooth nan"),
        (["clip.mp4", "cat", "--format", "coco,overlay"], "--format coco:"),
        (["clip.mp4", "cat", "--format", "coco"], "mkdir -p frames && ffmpeg"),
        (["clip.mp4", "cat", "--format", "nothing"], "--format nothing"),
        (["photo.png", "cat", "--step", "2"], "--step 2"),
        (["photo.png", "cat", "--smooth", "0"], "--smooth 0"),
        (["bad.mp4", "cat"], "bad.mp4"),
        (["empty.mp4", "cat"], "empty.mp4"),
        (["half.mp4", "cat"], "half.mp4"),
        (["clip.mp4"], "no prompt"),
        (["clip.mp4", "cat", "--out", "bad.mp4"], "--out bad.mp4"),
        (["clips", "cat"], "clips"),
    ],
)
def test_mistakes_are_one_line(run: Run, words: list[str], part: str) -> None:
    Path("bad.mp4").write_bytes(b"bad" * 99)
    Path("empty.mp4").touch()
    content = Path("clip.mp4").read_bytes()
    Path("half.mp4").write_bytes(content[: len(content) // 2])
    Path("clips").mkdir()
    shutil.copy("clip.mp4", "clips")
    Image.fromarray(moving_scene(1)[0]).save("photo.png")
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert part in err
    assert not Path("out").exists() or not results()


def test_a_video_that_ends_early_keeps_its_results_and_is_named(run: Run) -> None:
    clip = write_clip(Path("long.avi"), moving_scene(40, (96, 128), noise=20), fourcc="MJPG")
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    code, _, err = run("long.avi", "a dog", "grass", "--step", "4")
    assert code == 1
    assert err.count("\n") == 1
    assert "of 40 frames" in err
    assert 4 <= len(records("out/long.jsonl")) < 10
    assert 10 < len(read_clip(Path("out/long.overlay.mp4"))[0]) < 30


def test_videos_in_folders_are_counted(run: Run) -> None:
    Path("photos").mkdir()
    shutil.copy("clip.mp4", "photos")
    Image.fromarray(moving_scene(1)[0]).save("photos/a.png")
    code, _, err = run("photos", "a dog", "grass")
    assert code == 0
    assert "photos/clip.mp4" in err
    assert not Path("out/clip.jsonl").exists()


def test_results_of_videos_are_not_segmented_again(run: Run) -> None:
    run("clip.mp4", "a dog", "grass", "--format", "overlay,mask", "--step", "5")
    assert is_result(Path("out/clip.overlay.mp4"))
    assert is_result(Path("out/clip.masks/000000.mask.png"))
    assert not is_result(Path("clip.mp4"))
    Image.fromarray(moving_scene(1)[0]).save("a.png")
    found = find_images(["."], Path("other"), videos=True)
    assert [file.name for file in found.files] == ["a"]
    assert found.left_out == [Path("clip.mp4")]


def test_a_video_that_is_written_while_it_fails_leaves_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from pacl.errors import UserError
    from pacl.video.results import VideoResults

    original = VideoResults.add

    def failing(self: VideoResults, frame: Any, found: Any, *, is_new: bool) -> Any:
        if frame.number == 6:
            raise UserError("full")
        return original(self, frame, found, is_new=is_new)

    monkeypatch.setattr(VideoResults, "add", failing)
    code, _, err = run("clip.mp4", "a dog", "grass", "--format", "overlay,mask")
    assert (code, err.count("\n")) == (2, 1)
    assert results() == set()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_what_a_killed_process_of_the_same_number_left_is_no_obstacle(here: Path) -> None:
    video = open_video("clip.mp4")
    with VideoResults(here / "out", "clip", video, ["mask"], {}), VideoResults(here / "out", "clip", video, [], {}):
        pass
    assert results() == set()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_leaves_whole_files(tiny_clip: str, number: int, code: int) -> None:
    write_clip(Path("long.mp4"), moving_scene(2000, (96, 128)), fps=25)
    words = ["long.mp4", "a dog", "grass", "--json", "--format", "overlay,mask", "--model", tiny_clip]
    process = subprocess.Popen(
        [sys.executable, "-m", "pacl.segment", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(5)]
    assert all(seen)
    assert results() == {path for path in results() if path.startswith(".")}  # nothing has its name yet
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    found = records("out/long.jsonl")
    assert 5 <= len(found) < 2000
    assert len(found) >= len(seen) + len(out.splitlines())
    assert f"{len(found)} of 2000 frames" in err
    assert len(read_clip(Path("out/long.overlay.mp4"))[0]) == len(found)
    assert len(list(Path("out/long.masks").iterdir())) == len(found)
    assert not [path for path in results() if path.startswith(".")]


def test_a_jump_in_time_is_said_and_kept_in_the_records(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def jumping(video: Video, every: int = 1) -> Iterator[Frame]:
        for frame in read_frames(video, every):
            yield replace(frame, time=frame.time + 100_000 * (frame.number >= 5))

    monkeypatch.setattr("pacl.cli.video.read_frames", jumping)
    code, _, err = run("clip.mp4", "a dog", "grass")
    assert code == 0
    assert err.count("\n") == 1
    assert "100000" in err
    assert len(read_clip(Path("out/clip.overlay.mp4"))[0]) in (10, 11)
    assert records()[5]["time"] == pytest.approx(100_000.5)


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_disk_that_is_full_is_one_line(tiny_clip: str) -> None:
    """The largest file that the process may write stands for the disk."""
    write_clip(Path("long.mp4"), moving_scene(60, (192, 256), noise=60), fps=25)
    command = (
        f"ulimit -f 64; exec {sys.executable} -m pacl.segment long.mp4 'a dog' grass --step 30 --model {tiny_clip}"
    )
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert results() == set()


def test_signals_wait_while_something_is_written() -> None:
    before = signal.getsignal(signal.SIGINT)
    done = []

    def write() -> None:
        with Interruptions() as interruptions, interruptions.held():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            done.append("written" if interruptions.is_pending else "too early")

    def wait() -> None:
        with Interruptions():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == ["written"]
    with pytest.raises(SystemExit) as stop:
        wait()
    assert stop.value.code == 143
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("first", [["clip.mp4", "--format", "mask"], ["photo.png", "--format", "mask"]], ids=str)
@pytest.mark.parametrize("second", ["clip.mp4", "photo.png"])
def test_a_named_folder_belongs_to_one_list_of_labels_in_every_format(run: Run, first: list[str], second: str) -> None:
    Image.fromarray(moving_scene(1, noise=20)[0]).save("photo.png")
    words = [*first, "--out", "named"]
    assert run("a dog", "grass", *words)[0] == 0
    before = {path: path.read_bytes() for path in Path("named").rglob("*") if path.is_file()}
    code, _, err = run(second, "grass", "sky", "--out", "named")
    assert (code, len(err.splitlines()), "--out named" in err) == (2, 1, True)
    assert {path: path.read_bytes() for path in Path("named").rglob("*") if path.is_file()} == before
    assert run(second, "grass", "sky", "--out", "named", "--overwrite", "--format", "overlay")[0] == 0
    name = Path(second).stem
    kept = {f"{name}.jsonl", f"{name}.overlay.mp4"} if second == "clip.mp4" else {f"{name}.json", f"{name}.overlay.png"}
    assert {path.name for path in Path("named").iterdir()} == kept


@pytest.mark.parametrize("source", ["clip.mp4", "photo.png"])
def test_other_labels_in_the_default_folder_are_noted_after_the_first_result_only(run: Run, source: str) -> None:
    Image.fromarray(moving_scene(1, noise=20)[0]).save("photo.png")
    Image.fromarray(moving_scene(1, noise=20)[0]).save("other.png")
    run("other.png", "a dog", "grass")
    assert "also holds" not in run(source, "grass", "sky", model="no/such/model")[2]
    assert run(source, "grass", "sky")[2].count("also holds") == 1


def test_masks_of_an_image_have_no_path_of_a_frames_mask(run: Run) -> None:
    Path("photos/clip.masks").mkdir(parents=True)
    Image.new("RGB", (20, 30)).save("photos/clip.masks/000000.png")
    assert run("clip.mp4", "photos", "a dog", "grass", "--format", "mask", "--out", "both")[0] == 0
    sizes = {Image.open(path).size: path for path in Path("both").rglob("*.mask.png")}
    assert len(list(Path("both").rglob("*.mask.png"))) == 11
    assert sizes.keys() == {(64, 48), (20, 30)}
    assert (sizes[(20, 30)].parent.name, sizes[(20, 30)].name) == ("clip.masks", "000000_png.mask.png")
