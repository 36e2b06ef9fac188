"""Two towers in one name, IMAGE+TEXT."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.model import PACL
from pacl.models.towers.registry import split_name
from tests.tiny import phi, save_tiny_encoder, trained_head


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
