"""Distillation of a sentence encoder into a static text tower, which has one fixed vector for each token.

Each word piece of the encoder's tokenizer is encoded separately, and so is each word of given texts that the tokenizer
would split. The vectors are centred, projected on their principal components and weighted by the logarithm of the
token's rank. Since BERT's vocabulary is ordered by frequency, rare tokens get a higher weight. The embedding of a text
is the mean over its tokens, see `pacl.models.towers.static_tower`. The method is that of model2vec
(https://github.com/MinishLab/model2vec), extended by whole words.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import Tensor

from pacl.errors import ArgumentError, UserError
from pacl.files import read_text, split_lines
from pacl.image_folders import IMAGE_SUFFIXES
from pacl.models.towers.static_tower import CONTEXT, TOKENIZER, WEIGHTS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pacl.models.towers.sentence_tower import SentenceTower

IMAGENET = ("imagenet_synset_to_lemma.txt", "imagenet_synset_to_definition.txt")  # files of timm: names, definitions
WORD = re.compile(r"(?<![^\W_])[a-z]+(?![^\W_])")  # not next to other letters or digits
FILE = re.compile(rf"""[^\s,;|"']*(?:{"|".join(map(re.escape, sorted(IMAGE_SUFFIXES)))})(?!\w)""")  # a table's images
MIN_COUNT = 2  # rarer words of running text are often misspelled
BATCH = 512  # sequences in one pass of the encoder
UNKNOWN = "[UNK]"


# --- words ---


def find_words(running: Iterable[str], names: Iterable[str] = ()) -> list[str]:
    """Lower-case words in texts, in alphabetical order. Names of image files, as in tables of captions, are no words.

    Args:
        running: texts; their words are included if they occur at least `MIN_COUNT` times.
        names: further texts; all their words are included.
    """
    from tokenizers.normalizers import BertNormalizer

    normalizer = BertNormalizer(lowercase=True)  # (without accents)

    def words_of(text: str) -> list[str]:
        return WORD.findall(FILE.sub(" ", normalizer.normalize_str(text)))

    counts: Counter[str] = Counter()
    for text in running:
        counts.update(words_of(text))
    found = {word for word, count in counts.items() if count >= MIN_COUNT}
    for text in names:
        found.update(words_of(text))
    return sorted(found)


def imagenet_texts() -> list[str]:
    """Names and definitions of the WordNet synsets in ImageNet, which timm's data files list."""
    folder = resources.files("timm.data") / "_info"
    rows = (row for file in IMAGENET for row in (folder / file).read_text(encoding="utf-8").splitlines())
    return [row.partition("\t")[2] for row in rows]


def read_texts(paths: Sequence[str | Path], argument: str) -> list[str]:
    """Lines of text files, or of all ``.txt`` files below a folder, without those that start with ``#``.

    Args:
        paths: files and folders.
        argument: the caller's name for them, in errors.

    Raises:
        ArgumentError: a folder has no such file.
        UserError: a file cannot be read, or is no UTF-8 text.
    """
    lines: list[str] = []
    for path in map(Path, paths):
        files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
        if not files:
            raise ArgumentError(argument, path, "contains no .txt file")
        for file in files:
            rows = split_lines(read_text(file, f"file of {argument}"))
            lines += [row for row in rows if not row.startswith("#")]
    return lines


# --- vectors ---


def wordpiece(tower: SentenceTower) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer of a sentence encoder, without truncation and padding, and the ``model`` entry of its JSON.

    Raises:
        UserError: it is not a WordPiece tokenizer that ignores case, such as BERT's.
    """
    from tokenizers import Tokenizer

    backend = getattr(tower.model.tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise UserError("its tokenizer is not one of the tokenizers library")
    tokenizer = Tokenizer.from_str(backend.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    parts = json.loads(tokenizer.to_str())
    if parts["model"]["type"] != "WordPiece" or parts["model"]["continuing_subword_prefix"] != "##":
        raise UserError(f"its tokenizer is {parts['model']['type']}; it must be BERT's WordPiece")
    if tokenizer.encode("A", add_special_tokens=False).ids != tokenizer.encode("a", add_special_tokens=False).ids:
        raise UserError("its tokenizer distinguishes upper and lower case; it must ignore case")
    return tokenizer, parts["model"]


def usable_pieces(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """ASCII pieces and their ids, ordered by id, without special and unused tokens such as ``[unused7]``."""
    return {
        piece: row
        for piece, row in sorted(vocabulary.items(), key=lambda item: item[1])
        if piece.isascii() and not re.fullmatch(r"\[\w+\]", piece)
    }


@torch.inference_mode()
def encode_tokens(tower: SentenceTower, sequences: Sequence[Sequence[int]], advance: Callable[[int], None]) -> Tensor:
    """Mean over the last hidden state of token sequences, start and end included: float32 ``[N, F]``.

    Only sequences of equal length share a batch, so that none is padded. ``advance`` is called with the size of each
    finished batch.
    """
    device = next(tower.parameters()).device
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))  # (stable)
    batches: list[list[int]] = []
    for i in order:
        if not batches or len(batches[-1]) == BATCH or len(sequences[batches[-1][0]]) != len(sequences[i]):
            batches.append([])
        batches[-1].append(i)
    found: Tensor | None = None
    for batch in batches:
        ids = torch.tensor([list(sequences[i]) for i in batch], device=device)
        features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        vectors = tower.model[0](features)["token_embeddings"].mean(1).float().cpu()
        found = vectors.new_empty(len(sequences), vectors.shape[1]) if found is None else found
        found[batch] = vectors
        advance(len(batch))
    return torch.empty(0, tower.dim) if found is None else found


def principal_components(vectors: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean ``[F]`` and first principal components ``[F, dim]`` of ``[N, F]``, float64.

    The largest entry of each component is positive, so that the result does not depend on the eigensolver.
    """
    mean = vectors.double().mean(0)
    centred = vectors.double() - mean
    _, axes = torch.linalg.eigh(centred.T @ centred)  # eigenvalues ascend
    axes = axes.flip(1)[:, :dim]
    signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return mean, axes * signs


def quantize(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise ``[V, D]`` to codes, int8 ``[V, D]``, and one scale for each row, float16 ``[V]``."""
    scales = (vectors.abs().amax(1) / 127).half()
    codes = (vectors / scales.float().clamp(min=1e-7)[:, None]).round().clamp(-127, 127)
    return codes.to(torch.int8), scales


def static_tokenizer(tokens: Sequence[str], unknown: str) -> Tokenizer:
    """A WordPiece tokenizer of lower-case text with these tokens, whose ids are their indices."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {token: row for row, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def distill(
    tower: SentenceTower,
    words: Sequence[str],
    dim: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Tokenizer, Tensor, dict[str, int]]:
    """Tokenizer and token vectors of a static text tower.

    Args:
        tower: the sentence encoder.
        words: whole words; those that are pieces already, or contain an unknown letter, are skipped.
        dim: width D of the vectors.
        progress: called with the number of encoded tokens and of all tokens, after each batch.

    Returns:
        The tokenizer, its vectors, float32 ``[V, D]``, and the number of ``pieces`` and of ``words`` among its tokens.

    Raises:
        UserError: the encoder's tokenizer is not like BERT's.
        ArgumentError: ``dim`` is larger than the encoder's width or its number of pieces.
    """
    tokenizer, model = wordpiece(tower)
    pieces = usable_pieces(model["vocab"])
    start, *end = tokenizer.encode("").ids
    unknown = model["vocab"].get(model["unk_token"])
    encoded = {word: tokenizer.encode(word).ids for word in words}
    split = {word: ids for word, ids in encoded.items() if len(ids) - 1 - len(end) > 1 and unknown not in ids}
    done, total = 0, len(pieces) + len(split)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    vectors = encode_tokens(tower, [[start, row, *end] for row in pieces.values()], advance)
    whole = encode_tokens(tower, list(split.values()), advance)
    if not 1 <= dim <= min(vectors.shape):
        raise ArgumentError("dim", dim, f"must be between 1 and {min(vectors.shape)}, the width of the encoder")
    mean, axes = principal_components(vectors, dim)
    ranks = torch.tensor([*pieces.values(), *[len(model["vocab"])] * len(split)])
    projected = (torch.cat([vectors, whole]).double() - mean) @ axes * ranks.double().log1p()[:, None]
    embeddings = torch.cat([torch.zeros(1, dim), projected.float()])
    tokens = [UNKNOWN, *pieces, *split]
    return static_tokenizer(tokens, UNKNOWN), embeddings, {"pieces": len(pieces), "words": len(split)}


# --- files ---


def write_folder(out: Path, tokenizer: Tokenizer, embeddings: Tensor, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write a static text tower and its model card to a new folder, atomically.

    Args:
        out: a folder that does not exist or is empty.
        tokenizer: the tokenizer.
        embeddings: float32 ``[V, D]``; they are stored as int8.
        facts: entries of its ``config.json``: ``source``, ``source_checksum``, ``license``, ``command``, ``pieces``,
            ``words``.

    Returns:
        The content of its ``config.json``.

    Raises:
        ArgumentError: the folder cannot be written.
    """
    codes, scales = quantize(embeddings)
    kept = torch.cosine_similarity(codes.float() * scales.float()[:, None], embeddings)[1:]  # (the first is zero)
    config = {
        "model_type": "model2vec",
        "hidden_dim": embeddings.shape[1],
        "seq_length": CONTEXT,
        "normalize": False,
        **facts,
        "lowest_cosine_of_int8": round(kept.min().item(), 5),
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".") as parent:
            aside = Path(parent) / out.name
            aside.mkdir()
            tokenizer.save(str(aside / TOKENIZER), pretty=False)
            (aside / WEIGHTS).write_bytes(save({"embeddings": codes, "weights": scales}))
            (aside / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            (aside / "README.md").write_text(card(config), encoding="utf-8")
            os.replace(aside, out)
    except OSError as error:
        raise ArgumentError("out", out, f"cannot be written ({error.strerror or error})") from error
    return config


def card(config: Mapping[str, Any]) -> str:
    """The model card, a ``README.md``."""
    return f"""\
# Static text tower

One fixed vector for each of {config["pieces"]:,} word pieces and {config["words"]:,} whole words; the embedding of a \
text is the mean over its tokens. It needs no network and no transformers library, and takes microseconds per text.

- source: {config["source"]}, licence {config["license"]}; this folder has the same licence
- SHA-256 of its weights (names, shapes and float32 values): `{config["source_checksum"]}`
- command: `{config["command"]}`
- format: that of model2vec; `embeddings` int8 [{config["pieces"] + config["words"] + 1}, {config["hidden_dim"]}], \
`weights` a scale for each row; the lowest cosine of a row with its float32 version is \
{config["lowest_cosine_of_int8"]}

How the vectors are made: each piece and each word passes the source model by itself; the mean over its last hidden \
state is centred, projected on the principal components of the pieces and multiplied by log(1 + rank). The rank of a \
piece is its place in the source's vocabulary, which is ordered by frequency; that of a whole word is the size of the \
vocabulary.

Good for: names of things and short phrases, such as `a brown dog`. Not good for: word order (`a dog on a horse` is \
`a horse on a dog`), negation, words whose meaning depends on their neighbours, and other languages than that of its \
source. Text in other scripts has no known token and gets a zero vector.
"""
