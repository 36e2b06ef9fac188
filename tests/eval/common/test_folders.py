"""A folder for every command: the same settings find it again, others do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.common.folders import PARTS, RUN, only_writer, own_folder, readable, results_folder, start_run
from eval.common.result import RESULTS, write_results
from pacl.errors import ArgumentError
from tests.eval.results import classified

SETTINGS = {"dataset": "imagenet", "limit": 50, "names": ["dog", "cat"], "windows": None}


def test_the_name_tells_what_is_in_it(tmp_path):
    words = ["voc20", "sclip", "open_clip:ViT-B-16/openai", "24-images"]
    folder = own_folder(tmp_path / "out", words, SETTINGS)
    assert folder == tmp_path / "out/voc20-sclip-ViT-B-16-openai-24-images"
    assert folder.is_dir()
    assert readable(["voc20", "/home/me/runs/" + 60 * "x"]) == "voc20-" + 40 * "x"
    assert readable([".", "caf\udce9"]) == "caf"


def test_the_same_settings_in_any_order_find_their_folder_again(tmp_path):
    own = own_folder(tmp_path, ["x"], SETTINGS)
    assert own_folder(tmp_path, ["x"], dict(reversed(SETTINGS.items()))) == own
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("change", [{"limit": 100}, {"limit": None}, {"names": ["cat", "dog"]}, {"more": True}])
def test_any_other_setting_is_another_folder(change, tmp_path):
    own = own_folder(tmp_path, ["x"], SETTINGS)
    assert own_folder(tmp_path, ["x"], {**SETTINGS, **change}).name == "x-2"
    assert own_folder(tmp_path, ["x"], SETTINGS) == own


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x-2").write_text("a file")
    assert own_folder(tmp_path, ["x"], SETTINGS).name == "x-3"
    assert not list((tmp_path / "x").iterdir())


def test_file_names_of_all_kinds(tmp_path):
    paths = (Path("caf\udce9"), Path("café"), "cafe")
    assert len({own_folder(tmp_path, ["x"], {"data": path}) for path in paths}) == 3


def test_what_json_does_not_know_is_a_mistake_of_the_program(tmp_path):
    with pytest.raises(TypeError, match="object"):
        own_folder(tmp_path, ["x"], {"model": object()})


def test_partial_results_without_settings_are_never_deleted_unasked(tmp_path):
    start_run(tmp_path, {"size": 336}, overwrite=False)
    part = tmp_path / PARTS / "own.txt"
    part.parent.mkdir()
    part.write_text("counts")
    start_run(tmp_path, {"size": 336}, overwrite=False)  # the same run goes on
    for change in (lambda: (tmp_path / RUN).write_text("damaged"), (tmp_path / RUN).unlink):
        change()
        with pytest.raises(ArgumentError) as error:
            start_run(tmp_path, {"size": 336}, overwrite=False)
        assert error.value.argument == "out"
        assert part.exists()
    start_run(tmp_path, {"size": 336}, overwrite=True)
    assert not part.exists()


def test_a_run_of_other_settings_is_refused_with_the_difference(tmp_path):
    before = {"protocol": {"size": 336}, "texts_sha256": "a"}
    start_run(tmp_path, {"rows": [before, before]}, overwrite=False)
    (tmp_path / PARTS).mkdir()
    (tmp_path / PARTS / "0.npz").touch()
    with pytest.raises(ArgumentError, match=r"\(size 336, now none, texts\)"):
        start_run(tmp_path, {"rows": [{"protocol": {"size": None}, "texts_sha256": "b"}] * 2}, overwrite=False)


def test_a_run_that_has_only_begun_owns_its_folder(tmp_path):
    start_run(tmp_path, {"size": 336}, overwrite=False)
    with pytest.raises(ArgumentError, match=r"\(size 336, now 448\)"):
        start_run(tmp_path, {"size": 448}, overwrite=False)
    start_run(tmp_path, {"size": 448}, overwrite=True)


@pytest.mark.parametrize("own", [True, False])
def test_one_process_writes_to_a_folder(own, tmp_path):
    out = None if own else tmp_path / "out"
    with results_folder(out, tmp_path, [classified()], overwrite=False) as folder:
        with pytest.raises(ArgumentError) as error, results_folder(out, tmp_path, [classified()], overwrite=True):
            pass
        assert error.value.argument == "out"
    with only_writer(folder):
        pass


def test_results_do_not_replace_a_run_that_can_go_on(tmp_path):
    folder = tmp_path / classified().dataset
    folder.mkdir()
    start_run(folder, {"size": 336}, overwrite=False, task="segmentation")
    (folder / PARTS).mkdir()
    with pytest.raises(ArgumentError) as error, results_folder(tmp_path, tmp_path, [classified()], overwrite=False):
        pass
    assert error.value.argument == "out"
    with pytest.raises(KeyboardInterrupt), results_folder(tmp_path, tmp_path, [classified()], overwrite=True):
        raise KeyboardInterrupt
    assert (folder / RUN).exists()
    with results_folder(tmp_path, tmp_path, [classified()], overwrite=True):
        write_results(folder, [classified()])
    assert not (folder / RUN).exists()
    assert not (folder / PARTS).exists()
    with pytest.raises(ArgumentError):
        start_run(folder, {"size": 336}, overwrite=False, task="segmentation")


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_run_does_not_go_on_over_results_of_another_command(tmp_path, task):
    start_run(tmp_path, {"size": 336}, overwrite=False, task=task)
    write_results(tmp_path, [classified()])
    if task == "classification":  # its own
        start_run(tmp_path, {"size": 336}, overwrite=False, task=task)
        return
    with pytest.raises(ArgumentError) as error:
        start_run(tmp_path, {"size": 336}, overwrite=False, task=task)
    assert error.value.argument == "out"
    start_run(tmp_path, {"size": 336}, overwrite=True, task=task)
    assert not (tmp_path / RESULTS).exists()
