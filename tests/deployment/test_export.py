"""Exported models give the embeddings and labels of `Segmenter`, in their own runtimes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pacl import (
    ArgumentError,
    Segmenter,
    SegmenterSettings,
    UserError,
    classify_images,
    export_model,
    load_model,
)
from pacl.deployment.export import describe
from pacl.deployment.formats import FORMATS
from pacl.deployment.graphs import ImageGraph, TextGraph, tokenize
from pacl.models.head import shipped_folder
from pacl.models.model import PACL
from pacl.results.palette import palette
from pacl.segmentation.query import EncodedQuery
from tests.paths import ROOT
from tests.tiny import trained_head

ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
if torch.__version__.startswith("2.6."):
    pytest.skip("PyTorch 2.6 exports no ONNX graph of any size", allow_module_level=True)

LABELS = ["a red fish=fish", "grass;lawn=ground", "sky", "sea", "house", "dog", "car", "tree", "cup", "road"]
EVEN = SegmenterSettings(prior=-0.3)  # both labels of the photo get their share
FILES = {"onnx": "image.onnx", "torchscript": "image.pt", "pt2": "image.pt2"}


@pytest.fixture(scope="module")
def tiny(tiny_clip: str) -> PACL:
    return load_model(tiny_clip, dense="naclip", device="cpu")


@pytest.fixture(scope="module")
def exported(tiny: PACL, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX export of the tiny CLIP, with text tower and labels."""
    folder = tmp_path_factory.mktemp("exported")
    export_model(tiny, folder, "onnx", LABELS, settings=EVEN, text=True)
    return folder


def run(path: Path, values: torch.Tensor) -> list[torch.Tensor]:
    """The outputs of a graph in its own runtime."""
    if path.suffix == ".onnx":
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        return [torch.from_numpy(each) for each in session.run(None, {session.get_inputs()[0].name: values.numpy()})]
    graph = torch.export.load(path).module() if path.suffix == ".pt2" else torch.jit.load(path)
    with torch.no_grad():
        found = graph(values)
    return list(found) if isinstance(found, (list, tuple)) else [found]


def sizes(patch: int) -> list[torch.Tensor]:
    """Pixels of other sizes and batches than the exporter saw, a single patch among them."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(1, 4, 4), (3, 9, 2), (1, 1, 1), (2, 1, 6)]
    return [torch.rand(b, 3, h * patch, w * patch, generator=generator) for b, h, w in shapes]


@torch.no_grad()
def check_embeddings(model: PACL, path: Path, pooled: bool) -> None:
    texts = F.normalize(torch.randn(5, model.config.vector_width, generator=torch.Generator().manual_seed(2)), dim=-1)
    smallest = json.loads(path.with_name("model.json").read_text())["image"]["smallest"]
    for pixels in (each for each in sizes(model.clip.patch) if min(each.shape[2:]) >= smallest):
        patches, *others = run(path, pixels)
        expected, grid = model.encode_patches(model.clip.normalize(pixels))
        assert patches.shape[2:] == (grid.h, grid.w)
        torch.testing.assert_close(patches.flatten(2).mT @ texts.T, expected @ texts.T, rtol=0, atol=1e-4)
        assert len(others) == pooled
        if pooled:
            torch.testing.assert_close(
                others[0], model.clip.encode_image(model.clip.normalize(pixels)), atol=1e-4, rtol=0
            )


def test_onnx_gives_the_same_embeddings_at_any_size(tiny: PACL, exported: Path) -> None:
    check_embeddings(tiny, exported / "image.onnx", pooled=True)


@pytest.mark.parametrize("to", ["torchscript", "pt2"])
@pytest.mark.parametrize("dense", ["naclip", "clearclip"])
def test_other_formats_do_so_too(tiny_clip: str, tmp_path: Path, to: str, dense: str) -> None:
    model = load_model(tiny_clip, dense=dense, device="cpu")
    exported = export_model(model, tmp_path, to)
    assert [path.name for path in exported.files] == [FILES[to], "model.json"]
    check_embeddings(model, tmp_path / FILES[to], pooled=True)
    graph = torch.export.load(tmp_path / FILES[to]) if to == "pt2" else torch.jit.load(tmp_path / FILES[to])
    assert not [
        name for name in (graph.state_dict if to == "pt2" else graph.state_dict()) if ".text." in name
    ]  # (weights that the graph has no use for)
    assert model.clip.text.encode(["a dog"]).shape == (1, model.clip.dim)  # the model keeps its own


@pytest.mark.parametrize("to", ["torchscript", "pt2"])
def test_an_autocast_around_it_changes_nothing(tiny: PACL, tmp_path: Path, to: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        export_model(tiny, tmp_path, to)
    check_embeddings(tiny, tmp_path / FILES[to], pooled=True)


def test_pooled_embeddings_give_the_score_of_a_clip(tiny: PACL, tmp_path: Path) -> None:
    head = trained_head(tiny.clip).eval()  # with a logit scale of its own
    about = export_model(head, tmp_path, "torchscript", LABELS[2:]).description
    pixels = np.random.default_rng(0).integers(0, 256, (head.clip.size, head.clip.size, 3), dtype=np.uint8)
    _, pooled = run(tmp_path / "image.pt", torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    scores = pooled @ torch.from_numpy(np.load(tmp_path / "classes.npy")).T
    found = (about["scores"]["clip_logit_scale"] * scores).softmax(dim=-1)
    torch.testing.assert_close(found, classify_images(head, [pixels], LABELS[2:], "clip"), atol=1e-4, rtol=0)


def test_pooled_embeddings_are_never_beside_texts_of_another_space(tiny: PACL, tmp_path: Path) -> None:
    head = trained_head(tiny.clip, text="linear").eval()
    about = export_model(head, tmp_path, "torchscript", LABELS).description
    assert list(about["image"]["outputs"]) == ["patches"]
    assert "clip_logit_scale" not in about["scores"]
    check_embeddings(head, tmp_path / "image.pt", pooled=False)
    texts = torch.from_numpy(np.load(tmp_path / "classes.npy"))
    torch.testing.assert_close(texts, head.encode_prompts(about["classes"]["prompts"]))
    assert not torch.allclose(texts, head.clip.encode_text(about["classes"]["prompts"]), atol=0.01)


def test_the_text_tower_gives_the_same_embeddings(tiny: PACL, exported: Path) -> None:
    texts = ["a dog", "a red fish on a blue house", "grass"]
    (found,) = run(exported / "text.onnx", tokenize(TextGraph(tiny), texts))
    torch.testing.assert_close(found, tiny.encode_text(texts), rtol=0, atol=1e-5)


def test_a_text_tower_of_few_words_is_exported(tmp_path: Path) -> None:
    model, texts = load_model("bundled", device="cpu"), ["a red fish", "grass"]
    export_model(model, tmp_path, "torchscript", text=True)
    (found,) = run(tmp_path / "text.pt", tokenize(TextGraph(model), texts))
    torch.testing.assert_close(found, model.encode_text(texts), rtol=0, atol=1e-5)


def test_class_embeddings_are_those_that_compete(tiny: PACL, exported: Path) -> None:
    classes = json.loads((exported / "model.json").read_text())["classes"]
    assert classes["labels"][:3] == ["fish", "ground", "sky"]
    assert (classes["prompts"][:4], classes["ids"][:4]) == (["a red fish", "grass", "lawn", "sky"], [1, 2, 2, 3])
    assert set(classes["subtract"]) == {0}
    texts = torch.from_numpy(np.load(exported / "classes.npy"))
    torch.testing.assert_close(texts, tiny.encode_prompts(classes["prompts"]))


def test_the_onnx_file_carries_its_description_and_no_paths(exported: Path) -> None:
    proto = onnx.load(exported / "image.onnx")
    onnx.checker.check_model(proto, full_check=True)
    (about,) = [entry.value for entry in proto.metadata_props if entry.key == "pacl"]
    assert json.loads(about) == json.loads((exported / "model.json").read_text())
    assert str(ROOT).encode() not in (exported / "image.onnx").read_bytes()


def test_the_description_has_the_constants(tiny: PACL, tmp_path: Path) -> None:
    settings = SegmenterSettings(size=40, scales=(2.0, 1.0), prior=-0.3, logit_scale=20.0)
    about = export_model(tiny, tmp_path, "torchscript", settings=settings).description
    assert (about["resize"]["size"], about["resize"]["short_sides"]) == (40, [40, 80])
    assert (about["scores"]["prior"], about["scores"]["logit_scale"]) == (-0.3, 20.0)
    assert about["image"]["multiple_of"] == tiny.clip.patch == 8
    assert about["image"]["normalised_in_the_graph"]["mean"] == list(tiny.clip.mean)
    assert about["classes"] is about["text"] is None


def test_a_changed_temperature_is_exported(tiny: PACL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny.config, "temperature", 0.5)
    about = export_model(tiny, tmp_path, "torchscript", settings=EVEN).description
    assert about["scores"]["phi_temperature"] == 0.5


@pytest.mark.parametrize("to", ["onnx", "torchscript", "pt2"])
def test_settings_that_an_export_would_ignore_are_refused(tiny: PACL, tmp_path: Path, to: str) -> None:
    settings = SegmenterSettings(interpolation="bilinear", window=112, refine=5, min_area=0.1, size=40)
    with pytest.raises(ArgumentError) as error:
        export_model(tiny, tmp_path / "out", to, settings=settings)
    assert (error.value.argument, error.value.value) == ("settings", "interpolation, window, min_area, refine")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ArgumentError):
        export_model(tiny, tmp_path / "out", to, settings=SegmenterSettings(precision="bf16"))


def test_the_settings_of_a_segmenter_can_be_exported(tiny: PACL, tmp_path: Path) -> None:
    settings = Segmenter(tiny, SegmenterSettings(size=40, precision="fp32", window_batch=2)).settings
    assert export_model(tiny, tmp_path, "torchscript", settings=settings).description["resize"]["short_sides"] == [40]


# --- the program of the page -------------------------------------------------------------------------


def program(tmp_path: Path, name: str = "segment_onnx.py") -> Path:
    """A program of docs/deploying.md, behind lines that forbid torch and pacl."""
    (code,) = re.findall(rf"```py\n(# {name}.*?)```", (ROOT / "docs/deploying.md").read_text(), re.S)
    assert len(code.splitlines()) <= 46
    path = tmp_path / name
    path.write_text(f"import sys\nsys.modules['torch'] = sys.modules['pacl'] = None\n{code}")
    return path


def check_mask(segmenter: Segmenter, query: EncodedQuery, folder: Path, image: Path, tmp_path: Path) -> None:
    """The program's mask of an image is that of the segmenter, which has the image set."""
    mask = tmp_path / "mask.png"
    command = [sys.executable, str(program(tmp_path)), str(folder), str(image), str(mask)]
    subprocess.run(command, check=True, timeout=600, cwd=tmp_path)
    expected = segmenter.predict(query).index
    written = Image.open(mask)
    assert written.mode == "P"
    found = np.asarray(written)
    assert np.array_equal(np.asarray(written.convert("RGB")), palette(len(query.query.labels))[found])
    assert found.shape == expected.shape
    assert len(np.unique(expected)) > 1
    assert (found == expected).mean() >= 0.999


def exported_with_phi(
    model: PACL, exported: Path, cosine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """A copy of an export as it would be of the same model with ``cosine``, which the model then has; an image."""
    image, folder = tmp_path / "image.png", tmp_path / "exported"
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((210, 130), Image.Resampling.BICUBIC).save(image)
    monkeypatch.setattr(model.config, "cosine", cosine)
    shutil.copytree(exported, folder)
    about = json.loads((folder / "model.json").read_text())
    about["scores"]["phi_cosine"] = cosine
    (folder / "model.json").write_text(json.dumps(about))
    return folder, image


@pytest.mark.parametrize("cosine", [True, False])
def test_the_program_of_the_page_segments_as_pacl_does(
    tiny: PACL, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cosine: bool
) -> None:
    folder, image = exported_with_phi(tiny, exported, cosine, tmp_path, monkeypatch)
    segmenter = Segmenter(tiny, EVEN)
    segmenter.set_image(image)
    query = segmenter.prepare(LABELS)
    # To a random model all texts but one are far from all patches: patches of the image stand for texts.
    vectors = segmenter.get_image_embedding().vectors[0].flatten(1).T
    texts = F.normalize(vectors - vectors.mean(0), dim=-1)[:: len(vectors) // len(query.texts)][: len(query.texts)]
    np.save(folder / "classes.npy", texts.numpy())
    check_mask(segmenter, replace(query, texts=texts, wording=None), folder, image, tmp_path)


def test_the_program_of_the_page_writes_many_labels_in_16_bits(tiny: PACL, exported: Path, tmp_path: Path) -> None:
    image, folder, mask = tmp_path / "image.png", tmp_path / "exported", tmp_path / "mask.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(image)
    shutil.copytree(exported, folder)
    about = json.loads((folder / "model.json").read_text())
    about["classes"]["ids"] = [id + 300 for id in about["classes"]["ids"]]
    about["classes"]["colours"] = palette(300 + len(LABELS)).tolist()
    (folder / "model.json").write_text(json.dumps(about))
    command = [sys.executable, str(program(tmp_path)), str(folder), str(image), str(mask)]
    subprocess.run(command, check=True, timeout=600, cwd=tmp_path)
    segmenter = Segmenter(tiny, EVEN)
    segmenter.set_image(image)
    found = np.asarray(Image.open(mask))
    assert (found == segmenter.predict(LABELS).index.astype(int) + 300).mean() >= 0.99


def check_probabilities(model: PACL, folder: Path, image: Path, labels: list[str], tmp_path: Path) -> None:
    """The other program's probabilities are those of `classify_images`."""
    command = [sys.executable, str(program(tmp_path, "classify_onnx.py")), str(folder), str(image)]
    printed = subprocess.run(command, check=True, timeout=600, cwd=tmp_path, capture_output=True, text=True).stdout
    found = [float(line.split("\t")[1]) for line in printed.splitlines()]
    assert len(found) == len(labels)
    assert found == pytest.approx(classify_images(model, [image], labels, "phi")[0].tolist(), abs=2e-3)


@pytest.mark.parametrize("cosine", [True, False])
def test_the_program_of_the_page_classifies_as_pacl_does(
    tiny: PACL, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cosine: bool
) -> None:
    folder, image = exported_with_phi(tiny, exported, cosine, tmp_path, monkeypatch)
    check_probabilities(tiny, folder, image, LABELS, tmp_path)
    about = json.loads((folder / "model.json").read_text())
    segmenter = Segmenter(tiny, replace(EVEN, scales=(1.5, 2.0)))
    about["resize"] = describe(segmenter, ImageGraph(tiny), None, None, FORMATS["onnx"])["resize"]
    (folder / "model.json").write_text(json.dumps(about))
    check_probabilities(tiny, folder, image, LABELS, tmp_path)  # whose smallest scale is not 1


@pytest.mark.parametrize("name", ["segment_onnx.py", "classify_onnx.py"])
def test_the_programs_refuse_images_that_they_would_read_otherwise(exported: Path, tmp_path: Path, name: str) -> None:
    grey = np.linspace(0, 255, 40 * 56).reshape(40, 56).astype(np.uint8)
    images = {mode: Image.fromarray(grey).convert(mode) for mode in ("RGBA", "LA", "P", "1", "CMYK")}
    images |= {"16": Image.fromarray(grey.astype(np.uint16) * 16), "key": Image.fromarray(grey)}
    run = [sys.executable, str(program(tmp_path, name)), str(exported)]
    for kind, image in images.items():
        path = tmp_path / f"{kind}.{'tif' if kind == 'CMYK' else 'png'}"
        image.save(path, **({"transparency": 0} if kind == "key" else {}))
        command = [*run, str(path), *([str(tmp_path / "mask.png")] if "segment" in name else [])]
        done = subprocess.run(command, timeout=600, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), kind
    assert not (tmp_path / "mask.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "labels"), [("bundled", ["a red fish", "a blue house", "grass", "sand"]), ("photos", ["cat", "blanket"])]
)
def test_shipped_models_segment_as_pacl_does(name: str, labels: list[str], tmp_path: Path) -> None:
    model = load_model(name, device="cpu")
    segmenter, image = Segmenter(model, EVEN), shipped_folder(name) / "demo.jpg"
    segmenter.set_image(image)
    export_model(model, tmp_path / "exported", "onnx", labels, settings=EVEN)
    check_embeddings(model, tmp_path / "exported/image.onnx", pooled=name == "bundled")
    check_mask(segmenter, segmenter.prepare(labels), tmp_path / "exported", image, tmp_path)
    check_probabilities(model, tmp_path / "exported", image, labels, tmp_path)


# --- folders and mistakes ----------------------------------------------------------------------------


def test_parts_of_the_model_stay_in_their_modes(tiny: PACL, tmp_path: Path) -> None:
    tiny.train()
    tiny.clip.eval()
    export_model(tiny, tmp_path / "train", "torchscript")
    modes = tiny.training, tiny.clip.training, tiny.embedder.training
    tiny.eval()
    assert modes == (True, False, True)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"to": "onx"}, "to"),
        ({"labels": []}, "labels"),
        ({"labels": ["a", "b"], "settings": SegmenterSettings(background="threshold:0.9")}, "background"),
    ],
)
def test_mistakes_name_their_argument_and_write_nothing(
    tiny: PACL, tmp_path: Path, options: dict[str, Any], argument: str
) -> None:
    with pytest.raises(ArgumentError) as error:
        export_model(tiny, tmp_path / "new", **{"to": "torchscript", **options})
    assert error.value.argument == argument
    assert not (tmp_path / "new").exists()


def test_a_rule_that_nobody_named_is_no_argument(tmp_path: Path) -> None:
    """The photo model, which is calibrated, has another rule for a single label than a CLIP."""
    with pytest.raises(UserError) as error:
        export_model(load_model("photos", device="cpu"), tmp_path / "new", "torchscript", ["a cat"])
    assert not isinstance(error.value, ArgumentError)
    assert "contrast" in str(error.value)
    assert not (tmp_path / "new").exists()


def test_a_text_tower_of_word_vectors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError) as error:
        export_model(load_model("photos", device="cpu"), tmp_path / "new", "torchscript", ["a cat", "a dog"], text=True)
    assert (error.value.argument, error.value.value) == ("text", True)
    assert not (tmp_path / "new").exists()


def test_a_tower_with_a_proxy_is_refused(tiny_clip: str, tmp_path: Path) -> None:
    model = load_model(f"{tiny_clip},proxy=timm:vit_tiny_patch16_224/random", device="cpu")
    with pytest.raises(ArgumentError) as error:
        export_model(model, tmp_path / "new", "torchscript")
    assert error.value.argument == "model"


def test_a_graph_that_took_a_size_for_a_constant_is_refused(
    tiny: PACL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = FORMATS["torchscript"]
    export = form.export

    def fixed(graph: torch.nn.Module, example: torch.Tensor, *more: Any) -> bytes:
        constant = graph(example)

        class Fixed(torch.nn.Module):
            def forward(self, pixels: torch.Tensor) -> Any:
                return constant

        return export(Fixed(), example, *more)

    monkeypatch.setattr(form, "export", fixed)
    with pytest.raises(ArgumentError) as error:
        export_model(tiny, tmp_path / "new", "torchscript")
    assert error.value.argument == "model"
    assert not (tmp_path / "new").exists()


def test_without_onnx_one_line_says_what_to_install(
    tiny: PACL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pacl\[export\]"):
        export_model(tiny, tmp_path, "onnx")
