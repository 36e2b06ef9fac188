"""Model cards are read by the hub's own client, and heads go to a hub and back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from pacl.models.backbone import Backbone
from pacl.models.card import CALIBRATED, TASK, TrainingRun, with_calibration, write_card
from pacl.models.config import SHIPPED
from pacl.models.head import shipped_folder
from pacl.models.model import PACL
from tests.tiny import fill_hub_cache, trained_head


def training(**figures: float) -> TrainingRun:
    return TrainingRun(["a.csv"], {"lr": 1e-3}, figures, steps=3, images=12, skipped=0, seconds=60.0, device="1 x CPU")


def test_a_card_has_the_fields_of_the_hub(clip: Backbone, tmp_path: Path) -> None:
    trained_head(clip).save_pretrained(tmp_path)
    data = ModelCard.load(tmp_path / "README.md", ignore_metadata_errors=False).data
    assert (data.library_name, data.pipeline_tag) == ("pacl", TASK)
    assert data.license is None  # it is for whoever trained the head to choose
    assert "open-vocabulary-segmentation" in data.tags
    assert data.eval_results is None


def test_the_figures_of_a_training_are_a_model_index(clip: Backbone) -> None:
    config = PACL.untrained(clip).config
    data = ModelCard(write_card(config, training(val_recall=0.25, lr=0.1)), ignore_metadata_errors=False).data
    assert data.metrics == ["recall"]
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value, result.task_type) == ("recall", 0.25, TASK)
    assert data.to_dict()["model-index"][0]["name"] == data.model_name


def test_figures_of_an_earlier_step_state_it(clip: Backbone) -> None:
    run = replace(training(val_recall=0.25, miou=0.5, loss=1.5), measured_at={"val_recall": 3, "miou": 2})
    assert [run.step_of(name) for name in run.figures] == ["", " after step 2", ""]
    assert "| miou after step 2 | 0.5 |" in write_card(PACL.untrained(clip).config, run)


def test_a_card_tells_of_the_last_calibration_and_keeps_the_rest() -> None:
    for card in ("", "# Mine", "---\na: 1\n---\n# Mine\n\n## Data\n\ntwo\n\nlines\n"):
        first = with_calibration(card, 100, 0.25)
        assert first.count(CALIBRATED) == 1
        assert first.startswith(card)
        assert ("100 photos" in first, "0.250" in first) == (True, True)
        assert with_calibration(f"{first}\n## Later\n", 20, 0.5) == f"{with_calibration(card, 20, 0.5)}\n## Later\n"


def test_a_head_for_a_clip_of_the_hub_names_it(clip: Backbone) -> None:
    config = PACL.untrained(clip).config
    config.backbone = "hf-hub:somebody/clip"
    assert ModelCard(write_card(config)).data.base_model == "somebody/clip"


@pytest.mark.parametrize("name", SHIPPED)
def test_cards_of_shipped_heads_have_them_too(name: str) -> None:
    data = ModelCard.load(shipped_folder(name) / "README.md", ignore_metadata_errors=False).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("pacl", TASK, "apache-2.0")


def test_a_loaded_head_keeps_its_card(clip: Backbone, tmp_path: Path) -> None:
    model = trained_head(clip)
    model.save_pretrained(tmp_path / "a", card=write_card(model.config, training(val_recall=0.5)))
    PACL.from_pretrained(tmp_path / "a", clip=clip).save_pretrained(tmp_path / "b")
    assert (tmp_path / "b/README.md").read_text() == (tmp_path / "a/README.md").read_text()


def test_a_head_goes_to_the_hub_and_back(clip: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, repositories = tmp_path / "hub", []

    class Api:
        def __init__(self, **_: Any) -> None: ...

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            repositories.append(repo_id)
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, folder_path: Path, **_: Any) -> str:
            shutil.copytree(folder_path, hub)
            return "done"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    model = trained_head(clip)
    model.push_to_hub(
        "somebody/head", model_card_kwargs={"datasets": ["somebody/photos"], "language": "en", "license": "mit"}
    )
    assert repositories == ["somebody/head"]
    data = ModelCard.load(hub / "README.md", ignore_metadata_errors=False).data
    assert (data.datasets, data.language, data.library_name) == (["somebody/photos"], "en", "pacl")
    assert data.license == "mit"

    fill_hub_cache(tmp_path / "cache", "somebody/head", hub)
    back = PACL.from_pretrained("somebody/head", clip=clip, cache_dir=tmp_path / "cache", local_files_only=True)
    for key, value in model.head_state().items():
        assert torch.equal(back.head_state()[key], value), key


def test_saving_with_push_to_hub_uploads_what_was_saved(
    clip: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: list[str] = []

    class Api:
        def __init__(self, **_: Any) -> None: ...

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, folder_path: Path, **_: Any) -> str:
            uploaded.append((Path(folder_path) / "README.md").read_text())
            return "done"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    trained_head(clip).save_pretrained(tmp_path, card="# Mine\n", push_to_hub=True)
    assert uploaded == [(tmp_path / "README.md").read_text()] == ["# Mine\n"]
