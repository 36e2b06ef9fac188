"""A picture as values at its patches: windows, averages, bands, and where everything lies."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import pacl.segmentation.patch_maps
from pacl.errors import ArgumentError
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.model import PACL
from pacl.models.towers.dense import VARIANTS
from pacl.models.towers.grid import PatchGrid, upsample
from pacl.segmentation.encode import encode_images, resize
from pacl.segmentation.patch_maps import PatchMaps, mean_of, split_rows
from pacl.segmentation.settings import SegmenterSettings
from pacl.segmentation.windows import WindowLayout, plan_layout
from tests.colours import ColourModel, noise
from tests.tiny import save_tiny_clip, trained_head


def upsampled(maps: PatchMaps) -> Tensor:
    """All bands together: [K, H, W]."""
    return torch.cat([band for _, _, band in maps.bands()], dim=1)


def test_pixel_accumulation_follows_the_published_order() -> None:
    """Against the protocols' plain loop: upsample each window, add, divide, resize, with torch's own interpolation."""
    image, settings = noise(131, 203), SegmenterSettings(size=96, window=48, window_step=20, accumulate="pixel")
    model = ColourModel()
    texts = model.encode_prompts(["red", "green", "blue"])
    maps = encode_images([model], [image], settings)[0][0].patches.similarity(texts)
    height, width = maps.layout.resized
    assert (height, width) == (96, 149)

    small = resize(torch.from_numpy(image).permute(2, 0, 1), (height, width))
    total, count = torch.zeros(3, height, width), torch.zeros(height, width)
    for y, x in itertools.product([0, 20, 40, 48], [0, 20, 40, 60, 80, 100, 101]):
        vectors, grid = model.encode_patches(small[None, :, y : y + 48, x : x + 48])
        cosines = (vectors[0] @ texts.T).T.reshape(1, 3, grid.h, grid.w)
        total[:, y : y + 48, x : x + 48] += F.interpolate(cosines, (48, 48), mode="bilinear")[0]
        count[y : y + 48, x : x + 48] += 1
    expected = F.interpolate((total / count)[None], (131, 203), mode="bilinear")[0]
    torch.testing.assert_close(upsampled(maps), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("two_steps", [False, True])
@pytest.mark.parametrize("size", [(131, 203), (203, 131), (100, 100), (96, 96)])
def test_a_whole_image_cut_to_whole_patches(size: tuple[int, int], two_steps: bool) -> None:
    """The tower sees 8 x 8 patches from the top left; their scores are stretched over the whole image."""
    image, model = noise(*size), ColourModel()
    how = "twice" if two_steps else "once"
    settings = SegmenterSettings(size=100, accumulate="pixel", remainder="cut", upsampling=how)
    texts = model.encode_prompts(["red", "green", "blue"])
    maps = encode_images([model], [image], settings)[0][0].patches.similarity(texts)
    height, width = (round(side * 100 / min(size)) for side in size)

    small = resize(torch.from_numpy(image).permute(2, 0, 1), (height, width))
    vectors, grid = model.encode_patches(small[None, :, : height // 8 * 8, : width // 8 * 8])
    cosines = (vectors[0] @ texts.T).T.reshape(1, 3, grid.h, grid.w)
    steps = [(height, width), size] if two_steps else [size]
    for step in steps:
        cosines = F.interpolate(cosines, step, mode="bilinear")
    assert (maps.layout.resized, maps.layout.window) == ((height, width), (height // 8 * 8, width // 8 * 8))
    torch.testing.assert_close(upsampled(maps), cosines[0], atol=1e-5, rtol=0)


def test_upsampling_in_two_steps() -> None:
    """To the resized image, then to the image; several windows are upsampled so in any case."""
    image, model = noise(131, 203), ColourModel()
    texts = model.encode_prompts(["red", "green", "blue"])
    found = {}
    for window in (None, 48):
        for how in ("once", "twice"):
            settings = SegmenterSettings(size=64, window=window, accumulate="pixel", upsampling=how)
            maps = encode_images([model], [image], settings)[0][0].patches.similarity(texts)
            found[window, how] = upsampled(maps)
            if window is None:
                step = maps.layout.resized if how == "twice" else (131, 203)
                expected = F.interpolate(F.interpolate(maps.values, step, mode="bilinear"), (131, 203), mode="bilinear")
                torch.testing.assert_close(found[window, how], expected[0], atol=1e-5, rtol=0)
    assert torch.equal(found[48, "once"], found[48, "twice"])
    assert (found[None, "once"] - found[None, "twice"]).abs().max() > 1e-3


def test_windows_go_through_the_tower_in_batches() -> None:
    model = ColourModel()
    settings = SegmenterSettings(size=96, window=48, window_batch=4)
    encode_images([model], [noise(96, 96), noise(200, 300)], settings)  # 3 x 3 and 3 x 5 windows
    assert [shape[0] for shape in model.batches] == [4, 4, 4, 4, 4, 4]
    assert {shape[1:] for shape in model.batches} == {(3, 48, 48)}


def test_merged_averages_where_windows_overlap() -> None:
    layout = WindowLayout((16, 24), (16, 24), (16, 16), (0,), (0, 8))
    values = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 3.0)])  # [T, K, h, w]
    merged = PatchMaps(values, PatchGrid(2, 2, 8, 8), layout).merged()
    assert merged.values.tolist() == [[[[1, 2, 3], [1, 2, 3]]]]
    assert merged.grid == PatchGrid(2, 3, 8, 8)
    assert merged.layout.corners == [(0, 0)]


def test_pictures_that_resize_to_one_size_share_a_batch() -> None:
    model = ColourModel()
    encode_images([model], [noise(64, 64), noise(128, 128), noise(64, 96), noise(300, 300)], SegmenterSettings())
    assert sorted(model.batches) == [(1, 3, 64, 96), (3, 3, 64, 64)]


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.full((4, 4, 3), 2.0), torch.zeros(4, 4, 3)])
def test_what_is_no_image_is_a_programming_error(image: np.ndarray | Tensor) -> None:
    with pytest.raises(ValueError, match="image"):
        encode_images([ColourModel()], [image], SegmenterSettings())


def test_resize_gives_floats_from_0_to_1() -> None:
    fifth = torch.full((3, 7, 9), 51, dtype=torch.uint8)
    for size in ((7, 9), (14, 12), (3, 4)):
        for image in (fifth, fifth.float() / 255, fifth.double() / 255):
            resized = resize(image, size)
            assert resized.dtype == torch.float32
            torch.testing.assert_close(resized, torch.full((3, *size), 0.2), atol=1e-6, rtol=0)
    checkers = torch.tensor([[0, 255] * 8, [255, 0] * 8], dtype=torch.uint8).repeat(3, 8, 1)  # [3, 16, 16]
    assert resize(checkers, (37, 53)).min() == 0, "bicubic overshoots"
    assert resize(checkers.float() / 255, (37, 53)).max() == 1
    torch.testing.assert_close(resize(checkers, (4, 4)), torch.full((3, 4, 4), 0.5), atol=0.01, rtol=0)  # antialiased


def test_split_rows_covers_in_order_within_the_budget() -> None:
    assert list(split_rows(10, row_bytes=4, budget=12)) == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert list(split_rows(2, row_bytes=400, budget=12)) == [(0, 1), (1, 2)]


@pytest.mark.parametrize("settings", [{}, {"size": 128, "window": 64, "accumulate": "pixel"}], ids=str)
def test_bands_keep_to_their_budget(settings: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacl.segmentation.patch_maps, "BAND_BYTES", 2**20)
    model = ColourModel()
    maps = encode_images([model], [noise(500, 700)], SegmenterSettings(**settings))[0][0].patches
    end = 0
    for start, stop, band in maps.similarity(model.encode_prompts(["red"] * 100)).bands():
        assert start == end
        assert band.shape == (100, stop - start, 700)
        assert band.dtype == torch.float32
        assert 4 * band.numel() <= 2**20 < 4 * 100 * 500 * 700
        end = stop
    assert end == 500


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    clip = load_backbone(save_tiny_clip(tmp_path_factory.mktemp("clip")))
    attention = clip.image.visual.transformer.resblocks[-1].attn
    with torch.no_grad():  # sharp, so that the variants without a residual keep to their place as well
        attention.in_proj_weight[: 2 * clip.width].mul_(5)
    return clip


@pytest.mark.parametrize("dense", VARIANTS)
@pytest.mark.parametrize(
    "settings",
    [
        {"size": 64},
        {"size": 60, "stride": 4},
        {"size": 72, "window": 40, "accumulate": "pixel"},
        {"size": 70, "window": 40, "stride": 4, "accumulate": "patch"},
    ],
    ids=str,
)
def test_a_real_tower_responds_where_something_is_drawn(clip: Backbone, dense: str, settings: dict) -> None:
    """How much the patch vectors change when a square of two patches is drawn: on average exactly there.

    The weights are random, so single responses wobble by a fraction of a patch; the median of 12 does not.
    """
    model = PACL.untrained(clip, dense=dense).eval()
    places = np.random.default_rng(0)
    drift = []
    for seed, (height, width) in enumerate([(96, 96), (80, 133), (150, 70)] * 4):
        side = 8 * min(height, width) / settings["size"]  # of a patch, in pixels of the picture
        y, x = places.uniform(2 * side, height - 2 * side), places.uniform(2 * side, width - 2 * side)
        top, bottom, left, right = box = [round(v) for v in (y - side, y + side, x - side, x + side)]
        image = noise(height, width, seed)
        with torch.inference_mode():
            (encoded,) = encode_images([model], [image, draw(image, box)], SegmenterSettings(**settings))
            before, after = (F.normalize(e.patches.values, dim=1) for e in encoded)  # [T, D, h, w]
            change = (before - after).norm(dim=1, keepdim=True)  # [T, 1, h, w]
            response = upsampled(replace(encoded[0].patches, values=change))[0].numpy()
        weight = (response - 0.6 * response.max()).clip(0)
        centre = [(weight * axis).sum() / weight.sum() for axis in np.indices(response.shape)]
        drift.append((centre - np.array([top + bottom - 1, left + right - 1]) / 2) / side)
    assert np.abs(np.median(drift, axis=0)).max() < 0.3, np.median(drift, axis=0)


def draw(image: np.ndarray, box: Sequence[int]) -> np.ndarray:
    image = image.copy()
    image[box[0] : box[1], box[2] : box[3]] = 255 - image[box[0] : box[1], box[2] : box[3]]
    return image


@pytest.mark.parametrize("settings", [{"size": 40}, {"size": 40, "stride": 4}, {"size": 64, "window": 32}])
def test_several_heads_on_one_clip_share_the_blocks_before_the_last(
    clip: Backbone, settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gets, to the last bit, what it gets alone; the shared blocks run as often as for one."""
    models = [*(PACL.untrained(clip, dense=dense) for dense in VARIANTS), trained_head(clip, dense="naclip")]
    images = [noise(50, 70), noise(64, 48, seed=1)]
    runs = []
    first = clip.image.visual.transformer.resblocks[0]
    forward = first.forward
    monkeypatch.setattr(first, "forward", lambda x: runs.append(len(x)) or forward(x))
    with torch.inference_mode():
        together = encode_images(models, images, SegmenterSettings(**settings))
        shared = list(runs)
        for model, own in zip(models, together, strict=True):
            runs.clear()
            (alone,) = encode_images([model], images, SegmenterSettings(**settings))
            assert runs == shared
            for a, b in zip(own, alone, strict=True):
                assert torch.equal(a.patches.values, b.patches.values)
                assert (a.patches.grid, a.patches.layout) == (b.patches.grid, b.patches.layout)
    assert not torch.equal(together[0][0].patches.values, together[1][0].patches.values)


def test_maps_with_a_value_a_pixel_are_handed_out_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacl.segmentation.patch_maps.BAND_BYTES", 4 * 3 * 7 * 2)
    values = torch.rand(1, 3, 5, 7)
    layout = plan_layout((5, 7), 5, patch=1, stride=1)
    maps = PatchMaps(values, PatchGrid(5, 7, patch=1, stride=1), layout)
    parts = list(maps.bands())
    assert [(start, stop) for start, stop, _ in parts] == [(0, 2), (2, 4), (4, 5)]
    assert torch.equal(torch.cat([band for _, _, band in parts], dim=1), values[0])


# --- Scales -------------------------------------------------------------------------------------------------------


def empty_maps(size: tuple[int, int], short: int, patch: int, stride: int) -> PatchMaps:
    """One window over a picture, with a value of 0 at each patch."""
    layout = plan_layout(size, short, patch=patch, stride=stride, aligned=True)
    grid = PatchGrid.cover(*layout.resized, patch, stride)
    return PatchMaps(torch.zeros(1, 1, grid.h, grid.w), grid, layout)


def centres(maps: PatchMaps, axis: int) -> Tensor:
    """Where the patches' centres lie in the picture along an axis, in its pixels."""
    count = (maps.grid.h, maps.grid.w)[axis]
    in_tower = torch.arange(count) * maps.grid.stride + (maps.grid.patch - 1) / 2
    return (in_tower + 0.5) * maps.layout.size[axis] / maps.layout.resized[axis] - 0.5


@pytest.mark.parametrize(("patch", "stride"), [(8, 8), (8, 4), (8, 3), (7, 2)])
@pytest.mark.parametrize(("own", "other"), [(64, 128), (64, 96), (64, 64), (128, 64)])
@pytest.mark.parametrize("size", [(64, 64), (90, 131)])
def test_resampled_values_lie_at_their_true_places(
    size: tuple[int, int], own: int, other: int, patch: int, stride: int
) -> None:
    """Patches whose values are their own places are resampled to the places of the others."""
    maps, to = (empty_maps(size, short, patch, stride) for short in (own, other))
    for axis in (0, 1):
        at, wanted = centres(maps, axis), centres(to, axis)
        ramp = at[:, None] if axis == 0 else at[None, :]
        found = replace(maps, values=ramp.expand(1, 1, maps.grid.h, maps.grid.w).clone()).resampled(to)
        assert found.shape == (1, 1, to.grid.h, to.grid.w)
        lines = found[0, 0] if axis == 0 else found[0, 0].T  # [along the axis, across it]
        # Beyond the outermost centres values are held.
        expected = wanted.clamp(at[0], at[-1])[:, None].expand_as(lines)
        torch.testing.assert_close(lines, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("stride", [7, 3])
def test_resampled_is_upsample_at_the_pixels_in_the_middle_of_patches(stride: int) -> None:
    maps, to = empty_maps((70, 91), 35, 7, stride), empty_maps((70, 91), 70, 7, stride)
    maps = replace(maps, values=torch.randn(1, 5, maps.grid.h, maps.grid.w))
    resized = to.layout.resized
    scale = (maps.layout.resized[0] / resized[0], maps.layout.resized[1] / resized[1])
    pixels = upsample(maps.values, maps.grid, resized, scale)  # [1, K, H', W']
    middle = pixels[:, :, 3::stride, 3::stride][:, :, : to.grid.h, : to.grid.w]  # of 7 pixels, 0..6
    torch.testing.assert_close(maps.resampled(to), middle, atol=1e-5, rtol=0)


@pytest.mark.parametrize("settings", [{}, {"stride": 4}, {"window": 40, "window_step": 20}], ids=str)
def test_two_scales_are_the_mean_of_each_on_the_finest_grid(settings: dict) -> None:
    model, images = ColourModel(), [noise(64, 64), noise(50, 83, seed=1)]

    def encode(**more: object) -> list[PatchMaps]:
        (encoded,) = encode_images([model], images, SegmenterSettings(**settings, **more))
        return [image.patches for image in encoded]

    coarse, fine = encode(size=64), encode(size=128)
    for together, one, two in zip(encode(scales=(1.0, 2.0)), coarse, fine, strict=True):
        torch.testing.assert_close(together.values, (one.resampled(two) + two.values) / 2, atol=1e-6, rtol=0)
        assert (together.grid, together.layout) == (two.grid, two.layout)
        assert not torch.allclose(together.values, two.values, atol=1e-3)
    for given, other in zip(encode(scales=(1.0, 2.0)), encode(scales=(2.0, 1.0)), strict=True):
        assert torch.equal(given.values, other.values)
    model.config.scales = [1.0, 2.0]
    for given, own in zip(encode(scales=(1.0, 2.0)), encode(), strict=True):
        assert torch.equal(given.values, own.values)


def test_one_scale_is_another_size_and_that_of_1_changes_nothing() -> None:
    image = noise(50, 83)

    def values(**settings: object) -> Tensor:
        return encode_images([ColourModel()], [image], SegmenterSettings(**settings))[0][0].patches.values

    assert torch.equal(values(scales=(1.0,)), values())
    assert torch.equal(values(scales=(1.5,)), values(size=96))
    maps = empty_maps((64, 64), 64, 8, 8)
    assert mean_of([maps]) is maps


def test_scales_of_several_heads_are_those_of_each_alone(clip: Backbone) -> None:
    models = [PACL.untrained(clip, dense=dense, scales=(1.0, 2.0)) for dense in ("value", "clip")]
    with torch.inference_mode():
        together = encode_images(models, [noise(50, 70)], SegmenterSettings())
        for model, (own,) in zip(models, together, strict=True):
            ((alone,),) = encode_images([model], [noise(50, 70)], SegmenterSettings())
            assert torch.equal(own.patches.values, alone.patches.values)
    assert not torch.equal(together[0][0].patches.values, together[1][0].patches.values)


def test_a_models_own_scales_need_one_patch_grid() -> None:
    model = ColourModel()
    model.config.scales = [1.0, 2.0]
    pixel = SegmenterSettings(size=96, window=48, accumulate="pixel")
    with pytest.raises(ArgumentError, match="1,2"):
        encode_images([model], [noise(64, 64)], pixel)
    encode_images([model], [noise(64, 64)], replace(pixel, scales=(1.0,)))
