"""Weights that come as packages: found without running them, checked, unpacked."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
import torch

from pacl.errors import ArgumentError
from pacl.models.towers import packaged
from pacl.models.towers.packaged import PACKAGES, Package, packaged_folder, packaged_state
from pacl.models.towers.timm_tower import load_timm

NAME = "timm:tf_efficientnet_lite2.in1k"


def install(site: Path, distribution: str, file: str, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with one data file, whose code must not run."""
    module = site / Path(file).parts[0]
    (site / file).parent.mkdir(parents=True, exist_ok=True)
    (site / file).write_bytes(content)
    (module / "__init__.py").write_text("raise SystemExit('was run')")
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))


def saved(state: dict[str, torch.Tensor], path: Path) -> bytes:
    torch.save(state, path)
    return path.read_bytes()


def test_tensors_in_the_same_order_under_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"a": torch.randn(2, 3), "b.num_batches_tracked": torch.tensor(0), "c": torch.randn(4)}
    content = saved({"x": model["a"], "y.num_batches_tracked": torch.tensor(5), "z": model["c"]}, tmp_path / "w")
    install(tmp_path / "site", "tiny-weights", "tiny/w.pth", content, monkeypatch)
    sums = {"right": hashlib.sha256(content).hexdigest(), "wrong": "0" * 64}
    for key, value in sums.items():
        monkeypatch.setitem(PACKAGES, key, Package("tiny-weights", "tiny/w.pth", value))
    found = packaged_state("right", {key: value.to("meta") for key, value in model.items()})
    assert found is not None
    assert all(torch.equal(found[key], model[key]) for key in model)
    with pytest.raises(ArgumentError, match="tiny-weights") as error:
        packaged_state("wrong", model)
    assert error.value.argument == "model"
    with pytest.raises(ArgumentError) as error:
        packaged_state("right", {**model, "c": torch.zeros(5)})
    assert error.value.argument == "model"
    assert packaged_state("timm:other", model) is None


def test_a_package_that_is_not_installed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "absent", Package("no-such-distribution-at-all", "x", "0" * 64))
    assert packaged_state("absent", {}) is None
    assert packaged_folder("absent") is None
    assert "pip install no-such-distribution-at-all" in packaged.advice("absent")
    assert packaged.advice("unknown") == ""


def archive(path: Path, files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return path.read_bytes()


def test_an_archive_is_unpacked_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    weights = b"weights"
    package = Package("tiny-model", "tiny_model/model.zip", hashlib.sha256(weights).hexdigest())
    monkeypatch.setitem(PACKAGES, "st:tiny", package)
    files = {"model.safetensors": weights, "1_Pooling/config.json": b"{}"}

    def installed(**more: bytes) -> None:
        content = archive(tmp_path / "model.zip", {**files, **more})
        install(tmp_path / "site", "tiny-model", "tiny_model/model.zip", content, monkeypatch)

    for bad in ({"../../evil": b""}, {"/evil": b""}, {"model.safetensors": b"other"}):
        installed(**bad)
        with pytest.raises(ArgumentError) as error:
            packaged_folder("st:tiny")
        assert error.value.argument == "model"
        assert not [*(cache / "pacl").iterdir()]
    assert not [*tmp_path.rglob("evil")]
    (tmp_path / "site" / "tiny_model" / "model.zip").write_bytes(b"no archive")
    with pytest.raises(ArgumentError) as error:
        packaged_folder("st:tiny")
    assert error.value.argument == "model"

    installed()
    folder = packaged_folder("st:tiny")
    assert folder is not None
    assert (folder / "model.safetensors").read_bytes() == weights
    assert (folder / "1_Pooling" / "config.json").read_bytes() == b"{}"
    assert [*(cache / "pacl").iterdir()] == [folder]
    before = folder.stat().st_mtime_ns
    assert packaged_folder("st:tiny") == folder
    assert folder.stat().st_mtime_ns == before
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert packaged_folder("st:tiny") == folder
    assert (folder / "model.safetensors").read_bytes() == weights


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    package = Package("tiny-model", "tiny_model/model.zip", hashlib.sha256(b"x").hexdigest())
    monkeypatch.setitem(PACKAGES, "st:tiny", package)
    content = archive(tmp_path / "model.zip", {"model.safetensors": b"x"})
    install(tmp_path / "site", "tiny-model", "tiny_model/model.zip", content, monkeypatch)
    with pytest.raises(ArgumentError, match="XDG_CACHE_HOME") as error:
        packaged_folder("st:tiny")
    assert error.value.argument == "model"


def test_the_weights_of_efficientnet_lite_2_fit() -> None:
    if PACKAGES[NAME].find() is None:
        pytest.skip(f"needs {PACKAGES[NAME].distribution}")
    tower, _ = load_timm(NAME)
    assert (tower.width, tower.size, tower.patch) == (1280, 260, 16)
    random, _ = load_timm("timm:tf_efficientnet_lite2/random")
    # Trained batch norms have running means; those at the start are zero.
    assert tower.model.bn1.running_mean.abs().max() > 0
    assert random.model.bn1.running_mean.abs().max() == 0
