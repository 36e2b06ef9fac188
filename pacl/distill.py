"""Make a static text tower from a sentence encoder: ``python -m pacl.distill TEXT --out FOLDER [options]``.

Every word piece of the encoder's tokenizer passes the encoder by itself, and so does every whole word of some word
lists that the tokenizer would split. Their vectors are centred, projected on their principal components and weighted by
how rare they are. A text is then the mean over its tokens, see `pacl.models.towers.static_tower`. The recipe is that of
model2vec (https://github.com/MinishLab/model2vec): BERT's vocabulary is ordered by frequency, so that the logarithm of
a piece's rank does what inverse frequencies do. The whole words are an addition.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pacl.cli.messages import run_verb
from pacl.cli.parser import new_parser
from pacl.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pacl.models.towers.sentence_tower import SentenceTower

IMAGENET = ("imagenet_synset_to_lemma.txt", "imagenet_synset_to_definition.txt")  # of timm: names, definitions
WORD = re.compile(r"(?<![^\W_])[a-z]+(?![^\W_])")  # next to no other letters and no digits
MIN_COUNT = 2  # rarer words of running text are often misspelt
BATCH = 512  # pieces that pass the encoder at once
UNKNOWN = "[UNK]"

EXAMPLES = """\
examples:
  python -m pacl.distill st:sentence-transformers/all-MiniLM-L6-v2 --out words
  python -m pacl.distill st:/models/mine --out words --words captions.csv --names eval/segmentation/names --dim 128

The result is a text tower: --model timm:NAME+static:./words
"""


# --- Words ------------------------------------------------------------------------------------------


def find_words(running: Iterable[str], names: Iterable[str] = ()) -> list[str]:
    """Lower-case words in texts, in alphabetical order: those that come at least twice, and all words of names.

    Args:
        running: texts of any kind.
        names: texts of which every word counts.
    """
    from tokenizers.normalizers import BertNormalizer

    normalizer = BertNormalizer(lowercase=True)  # (without accents)
    counts: Counter[str] = Counter()
    for text in running:
        counts.update(WORD.findall(normalizer.normalize_str(text)))
    found = {word for word, count in counts.items() if count >= MIN_COUNT}
    for text in names:
        found.update(WORD.findall(normalizer.normalize_str(text)))
    return sorted(found)


def imagenet_texts() -> list[str]:
    """Names and definitions of the WordNet synsets that ImageNet has photos of, as they come with timm."""
    folder = resources.files("timm.data") / "_info"
    rows = (row for file in IMAGENET for row in (folder / file).read_text(encoding="utf-8").splitlines())
    return [row.partition("\t")[2] for row in rows]


def read_texts(paths: Sequence[str | Path], flag: str) -> list[str]:
    """Lines of text files, or of all ``.txt`` files below a folder, without those that start with ``#``.

    Raises:
        UserError: no such file, or it is not text in UTF-8.
    """
    lines: list[str] = []
    for path in map(Path, paths):
        files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
        if not files:
            raise UserError(f"{flag} {path}: no .txt file is in it")
        for file in files:
            try:
                lines += [row for row in file.read_text(encoding="utf-8").splitlines() if not row.startswith("#")]
            except UnicodeDecodeError:
                raise UserError(f"{flag} {file}: not text in UTF-8") from None
            except OSError as error:
                raise UserError(f"{flag} {file}: cannot be read ({error.strerror})") from None
    return lines


# --- Vectors ----------------------------------------------------------------------------------------


def wordpiece(tower: SentenceTower) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer of a sentence encoder, without truncation and padding, and its model as its JSON has it.

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
        raise UserError(f"its tokenizer is of the kind {parts['model']['type']}; it must be BERT's WordPiece")
    if tokenizer.encode("A", add_special_tokens=False).ids != tokenizer.encode("a", add_special_tokens=False).ids:
        raise UserError("its tokenizer tells upper from lower case; it must ignore case")
    return tokenizer, parts["model"]


def usable_pieces(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """ASCII pieces and their ids, in the order of ids; without special and unused tokens, such as ``[unused7]``."""
    return {
        piece: row
        for piece, row in sorted(vocabulary.items(), key=lambda item: item[1])
        if piece.isascii() and not re.fullmatch(r"\[\w+\]", piece)
    }


@torch.inference_mode()
def embed_alone(tower: SentenceTower, sequences: Sequence[Sequence[int]], title: str) -> Tensor:
    """Mean over the last hidden state of token sequences, start and end included: float32 ``[N, F]``.

    Sequences of one length are computed together, so that none is padded.
    """
    from rich.console import Console
    from rich.progress import Progress

    device = next(tower.parameters()).device
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))  # (stable)
    batches: list[list[int]] = []
    for i in order:
        if not batches or len(batches[-1]) == BATCH or len(sequences[batches[-1][0]]) != len(sequences[i]):
            batches.append([])
        batches[-1].append(i)
    found: Tensor | None = None
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=len(sequences))
        for batch in batches:
            ids = torch.tensor([list(sequences[i]) for i in batch], device=device)
            features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            vectors = tower.model[0](features)["token_embeddings"].mean(1).float().cpu()
            found = vectors.new_empty(len(sequences), vectors.shape[1]) if found is None else found
            found[batch] = vectors
            progress.advance(task, len(batch))
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
    """Round ``[V, D]`` to codes, int8 ``[V, D]``, times a scale of each row, float16 ``[V]``."""
    scales = (vectors.abs().amax(1) / 127).half()
    codes = (vectors / scales.float().clamp(min=1e-7)[:, None]).round().clamp(-127, 127)
    return codes.to(torch.int8), scales


def static_tokenizer(tokens: Sequence[str], unknown: str) -> Tokenizer:
    """A tokenizer of lower-case text that takes the longest of these tokens first; their ids are their indices."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {token: row for row, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def distill(tower: SentenceTower, words: Sequence[str], dim: int) -> tuple[Tokenizer, Tensor, dict[str, int]]:
    """Tokenizer and token vectors of a static text tower.

    Args:
        tower: the sentence encoder.
        words: whole words; those that are pieces already, or have an unknown letter, are passed over.
        dim: width D of the vectors.

    Returns:
        The tokenizer, its vectors, float32 ``[V, D]``, and how many ``pieces`` and ``words`` they are for.

    Raises:
        UserError: the encoder's tokenizer is none of BERT's kind, or too few pieces or features for ``dim``.
    """
    tokenizer, model = wordpiece(tower)
    pieces = usable_pieces(model["vocab"])
    start, *end = tokenizer.encode("").ids
    unknown = model["vocab"].get(model["unk_token"])
    encoded = {word: tokenizer.encode(word).ids for word in words}
    split = {word: ids for word, ids in encoded.items() if len(ids) - 1 - len(end) > 1 and unknown not in ids}
    vectors = embed_alone(tower, [[start, row, *end] for row in pieces.values()], "word pieces")
    whole = embed_alone(tower, list(split.values()), "whole words")
    if not 1 <= dim <= min(vectors.shape):
        raise UserError(f"--dim {dim}: from 1 to {min(vectors.shape)}, the width of the encoder")
    mean, axes = principal_components(vectors, dim)
    ranks = torch.tensor([*pieces.values(), *[len(model["vocab"])] * len(split)])
    projected = (torch.cat([vectors, whole]).double() - mean) @ axes * ranks.double().log1p()[:, None]
    embeddings = torch.cat([torch.zeros(1, dim), projected.float()])
    tokens = [UNKNOWN, *pieces, *split]
    return static_tokenizer(tokens, UNKNOWN), embeddings, {"pieces": len(pieces), "words": len(split)}


# --- Files ------------------------------------------------------------------------------------------


def write_folder(folder: Path, tokenizer: Tokenizer, embeddings: Tensor, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write a static text tower and its card to a new folder, whole or not at all.

    Args:
        folder: it does not exist or is empty.
        tokenizer: the tokenizer.
        embeddings: float32 ``[V, D]``; they are stored as int8.
        facts: what its ``config.json`` says of it: ``source``, ``source_checksum``, ``license``, ``command``,
            ``pieces``, ``words``.

    Returns:
        What ``config.json`` says.

    Raises:
        UserError: it cannot be written.
    """
    from safetensors.torch import save

    from pacl.models.towers.static_tower import CONTEXT, TOKENIZER, WEIGHTS

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
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as parent:
            aside = Path(parent) / folder.name
            aside.mkdir()
            tokenizer.save(str(aside / TOKENIZER), pretty=False)
            (aside / WEIGHTS).write_bytes(save({"embeddings": codes, "weights": scales}))
            (aside / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            (aside / "README.md").write_text(card(config), encoding="utf-8")
            os.replace(aside, folder)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({error.strerror or error})") from error
    return config


def card(config: Mapping[str, Any]) -> str:
    """The model card, a ``README.md``."""
    return f"""\
# Static text tower

One fixed vector for each of {config["pieces"]:,} word pieces and {config["words"]:,} whole words; the embedding of a \
text is the mean over its tokens. It needs no network and no transformers library, and takes microseconds a text.

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


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    parser = new_parser(
        "pacl distill", "Make a static text tower (one vector a token) from a sentence encoder.", epilog=EXAMPLES
    )
    parser.add_argument("text", metavar="TEXT", help="the sentence encoder, st:ORG/NAME or st:/FOLDER")
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument(
        "--words",
        metavar="FILE",
        nargs="+",
        default=[],
        help=f"texts whose words get vectors of their own if they come {MIN_COUNT} times or more, with those of "
        "ImageNet's class names and definitions: captions, tables; of a folder all .txt files",
    )
    parser.add_argument("--names", metavar="FILE", nargs="+", default=[], help="the same, but every word of them")
    parser.add_argument("--dim", metavar="D", type=int, default=256, help="width of the vectors (default: 256)")
    parser.add_argument("--license", metavar="NAME", default="unknown", help="licence of the encoder, for the card")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Load the encoder, compute the vectors and write the folder.

    Raises:
        UserError: whatever is wrong with the words of the command or the files they name.
    """
    args = build_parser().parse_args(argv)
    if not args.text.startswith("st:"):
        raise UserError(f"{args.text}: not a sentence encoder; use st:ORG/NAME or st:/FOLDER")
    if args.dim < 1:
        raise UserError(f"--dim {args.dim}: 1 or more")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UserError(f"--out {args.out}: is there already; choose a new folder")
    words = find_words([*imagenet_texts(), *read_texts(args.words, "--words")], read_texts(args.names, "--names"))

    from rich.console import Console

    from pacl.models.backbone import weights_checksum
    from pacl.models.towers.sentence_tower import load_sentence_tower

    tower, _ = load_sentence_tower(args.text)
    tower.requires_grad_(False)
    try:
        tokenizer, embeddings, counts = distill(tower, words, args.dim)
    except UserError as error:
        raise UserError(f"{args.text}: {error}") from None
    facts = {
        "source": args.text,
        "source_checksum": weights_checksum(tower.weights()),
        "license": args.license,
        "command": _command(args),
        **counts,
    }
    config = write_folder(args.out, tokenizer, embeddings, facts)
    Console(highlight=False, soft_wrap=True).print(
        f"{args.out}: {config['pieces']:,} word pieces and {config['words']:,} whole words, {args.dim} wide; lowest "
        f"cosine of int8 with float32 {config['lowest_cosine_of_int8']}",
        markup=False,
    )
    return 0


def _command(args: argparse.Namespace) -> str:
    """The command as anyone can give it: the names of files without the folders they were in."""
    words = ["python", "-m", "pacl.distill", args.text, "--out", args.out.name]
    for flag, paths in (("--words", args.words), ("--names", args.names)):
        shown = [path if not Path(path).is_absolute() else Path(path).name for path in paths]
        words += [flag, *shown] if paths else []
    return shlex.join([*words, "--dim", str(args.dim), "--license", args.license])


if __name__ == "__main__":
    run_verb("pacl distill", main)
