"""Folders that hold results of earlier runs: completed, replaced, never mixed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.commands import Run
from tests.tiny import save_tiny_clip


def test_pictures_of_one_name_keep_their_own_results(run: Run, here: Path) -> None:
    Path("other").mkdir()
    Image.new("RGB", (20, 10), "blue").save("other/photo.png")
    code, _, _ = run("photo.png", "other/photo.png", "a dog", "grass", "--format", "mask")
    assert code == 0
    sizes = {path.name: Image.open(path).size for path in (here / "out").glob("*.png")}
    assert sizes == {"photo.mask.png": (48, 32), "photo_png.mask.png": (20, 10)}


def test_a_named_folder_belongs_to_one_list_of_labels(run: Run, here: Path) -> None:
    def masks() -> set[str]:
        return {path.name for path in (here / "mine").glob("*.mask.png")}

    shutil.copy("photo.png", "other.png")
    assert run("photo.png", "a dog", "grass", "--out", "mine")[0] == 0
    assert run("other.png", "a dog", "grass", "--out", "mine")[0] == 0  # the same labels go together
    record = (here / "mine/photo.json").read_bytes()
    code, _, err = run("photo.png", "a dog", "sky", "--out", "mine")
    assert code == 2
    assert "--out mine" in err
    assert "--overwrite" in err
    assert (here / "mine/photo.json").read_bytes() == record
    assert run("photo.png", "a dog", "sky", "--out", "mine", "--overwrite")[0] == 0
    assert masks() == {"photo.mask.png"}


def test_in_the_default_folder_other_labels_are_told_of(run: Run, here: Path) -> None:
    shutil.copy("photo.png", "other.png")
    run("photo.png", "a dog", "grass", "--format", "heat,rle")
    err = run("photo.png", "a dog", "sky")[2]  # replaced as a whole, nothing is mixed
    assert "removed 2 files such as out/photo.heat-1-a-dog.png:" in err
    assert "also holds" not in err
    assert not [*here.glob("out/*heat*")]
    assert run("photo.png", "a dog", "sand")[2] == ""  # all of its files are new
    code, _, err = run("other.png", "a dog", "grass")
    assert code == 0
    assert "note:" in err
    assert "out also holds results of other labels, such as photo.json" in err
    assert (here / "out/photo.json").is_file()


def test_labels_of_other_classes_that_were_deleted_are_counted(run: Run, here: Path) -> None:
    """A background is a class of mmsegmentation's data set, not of YOLO's."""
    for name in ("a.png", "b.png"):
        shutil.copy("photo.png", name)
    words = ("a.png", "b.png", "a dog", "grass", "--format", "yolo,mmseg", "--background")
    assert run(*words, "none")[2] == ""
    Path("b.png").write_bytes(b"")
    code, _, err = run(*words, "threshold:0.6")
    assert (code, err.count("such as b.json")) == (1, 1)
    assert {path.stem for path in Path("out/mmseg/ann_dir").iterdir()} == {"a"}


def test_results_of_other_labels_that_a_run_did_not_come_to_are_counted(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pacl.segmentation.segmenter import Segmenter

    names = ("a.png", "b.png", "c.png", "d.png")
    for name in names:
        shutil.copy("photo.png", name)
    words = ("--format", "mask,yolo,mmseg,coco", "--window_batch", "1")
    assert run(*names, "a dog", "grass", *words)[2] == ""
    shutil.copy("b.png", "good.png")
    Path("b.png").write_bytes(b"")
    code, _, err = run(*names, "a dog", "sky", *words)
    assert code == 1
    assert "note: out still holds 1 result of other labels or classes, such as b.json," in err
    for folder in ("yolo/images", "yolo/labels", "mmseg/img_dir", "mmseg/ann_dir"):
        assert {path.stem for path in Path("out", folder).iterdir()} == {"a", "c", "d"}
    shutil.copy("good.png", "b.png")
    assert run(*names, "a dog", "sky", *words)[::2] == (0, "")

    predict, calls = Segmenter.predict_batch, iter((True, True, False))

    def interrupted(*args: Any) -> Any:
        if not next(calls):
            raise KeyboardInterrupt
        return predict(*args)

    monkeypatch.setattr(Segmenter, "predict_batch", interrupted)
    code, _, err = run(*names, "a dog", "sand", *words)
    done = {path.stem for path in Path("out/yolo/labels").iterdir()}
    assert code == 130
    assert f"note: out still holds {4 - len(done)} results of other labels" in err
    for folder in ("yolo/images", "mmseg/img_dir", "mmseg/ann_dir"):
        assert {path.stem for path in Path("out", folder).iterdir()} == done
    calls = iter((False,))
    assert "still holds" not in run(*names, "a dog", "snow", *words)[2]  # nothing was replaced


def test_what_a_run_removes_of_an_earlier_one_is_said_once(run: Run, here: Path) -> None:
    (here / "photos/garden").mkdir(parents=True)
    for name in ("photos/a.png", "photos/b.png", "photos/garden/c.png"):
        shutil.copy("photo.png", name)
    kinds = "mask,coco,labelme,yolo,mmseg"
    assert run("photos", "a dog", "grass", "--format", kinds)[2] == ""
    code, _, err = run("photos", "a dog", "sky", "--format", "overlay")
    assert (code, len(err.splitlines())) == (0, 1)
    assert "3 earlier results" in err
    assert "removed 18 files such as out/a.mask.png" in err  # with copies of the images
    assert all(f"out/{name}" in err for name in ("annotations.json", "mmseg/metainfo.json", "yolo/data.yaml"))
    assert "--out" in err
    assert {path.name for path in (here / "out").rglob("*") if path.is_dir()} == {"garden"}
    assert run("photos", "a dog", "sky", "--format", "overlay")[2] == ""


def test_overwrite_leaves_folders_of_results_below_alone(run: Run, here: Path) -> None:
    shutil.copy("photo.png", "other.png")
    run("photo.png", "a dog", "grass", "--out", "out/named")
    before = {path: path.read_bytes() for path in here.glob("out/named/*")}
    run("photo.png", "other.png", "a dog", "sky")
    assert run("photo.png", "a dog", "sky")[2] == ""
    code, _, err = run("photo.png", "a dog", "grass", "--overwrite", "--format", "mask")
    assert (code, len(err.splitlines()), "removed 1 result" in err) == (0, 1, True)  # photo.json has a new one
    assert {path: path.read_bytes() for path in here.glob("out/named/*")} == before
    assert {path.name for path in here.glob("out/*")} == {"named", "photo.json", "photo.mask.png"}
    assert run("photo.png", "a dog", "grass", "--overwrite", "--format", "mask")[2] == ""


def test_results_of_an_earlier_run_are_not_segmented(run: Run, here: Path) -> None:
    run(".", "a dog", "grass")
    code, _, err = run(".", "a dog", "grass", "--out", "second")
    assert (code, len(err.splitlines())) == (0, 1)
    assert "2 results of earlier runs" in err
    assert {path.name for path in Path("second").iterdir()} == {"photo.overlay.png", "photo.mask.png", "photo.json"}


def listed(folder: str) -> tuple[set[str], list[str], list[str]]:
    """The records in a folder of results, and the images in its COCO and CVAT files, the latter in lexical order."""
    coco = [image["file_name"] for image in json.loads(Path(folder, "annotations.json").read_text())["images"]]
    cvat = re.findall(r'<image [^>]*name="([^"]*)"', Path(folder, "annotations.xml").read_text())
    return {path.stem for path in Path(folder).glob("*.json")} - {"annotations"}, coco, cvat


def test_another_image_of_the_same_name_joins_the_results(run: Run, here: Path) -> None:
    Path("other").mkdir()
    for name in ("other/photo.png", "photo.webp"):
        shutil.copy("photo.png", name)
    flags = ["a dog", "grass", "--out", "results", "--format", "mask,rle,coco,cvat,labelme,yolo,mmseg"]
    for images in (["photo.png"], ["other/photo.png"], ["photo.webp"], ["photo.webp", "other/photo.png", "photo.png"]):
        assert run(*images, *flags)[0] == 0
    places = ["photo.png", "other/photo.png", "photo.webp"]
    assert listed("results") == ({"photo", "photo_png", "photo_webp"}, places, sorted(places))
    of = {path.stem: json.loads(path.read_text())["image"] for path in Path("results").glob("photo*.json")}
    assert of == {"photo": "photo.png", "photo_png": "other/photo.png", "photo_webp": "photo.webp"}
    for folder in ("labelme", "yolo/labels", "yolo/images", "mmseg/ann_dir", "mmseg/img_dir"):
        assert {path.stem for path in Path("results", folder).iterdir()} == set(of)
    run("other", *flags)
    assert listed("results")[1] == places
    run("other/photo.png", *flags, "--overwrite")
    assert listed("results") == ({"photo"}, ["photo.png"], ["photo.png"])


def test_an_image_that_was_moved_keeps_its_results_and_another_gets_its_own(run: Run, here: Path) -> None:
    for folder in ("first", "moved", "other"):
        Path(folder).mkdir()
    shutil.move("photo.png", "first/photo.png")
    words = ["a dog", "grass", "--out", "results", "--format", "coco,cvat"]
    assert run("first/photo.png", *words)[0] == 0
    shutil.move("first/photo.png", "moved/photo.png")
    Image.new("RGB", (48, 32), "blue").save("other/photo.png")
    assert run("other/photo.png", *words)[0] == 0
    assert run("moved/photo.png", *words)[0] == 0
    places = ["photo.png", "other/photo.png"]
    assert listed("results") == ({"photo", "photo_png"}, places, sorted(places))


def test_an_image_of_a_folder_that_is_corrected_alone_stays_one_in_data_sets(run: Run, here: Path) -> None:
    Path("photos/garden").mkdir(parents=True)
    for name in ("a.png", "garden/a.png"):
        shutil.copy("photo.png", f"photos/{name}")
    words = ("a dog", "grass", "--out", "res", "--format", "coco,cvat,labelme,yolo,mmseg,mask")

    def files() -> set[str]:
        return {path.relative_to("res").as_posix() for path in Path("res").rglob("*") if path.is_file()}

    def places() -> list[str]:
        return [image["file_name"] for image in json.loads(Path("res/annotations.json").read_text())["images"]]

    assert run("photos", *words)[0] == 0
    before, record = files(), Path("res/garden/a.json").read_bytes()
    for corrected in ("photos/garden/a.png", "photos/garden"):
        assert run(corrected, *words, "--prior", "-0.6")[0] == 0
        assert (files(), places()) == (before, ["a.png", "garden/a.png"])
        assert Path("res/garden/a.json").read_bytes() != record
        assert run("photos", *words)[0] == 0
        assert (files(), places()) == (before, ["a.png", "garden/a.png"])


def test_a_folder_of_which_a_part_was_segmented_alone_is_refused(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("photos/garden").mkdir(parents=True)
    for name in ("a.png", "garden/a.png"):
        shutil.copy("photo.png", f"photos/{name}")
    words = ("a dog", "grass", "--out", "res", "--format", "coco,mask")
    assert run("photos/garden", *words)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr("pacl.segment.load_segmenter", None)  # it is refused before
        code, _, err = run("photos", *words)
    assert (code, len(err.splitlines())) == (2, 1)
    assert all(text in err for text in ("photos/garden/a.png as a,", "--out res", "--overwrite"))
    assert {path.name for path in Path("res").glob("[!.]*")} == {"a.json", "a.mask.png", "annotations.json"}
    assert run("photos", *words, "--overwrite")[0] == 0
    images = json.loads(Path("res/annotations.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["a.png", "garden/a.png"]


def test_relative_paths_are_those_of_the_folder_that_a_run_was_started_in(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, folder in enumerate(("one", "two")):
        (here / folder).mkdir()
        Image.new("RGB", (40 + number, 32), "blue").save(here / folder / "0.png")
        monkeypatch.chdir(here / folder)
        assert run("0.png", "a dog", "grass", "--format", "mask,coco", "--out", "../results")[0] == 0
    assert run("../one/0.png", "a dog", "grass", "--format", "mask,coco", "--out", "../results")[0] == 0
    sizes = {path.name: Image.open(path).size for path in here.glob("results/*.png")}
    assert sizes == {"0.mask.png": (40, 32), "0_png.mask.png": (41, 32)}
    images = json.loads((here / "results/annotations.json").read_text())["images"]
    assert [image["width"] for image in images] == [40, 41]


def test_a_model_of_other_weights_is_another_model(run: Run, here: Path) -> None:
    shutil.copy("photo.png", "other.png")
    words = ("a dog", "grass", "--format")
    model = save_tiny_clip(here / "model")
    for out in (["--out", "named"], []):
        assert run("photo.png", *words, "mask,coco", *out, model=model)[0] == 0
    save_tiny_clip(here / "model", seed=1)
    code, _, err = run("other.png", *words, "mask", "--out", "named", model=model)
    assert (code, len(err.splitlines()), "weights" in err) == (2, 1, True)
    code, _, err = run("other.png", *words, "coco", model=model)  # the data set would mix them
    assert (code, len(err.splitlines()), "weights" in err) == (2, 1, True)
    code, _, err = run("photo.png", *words, "npz", model=model)
    assert (code, "removed 1 file such as out/photo.mask.png" in err) == (0, True)
    assert "mask" not in json.loads(Path("out/photo.json").read_text())["files"]


def test_in_the_default_folder_only_the_images_of_a_data_set_tell_its_model(run: Run, here: Path) -> None:
    for name in ("other.png", "third.png"):
        shutil.copy("photo.png", name)
    words, model = ("a dog", "grass", "--format"), save_tiny_clip(here / "model")
    assert run("photo.png", *words, "mask", model=model)[0] == 0
    save_tiny_clip(here / "model", seed=1)
    assert run("other.png", *words, "coco,yolo", model=model)[0] == 0  # photo is in no data set
    save_tiny_clip(here / "model", seed=2)
    code, _, err = run("third.png", *words, "yolo", model=model)
    assert (code, "weights" in err, "--overwrite" in err) == (2, True, True)
    assert run("other.png", "third.png", *words, "coco,yolo", model=model)[0] == 0  # replaced as a whole
    images = json.loads((here / "out/annotations.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["other.png", "third.png"]
    assert {path.stem for path in (here / "out/yolo/labels").iterdir()} == {"other", "third"}


def test_a_file_of_templates_that_has_changed_is_another_setting(run: Run, here: Path) -> None:
    templates = Path("t.txt")
    for text, kept in (("a {}.", False), ("a {}.\n", True), ("the {}.", False)):
        templates.write_text(text)
        code, _, err = run("photo.png", "a dog", "grass", "--templates", "t.txt", "--format", "mask")
        assert (code, "removed" in err) == (0, (here / "out/photo.npz").exists() is False and text == "the {}.")
        assert (here / "out/photo.npz").exists() == kept
        assert run("photo.png", "a dog", "grass", "--templates", "t.txt", "--format", "npz")[0] == 0
    assert json.loads(Path("out/photo.json").read_text())["settings"]["template_texts"] == ["the {}."]


def test_an_image_never_takes_the_place_of_another_in_a_data_set(run: Run, here: Path) -> None:
    for name in ("R/a.png", "R/a.webp", "S/a.webp"):
        Path(name).parent.mkdir(exist_ok=True)
        shutil.copy("photo.png", name)
    words = ("a dog", "grass", "--format", "coco,cvat,rle", "--out", "results")
    assert run("R", *words)[0] == 0
    Path("R/a.png").unlink()  # another image takes the name of its results, and has that of R/a.webp
    for _ in range(2):
        assert run("S/a.webp", *words)[0] == 0
        assert [sorted(each) for each in listed("results")] == [["a", "a_webp"], *[["S/a.webp", "a.webp"]] * 2]


def test_images_whose_names_differ_in_case_keep_their_places(run: Run, here: Path) -> None:
    if Path("PHOTO.png").exists():
        pytest.skip("the file system ignores case")
    for name in ("P/X.png", "P/x.png", "Q/x.png"):
        Path(name).parent.mkdir(exist_ok=True)
        shutil.copy("photo.png", name)
    for images in ("P", "Q/x.png"):
        assert run(images, "a dog", "grass", "--format", "coco,cvat,rle", "--out", "results")[0] == 0
    places = ["X.png", "x.png", "Q/x.png"]
    assert listed("results")[1:] == (places, sorted(places))


OTHERS = (
    "photo.json", "photo.overlay.png", "photo.mask.png", "photo.heat-1-a-dog.png", "photo.npz", "labelme/photo.json",
    "yolo/labels/photo.txt", "yolo/images/photo.jpg", "mmseg/ann_dir/photo.png", "mmseg/img_dir/photo.png",
)  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("flags", [[], ["--overwrite"]], ids=str)
def test_files_that_were_not_written_here_are_not_replaced(run: Run, here: Path, name: str, flags: list[str]) -> None:
    path = here / "out" / name
    path.parent.mkdir(parents=True)
    if path.suffix == ".json":
        path.write_text('{"version": "5.5.0", "shapes": []}')
    else:
        shutil.copy("photo.png", path)
    before = path.read_bytes()
    words = ("photo.png", "a dog", "grass", "--format", "overlay,mask,heat,npz,labelme,yolo,mmseg", *flags)
    code, _, err = run(*words)
    assert (code, len(err.splitlines()), name in err) == (2, 1, True)
    assert {each: each.read_bytes() for each in path.parents[0].iterdir()} == {path: before}
    path.unlink()
    assert run(*words)[0] == 0
    assert run(*words)[0] == 0  # its own files are replaced


@pytest.mark.parametrize("name", ["photo.mask.png", "labelme/photo.json", "mmseg/ann_dir/photo.png"])
def test_results_that_were_changed_since_are_neither_replaced_nor_deleted(run: Run, here: Path, name: str) -> None:
    words = ["photo.png", "a dog", "grass", "--format"]
    kinds = "mask,labelme,mmseg"
    assert run(*words, kinds)[0] == 0
    path = here / "out" / name
    if path.suffix == ".json":
        path.write_text(path.read_text().replace('"flags": {}', '"flags": {"checked": true}'))
    else:
        Image.open(path).convert("L").save(path)
    before = path.read_bytes()
    code, _, err = run(*words, kinds)
    assert (code, len(err.splitlines()), name in err) == (2, 1, True)
    assert run(*words, "rle", "--refine", "1")[0] == 0
    assert run(*words, "rle", "--overwrite")[0] == 0
    assert path.read_bytes() == before
