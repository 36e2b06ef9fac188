"""Whose tokens they are: the image tower's, whatever the texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pacl.data.crop import SquareCrop
from pacl.data.token_stamp import Stamp
from pacl.data.token_store import TokenStore
from pacl.errors import UserError
from pacl.models.backbone import Backbone, load_backbone
from tests.data.token_store.stores import Encoder, Named, NotAsked
from tests.models.towers.test_static_tower import TOKENS as WORDS
from tests.models.towers.test_static_tower import save_tower
from tests.tiny import save_tiny_clip


def tokens_of(clip: Backbone) -> Tensor:
    """Of three images, [3, P, W]."""
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return clip.patch_tokens(clip.normalize(images), "clip")[0]


def stamp_of(clip: Backbone, size: int = 32, dense: str = "clip") -> Stamp:
    return Stamp.of(clip, dense, size, SquareCrop(), Named("a", "b", "c"), "bfloat16")  # type: ignore[arg-type]


def build(folder: Path, clip: Backbone) -> TokenStore:
    return TokenStore.build(folder, stamp_of(clip), Encoder(3, tokens=tokens_of(clip)))


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    """Text towers that differ in kind, width and activation."""
    return [
        save_tower(tmp_path / "words"),
        save_tower(tmp_path / "others", embeddings=torch.randn(len(WORDS), 3)),
        save_tiny_clip(tmp_path / "quick", quick_gelu=True, seed=1),
    ]


@pytest.mark.parametrize("image", ["timm", "clip", "quick clip"])
def test_backbones_that_differ_in_their_texts_share_a_store(tmp_path: Path, texts: list[str], image: str) -> None:
    name = "timm:test_efficientnet/random"
    if image != "timm":
        name = save_tiny_clip(tmp_path / "image", quick_gelu=image == "quick clip")
    backbones = [load_backbone(f"{name}+{text}") for text in texts]
    assert len({clip.checksum() for clip in backbones}) == len(texts)
    kept = build(tmp_path / "store", backbones[0]).rows(range(3))
    for clip in backbones[1:]:
        store = TokenStore.build(tmp_path / "store", stamp_of(clip), NotAsked())
        assert torch.equal(store.rows(range(3)), kept)
        assert torch.equal(kept, tokens_of(clip).bfloat16())


@pytest.mark.parametrize("field", ["backbone", "weights", "quick_gelu", "dense", "layers", "size"])
def test_a_store_of_another_image_tower_is_refused(tmp_path: Path, texts: list[str], field: str) -> None:
    image = save_tiny_clip(tmp_path / "image")
    build(tmp_path / "store", load_backbone(f"{image}+{texts[0]}"))
    options: dict[str, Any] = {}
    if field == "backbone":
        image = save_tiny_clip(tmp_path / "copy")  # the weights may be the same
    elif field == "weights":
        image = save_tiny_clip(tmp_path / "image", seed=1)  # of the same name
    elif field == "quick_gelu":
        options = {"quick_gelu": True}
    elif field == "layers":
        options = {"layers": [0]}
    clip = load_backbone(f"{image}+{texts[0]}", **options)
    stamp = stamp_of(clip, 64 if field == "size" else 32, "value" if field == "dense" else "clip")
    with pytest.raises(UserError, match=f"the tokens in store have {field} "):
        TokenStore.build(tmp_path / "store", stamp, NotAsked())
