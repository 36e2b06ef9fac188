"""A folder holds the results of one kind of command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pacl import Segmenter, bulk, calibrate, export, segment
from pacl.cli.early import check_training
from pacl.deployment.export import NAME, VERSION
from pacl.deployment.folder import DESCRIPTION
from pacl.errors import ArgumentError
from pacl.images import save_image
from pacl.jobs.folder import JobFolder
from pacl.models.head import shipped_folder
from pacl.results.kinds import EXPORT, JOB, SEGMENTED, check_kind, is_model
from tests.colours import ColourModel
from tests.segmentation.red_square import SQUARE

LABELS = ["grey", "red"]


def head(folder: Path) -> None:
    shutil.copytree(shipped_folder("bundled"), folder, dirs_exist_ok=True)


def segmented(folder: Path) -> None:
    segmenter = Segmenter(ColourModel())
    segmenter.set_image(SQUARE)
    segmenter.predict(LABELS).save(folder)


def exported(folder: Path) -> None:
    folder.mkdir()
    (folder / DESCRIPTION).write_text(json.dumps({"format": NAME, "version": VERSION}, indent=1))


def job(folder: Path) -> None:
    JobFolder(folder, {"labels": LABELS})


def empty(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / name).touch()

    return make


HOLDERS = {
    "head": head,
    "pretrained model": empty("open_clip_config.json"),
    "probe": empty("probe.json"),
    EXPORT: exported,
    JOB: job,
    SEGMENTED: segmented,
}


@pytest.mark.parametrize("held", HOLDERS)
def test_each_kind_is_refused_to_all_others(held: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    check_kind(folder, held, "out")
    HOLDERS[held](folder)
    before = sorted(folder.rglob("*"))
    for kind in HOLDERS:
        if kind == held:
            check_kind(folder, kind, "out")
        else:
            with pytest.raises(ArgumentError, match=held) as error:
                check_kind(folder, kind, "out")
            assert error.value.argument == "out"
        check_kind(tmp_path, kind, "out")  # what lies below a folder is not in it
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["config.json", "model.json", "run.json", "checkpoints/last.ckpt", "a.json", "b.jsonl"]
)
def test_files_of_other_programs_are_of_no_kind(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"format": "mine"}')
    for kind in (SEGMENTED, EXPORT, JOB):
        check_kind(tmp_path, kind, "out")


@pytest.fixture
def image(tmp_path: Path) -> str:
    save_image(tmp_path / "image.png", SQUARE)
    return str(tmp_path / "image.png")


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("held", ["head", SEGMENTED])
def test_commands_refuse_a_folder_before_they_load_a_model(
    held: str, overwrite: list[str], image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, listed = str(tmp_path / "folder"), tmp_path / "list.txt"
    HOLDERS[held](tmp_path / "folder")
    listed.write_text(image)
    monkeypatch.setattr("pacl.cli.model.load", None)
    for command, words in (
        (segment.main, [image, "a fish", *overwrite]),
        (bulk.main, [str(listed), "a fish"]),
        (export.main, ["a fish", "--to", "pt2", *overwrite]),
        (calibrate.main, ["bundled", image, *overwrite]),
        (check_training, ["--data.pairs", str(listed), *(["--overwrite", "true"] if overwrite else [])]),
    ):
        own = SEGMENTED if command is segment.main else "head" if command in (calibrate.main, check_training) else ""
        if held != own:
            with pytest.raises(ArgumentError, match=held):
                command([*words, "--out", folder])


@pytest.mark.parametrize("kind", HOLDERS)
def test_the_folder_of_a_model_is_known_as_one(kind: str, tmp_path: Path) -> None:
    assert not is_model(tmp_path / "folder")
    HOLDERS[kind](tmp_path / "folder")
    assert is_model(tmp_path / "folder") == (kind in ("head", "pretrained model"))


def test_a_result_is_not_saved_among_the_files_of_a_head(tmp_path: Path) -> None:
    head(tmp_path / "head")
    with pytest.raises(ArgumentError) as error:
        segmented(tmp_path / "head")
    assert error.value.argument == "folder"
