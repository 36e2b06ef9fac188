"""Results survive being written; what is no result is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from eval.common.result import Result, read_results, write_results
from pacl.errors import UserError


def a_result(**changes) -> Result:
    values = {
        "task": "segmentation", "dataset": "voc20", "split": "val", "images": 43, "full": 1449, "method": "naclip",
        "model": {"name": "bundled"}, "protocol": {"name": "naclip", "windows": (224, 112)},
        "scores": {"miou": 7.5, "boundary": math.nan}, "details": {"iou": np.array([1.0, math.nan])},
    }  # fmt: skip
    return Result(**{**values, **changes})


def test_results_come_back(tmp_path):
    write_results(tmp_path / "b", [a_result(), a_result(method="clip")])
    write_results(tmp_path / "a", [a_result(dataset="ade150", images=2000, full=2000)])
    found = read_results(tmp_path)
    assert [(r.dataset, r.method, r.partial) for r in found] == [
        ("ade150", "naclip", False),
        ("voc20", "naclip", True),
        ("voc20", "clip", True),
    ]
    assert found[1].scores["miou"] == 7.5
    assert math.isnan(found[1].scores["boundary"])
    assert found[1].details["iou"] == [1.0, None]
    assert found[1].protocol["windows"] == [224, 112]


def test_a_file_that_is_named_twice_is_read_once(tmp_path):
    files = [write_results(tmp_path / name, [a_result(dataset=name)]) for name in ("a", "b")]
    (tmp_path / "link").symlink_to(tmp_path / "b")
    found = read_results([files[1], tmp_path, files[0], tmp_path / "a", tmp_path / "link"])
    assert [result.dataset for result in found] == ["b", "a"]


def test_a_set_of_unknown_size_counts_as_a_part():
    assert a_result(full=None).partial


@pytest.mark.parametrize(
    "change",
    [
        *({name: None} for name in ("task", "method", "images", "model", "protocol", "scores", "speed", "made")),
        {"images": "3"}, {"images": True}, {"full": "3"}, {"scores": []}, {"scores": {"miou": "much"}},
        {"intervals": {"miou": None}}, {"intervals": {"miou": [1]}}, {"speed": {"x": []}}, {"unknown": 3},
        {"protocol": {"changed": 5}}, {"protocol": {"changed": "size"}}, {"protocol": {"changed": [{}]}},
        {"made": {"date": 5}}, {"scores": {"miou": 10**400}}, {"intervals": {"miou": [0, 10**400]}},
    ],
)  # fmt: skip
def test_fields_of_the_wrong_kind_are_refused(tmp_path, change):
    file = write_results(tmp_path, [a_result()])
    content = json.loads(file.read_text())
    content["results"][0] |= change
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"results\.json"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "", "[]", '{"format": "other"}', '{"format": "pacl-results", "version": 2}']
)
def test_what_is_no_result_is_refused(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match=r"results\.json"):
        read_results(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match=r"results\.json"):
        read_results(tmp_path)
    with pytest.raises(UserError, match=r"absent\.json"):
        read_results(tmp_path / "absent.json")
