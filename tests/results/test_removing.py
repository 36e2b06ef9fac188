"""What `overwrite` deletes: this folder's results, all of them, and nothing else."""

from __future__ import annotations

from pathlib import Path

from pacl.results.formats import FORMATS
from pacl.results.removing import own_results
from pacl.results.sharing import of_other_labels
from pacl.results.writer import Writer
from tests.results.drawn import files, write_one


def test_overwrite_leaves_this_run_alone_and_what_others_wrote(tmp_path: Path) -> None:
    write_one(tmp_path, tuple(FORMATS), "cat", "blanket", name="deep/old")
    (tmp_path / "mine.json").write_text("{}")
    write_one(tmp_path, ("mask", "rle"), "dog", "grass", overwrite=True)
    assert files(tmp_path) == {"a.mask.png", "a.json", "mine.json"}


def test_overwrite_keeps_everything_until_an_image_is_written(tmp_path: Path) -> None:
    write_one(tmp_path, ("mask", "rle", "coco"), "cat", "blanket", name="old")
    before = files(tmp_path)
    Writer(tmp_path, ("mask", "coco"), {}, overwrite=True).start(["dog"], {"a": "a.png"})
    assert files(tmp_path) == before


def test_a_folder_of_results_below_another_is_left_alone(tmp_path: Path) -> None:
    write_one(tmp_path / "mine", tuple(FORMATS), "cat", "wall", name="a")
    write_one(tmp_path / "mine", ("mask",), "cat", "wall", name="deep/b")
    (tmp_path / "mine" / "b.json").touch()  # of an image whose record is lost
    (tmp_path / "mine" / "a.mask.png").rename(tmp_path / "mine" / "b.mask.png")
    before = files(tmp_path)
    write_one(tmp_path, ("mask",), "cat", "sky", name="nested/c")  # belongs to the folder above
    other = of_other_labels(tmp_path, ["dog"])
    assert other is not None
    assert other[0].name == "c.json"
    write_one(tmp_path, ("mask",), "dog", overwrite=True)
    assert files(tmp_path) == before | {"a.mask.png", "a.json"}
    write_one(tmp_path / "mine", ("mask",), "dog", overwrite=True)  # which was named itself
    assert files(tmp_path / "mine") == {"a.mask.png", "a.json", "b.json"}


def test_overwrite_tells_what_it_removed(tmp_path: Path) -> None:
    write_one(tmp_path, ("mask", "rle", "overlay"), "cat", "wall", name="a")
    write_one(tmp_path, ("mask",), "cat", "wall", name="b")
    (tmp_path / "b.json").unlink()
    assert set(own_results(tmp_path)) == {tmp_path / "a.json", tmp_path / "b.mask.png"}
