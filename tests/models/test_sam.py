"""SAM by transformers: input sizes, coordinates of prompts, and what is no SAM."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pacl.errors import ArgumentError
from pacl.models.sam import PROMPTS_AT_ONCE, Sam, load_sam
from tests.sams import tiny_sam, tiny_sam2

pytest.importorskip("transformers", minversion="4.56")
CPU = torch.device("cpu")
KINDS = pytest.mark.parametrize("make", [tiny_sam, tiny_sam2])
Make = Callable[[], torch.nn.Module]


def image(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@KINDS
def test_a_saved_sam_is_loaded_and_shared(make: Make, tmp_path: Path) -> None:
    model = make()
    model.save_pretrained(tmp_path)
    sam = load_sam(str(tmp_path), CPU)
    assert type(sam.model) is type(model)
    assert sam.checksum() == Sam(model).checksum()
    assert not any(weight.requires_grad for weight in sam.model.parameters())
    assert load_sam(str(tmp_path / ".." / tmp_path.name), CPU) is sam


def test_sam2_is_loaded_from_the_video_model_that_it_is_published_as(tmp_path: Path) -> None:
    tiny_sam2().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "sam2_video"}))
    assert type(load_sam(str(tmp_path), CPU).model).__name__ == "Sam2Model"


@pytest.mark.parametrize(("size", "grid"), [((30, 60), (8, 16)), ((60, 30), (16, 8)), ((5, 500), (1, 16))])
def test_the_first_sam_keeps_proportions_and_sam_2_stretches(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert Sam(tiny_sam()).grid(size) == grid
    assert Sam(tiny_sam2()).grid(size) == (16, 16)


@KINDS
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_masks_cover_the_grid_and_do_not_depend_on_the_batch(make: Make, precision: str) -> None:
    sam, photo = Sam(make()), image(30, 60)
    features, grid = sam.encode(photo, precision), sam.grid((30, 60))
    assert {part.dtype for part in features} == {torch.float32}
    count = PROMPTS_AT_ONCE + 1
    boxes = torch.tensor([[n, 0, n + 3, 5] for n in range(count)])
    points = torch.tensor([[[n, 1], [n + 1, 2], [n + 3, 5]] for n in range(count)])
    masks = sam.masks(features, boxes, points, grid)
    assert masks.shape == (count, 3, *grid)
    assert masks.dtype == torch.float32
    assert masks.isfinite().all()
    alone = sam.masks(features, boxes[-1:], points[-1:], grid)
    torch.testing.assert_close(alone[0], masks[-1], atol=1e-4, rtol=1e-4)


@KINDS
def test_float_images_have_the_features_of_their_bytes(make: Make) -> None:
    sam, photo = Sam(make()), image(64, 64)
    for own, other in zip(sam.encode(photo), sam.encode(photo.float() / 255), strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "kind", "size", "options"),
    [
        (
            tiny_sam,
            "SamImageProcessor",
            (64, 32),
            {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}},
        ),
        (tiny_sam2, "Sam2ImageProcessorFast", (64, 64), {"size": {"height": 64, "width": 64}}),
    ],
)
def test_the_input_is_what_transformers_own_processor_makes(
    make: Make, kind: str, size: tuple[int, int], options: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    sam, photo, seen = Sam(make()), image(*size), []
    embed = sam.model.get_image_embeddings
    monkeypatch.setattr(sam.model, "get_image_embeddings", lambda pixels: seen.append(pixels) or embed(pixels))
    sam.encode(photo)
    processed = getattr(transformers, kind)(**options)(photo.permute(1, 2, 0).numpy(), return_tensors="pt")
    torch.testing.assert_close(seen[0], processed["pixel_values"], atol=1e-5, rtol=1e-5)


@KINDS
def test_prompts_are_pixels_of_the_input(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    sam, seen = Sam(make()), {}
    encode = sam.model.prompt_encoder.forward

    def spy(**prompts: Any) -> Any:
        seen.update(prompts)
        return encode(**prompts)

    features = sam.encode(image(64, 64))
    monkeypatch.setattr(sam.model.prompt_encoder, "forward", spy)
    sam.masks(features, torch.tensor([[1, 2, 3, 5]]), torch.tensor([[[1, 2], [3, 5]]]), (16, 16))
    assert sam.cell == 4
    assert seen["input_boxes"].tolist() == [[[4, 8, 15, 23]]]  # first and last pixel of the cells
    assert seen["input_points"].tolist() == [[[[5.5, 9.5], [13.5, 21.5]]]]  # their middles
    assert seen["input_labels"].tolist() == [[[1, 1]]]
    assert seen["input_masks"] is None


def test_features_that_are_not_finite_are_refused() -> None:
    model = tiny_sam()
    with torch.no_grad():
        model.vision_encoder.neck.conv1.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        Sam(model).encode(image(64, 64))


def spoilt(folder: Path, how: str) -> str:
    """A name of what is no SAM."""
    tiny_sam().save_pretrained(folder)
    if how == "empty":
        (folder / "config.json").unlink()
    elif how == "other":
        (folder / "config.json").write_text('{"model_type": "bert"}')
    elif how == "no JSON":
        (folder / "config.json").write_text("{")
    elif how == "no weights":
        (folder / "model.safetensors").unlink()
    elif how == "damaged":
        (folder / "model.safetensors").write_bytes(b"no weights")
    elif how == "incomplete":
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "model.safetensors")
        save_file(dict(list(weights.items())[5:]), folder / "model.safetensors", metadata={"format": "pt"})
    elif how in ("unknown", "facebook/no-such-sam", ""):
        return how
    return str(folder)


@pytest.mark.parametrize(
    "how",
    ["empty", "other", "no JSON", "no weights", "damaged", "incomplete", "unknown", "facebook/no-such-sam", ""],
)
def test_what_is_no_sam_is_refused_in_one_line(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacl.models.towers.hub.reachable", lambda: False)
    with pytest.raises(ArgumentError) as error:
        load_sam(spoilt(tmp_path, how), CPU)
    assert error.value.argument == "refine"
    assert "\n" not in str(error.value)
    assert ("pip" in str(error.value)) is False


def test_without_transformers_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ArgumentError, match=r"pacl\[sam\]") as error:
        load_sam(str(tmp_path), CPU)
    assert error.value.argument == "refine"
