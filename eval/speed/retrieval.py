"""Time and memory of retrieval in a large set, by phi of all pairs and by phi of the candidates of CLIP's embedding.

    python -m eval.speed.retrieval                                       5,000 images, 25,000 captions, a small CLIP
    python -m eval.speed.retrieval --patches 196 --dim 512 --skip_phi    the size of ViT-B/16

Embeddings are random. For each method the command prints the seconds of scoring and ranking, and by how much the peak
memory of the process grew. Patch embeddings are memory-mapped from a temporary file, and pages of it that were read
count as memory until the system frees them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from eval.common.command import check_least, new_parser
from eval.common.memory import peak_memory
from eval.speed.timing import describe
from pacl.cli.messages import run_verb
from pacl.cli.model import choose_device

CAPTIONS = 5  # per image
CHUNK = 256  # images whose patch embeddings are generated at a time


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.speed.retrieval", __doc__)
    parser.add_argument(
        "--images",
        type=int,
        default=5000,
        metavar="N",
        help="images, with five captions each (default: 5000)",
    )
    parser.add_argument("--patches", type=int, default=49, metavar="N", help="patches per image (default: 49)")
    parser.add_argument("--dim", type=int, default=64, metavar="N", help="width of the embedding (default: 64)")
    parser.add_argument(
        "--first_stage", type=int, default=128, metavar="N", help="candidates per query that phi reranks (default: 128)"
    )
    parser.add_argument("--skip_phi", action="store_true", help="measure only the reranking")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument(
        "--scratch", metavar="DIR", type=Path, help="folder for the temporary file (default: the system's)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Generate embeddings, rank them with each method and print time and memory."""
    args = build_parser().parse_args(argv)
    check_least(args, images=1, patches=1, dim=1, first_stage=1)
    device = choose_device(args.device)
    import torch
    from torch.nn.functional import normalize

    from eval.retrieval import METHODS, RERANKED
    from eval.retrieval.measure import Encoded, mapped, measure

    model: Any = SimpleNamespace(
        device=device, temperature=torch.tensor(0.1),
        config=SimpleNamespace(cosine=True, learn_temperature=False, temperature=0.1),
    )  # fmt: skip
    rng = torch.Generator().manual_seed(0)

    def vectors(*shape: int) -> torch.Tensor:
        return normalize(torch.randn(*shape, args.dim, generator=rng), dim=-1)

    count, texts = args.images, CAPTIONS * args.images
    with tempfile.TemporaryFile(dir=args.scratch) as scratch:
        for first in range(0, count, CHUNK):
            scratch.write(vectors(min(CHUNK, count - first), args.patches).half().numpy().tobytes())
        t = vectors(texts).to(device)
        patches = mapped(scratch, (count, args.patches, args.dim))
        encoded = Encoded(vectors(count), t.cpu(), patches, t)
        owners = [i // CAPTIONS for i in range(texts)]
        print(f"{count} images x {texts} captions, {args.patches} patches of {args.dim} dimensions, {describe(device)}")
        for methods in ([RERANKED], [METHODS[1]])[: 1 if args.skip_phi else 2]:
            before = peak_memory(device)
            (found,) = measure(model, encoded, owners, count, methods, args.first_stage).items()
            method, (_, seconds) = found
            more = max(0, peak_memory(device) - before) / 2**20
            print(f"{method}: {seconds:.1f} s, peak memory +{more:.0f} MB")
    return 0


if __name__ == "__main__":
    run_verb("eval.speed.retrieval", main)
