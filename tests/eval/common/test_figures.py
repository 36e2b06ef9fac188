from __future__ import annotations

import pytest

from eval.common.figures import check_report, save_figures
from pacl.errors import ArgumentError


def test_figures_that_came_meanwhile_are_not_replaced(tmp_path):
    path = tmp_path / "found.json"
    check_report(path, {"limit": 1}, overwrite=False)
    save_figures(path, "eval.x", {"limit": 2}, [], overwrite=False)  # by another process
    before = path.read_bytes()
    with pytest.raises(ArgumentError, match="limit 2, now 1"):
        save_figures(path, "eval.x", {"limit": 1}, [], overwrite=False)
    assert path.read_bytes() == before


def test_auto_may_stand_for_what_a_report_states_until_the_model_is_loaded(tmp_path):
    path = tmp_path / "found.json"
    save_figures(path, "eval.x", {"model": "bundled", "precision": "bf16"}, [], overwrite=False)
    check_report(path, {"model": "auto", "precision": "auto"}, overwrite=False)
    check_report(path, {"model": "bundled", "precision": "bf16"}, overwrite=False)
    for model, precision in (("bundled", "fp32"), ("auto", "fp32"), ("photos", "auto")):
        with pytest.raises(ArgumentError, match="holds results of other settings"):
            check_report(path, {"model": model, "precision": precision}, overwrite=False)
