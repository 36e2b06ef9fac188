"""Mean and standard deviation, and result files, of comparisons of trained heads."""

from __future__ import annotations

import json

from eval.common.comparison import mean_and_std, write_results


def test_mean_and_std():
    assert mean_and_std([]) == ""
    assert mean_and_std([50.04]) == "50.0"
    assert mean_and_std([1.0, 2.0, 3.0]) == "2.0 ± 1.0"


def test_results_are_json_with_a_page_if_there_is_one(tmp_path):
    write_results(tmp_path, "tuned", {"lr": 0.1})
    write_results(tmp_path, "table", {"rows": [1]}, "# ± page\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.json", "table.md", "tuned.json"]
    assert json.loads((tmp_path / "tuned.json").read_text()) == {"lr": 0.1}
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == "# ± page\n"
