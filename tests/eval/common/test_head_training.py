"""Mean and standard deviation over seeds, and the files of results."""

from __future__ import annotations

import json
from types import SimpleNamespace

from pytorch_lightning import LightningModule, Trainer

from eval.common import head_training
from eval.common.head_training import mean_and_std, write_report
from pacl.cli.progress import tracked


def test_mean_and_std():
    assert mean_and_std([]) == ""
    assert mean_and_std([50.04]) == "50.0"
    assert mean_and_std([1.0, 2.0, 3.0]) == "2.0 ± 1.0"


def test_a_report_is_json_and_optionally_markdown(tmp_path):
    write_report(tmp_path, "tuned", {"lr": 0.1})
    write_report(tmp_path, "table", {"rows": [1]}, "# ± page\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.json", "table.md", "tuned.json"]
    assert json.loads((tmp_path / "tuned.json").read_text()) == {"lr": 0.1}
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == "# ± page\n"


def test_a_training_shows_the_progress_of_its_data(monkeypatch):
    class Head(LightningModule):
        pacl = "trained"

    data = SimpleNamespace()
    shown = []
    monkeypatch.setattr(head_training, "PACLModule", Head)
    monkeypatch.setattr(Trainer, "fit", lambda _, module, data: shown.append(data.tracked))
    assert head_training.train_head(None, {}, data, {"max_steps": 1}, seed=0) == "trained"
    assert shown == [tracked]
