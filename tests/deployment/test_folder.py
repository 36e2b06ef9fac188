"""The folder of an export: what is replaced in it, and what never is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacl import export_model, load_model
from pacl.deployment.folder import LOCK
from pacl.errors import ArgumentError
from pacl.models.model import PACL

LABELS = ["a red fish=fish", "grass;lawn=ground"]


@pytest.fixture(scope="module")
def tiny(tiny_clip: str) -> PACL:
    return load_model(tiny_clip, dense="naclip", device="cpu")


def test_an_export_is_not_replaced_unasked(tiny: PACL, tmp_path: Path) -> None:
    export_model(tiny, tmp_path, "torchscript", LABELS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ArgumentError) as error:
        export_model(tiny, tmp_path, "torchscript")
    assert error.value.argument == "out"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "mine.txt").touch()
    export_model(tiny, tmp_path, "torchscript", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"image.pt", "model.json", "mine.txt", LOCK}


def test_an_earlier_export_is_kept_and_the_flag_named(tiny: PACL, tmp_path: Path) -> None:
    export_model(tiny, tmp_path, "torchscript")
    with pytest.raises(ArgumentError, match="--overwrite") as error:
        export_model(tiny, tmp_path, "torchscript")
    assert error.value.argument == "out"


@pytest.mark.parametrize("name", ["model.json", "classes.npy", "image.onnx"])
def test_files_of_others_are_never_replaced_or_deleted(tiny: PACL, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"format": "graph-model"}')
    for overwrite in (False, True):
        with pytest.raises(ArgumentError, match=name):
            export_model(tiny, tmp_path, "torchscript", overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir() if path.name != LOCK] == [name]
    assert (tmp_path / name).read_text() == '{"format": "graph-model"}'


def test_an_image_of_another_origin_is_kept(tiny: PACL, tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_bytes(b"mine")
    export_model(tiny, tmp_path, "torchscript", overwrite=True)
    export_model(tiny, tmp_path, "torchscript", overwrite=True)
    assert (tmp_path / "image.jpg").read_bytes() == b"mine"


def test_a_folder_that_another_export_holds_is_refused(tiny: PACL, tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / LOCK), pytest.raises(ArgumentError) as error:
        export_model(tiny, tmp_path, "torchscript")
    assert error.value.argument == "out"


def test_a_refused_export_leaves_no_folder_and_a_finished_one_its_lock(tiny: PACL, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError):
        export_model(tiny, tmp_path / "new", "torchscript", labels=[])
    assert not (tmp_path / "new").exists()
    export_model(tiny, tmp_path / "new", "torchscript")
    assert (tmp_path / "new" / LOCK).is_file()  # a lock whose file were removed would keep nobody out
