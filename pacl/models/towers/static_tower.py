"""Text towers of static token vectors: the embedding of a text is the mean of the vectors of its tokens.

The folder format is that of model2vec (https://github.com/MinishLab/model2vec), so its models load as well:

===================== ====================================================================================
``tokenizer.json``     a tokenizer of the tokenizers library
``model.safetensors``  ``embeddings`` ``[R, D]``, floating or int8; optionally ``weights`` ``[V]``, a factor of
                       each token, and ``mapping`` ``[V]``, the row of each token (without it, R = V)
===================== ====================================================================================

`pacl.distill` makes such folders from a sentence encoder. It stores int8 rows, and ``weights`` holds their scales.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pacl.errors import ArgumentError
from pacl.models.towers.base import TextTower, local_path
from pacl.models.towers.hub import first_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER, WEIGHTS = "tokenizer.json", "model.safetensors"
WORDS = "static:words"  # the tower that is part of this package
CONTEXT = 512  # tokens, as in model2vec


class StaticTower(TextTower):
    """Mean of token vectors, which ignores the order of words.

    Args:
        tokenizer: the tokenizer; token ids are rows of ``embeddings``. It is used without special tokens.
        embeddings: token vectors, float32 ``[V, D]``.
        unknown: id of the unknown token, which is not part of the mean; ``None`` without one.
    """

    familiar = 0.6
    """Chosen with words for things that photos do not show, and for things that photos show. Of other words of both
    kinds, 78 % of 67 and 2 % of 83 are below this value, with the photo model's vocabulary."""

    def __init__(self, tokenizer: Tokenizer, embeddings: Tensor, unknown: int | None = None) -> None:
        super().__init__()
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.unknown = unknown
        self.embeddings = nn.EmbeddingBag.from_pretrained(embeddings, freeze=False, mode="mean")
        self.dim = embeddings.shape[1]
        self.context_length = CONTEXT

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Mean token vectors ``[T, D]``, not normalised; zero for a text without a known token."""
        device = self.embeddings.weight.device
        ids = [self._ids(text)[: self.context_length] for text in texts]
        lengths = torch.tensor([0, *map(len, ids)])
        flat = torch.tensor([token for each in ids for token in each], dtype=torch.long)
        return self.embeddings(flat.to(device), lengths.cumsum(0)[:-1].to(device))

    def count_tokens(self, text: str) -> int:
        """Known tokens of a text; there are no start and end tokens."""
        return len(self._ids(text))

    def pieces(self, word: str) -> list[str] | None:
        """See `TextTower.pieces`; known for WordPiece tokenizers, such as that of ``static:words``."""
        prefix = getattr(self.tokenizer.model, "continuing_subword_prefix", None)
        if not prefix:
            return None
        encoded = self.tokenizer.encode(word, add_special_tokens=False)
        return [
            "" if number == self.unknown else token.removeprefix(prefix)
            for number, token in zip(encoded.ids, encoded.tokens, strict=True)
        ]

    def weights(self) -> Mapping[str, Tensor]:
        """The token vectors and the tokenizer, as the bytes of its JSON."""
        tokenizer = torch.frombuffer(bytearray(self.tokenizer.to_str().encode()), dtype=torch.uint8)
        return {"embeddings": self.embeddings.weight, "tokenizer": tokenizer}

    def _ids(self, text: str) -> list[int]:
        # One text at a time: the tokenizer's batches use threads, which do not work in forked data loader workers.
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return [token for token in ids if token != self.unknown]


def words_folder() -> Path:
    """Folder of the static text tower that is part of this package."""
    return Path(str(resources.files("pacl"))) / "photos" / "words"


def load_static_tower(name: str) -> tuple[StaticTower, str]:
    """Load ``static:words``, which is part of this package, or ``static:FOLDER``.

    Args:
        name: the tower's name. After the colon, ``/``, ``./``, ``../`` or ``~`` begins a folder.

    Returns:
        The tower and its name, in which a folder's path is absolute.

    Raises:
        UserError: no such folder, or its files are missing, damaged or do not fit each other.
    """
    source = name.removeprefix("static:")
    if name == WORDS:
        folder = words_folder()
    elif source.startswith(("/", "./", "../", "~")):
        folder = local_path(source, name).resolve()  # a head that names it must work from elsewhere too
        name = f"static:{folder}"
    else:
        raise ArgumentError("model", name, f"not a static text tower; use {WORDS} or static:/FOLDER")
    if missing := [file for file in (TOKENIZER, WEIGHTS) if not (folder / file).is_file()]:
        raise ArgumentError(
            "model", name, f"{folder} holds no {missing[0]}; make such a folder with python -m pacl.distill"
        )
    tokenizer, unknown = _read_tokenizer(folder / TOKENIZER, name)
    embeddings = _read_embeddings(folder / WEIGHTS, name)
    tokens = tokenizer.get_vocab_size()
    if len(embeddings) != tokens or max(tokenizer.get_vocab().values(), default=0) >= tokens:
        raise ArgumentError(
            "model", name, f"{folder} has {tokens} tokens, but vectors for other ones ({len(embeddings)})"
        )
    return StaticTower(tokenizer, embeddings, unknown), name


def _read_tokenizer(path: Path, name: str) -> tuple[Tokenizer, int | None]:
    """A tokenizer and the id of its unknown token."""
    from tokenizers import Tokenizer
    from tokenizers.models import Unigram

    try:
        text = path.read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
        tokenizer.encode("\U0010ffff")  # of no vocabulary: the token for such letters may be missing, too
    except Exception as error:  # (the library raises plain exceptions)
        raise ArgumentError("model", name, f"{path} is not a tokenizer ({first_line(error)})") from error
    if isinstance(tokenizer.model, Unigram):  # has the id, in the file alone; other models have the token
        return tokenizer, json.loads(text)["model"].get("unk_id")
    token = tokenizer.model.unk_token
    return tokenizer, None if token is None else tokenizer.token_to_id(token)


def _read_embeddings(path: Path, name: str) -> Tensor:
    """Token vectors, float32 ``[V, D]``: rows, indexed by ``mapping`` and scaled by ``weights`` if present."""
    try:
        tensors = load_file(path)
        rows = tensors["embeddings"]
        if rows.ndim != 2:
            raise ValueError(f"embeddings are {list(rows.shape)}, not tokens by width")
        if "mapping" in tensors:
            rows = rows[tensors["mapping"].long()]
        rows = rows.float()
        if "weights" in tensors:
            if tensors["weights"].shape != rows.shape[:1]:
                raise ValueError(f"weights are {list(tensors['weights'].shape)}, not one of {len(rows)} tokens")
            rows *= tensors["weights"].float()[:, None]
        return rows
    except KeyError:
        raise ArgumentError("model", name, f"{path} holds no 'embeddings'") from None
    except (SafetensorError, OSError, ValueError, IndexError) as error:
        raise ArgumentError("model", name, f"{path} cannot be read ({first_line(error)})") from error
