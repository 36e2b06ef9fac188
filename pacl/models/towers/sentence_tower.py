"""Text towers from sentence-transformers."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from torch import Tensor

from pacl.errors import ArgumentError, UserError
from pacl.models.towers.base import TextTower, architecture_of, local_path
from pacl.models.towers.hub import fail_fast, first_line, no_progress_bars
from pacl.models.towers.packaged import advice, packaged_folder

LIBRARY = "sentence_transformers."


class SentenceTower(TextTower):
    """A ``SentenceTransformer`` as a text tower."""

    model: Any

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.float().eval()
        self.context_length = int(model.max_seq_length)
        # Versions before 6 have the older names.
        dimension = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
        self.dim = int(dimension())
        pooling = [getattr(module, "get_pooling_mode_str", str)() for module in model]
        self.architecture = architecture_of([[type(module).__name__ for module in model], pooling])
        self._preprocess = getattr(model, "preprocess", None) or model.tokenize

    def encode(self, texts: Sequence[str]) -> Tensor:
        """The model's sentence embeddings ``[T, D]``; some models normalise them."""
        device = next(self.parameters()).device
        features = {
            key: value.to(device) if isinstance(value, Tensor) else value
            for key, value in self._preprocess(list(texts)).items()
        }
        return self.model(features)["sentence_embedding"]

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, start and end included."""
        return len(self.model.tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def bucket(self, text: str) -> Hashable:
        """The number of tokens: texts of equal length need no padding, so embeddings do not depend on the batch."""
        return min(self.count_tokens(text), self.context_length)

    def weights(self) -> Mapping[str, Tensor]:
        """The model's weights, by their names in it."""
        return self.model.state_dict()


def load_sentence_tower(name: str) -> tuple[SentenceTower, str]:
    """Load ``st:ORG/NAME`` or ``st:FOLDER``.

    Weights come from a folder, an installed package (see `pacl.models.towers.packaged`), the hub's cache or a download.

    Args:
        name: the tower's name. After the colon, ``/``, ``./``, ``../`` or ``~`` begins a folder.

    Returns:
        The tower and its name, in which a folder's path is absolute.

    Raises:
        UserError: no such model, sentence-transformers is not installed, or the model contains its own code.
    """
    source = name.removeprefix("st:")
    folder: Path | None = None
    if source.startswith(("/", "./", "../", "~")):
        folder = local_path(source, name).resolve()  # a head that names it must work from elsewhere too
        if not (folder / "modules.json").is_file():
            raise ArgumentError("model", name, f"{folder} holds no modules.json: not a sentence-transformers folder")
        name = f"st:{folder}"
    elif source.count("/") != 1:
        raise ArgumentError("model", name, "not a sentence encoder; use st:ORG/NAME or st:/FOLDER")
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise ArgumentError("model", name, f"needs {error.name}; pip install sentence-transformers") from error
    hint = "" if folder else f"; connect once so that it is cached, or give a folder as st:/FOLDER{advice(name)}"
    folder = folder or packaged_folder(name)
    try:
        if folder is not None:
            _check_modules(folder, name)
        with fail_fast(local=folder is not None), no_progress_bars():
            model = SentenceTransformer(
                str(folder or source), device="cpu", local_files_only=folder is not None or constants.HF_HUB_OFFLINE
            )
        return SentenceTower(model), name
    except UserError:
        raise
    except Exception as error:  # network, missing files, damaged checkpoints: the libraries raise many types
        raise ArgumentError("model", name, f"{first_line(error)}{hint}") from error


def _check_modules(folder: Path, name: str) -> None:
    """Refuse a folder with modules that are not the library's own, since they would run code from the folder."""
    kinds = [module["type"] for module in json.loads((folder / "modules.json").read_text(encoding="utf-8"))]
    if own := [kind for kind in kinds if not kind.startswith(LIBRARY)]:
        raise ArgumentError("model", name, f"its module {own[0]} is code of the model itself, which is not run")
