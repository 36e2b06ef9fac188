from __future__ import annotations

import pytest

from eval import single_prompt
from pacl.errors import UserError
from pacl.models.loading import load_model


def test_a_thing_that_is_there_is_found_and_one_that_is_not_is_not() -> None:
    """The bundled model, asked for one thing at a time."""
    model = load_model("bundled")
    margin = model.config.contrast_margin
    for pairs in ("seen", "held_out"):
        ious, shares = single_prompt.measure(model, [margin], "test", pairs, 12)[margin]
        assert sorted(ious)[len(ious) // 2] >= 0.5
        assert sum(shares) / len(shares) < 0.02
    assert model.config.contrast_margin == margin


def test_a_wider_margin_gives_more_pixels() -> None:
    found = single_prompt.measure(load_model("bundled"), [0.0, 0.3], "val", "seen", 3)
    assert sum(found[0.3][1]) > sum(found[0.0][1])


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert single_prompt.main(["--scenes", "1", "--margins", "0.1"]) == 0
    assert capsys.readouterr().out.count("0.10") == 2
    with pytest.raises(UserError, match="--scenes 0"):
        single_prompt.main(["--scenes", "0"])
