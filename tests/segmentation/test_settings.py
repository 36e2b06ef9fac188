"""Settings that make no sense, and what they cost to import."""

import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pacl.errors import ArgumentError, UserError
from pacl.prompts import Label
from pacl.segmentation.background import Background
from pacl.segmentation.query import make_query
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import ColourModel, noise
from tests.paths import ROOT

# --- Settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"dilations": (5,)}, "dilations"),
        ({"dilations": (0,), "refine": 1}, "dilations"),
        ({"dilations": (1, 2), "refine": "sam:sam"}, "dilations"),
        ({"dilations": (2, 10**6), "refine": 1}, "dilations"),
        ({"dilations": (True,), "refine": 1}, "dilations"),
        ({"refine": True}, "refine"),
        ({"prior": True}, "prior"),
        ({"scales": (True,)}, "scales"),
        ({"size": 10**7}, "size"),
        ({"scales": (1e9,)}, "scales"),
        ({"scales": (1e300,)}, "scales"),
        ({"prior": 1.01}, "prior"),
        ({"prior": -30}, "prior"),
        ({"size": 0}, "size"),
        ({"size": 4}, "size"),
        ({"window": 7}, "window"),
        ({"stride": 9}, "stride"),
        ({"stride": 0}, "stride"),
        ({"window_step": 8}, "window_step"),
        ({"window": 16, "window_step": 17}, "window_step"),
        ({"window_batch": 0}, "window_batch"),
        ({"refine": -1}, "refine"),
        ({"logit_scale": 0.0}, "logit_scale"),
        ({"logit_scale": 1e-40}, "logit_scale"),
        ({"logit_scale": 1e39}, "logit_scale"),
        ({"scales": ()}, "scales"),
        ({"scales": (1.0, 0.0)}, "scales"),
        ({"scales": (-1.0,)}, "scales"),
        ({"scales": (float("inf"),)}, "scales"),
        ({"scales": (float("nan"),)}, "scales"),
        ({"scales": (1.0, 2.0), "accumulate": "pixel"}, "scales"),
        ({"accumulate": "pixels"}, "accumulate"),
        ({"precision": "fp16"}, "precision"),
        ({"positions": "corners"}, "positions"),
        ({"remainder": "drop"}, "remainder"),
        ({"remainder": "cut", "accumulate": "patch"}, "remainder"),
        ({"upsampling": "thrice"}, "upsampling"),
        ({"background": "black"}, "background"),
        ({"templates": "nice"}, "templates"),
        ({"templates": "nice" * 100}, "templates"),
        ({"size": "224"}, "size"),
        ({"size": 64.5}, "size"),
        ({"window": 64.0}, "window"),
        ({"window_batch": 2.0}, "window_batch"),
        ({"window_batch": 10**30}, "window_batch"),
        ({"refine": 1.5}, "refine"),
        ({"refine": None}, "refine"),
        ({"dilations": 3, "refine": 1}, "dilations"),
        ({"dilations": (1.5,), "refine": 1}, "dilations"),
        ({"scales": 1.0}, "scales"),
        ({"scales": "1,2"}, "scales"),
        ({"window": "224/112"}, "window"),
        ({"min_area": None}, "min_area"),
        ({"logit_scale": "40"}, "logit_scale"),
        ({"background": None}, "background"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_name_their_argument(settings: dict, argument: str) -> None:
    with pytest.raises(UserError, match="" if argument != "templates" else "nice") as error:
        Segmenter(ColourModel(), SegmenterSettings(**settings))
    assert getattr(error.value, "argument", "templates") == argument
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("settings", [{"prior": 7.0}, {"templates": "nice"}], ids=str)
def test_ranges_and_names_are_checked_before_there_is_a_model(settings: dict) -> None:
    with pytest.raises(ArgumentError) as error:
        SegmenterSettings(**settings)
    assert error.value.argument == next(iter(settings))


def test_a_number_of_iterations_in_quotes_is_named_as_a_text() -> None:
    with pytest.raises(ArgumentError, match=r"'10': is a text; .* 10$") as error:
        SegmenterSettings(refine="10")
    assert error.value.argument == "refine"


def test_distances_beside_sam_are_not_blamed_on_a_missing_refine() -> None:
    with pytest.raises(ArgumentError) as error:
        SegmenterSettings(refine="sam:tiny", dilations=(1, 2))
    assert error.value.argument == "dilations"
    assert "sam:tiny" in error.value.reason
    assert "without refine" not in error.value.reason


def test_numbers_of_numpy_become_pythons() -> None:
    plain: dict[str, Any] = {"size": 64, "scales": (1.0, 2.0), "min_area": 0.25, "prior": 0.5, "refine": 3}
    settings = SegmenterSettings(
        size=np.int64(64),  # type: ignore[arg-type]
        scales=(np.float32(1), np.float64(2)),  # type: ignore[arg-type]
        min_area=np.float32(0.25),  # type: ignore[arg-type]
        prior=np.float32(0.5),  # type: ignore[arg-type]
        refine=np.int32(3),  # type: ignore[arg-type]
    )
    assert settings == SegmenterSettings(**plain)
    assert json.dumps(dataclasses.asdict(settings)) == json.dumps(dataclasses.asdict(SegmenterSettings(**plain)))
    assert repr(settings) == repr(SegmenterSettings(**plain))
    for wrong in ({"size": np.float64(64)}, {"size": np.bool_(True)}, {"prior": np.array([0.5])}):
        with pytest.raises(ArgumentError):
            SegmenterSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{"refine": 10}, [("refine", 10)], "refine=10", 10])
def test_settings_of_another_type_name_the_class(settings: Any) -> None:
    with pytest.raises(ArgumentError) as error:
        Segmenter(ColourModel(), settings)
    assert error.value.argument == "settings"
    assert "SegmenterSettings(refine=10)" in error.value.reason


@pytest.mark.parametrize("model", [None, 3, object()])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(ArgumentError) as error:
        Segmenter(model)
    assert error.value.argument == "model"


def test_a_model_may_be_given_by_its_name(tiny_clip: str) -> None:
    assert Segmenter(tiny_clip).model.name == tiny_clip


@pytest.mark.parametrize(("labels", "rule"), [(["red"], "contrast"), (["red", "blue"], "none")])
def test_nothing_is_left_open_in_the_settings_of_a_result(labels: list[str], rule: str) -> None:
    segmenter = Segmenter(ColourModel())
    segmenter.set_image(noise(32, 32))
    found = segmenter.predict(labels)
    assert found.settings.background == found.background == rule
    assert found.settings == segmenter.resolved_settings(len(labels))
    assert segmenter.resolved_settings().background == "auto", "it depends on the number of labels"


def test_what_is_not_encoded_names_the_methods_that_encode() -> None:
    segmenter = Segmenter(ColourModel())
    (image,) = segmenter.encode([noise(32, 32)], ["image"])
    for given, argument in ((("x.jpg", ["red"]), "image"), ((image, ["red"]), "encoded")):
        with pytest.raises(ArgumentError) as error:
            segmenter.segment(*given)  # type: ignore[arg-type]
        assert error.value.argument == argument
        assert {"set_image", "predict"} <= set(error.value.reason.replace(",", "").split())


def test_settings_do_not_import_torch() -> None:
    code = "import sys, pacl.segmentation.settings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_over_long_background_prompts_are_refused_like_any() -> None:
    model = ColourModel()
    model.clip.count_tokens = lambda text: len(text.split())  # type: ignore[method-assign]
    model.clip.context_length = 5
    segmenter = Segmenter(model, SegmenterSettings(background="prompt:" + "sand " * 9))
    segmenter.set_image(noise(32, 32))
    with pytest.raises(UserError, match="too long"):
        segmenter.predict(["red"])


def test_the_contrast_margin_is_what_competitors_must_be_ahead_by() -> None:
    model = ColourModel()
    model.config.contrast, model.config.contrast_margin = ["blue"], 0.25
    red = [Label("red", ("red",))]
    query = make_query(red, Background("contrast"), model.config)
    assert (query.prompts, query.ids, query.margin) == (("blue", "red"), (0, 1), 0.25)
    assert make_query(red, Background("prompt", ("blue",)), model.config).margin == 0
    model = ColourModel()
    narrow = Segmenter(model, SegmenterSettings(background="contrast"))
    narrow.set_image(noise(64, 64))
    shares = []
    for margin in (0.0, 0.1, 2.0):
        model.config.contrast_margin = margin
        shares.append(narrow.predict(["red"]).shares[0])
    assert shares[0] < shares[1] < shares[2] == 1


@pytest.mark.parametrize(("name", "meant"), [("refin", "refine"), ("windows", "window"), ("qqq", "templates")])
def test_a_mistyped_setting_names_what_was_meant(name: str, meant: str) -> None:
    with pytest.raises(TypeError) as error:
        SegmenterSettings(**{name: 3})  # type: ignore[arg-type]
    assert repr(name) in str(error.value)
    assert meant in str(error.value)
    assert dataclasses.replace(SegmenterSettings(), refine=3).refine == 3
    assert next(iter(inspect.signature(SegmenterSettings).parameters)) == "size"


@pytest.mark.parametrize(
    ("settings", "example"),
    [
        ({"scales": 2}, "(1, 2)"),
        ({"refine": 1, "dilations": 8}, "(8, 16)"),
        ({"window": "224/112"}, "window=224, window_step=112"),
    ],
)
def test_settings_of_a_wrong_type_show_what_to_write(settings: dict, example: str) -> None:
    with pytest.raises(ArgumentError) as error:
        SegmenterSettings(**settings)
    assert example in error.value.reason


def test_a_path_of_templates_is_a_text(tmp_path: Path) -> None:
    """Settings are written to JSON, and compared."""
    (tmp_path / "t.txt").write_text("a {}.")
    settings = SegmenterSettings(templates=tmp_path / "t.txt")  # type: ignore[arg-type]
    assert settings == SegmenterSettings(templates=str(tmp_path / "t.txt"))
    json.dumps(dataclasses.asdict(settings))
