"""What tokens depend on: the image tower, the cut, and the images by names, sizes and content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from pacl.data.crop import SquareCrop
from pacl.data.pairs import FilePairs
from pacl.data.token_stamp import Stamp, source_digest
from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import load_backbone
from tests.data.token_store.stores import Named


def test_the_stamp_of_a_source(tmp_path: Path, tiny_clip: str, photo: Path) -> None:
    clip, source = load_backbone(tiny_clip), FilePairs(photo.parent, {photo.name: ["a photo"]})
    stamp = Stamp.of(clip, "value", 32, SquareCrop("pad"), source, "bfloat16")
    tokens, grid = clip.patch_tokens(torch.zeros(1, 3, 32, 32), "value")
    assert (stamp.patches, stamp.width) == (grid.patches, clip.width) == tokens.shape[1:]
    assert (stamp.backbone, stamp.cut, stamp.size, stamp.images) == (tiny_clip, "pad", 32, 1)
    assert clip.checksum().startswith(stamp.weights)
    assert stamp.layers == ()
    layered = load_backbone(tiny_clip, layers=[-2])
    assert Stamp.of(layered, "value", 32, SquareCrop("pad"), source, "bfloat16").layers == (1,)
    for crop in (SquareCrop("random"), SquareCrop(flip=0.5), SquareCrop("squash", colour=0.1)):
        with pytest.raises(UserError, match=crop.mode):
            Stamp.of(clip, "value", 32, crop, source, "bfloat16")
    with pytest.raises(ArgumentError) as error:
        Stamp.of(clip, "value", 32, SquareCrop(), source, dtype="float32")
    assert error.value.argument == "cache_dtype"


def test_a_source_is_known_by_names_sizes_and_content(tmp_path: Path) -> None:
    def files(folder: str, contents: Mapping[str, bytes]) -> str:
        for name, content in contents.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / name).write_bytes(content)
        return source_digest(FilePairs(tmp_path / folder, {name: ["x"] for name in contents}))

    images = {"a.jpg": b"123", "b.jpg": b"45"}
    digest = files("here", images)
    assert len(digest) == 16
    assert files("there", images) == digest  # the folder may move
    assert files("order", dict(reversed(images.items()))) != digest
    assert files("name", {"a.jpg": b"123", "c.jpg": b"45"}) != digest
    assert files("size", {"a.jpg": b"123", "b.jpg": b"456"}) != digest
    assert files("content", {"a.jpg": b"124", "b.jpg": b"45"}) != digest
    (tmp_path / "here" / "b.jpg").unlink()
    assert source_digest(FilePairs(tmp_path / "here", {name: ["x"] for name in images})) != digest

    def of_names(*names: str) -> str:
        return source_digest(Named(*names))  # type: ignore[arg-type]

    assert of_names("scene 1", "scene 2") == of_names("scene 1", "scene 2")
    assert len({of_names(), of_names("scene 1"), of_names("scene 1", "scene 2"), of_names("scene 2", "scene 1")}) == 4
