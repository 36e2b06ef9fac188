"""Patch tokens at any size and stride, each in its place."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pacl.errors import ArgumentError
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.towers.dense import VARIANTS
from pacl.models.towers.grid import PatchGrid, upsample
from tests.tiny import save_tiny_clip


def test_what_is_read_from_the_model(clip: Backbone) -> None:
    assert (clip.width, clip.dim, clip.patch, clip.size, clip.context_length) == (32, 16, 8, 32, 16)
    assert clip.dense_variants == VARIANTS
    assert clip.projection is not None
    assert clip.projection.shape == (32, 16)
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    assert not clip.train().training


@pytest.mark.parametrize("dense", VARIANTS)
@pytest.mark.parametrize("stride", [None, 4, 3])
@pytest.mark.parametrize("size", [(32, 32), (40, 72), (17, 90), (1, 30)])
def test_any_size_any_stride(clip: Backbone, dense: str, stride: int | None, size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size)
    tokens, grid = clip.patch_tokens(images, dense, stride)
    assert grid == PatchGrid.cover(*size, 8, stride or 8)
    assert tokens.shape == (2, grid.patches, 32)
    assert tokens.isfinite().all()
    one_by_one = torch.cat([clip.patch_tokens(image[None], dense, stride)[0] for image in images])
    torch.testing.assert_close(tokens, one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dense", VARIANTS)
@pytest.mark.parametrize("stride", [8, 4])
@pytest.mark.parametrize("size", [(32, 32), (48, 88), (90, 44)])
@pytest.mark.parametrize("place", [(0, 0), (1, 2), (3, 3)])
def test_what_is_drawn_at_a_place_responds_there(
    tmp_path_factory: pytest.TempPathFactory, dense: str, stride: int, size: tuple[int, int], place: tuple[int, int]
) -> None:
    """Repaint one patch's pixels: the tokens change most at those pixels. One block, so that places do not mix."""
    folder = tmp_path_factory.getbasetemp() / "one-block"
    clip = load_backbone(save_tiny_clip(folder, layers=1))
    top, left = place[0] * 8, place[1] * 8
    before = 0.1 * torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    after = before.clone()
    after[..., top : top + 8, left : left + 8] += 2.0
    (a, grid), (b, _) = clip.patch_tokens(before, dense, stride), clip.patch_tokens(after, dense, stride)
    change = upsample((a - b).norm(dim=-1).view(1, grid.h, grid.w), grid, size)[0]
    strongest = (change >= change.max() * 0.999).nonzero().double().mean(dim=0)
    centre = torch.tensor([top + 3.5, left + 3.5], dtype=torch.float64)
    assert (strongest - centre).abs().max() <= 4  # the patch that was painted: half a patch from its centre


def test_positions_at_the_native_size_are_untouched(clip: Backbone) -> None:
    assert clip.image.positions(PatchGrid(4, 4, 8, 8)) is clip.image.visual.positional_embedding


@pytest.mark.parametrize("grid", [(4, 8), (7, 3)])
def test_positions_of_tiling_patches_are_plain_bicubic_resizing(clip: Backbone, grid: tuple[int, int]) -> None:
    native = clip.image.visual.positional_embedding
    table = native[1:].T.reshape(1, 32, 4, 4)
    expected = F.interpolate(table, size=grid, mode="bicubic", align_corners=False)[0].flatten(1).T
    ours = clip.image.positions(PatchGrid(*grid, 8, 8))
    torch.testing.assert_close(ours[1:], expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(ours[0], native[0])


def test_positions_are_those_of_the_weights_that_are_there_now(clip: Backbone) -> None:
    """Weights that are assigned may lie where former ones lay."""
    tower, grid = copy.deepcopy(clip.image), PatchGrid(6, 6, 8, 8)
    state = tower.state_dict()
    name = next(key for key in state if key.endswith("positional_embedding"))
    shape = state[name].shape
    for number in range(8):
        tower.load_state_dict({**state, name: torch.full(shape, float(number))}, assign=True)
        torch.testing.assert_close(tower.positions(grid), torch.full((37, shape[1]), float(number)))


def test_positions_of_overlapping_patches_are_sampled_at_their_centres(clip: Backbone) -> None:
    """Every second patch of a stride-4 grid is a patch of the stride-8 grid over the same picture."""
    coarse = clip.image.positions(PatchGrid(6, 6, 8, 8))[1:].view(6, 6, 32)
    fine = clip.image.positions(PatchGrid(11, 11, 8, 4))[1:].view(11, 11, 32)
    torch.testing.assert_close(fine[::2, ::2], coarse, rtol=1e-4, atol=1e-6)


def test_the_pooled_embedding_and_the_tokens_in_one_pass(clip: Backbone) -> None:
    images = torch.randn(3, 3, clip.size, clip.size, generator=torch.Generator().manual_seed(0))
    for dense in clip.dense_variants:
        pooled, tokens = clip.encode_image_and_tokens(images, dense)
        assert torch.equal(pooled, clip.encode_image(images))
        torch.testing.assert_close(tokens, clip.patch_tokens(images, dense)[0], rtol=1e-5, atol=1e-5)
    with pytest.raises(ArgumentError) as error:
        clip.encode_image_and_tokens(images, "other")
    assert error.value.argument == "dense"


def test_normalize_takes_bytes_and_fractions(clip: Backbone) -> None:
    images = torch.randint(0, 256, (1, 3, 4, 4), dtype=torch.uint8)
    torch.testing.assert_close(clip.normalize(images), clip.normalize(images.float() / 255))
    grey = torch.tensor(clip.mean).view(1, 3, 1, 1)
    torch.testing.assert_close(clip.normalize(grey), torch.zeros(1, 3, 1, 1))


def test_variants_and_strides_a_tower_cannot_do(clip: Backbone) -> None:
    images = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ArgumentError) as error:
        clip.patch_tokens(images, "best")
    assert error.value.argument == "dense"
    with pytest.raises(ArgumentError) as error:
        clip.patch_tokens(images, stride=9)
    assert error.value.argument == "stride"


@pytest.mark.slow
def test_a_resnet_gives_its_plain_features_only() -> None:
    clip = load_backbone("open_clip:RN50/random")
    tokens, grid = clip.patch_tokens(torch.randn(1, 3, 100, 200))
    assert tokens.shape == (1, 4 * 7, 2048)
    assert grid == PatchGrid(4, 7, 32, 32)
    assert clip.projection is None
    with pytest.raises(ArgumentError) as error:
        clip.patch_tokens(torch.zeros(1, 3, 224, 224), "value")
    assert error.value.argument == "dense"
    with pytest.raises(ArgumentError) as error:
        clip.patch_tokens(torch.zeros(1, 3, 224, 224), stride=16)
    assert error.value.argument == "stride"


def test_a_timm_vit_takes_any_size(tmp_path: Path) -> None:
    """A timm tower in a tiny open_clip model, at another size and aspect ratio than its own."""
    import open_clip
    from safetensors.torch import save_file

    config = {
        "embed_dim": 16,
        "vision_cfg": {
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 160,
        },
        "text_cfg": {"context_length": 16, "width": 8, "heads": 2, "layers": 1},
    }
    model = open_clip.CLIP(**config)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    clip = load_backbone(f"local-dir:{tmp_path}")
    tokens, grid = clip.patch_tokens(torch.randn(1, 3, 96, 200))
    assert (grid.h, grid.w, clip.width) == (6, 13, 64)
    assert tokens.shape == (1, 6 * 13, 64)


def test_layers_of_a_clip_come_before_its_final_tokens(clip: Backbone) -> None:
    both = load_backbone(clip.name, layers=[-2, 0])
    assert (both.layers, both.width) == ((0, 1), 3 * 32)
    images = torch.randn(2, 3, 40, 32)
    for dense in ("clip", "value"):
        tokens, _ = both.patch_tokens(images, dense)
        final, _ = clip.patch_tokens(images, dense)
        torch.testing.assert_close(tokens[..., -32:], final)
        assert both.projection is not None
        assert clip.projection is not None
        torch.testing.assert_close(tokens @ both.projection, final @ clip.projection)
    padded = images[:1, :, :32]
    own = clip.image.visual.forward_intermediates(  # type: ignore[operator, union-attr]
        padded, indices=[0], normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
    )
    torch.testing.assert_close(
        both.patch_tokens(padded)[0][..., :32], own["image_intermediates"][0], rtol=1e-4, atol=1e-5
    )
    for bad in ([2], [-1], [-4], [0, 0]):
        with pytest.raises(ArgumentError) as error:
            load_backbone(clip.name, layers=bad)
        assert error.value.argument == "layers"
