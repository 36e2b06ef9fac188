"""A wheel, installed elsewhere, does what the clone does: its models, pictures and configurations travel with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.paths import ROOT

MAX_MEGABYTES = 20  # two heads, a small CLIP and word vectors travel with the package

pytestmark = pytest.mark.slow


def python(*words: str | Path, cwd: Path, site: Path | None = None) -> str:
    """Run Python offline in a folder, with the packages of `site` before all others; its standard output."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(site or "")}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel, cwd=folder)
    assert python("-c", "import pacl; print(pacl.__file__)", cwd=folder, site=folder).startswith(str(folder))
    return folder


def test_the_wheel_holds_what_is_needed_and_no_more(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"pacl/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    bundled = {"config.json", "model.safetensors", "demo.jpg", "README.md", "clip/open_clip_model.safetensors"}
    photos = {"config.json", "model.safetensors", "demo.jpg", "README.md", "words/model.safetensors"}
    assert configs | {f"pacl/bundled/{name}" for name in bundled} <= names
    assert {f"pacl/photos/{name}" for name in photos} <= names
    assert "pacl/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"pacl"}
    assert not [name for name in names if "__pycache__" in name]
    assert wheel.stat().st_size < MAX_MEGABYTES * 1e6


def test_it_segments_outside_the_clone(site: Path, tmp_path: Path) -> None:
    demo = site / "pacl" / "photos" / "demo.jpg"
    out = python("-m", "pacl", "segment", demo, *demo_prompts(), "--model", "photos", "--json", cwd=tmp_path, site=site)
    found = {label["label"]: label["share"] for label in json.loads(out)["labels"]}
    assert found["cat"] > 0.3
    assert (tmp_path / "out" / "demo.overlay.png").stat().st_size > 10_000


def test_it_trains_outside_the_clone(site: Path, tmp_path: Path) -> None:
    printed = python("-m", "pacl.train", "--print_config", cwd=tmp_path, site=site)
    assert "backbone: bundled" in printed
    steps = ("--trainer.max_steps", "1", "--data.init_args.scenes", "64", "--data.init_args.batch_size", "32")
    python("-m", "pacl.train", *steps, "--out", "run", cwd=tmp_path, site=site)
    demo = site / "pacl" / "bundled" / "demo.jpg"
    out = python("-m", "pacl.segment", demo, "sky", "sand", "--model", "run", "--json", cwd=tmp_path, site=site)
    assert json.loads(out)["model"]["trained"] is True


def test_it_pretrains_outside_the_clone(site: Path, tmp_path: Path) -> None:
    printed = python(
        "-m", "pacl.pretrain", "--config", "configs/scenes_clip.yaml", "--print_config", cwd=tmp_path, site=site
    )
    assert "patch_size: 8" in printed


def test_the_console_script_is_installed(site: Path, tmp_path: Path) -> None:
    version = python(site / "bin" / "pacl", "--version", cwd=tmp_path, site=site)
    assert re.fullmatch(r"pacl \d+\.\d+\.\d+\n", version)


def test_make_help_names_what_there_is_to_make() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not here")
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(f"make {name} " in done.stdout for name in ("demo", "test", "help"))


def demo_prompts() -> list[str]:
    """The prompts of ``make demo``."""
    (row,) = (row for row in (ROOT / "Makefile").read_text().splitlines() if row.startswith("DEMO_PROMPTS"))
    return re.findall(r'"([^"]+)"', row)
