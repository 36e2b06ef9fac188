import itertools
import json
import math

import pytest

from eval.scenes import run
from eval.scenes.run import METHODS
from pacl.errors import ArgumentError
from tests.tiny import save_tiny_clip


def test_every_trained_method_starts_from_the_bundled_settings():
    base = run.base_settings()
    known = {*base["model"], *base["data"]["init_args"], "max_steps", "learn_temperature", "start", "hidden"}
    assert all(set(settings) <= known for settings in METHODS.values())
    assert math.isinf(METHODS["mean pooling"]["temperature"])


def test_the_whole_command_in_small(tmp_path, capsys, monkeypatch):
    clip = save_tiny_clip(tmp_path / "clip", patch_size=4)
    monkeypatch.setattr(run, "METHODS", dict(itertools.islice(METHODS.items(), 2)))
    settings = run.base_settings()
    settings["data"]["init_args"] |= {"scenes": 20, "size": 32, "batch_size": 10}
    monkeypatch.setattr(run, "base_settings", lambda: settings)
    monkeypatch.setattr(run, "QUICK_STEPS", 2)
    arguments = ["--model", clip, "--scenes", "4", "--seeds", "0", "--quick", "--out", str(tmp_path / "out")]
    assert run.main(arguments) == 0
    page = capsys.readouterr().out
    for row in (
        "upper bound: majority label",
        "untrained naclip",
        "mean pooling",
        "CLIP's pooled embedding",
        "supervised probe (trained on masks)",
    ):
        assert f"| {row} |" in page
    result = json.loads((tmp_path / "out" / "scenes.json").read_text())
    assert result["settings"]["test scenes"] == "4 + 4"
    bound = result["rows"]["upper bound: label shares"][0]
    for name, row in result["rows"].items():
        for key in bound:
            if key in row[0] and not name.startswith("upper bound"):
                assert row[0][key] <= bound[key], (name, key)
    assert (tmp_path / "out" / "scenes.md").read_text() == page.strip() + "\n"
    with pytest.raises(ArgumentError, match="scenes 4, now 5") as error:  # the figures stay
        run.main([*arguments, "--scenes", "5"])
    assert error.value.argument == "out"
    assert json.loads((tmp_path / "out" / "scenes.json").read_text()) == result
    for more in ([], ["--scenes", "5", "--overwrite"]):
        monkeypatch.setattr(run, "compare", lambda *_: result["rows"])
        assert run.main([*arguments, *more]) == 0
    assert json.loads((tmp_path / "out" / "scenes.json").read_text())["arguments"]["scenes"] == 5


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("scenes", 0),
        ("seeds", -1),
        ("model", "no such model"),
        ("model", "timm:resnet18/random+static:words"),  # no shared space
        ("model", "open_clip:ViT-B-16/random,proxy=timm:vit_tiny_patch16_224/random"),  # no other dense variant
    ],
)
def test_wrong_arguments(argument, value, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "SceneSet", None)  # refused before any scene is rendered
    with pytest.raises(ArgumentError) as error:
        run.main([f"--{argument}", str(value), "--out", str(tmp_path / "out")])
    assert (error.value.argument, error.value.value) == (argument, value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("argument", ["scenes", "seeds", "steps"])
def test_what_a_search_does_not_read_is_refused(argument, tmp_path):
    with pytest.raises(ArgumentError) as error:
        run.main(["--tune", f"--{argument}", "3", "--out", str(tmp_path)])
    assert error.value.argument == argument


def test_a_fallback_model_is_announced_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pacl.models.loading._openai_available", lambda: False)
    with pytest.raises(ArgumentError):  # the photo model has no projection to start from
        run.main(["--model", "auto", "--out", str(tmp_path)])
    assert capsys.readouterr().err.startswith("python -m eval.scenes: warning: ")
