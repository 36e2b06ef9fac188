"""What docs/python.md says is so: it names all that is public, its snippets run, its links lead somewhere."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shutil
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import pacl
from pacl.images import open_image
from pacl.models.head import shipped_folder
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
PROSE = re.sub(r"```.*?```", "", PAGE, flags=re.S)
NAMED = {name for code in re.findall(r"`([^`]+)`", PROSE) for name in re.findall(r"[A-Za-z_]\w*", code)}
FULLY = [pacl.Segmenter, pacl.Segmentation, pacl.ImageEmbedding, pacl.ModelName, pacl.SegmenterSettings]


def public(kind: type) -> set[str]:
    """Methods, properties and fields of a class that are its own and public."""
    own = {name for name in vars(kind) if not name.startswith("_")}
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    return own | fields


def test_every_public_name_is_on_the_page() -> None:
    assert set(pacl.__all__) - {"__version__"} <= NAMED


@pytest.mark.parametrize("kind", FULLY, ids=lambda kind: kind.__name__)
def test_every_public_member_is_on_the_page(kind: type) -> None:
    known = {"check", "encoded"} if kind is pacl.ImageEmbedding else set()  # what the segmenter uses
    assert public(kind) - known <= NAMED


@pytest.mark.parametrize("name", ["Segmenter", "Segmentation", "load_model", "list_models"])
def test_arguments_on_the_page_are_those_of_the_code(name: str) -> None:
    found = getattr(pacl, name)
    methods = {member: getattr(found, member, None) for member in public(found)} if inspect.isclass(found) else {}
    shown = 0
    for function_name, function in {name: found, **methods}.items():
        for words in re.findall(rf"`{function_name}\(([^`)]*)\)`", PROSE):
            names = [word.partition("=")[0].strip() for word in words.split(",")]
            named = {word for word in names if word.isidentifier()}
            assert named <= set(inspect.signature(function).parameters), function_name
            shown += len(named)
    assert shown


def test_public_functions_are_typed_and_documented() -> None:
    for name in pacl.__all__:
        found = getattr(pacl, name)
        if not callable(found):
            continue
        assert inspect.getdoc(found), name
        methods = {name: found} if not inspect.isclass(found) else {m: vars(found).get(m) for m in public(found)}
        for method, function in methods.items():
            if inspect.isfunction(function):
                assert inspect.getdoc(function) or method in ("forward",), f"{name}.{method}"
                hints = set(function.__annotations__)
                expected = {p for p in inspect.signature(function).parameters if p != "self"} | {"return"}
                assert expected <= hints, f"{name}.{method}"


def test_the_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    photo = Path("pacl/photos/demo.jpg")
    photo.parent.mkdir(parents=True)
    shutil.copy(shipped_folder("photos") / "demo.jpg", photo)
    names: dict[str, Any] = {}
    assert len(SNIPPETS) > 8
    for snippet in SNIPPETS:
        exec(snippet, names)
    assert names["found"].index.shape == open_image(photo).shape[:2]
    results = {"files/demo.overlay.png", "files/demo.mask.png", "files/demo.json", "coco.json", "demo.safetensors"}
    results |= {"coco/annotations.json", "coco/image-0.json", "coco/image-1.json"}
    results |= {"exported/image.pt", "exported/classes.npy", "exported/model.json"}
    written = {path for path in Path().rglob("[!.]*.*") if path != photo}
    assert written == {Path("out/python", name) for name in results}  # and not `out`, which may hold other labels
    dataset = json.loads(Path("out/python/coco/annotations.json").read_text())
    assert [image["file_name"] for image in dataset["images"]] == ["demo.jpg", "image-1"]


def test_links_lead_somewhere() -> None:
    def headings(text: str) -> set[str]:
        return {
            re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in re.findall(r"^#+ (.*)$", text, re.M)
        }

    targets = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", PAGE)
    assert targets
    for path, anchor in targets:
        file = ROOT / "docs" / path if path else ROOT / "docs" / "python.md"
        assert file.exists(), path
        assert not anchor or anchor in headings(file.read_text(encoding="utf-8")), anchor


def test_type_hints_can_be_resolved() -> None:
    for function in (pacl.load_model, pacl.list_models, pacl.open_image):
        assert "return" in get_type_hints(function)
