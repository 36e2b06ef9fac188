"""The compiled image tower: its tokens are those of the tower, from one graph."""

from __future__ import annotations

import pytest
import torch
from torch._inductor import cpp_builder, exc

from pacl.cli.model import add_model, load
from pacl.cli.parser import new_parser
from pacl.errors import UserError
from pacl.models.backbone import Backbone, load_backbone


@pytest.mark.parametrize("dense", ["clip", "naclip"])
def test_tokens_are_those_of_the_tower(tiny_clip: str, dense: str) -> None:
    plain, compiled = load_backbone(tiny_clip), load_backbone(tiny_clip)
    compiled.image.compile(backend="eager", fullgraph=True)  # (traced, but not translated, which takes a minute)
    for side in (32, 56):
        images = torch.rand(2, 3, side, 48)
        (expected, grid), (tokens, own) = (each.patch_tokens(images, dense, 4) for each in (plain, compiled))
        assert own == grid
        torch.testing.assert_close(tokens, expected)
    weights = {key: value + 0.1 for key, value in plain.image.state_dict().items()}
    for each in (plain, compiled):
        each.image.load_state_dict(weights)
    torch.testing.assert_close(compiled.patch_tokens(images, dense, 4)[0], plain.patch_tokens(images, dense, 4)[0])


def test_the_compiled_tower_samples_its_positions_as_each_call_asks(tiny_clip: str) -> None:
    plain, compiled = load_backbone(tiny_clip), load_backbone(tiny_clip)
    compiled.image.compile(backend="eager", fullgraph=True)
    images = torch.rand(1, 3, 48, 56)
    for how in ("centres", "published", "centres", "published"):
        (expected, _), (tokens, _) = (each.patch_tokens_of(images, ["clip"], None, how) for each in (plain, compiled))
        torch.testing.assert_close(tokens, expected)
    assert not torch.allclose(expected[0], plain.patch_tokens(images)[0])


def test_the_flag_compiles(tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Backbone] = []
    monkeypatch.setattr(Backbone, "compile_image_tower", lambda self: compiled.append(self))
    parser = new_parser("test", "")
    add_model(parser.add_argument_group("model"), many=True)
    for words, count in (([], 0), (["--compile"], 1)):
        load(parser.parse_args(["--model", tiny_clip, "--device", "cpu", *words]))
        assert len(compiled) == count


def test_without_a_compiler_it_is_refused(tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def find() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", find)
    with pytest.raises(UserError, match=r"C\+\+"):
        load_backbone(tiny_clip).compile_image_tower()
