"""The frozen encoder: names, sizes, strides, places."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.config import CONFIG
from pacl.models.head import shipped_folder
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.models.text_cache import TextCache
from pacl.models.towers import hub
from pacl.models.towers.base import weights_checksum
from pacl.models.towers.dense import VARIANTS
from pacl.models.towers.grid import PatchGrid, upsample
from pacl.models.towers.open_clip_loading import bundled_folder
from pacl.models.towers.registry import split_name
from tests.paths import ROOT
from tests.tiny import phi, save_tiny_clip, save_tiny_encoder, trained_head


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(save_tiny_clip(tmp_path_factory.mktemp("clip")))


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


def test_texts_are_chunked_and_normalised(clip: Backbone) -> None:
    texts = [f"a dog number {i % 97}" for i in range(150)]
    encoded = clip.encode_text(texts)
    assert encoded.shape == (150, 16)
    torch.testing.assert_close(encoded.norm(dim=-1), torch.ones(150))
    assert clip.count_tokens("a dog") == 4
    with pytest.raises(TypeError, match="texts"):
        clip.encode_text("a dog")


def test_padding_after_a_texts_end_is_left_out_and_changes_nothing(
    clip: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["a", "a dog", "a red house with a green door", "many " * 40, "", "a cat"]
    seen = []
    forward = clip.text.clip.transformer.forward
    monkeypatch.setattr(
        clip.text.clip.transformer, "forward", lambda x, attn_mask: seen.append(x.shape[1]) or forward(x, attn_mask)
    )
    found = clip.encode_text(texts)
    assert sorted(seen) == [8, 16]  # tokens; the tiny model reads 16
    seen.clear()
    with torch.no_grad():
        expected = F.normalize(clip.text.clip.encode_text(clip.text.tokenizer(texts)), dim=-1)
    assert seen == [16]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_texts_are_encoded_once(clip: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    first = clip.encode_text(["a dog", "a cat", "a dog"])
    assert torch.equal(first[0], first[2])
    monkeypatch.setattr(clip.text, "encode", lambda *_: pytest.fail("encoded again"))
    assert torch.equal(clip.encode_text(["a cat"])[0], first[1])
    assert clip.encode_text([]).shape == (0, 16)


def test_a_text_gets_the_same_bits_whatever_comes_with_it(clip: Backbone) -> None:
    texts = [f"a dog number {i}" for i in range(70)]
    together = clip.encode_text(texts)
    clip._texts = TextCache(clip._encode)
    alone = torch.cat([clip.encode_text([text]) for text in reversed(texts)])
    assert torch.equal(alone.flip(0), together)


def test_normalize_takes_bytes_and_fractions(clip: Backbone) -> None:
    images = torch.randint(0, 256, (1, 3, 4, 4), dtype=torch.uint8)
    torch.testing.assert_close(clip.normalize(images), clip.normalize(images.float() / 255))
    grey = torch.tensor(clip.mean).view(1, 3, 1, 1)
    torch.testing.assert_close(clip.normalize(grey), torch.zeros(1, 3, 1, 1))


def test_checksum_tells_weights_apart(tmp_path: Path, clip: Backbone) -> None:
    same = load_backbone(save_tiny_clip(tmp_path / "same"))
    other = load_backbone(save_tiny_clip(tmp_path / "other", seed=1))
    assert clip.checksum() == same.checksum() != other.checksum()


def test_quick_gelu_follows_the_configuration_and_changes_the_output(tmp_path: Path) -> None:
    name = save_tiny_clip(tmp_path, quick_gelu=True)
    quick, plain = load_backbone(name), load_backbone(name, quick_gelu=False)
    assert (quick.quick_gelu, plain.quick_gelu) == (True, False)
    image = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(quick.patch_tokens(image)[0], plain.patch_tokens(image)[0])


def test_a_random_builtin_is_the_same_each_time_and_leaves_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first = load_backbone("open_clip:ViT-B-32-quickgelu/random")
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.quick_gelu
    assert first.checksum() == load_backbone("open_clip:ViT-B-32-quickgelu/random").checksum()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nonsense", "local-dir:PATH"),
        ("open_clip:ViT-B-16", "local-dir:PATH"),
        ("open_clip:ViT-B-17/openai", "ViT-B-17"),
        ("open_clip:ViT-B-16/nobody", "openai"),
        ("local-dir:/nowhere", "no such folder"),
        ("open_clip:coca_ViT-B-32/random", "CoCa"),
    ],
)
def test_names_that_do_not_work_say_what_would(name: str, expected: str) -> None:
    with pytest.raises(ArgumentError) as error:
        load_backbone(name)
    assert error.value.argument == "model"
    assert expected in error.value.reason


def test_a_broken_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ArgumentError) as error:
        load_backbone(f"local-dir:{tmp_path}")
    assert error.value.argument == "model"
    save_tiny_clip(tmp_path)
    good = json.loads((tmp_path / "open_clip_config.json").read_text())
    for wrong in (
        {"vocabulary": 5},
        {"contrast": [1]},
        {"token_ids": [3, 1]},
        {"token_ids": "x"},
        {"preprocess_cfg": {"std": [0, 0, 0]}},
    ):
        (tmp_path / "open_clip_config.json").write_text(json.dumps({**good, **wrong}))
        with pytest.raises(ArgumentError) as error:
            load_backbone(f"local-dir:{tmp_path}")
        assert error.value.argument == "model"
    (tmp_path / "open_clip_config.json").write_text(json.dumps(good))
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"short")
    with pytest.raises(ArgumentError) as error:
        load_backbone(f"local-dir:{tmp_path}")
    assert error.value.argument == "model"
    assert "\n" not in str(error.value)


def test_without_network_missing_weights_are_one_line_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("open_clip:ViT-B-16/openai", "hf-hub:nobody/nothing"):
        with pytest.raises(ArgumentError) as error:
            load_backbone(name)
        assert error.value.argument == "model"


def test_a_local_clip_asks_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "reachable", lambda: pytest.fail("asked whether the hub is there"))
    load_backbone(save_tiny_clip(tmp_path))


def test_a_compact_clip_from_the_hub_keeps_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = bundled_folder() / "clip"
    monkeypatch.setattr(hub, "reachable", lambda: False)
    extra = json.loads((bundled / "open_clip_config.json").read_text())
    monkeypatch.setattr("open_clip.factory._get_hf_config", lambda *_, **__: json.loads(json.dumps(extra)))
    weights = str(bundled / "open_clip_model.safetensors")
    monkeypatch.setattr("open_clip.factory.download_pretrained_from_hf", lambda *_, **__: weights)
    clip = load_backbone("hf-hub:somebody/scenes")
    assert clip.vocabulary == frozenset(extra["vocabulary"])
    assert clip.contrast == tuple(extra["contrast"])
    assert clip.checksum() == load_backbone("bundled").checksum()
    words = {word for prompt in extra["contrast"] for word in prompt.split()}
    assert words <= clip.vocabulary


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


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("sentence_transformers")
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder") / "st")


def test_two_towers_that_were_trained_apart(encoder: str, clip: Backbone) -> None:
    name = f"timm:test_resnet/random+{encoder}"
    dual = load_backbone(name)
    assert (dual.name, dual.shared, dual.projection) == (name, False, None)
    assert (dual.width, dual.dim, dual.patch, dual.size, dual.context_length) == (96, 16, 16, 160, 8)
    assert dual.logit_scale == pytest.approx(1 / 0.07)
    assert dual.classifier is not None
    assert clip.shared
    assert not any(parameter.requires_grad for parameter in dual.parameters())
    images = torch.rand(2, 3, 40, 70)
    tokens, grid = dual.patch_tokens(dual.normalize(images))
    assert tokens.shape == (2, grid.patches, 96)
    texts = dual.encode_text(["a dog", "a red cat of a house"])
    torch.testing.assert_close(texts.norm(dim=-1), torch.ones(2))
    for refused in (dual.encode_image, lambda images: dual.encode_image_and_tokens(images, "clip")):
        with pytest.raises(ArgumentError) as error:
            refused(images)
        assert error.value.argument == "model"
    with pytest.raises(UserError, match="start"):
        PACL.untrained(dual, dense="clip")


def test_a_text_of_an_encoder_gets_the_same_bits_whatever_comes_with_it(encoder: str) -> None:
    name = f"timm:test_resnet/random+{encoder}"
    texts = ["a dog", "a red dog", "cat", "a house of a dog", "a " * 20]
    together = load_backbone(name).encode_text(texts)
    alone = load_backbone(name)
    assert torch.equal(together, torch.cat([alone.encode_text([text]) for text in reversed(texts)]).flip(0))


def test_the_checksum_of_two_towers(encoder: str, tmp_path: Path) -> None:
    name = f"timm:test_resnet/random+{encoder}"
    sums = {
        load_backbone(other).checksum()
        for other in (
            name,
            name.replace("resnet", "vit"),
            f"timm:test_resnet/random+{save_tiny_encoder(tmp_path / 'st', seed=1)}",
        )
    }
    assert len(sums) == 3
    assert load_backbone(name).checksum() in sums


def test_the_checksum_of_one_clip_is_that_of_all_its_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    clip = load_backbone(save_tiny_clip(tmp_path))
    assert clip.checksum() == weights_checksum(load_file(tmp_path / "open_clip_model.safetensors"))
    bundled = json.loads((bundled_folder() / "config.json").read_text())
    assert load_backbone("bundled").checksum() == bundled["checksum"]


def test_a_head_on_two_towers_is_saved_and_loaded_bit_equal(encoder: str, tmp_path: Path) -> None:
    name = f"timm:test_vit/random+{encoder}"
    model = trained_head(load_backbone(name), dense="clip", start="paper", text="linear")
    model.save_pretrained(tmp_path / "head")
    again = PACL.from_pretrained(tmp_path / "head")
    assert again.config == model.config
    images = torch.randn(1, 3, 48, 80)
    assert torch.equal(model.encode_patches(images, stride=8)[0], again.encode_patches(images, stride=8)[0])
    assert torch.equal(phi(model, images, ["a dog"]), phi(again, images, ["a dog"]))
    other = load_backbone(f"timm:test_vit/random+{save_tiny_encoder(tmp_path / 'other', seed=1)}")
    with pytest.raises(UserError, match="checksum"):
        PACL.from_pretrained(tmp_path / "head", clip=other)


def test_the_sides_of_clips_can_be_taken_alone(clip: Backbone, encoder: str) -> None:
    """The image side of one, the text side of another, each as it is in the whole."""
    images, texts = torch.randn(1, 3, 32, 32), ["a red dog"]
    as_text = load_backbone("timm:test_resnet/random+bundled")
    bundled = load_backbone("bundled")
    assert torch.equal(as_text.encode_text(["a red house"]), bundled.encode_text(["a red house"]))
    assert (as_text.vocabulary, as_text.contrast) == (bundled.vocabulary, bundled.contrast)
    as_image = load_backbone(f"{clip.name}+{encoder}")
    assert as_image.dense_variants == clip.dense_variants
    assert torch.equal(as_image.patch_tokens(images, "naclip")[0], clip.patch_tokens(images, "naclip")[0])
    both = load_backbone(f"{clip.name}+{clip.name}")
    assert not both.shared  # nobody knows that they are of one model
    assert torch.equal(both.encode_text(texts), clip.encode_text(texts))


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


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("timm:a+st:b/c", ("timm:a", "st:b/c")),
        ("open_clip:A/b+bundled", ("open_clip:A/b", "bundled")),
        ("timm:a//x+y/w.pth+st:/u+v", ("timm:a//x+y/w.pth", "st:/u+v")),
        ("local-dir:/a+b", None),
        ("timm:a", None),
        ("st:b/c+timm:a", None),
    ],
)
def test_the_two_names_in_one(name: str, parts: tuple[str, str] | None) -> None:
    assert split_name(name) == parts


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timm:resnet18", "IMAGE+TEXT"),
        ("st:a/b", "IMAGE+TEXT"),
        ("timm:nonsense+st:a/b", "nonsense"),
        ("timm:test_resnet/random+st:a", "st:ORG/NAME"),
        ("open_clip:ViT-B-16+st:a/b", "open_clip:NAME/TAG"),
        ("timm:test_resnet/random+open_clip:ViT-B-16", "open_clip:NAME/TAG"),
    ],
)
def test_names_of_two_towers_that_do_not_work(name: str, expected: str) -> None:
    with pytest.raises(ArgumentError) as error:
        load_backbone(name)
    assert error.value.argument == "model"
    assert expected in error.value.reason
    assert "\n" not in str(error.value)


def test_only_the_towers_import_open_clip_at_large() -> None:
    """Everything else stays independent of it; tokenizers wrap or count its tokens, prompts read its template list, and
    classification transforms images as it does."""
    allowed = {
        "open_clip_loading.py",
        "open_clip_towers.py",
        "timm_tower.py",
        "tokenizer.py",
        "prompts.py",
        "pretrain_clip.py",
        "inspection.py",
        "preprocessing.py",
    }
    package = ROOT / "pacl"
    users = {
        path.name
        for path in package.rglob("*.py")
        if any(f"{verb} {lib}" in path.read_text() for verb in ("import", "from") for lib in ("open_clip", "timm"))
    }
    assert users <= allowed, os.fspath(package)


def test_the_name_of_a_head_leads_to_its_backbone(tmp_path: Path) -> None:
    model = load_model("photos")
    (tmp_path / "mine").mkdir()
    shutil.copy(shipped_folder("photos") / CONFIG, tmp_path / "mine")
    for name in ("photos", str(tmp_path / "mine")):
        with pytest.raises(ArgumentError) as error:
            load_backbone(name)
        assert error.value.argument == "model"
        assert model.clip.name in error.value.reason
        assert "load_model" in error.value.reason
