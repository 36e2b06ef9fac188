"""What people do, on a GPU: the results are those of the CPU."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from eval.common.memory import peak_memory, reset_peak_memory
from pacl import Index, Segmenter, SegmenterSettings, load_model
from pacl.bulk import main as bulk
from pacl.models.compatibility import compatibility
from pacl.segment import main as segment
from pacl.train import main as train
from tests.paths import ROOT

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

DEVICE = torch.device("cuda")  # convolutions multiply in TF32 there, as is PyTorch's default
DEMO = ROOT / "pacl" / "photos" / "demo.jpg"
WORDS = ["a cat", "a blanket", "a wall", "a dog", "grass"]


@pytest.fixture(autouse=True)
def products_are_exact() -> Iterator[None]:
    """A training chooses TF32 for the products of its process."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def labels_of(device: torch.device | str, words: list[str], **settings: object) -> list[np.ndarray]:
    """The label ids of three sizes of the demo photo, segmented together."""
    photo = Image.open(DEMO)
    images = [np.asarray(photo.resize(size)) for size in ((200, 150), (150, 200), (320, 240))]
    found = Segmenter(load_model("photos", device=device), SegmenterSettings(**settings)).predict_batch(images, words)  # type: ignore[arg-type]
    return [each.index for each in found]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"window": 112, "window_step": 56},
        {"refine": 10},
        {"background": "entropy:1.5", "scales": (1.0,)},
    ],
    ids=lambda settings: "-".join(settings) or "default",
)
def test_labels_are_those_of_the_cpu(settings: dict) -> None:
    for own, expected in zip(labels_of(DEVICE, WORDS, **settings), labels_of("cpu", WORDS, **settings), strict=True):
        assert (own == expected).mean() > 0.995  # sums are rounded in another order


def test_many_classes_have_the_labels_of_the_cpu() -> None:
    words = [
        f"{colour} {thing}" for thing in ("cat", "sofa", "lamp", "tree") for colour in ("red", "old", "big", "new")
    ]
    for own, expected in zip(labels_of(DEVICE, words), labels_of("cpu", words), strict=True):
        assert (own == expected).mean() > 0.995


@pytest.mark.parametrize("dense", ["clip", "value", "naclip", "sclip", "clearclip"])
def test_dense_features_are_those_of_the_cpu(dense: str) -> None:
    found = []
    for device in (DEVICE, "cpu"):
        segmenter = Segmenter(load_model("bundled", device=device, dense=dense), SegmenterSettings(stride=4))
        segmenter.set_image(DEMO)
        found.append(segmenter.predict(["a red boat", "sand"]).index)
    assert (found[0] == found[1]).mean() > 0.995


def test_a_compiled_tower_has_the_labels_of_the_plain_one() -> None:
    found = []
    for compiled in (False, True):
        model = load_model("bundled", device=DEVICE)
        if compiled:
            model.clip.compile_image_tower()
        segmenter = Segmenter(model)
        segmenter.set_image(DEMO)
        found.append(segmenter.predict(["a red boat", "sand"]).index)
    assert (found[0] == found[1]).mean() > 0.995


def test_bf16_keeps_nearly_all_labels() -> None:
    rounded, exact = (labels_of(DEVICE, WORDS, precision=precision) for precision in ("bf16", "fp32"))
    assert np.mean([(a == b).mean() for a, b in zip(rounded, exact, strict=True)]) > 0.95


def test_a_large_photo_needs_little_memory() -> None:
    photo = np.asarray(Image.open(DEMO).resize((6000, 4000)))
    segmenter = Segmenter(load_model("photos", device=DEVICE))
    before = reset_peak_memory(DEVICE)
    segmenter.set_image(photo)
    assert segmenter.predict([f"thing {i}" for i in range(150)]).index.shape == (4000, 6000)
    assert peak_memory(DEVICE) - before < 2e9


@pytest.mark.parametrize("impl", ["auto", "chunked"])
def test_phi_and_its_gradient_are_those_of_the_cpu(impl: str) -> None:
    draw = torch.Generator().manual_seed(0)
    v = normalize(torch.randn(40, 100, 64, generator=draw), dim=-1)
    t = normalize(torch.randn(50, 64, generator=draw), dim=-1)

    def phi_and_gradient(device: torch.device | str, impl: str) -> tuple[Tensor, Tensor]:
        leaf = v.to(device).requires_grad_()
        phi = compatibility(leaf, t.to(device), temperature=0.1, impl=impl)
        phi.square().sum().backward()
        assert leaf.grad is not None
        return phi.detach().cpu(), leaf.grad.cpu()

    for own, expected in zip(phi_and_gradient(DEVICE, impl), phi_and_gradient("cpu", "reference"), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)


def test_a_head_trained_there_segments_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for i in range(12):
            pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{i}.png")
            table.writerow([f"{i}.png", f"a cat and {i} dogs on the grass"])
    flags = ["--data.pairs", tmp_path / "captions.csv", "--data.images", tmp_path, "--data.hold_out", 4]
    flags += ["--data.batch_size", 4, "--data.cache", "memory", "--trainer.max_steps", 3]
    flags += ["--trainer.accelerator", "gpu", "--out", tmp_path / "head"]
    train(["--config", str(ROOT / "configs" / "own_photos.yaml"), *map(str, flags)])
    assert "step 3 of 3" in capsys.readouterr().err
    found = Segmenter(load_model(tmp_path / "head", device="cpu")).predict_batch([DEMO], ["a cat", "grass"])
    assert len(found) == 1


def test_commands_run_there(tmp_path: Path) -> None:
    flags = ["--model", "photos", "--device", str(DEVICE), "--out"]
    assert not segment([str(DEMO), "a cat", "grass", *flags, str(tmp_path / "segment")])
    (tmp_path / "list.txt").write_text(f"{DEMO}\n")
    assert not bulk([str(tmp_path / "list.txt"), "a cat", "grass", *flags, str(tmp_path / "bulk")])
    assert (tmp_path / "bulk" / "manifest.json").is_file()


def test_an_index_made_there_ranks_as_on_the_cpu(tmp_path: Path) -> None:
    for i, angle in enumerate((0, 90, 180)):
        Image.open(DEMO).rotate(angle).save(tmp_path / f"{i}.png")
    hits = [
        Index.build(tmp_path, load_model("photos", device=device), index=tmp_path / f"{device}.index").search("a cat")
        for device in (str(DEVICE), "cpu")
    ]
    assert [hit.path for hit in hits[0]] == [hit.path for hit in hits[1]]
    np.testing.assert_allclose([hit.score for hit in hits[0]], [hit.score for hit in hits[1]], atol=2e-3)  # (TF32)
