"""A store of other images, settings or weights is refused by what differs first."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pacl.data.token_stamp import Stamp
from pacl.data.token_store import TokenStore
from pacl.errors import ArgumentError, UserError
from tests.data.token_store.stores import STAMP, Encoder, NotAsked

OTHER: dict[str, Any] = {
    "version": 0,
    "backbone": "open_clip:ViT-B-16/openai",
    "weights": "0",
    "quick_gelu": True,
    "tower": "other",
    "mean": (0.5, 0.5, 0.4),
    "std": (0.25, 0.25, 0.2),
    "dense": "clip",
    "layers": (0, 2),
    "size": 64,
    "cut": "pad",
    "dtype": "float16",
    "precision": "bf16",
    "images": 149,
    "source": "0",
    "patches": 3,
    "width": 8,
}


@pytest.mark.parametrize("field", [field.name for field in fields(Stamp)])
def test_a_stale_store_is_refused_by_what_differs_first(tmp_path: Path, field: str) -> None:
    TokenStore.build(tmp_path, replace(STAMP, **{field: OTHER[field]}), encoder_of(field))
    had, needs = (json.loads(json.dumps(value)) for value in (OTHER[field], getattr(STAMP, field)))
    for use in (TokenStore.open, lambda folder, stamp: TokenStore.build(folder, stamp, NotAsked())):
        with pytest.raises(ArgumentError) as refused:
            use(tmp_path, STAMP)
        assert (refused.value.argument, refused.value.value) == ("cache", tmp_path.parent)
        shown = [f"{had!r} training images" if field == "images" else f"{field} {had!r}", repr(needs)]
        for each in (tmp_path.name, *(["another table"] if field == "source" else shown)):
            assert each in str(refused.value)


def test_another_number_of_held_out_images_is_called_that(tmp_path: Path) -> None:
    TokenStore.build(tmp_path / "val-0", STAMP, Encoder())
    with pytest.raises(ArgumentError, match="150 held-out images, this run has 30"):
        TokenStore.open(tmp_path / "val-0", replace(STAMP, images=30))


def test_a_store_of_an_earlier_version_is_refused_by_its_version(tmp_path: Path) -> None:
    TokenStore.build(tmp_path, STAMP, Encoder())
    stamp = json.loads((tmp_path / "stamp.json").read_text())
    del stamp["tower"]
    (tmp_path / "stamp.json").write_text(json.dumps({**stamp, "version": 1}))
    with pytest.raises(ArgumentError, match="version 1, this run needs 2"):
        TokenStore.open(tmp_path, STAMP)


def encoder_of(field: str) -> Encoder:
    return Encoder(tokens=torch.zeros(150, OTHER[field] if field == "patches" else 4, 8 if field == "width" else 6))


def test_of_two_differences_the_first_is_named(tmp_path: Path) -> None:
    TokenStore.build(tmp_path, replace(STAMP, dense="clip", cut="pad", source="x"), Encoder())
    with pytest.raises(UserError, match=r"dense 'clip'.*'value'"):
        TokenStore.open(tmp_path, STAMP)
