"""Time and memory of retrieval in a large set, by phi of all pairs and by phi of the candidates of CLIP's embedding.
And of a search in an index on disk.

Embeddings are random. Patch embeddings are memory-mapped from a temporary file, and pages of it that were read count as
memory until the system frees them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.functional import normalize

from eval.retrieval import METHODS, RERANKED
from eval.retrieval.measure import ROWS, Encoded, mapped, measure
from eval.speed.measure import Options, Row, Way, compare
from eval.speed.phi import products
from pacl.index.file import open_file
from pacl.index.ranking import Vectors, best

CAPTIONS = 5  # per image
CHUNK = 256  # images whose patch embeddings are generated at a time
PHI = METHODS[1]

# Images, patches, dimensions, candidates, methods: a small CLIP, and ViT-B/16, whose phi of all pairs takes long.
SIZES = [(5000, 49, 64, 128, (PHI, RERANKED)), (5000, 196, 512, 128, (RERANKED,))]
QUICK_SIZES = [(9, 4, 8, 3, (PHI, RERANKED))]
INDEX_SIZE, QUICK_INDEX_SIZE = (100_000, 512), (50, 8)  # images, dimensions
TOP = 10


def rows(options: Options) -> Iterator[Row]:
    """All sizes, and an index."""
    for size in QUICK_SIZES if options.quick else SIZES:
        yield from rows_of(*size, options)
    yield from rows_of_index(*(QUICK_INDEX_SIZE if options.quick else INDEX_SIZE), options)


def rows_of_index(count: int, dim: int, options: Options) -> list[Row]:
    """A text, as a vector, in an index of ``count`` images; always on the CPU. The limit is the bare matrix product."""
    rng = torch.Generator().manual_seed(0)
    vectors = normalize(torch.randn(count, dim, generator=rng), dim=-1)
    text, made_by = vectors[:1] + 0.1, {"part": "eval.speed"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.sqlite"
        with open_file(path, made_by, write=True) as file:
            for n, vector in enumerate(vectors.numpy()):
                file.add_image(b"%09d.jpg" % n, 0, 0, file.add_embedding(n.to_bytes(16, "big"), vector, None))

        def read() -> Vectors:
            with open_file(path, made_by) as file:
                return Vectors.read(file)

        warm = read()
        limit = Way("bare product", lambda: vectors @ text.T, items=count)
        ways = [
            limit,
            Way("search in memory", lambda: best(warm.scores(text), TOP), limit=limit, items=count),
            Way("read the index and search", lambda: best(read().scores(text), TOP), limit=limit, items=count),
        ]
        return compare("retrieval", f"a text in an index of {count} images, {dim} dimensions", ways, options)


def rows_of(
    count: int, patches: int, dim: int, candidates: int, methods: tuple[str, ...], options: Options
) -> list[Row]:
    """A set of ``count`` images with five captions each; the limit is the bare matrix products of all pairs."""
    device = options.device
    model: Any = SimpleNamespace(
        device=device, temperature=torch.tensor(0.1),
        config=SimpleNamespace(cosine=True, learn_temperature=False, temperature=0.1),
    )  # fmt: skip
    rng = torch.Generator().manual_seed(0)

    def vectors(*shape: int) -> torch.Tensor:
        return normalize(torch.randn(*shape, dim, generator=rng), dim=-1)

    with tempfile.TemporaryFile() as scratch:
        for first in range(0, count, CHUNK):
            scratch.write(vectors(min(CHUNK, count - first), patches).half().numpy().tobytes())
        texts = vectors(CAPTIONS * count).to(device)
        v = mapped(scratch, (count, patches, dim))
        encoded = Encoded(vectors(count), texts.cpu(), v, texts)
        owners = [i // CAPTIONS for i in range(len(texts))]

        def bare() -> None:
            for some in v.split(ROWS):
                products(some.to(device).float(), texts, backward=False)

        def ranked(method: str) -> Way:
            run = lambda: measure(model, encoded, owners, count, [method], candidates)  # noqa: E731
            return Way(method, run, reference=ways[1] if len(ways) > 1 else None, items=count)

        ways: list[Way] = []
        if PHI in methods:
            limit = Way("bare products of all pairs", bare, items=count)
            ways = [limit, Way(PHI, ranked(PHI).run, limit=limit, items=count)]
        if RERANKED in methods:
            ways.append(ranked(RERANKED))
        case = f"{count} images x {len(texts)} captions, {patches} patches of {dim} dimensions"
        return compare("retrieval", case, ways, options, once=not options.quick)
