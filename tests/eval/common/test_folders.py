"""A folder for every command: the same settings find it again, others do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.common.folders import PARTS, RUN, own_folder, start_run
from pacl.errors import ArgumentError

SETTINGS = {"dataset": "imagenet", "limit": 50, "names": ["dog", "cat"], "windows": None}


def test_the_name_is_the_first_digits_of_sha256():
    # printf %s '{"a": 1, "b": "x"}' | sha256sum
    assert own_folder(Path("out"), "imagenet", {"b": "x", "a": 1}) == Path("out/imagenet-ce5c626f")


def test_the_order_of_settings_does_not_count():
    backwards = dict(reversed(SETTINGS.items()))
    assert own_folder(Path("out"), "x", SETTINGS) == own_folder(Path("out"), "x", backwards)


@pytest.mark.parametrize("change", [{"limit": 100}, {"limit": None}, {"names": ["cat", "dog"]}, {"more": True}])
def test_any_other_setting_is_another_folder(change):
    assert own_folder(Path("out"), "x", SETTINGS) != own_folder(Path("out"), "x", {**SETTINGS, **change})


def test_file_names_of_all_kinds():
    found = {own_folder(Path("out"), "x", {"data": path}) for path in (Path("caf\udce9"), Path("café"), "cafe")}
    assert len(found) == 3


def test_what_json_does_not_know_is_a_mistake_of_the_program():
    with pytest.raises(TypeError, match="object"):
        own_folder(Path("out"), "x", {"model": object()})


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
    start_run(tmp_path, {"rows": [{"size": 336, "texts_sha256": "a"}]}, overwrite=False)
    (tmp_path / PARTS).mkdir()
    (tmp_path / PARTS / "0.npz").touch()
    with pytest.raises(ArgumentError, match=r"\(rows\.0\.size 336, now none, rows\.0\.texts\)"):
        start_run(tmp_path, {"rows": [{"size": None, "texts_sha256": "b"}]}, overwrite=False)
