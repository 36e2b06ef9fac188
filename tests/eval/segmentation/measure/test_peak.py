"""The background rule `peak` in a benchmark."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eval.segmentation.measure import Bench, Extras, Row, gather, measure
from pacl.errors import ArgumentError
from pacl.prompts import Label
from tests.colours import ColourModel, picture
from tests.eval.segmentation.measure.benches import BLUE, GREEN, GREY, RED, a_protocol, folder_of


def calibrated() -> ColourModel:
    """One to which grey is nothing: red scores 0.42 where it is, and 0 on grey."""
    model = ColourModel()
    model.centre = model.encode_prompts(["grey"])[0]  # type: ignore[assignment]
    model.config.presence = 0.3
    return model


PEAK = a_protocol(size=64, background="peak:0.6", background_text=False)


def test_under_peak_class_0_is_what_scores_too_little(tmp_path):
    image = picture(64, 64, (0, 32, 0, 64))  # red above, grey below
    row = Row("pacl", calibrated(), PEAK, [GREY, RED, BLUE], True)  # type: ignore[arg-type]
    nothing = Row("pacl", calibrated(), PEAK, [GREY, BLUE, GREEN], True)  # type: ignore[arg-type]
    ((*_, found),), ((*_, none),) = (
        next(Bench(folder_of(tmp_path), [each], Extras()).predict([image])) for each in (row, nothing)
    )
    assert found[:28].tolist() == [[1] * 64] * 28
    assert found[36:].max() == none.max() == 0


def test_peak_of_a_model_that_is_not_calibrated_is_refused_before_anything_is_measured(tmp_path):
    given = replace(PEAK, changed=("background",))
    for protocol, argument in ((given, "background"), (PEAK, "protocol")):  # the option that was given, if any
        with pytest.raises(ArgumentError) as error:
            Bench(folder_of(tmp_path), [Row("pacl", ColourModel(), protocol, [GREY, RED, BLUE], True)], Extras())  # type: ignore[arg-type]
        assert (error.value.argument, "pacl.calibrate" in str(error.value)) == (argument, True)
        assert "background peak:0.6" in error.value.with_flags()


def test_the_level_of_peak_is_no_prompt_and_does_not_count_in_patches(tmp_path):
    """Patches are counted by their cosines with the prompts, whatever the rule."""
    folder = folder_of(tmp_path, names="none\nred\ngreen\n")
    labels, counted = [GREY, Label("red", ("red", "teal")), GREEN], []
    for protocol in (PEAK, a_protocol(size=64, background="threshold:0.5", background_text=False)):
        row = Row("pacl", calibrated(), protocol, labels, True)  # type: ignore[arg-type]
        ready = row.prepare({})
        assert ready.classes_of(ready.query) == [1, 1, 2]
        bench = Bench(folder, [row], Extras(patches=True))
        measure(bench, tmp_path / protocol.settings.background)
        counted.append(gather(bench, tmp_path / protocol.settings.background).patches)
    assert counted[0] is not None
    assert counted[0].sum() > 0
    assert np.array_equal(counted[0], counted[1])
