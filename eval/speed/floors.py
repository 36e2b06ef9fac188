"""Lower bounds of phi and of a training step: multiply-adds, memory traffic, bytes exchanged. Nothing is measured.

    python -m eval.speed.floors                          of ViT-B/16 at 224 pixels
    python -m eval.speed.floors --patches 256 --width 768

Symbols: B images, T texts, P patches, D numbers of an embedding. Gradients are those of the patches, as in training on
frozen texts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from eval.common.command import check_least, new_parser
from eval.common.tables import markdown_table
from pacl.cli.messages import need_output, printing, run_verb
from pacl.errors import ArgumentError

PROG = "python -m eval.speed.floors"
PHI = ("B = T", "GFLOP forward", "GFLOP with backward", "MB in fp32", "MB in bf16", "FLOP per byte in bf16")
TRITON = (
    "B = T, bf16", "floor, GFLOP", "computed, GFLOP", "with padding", "written to and read from the workspace",
    "kept for the backward pass",
)  # fmt: skip
EXCHANGED = ("processes", "texts of a step", "MB of a step", "without the gradients of the head")
TEXTS = 256  # of each process
HEAD_PARAMETERS = 1_050_112  # of a head for ViT-B/16
BF16, FP32 = 2, 4  # bytes of a number


def multiply_adds(B: int, T: int, P: int, D: int, backward: bool = True) -> int:
    """The multiply-adds of phi that cannot be avoided: those of `eval.speed.phi.products`."""
    return min(by_gram(B, T, P, D, backward), by_pooled(B, T, P, D, backward))


def by_gram(B: int, T: int, P: int, D: int, backward: bool) -> int:
    """Multiply-adds where the norms of pooled vectors come from the Gram matrices of the patches."""
    return (B * T * P * (D + P) + B * P * P * D) * (1 + backward)


def by_pooled(B: int, T: int, P: int, D: int, backward: bool) -> int:
    """Multiply-adds where the norms come from the pooled vectors themselves."""
    return B * T * P * D * (5 if backward else 2)


def traffic(B: int, T: int, P: int, D: int, itemsize: int) -> int:
    """Bytes: v and t are read twice and v's gradient is written in their dtype, phi and its gradient in float32."""
    return itemsize * (3 * B * P * D + 2 * T * D) + 8 * B * T


def padded(P: int) -> int:
    """The patches that a program of the Triton kernel multiplies."""
    return max(32, 1 << (P - 1).bit_length())


def aligned(P: int) -> int:
    """The patches that the kernel's workspace in bf16 has room for: a row is a multiple of 16 bytes."""
    return P + -P % 8


def triton_multiply_adds(B: int, T: int, P: int, D: int, inside: int) -> int:
    """Those of `pacl.models.compatibility_triton` with a backward pass: the similarities and G a twice, and the sums.

    Args:
        inside: the patches that a program multiplies.
    """
    return 2 * B * T * inside * (D + inside) + B * T * P * (D + P) + 2 * B * P * P * D


def exchanged(processes: int, texts: int, dim: int, parameters: int) -> int:
    """Bytes that each process gives to collective operations in one training step.

    No image, patch or similarity leaves its process: see `pacl.distributed` and `pacl.training.loss`.

    Args:
        processes: their number.
        texts: of each process, all different, with gradients.
        dim: width of their embeddings.
        parameters: trained ones, whose gradients are averaged.
    """
    if processes == 1:
        return 0
    every = processes * texts
    gathered = texts * (8 + 4 * dim) + 8  # digests of the texts, embeddings, and their count
    returned = 4 * every * dim  # gradients of all embeddings
    # For each text the maximum; then its positives, their logits, its share; and two numbers for all images.
    loss = every * 4 + every * 3 * 4 + 2 * 4
    return gathered + returned + loss + 4 * parameters


def phi_rows(batches: Sequence[int], P: int, D: int) -> Iterator[list[str]]:
    """The floors of phi."""
    for B in batches:
        forward, both = (2 * multiply_adds(B, B, P, D, backward) for backward in (False, True))
        fp32, bf16 = (traffic(B, B, P, D, itemsize) for itemsize in (FP32, BF16))
        yield [f"{B:,}", giga(forward), giga(both), f"{fp32 / 1e6:,.0f}", f"{bf16 / 1e6:,.0f}", f"{both / bf16:,.0f}"]


def triton_rows(batches: Sequence[int], P: int, D: int) -> Iterator[list[str]]:
    """What the Triton kernel does beside its floor."""
    for B in batches:
        counts = (multiply_adds(B, B, P, D), *(triton_multiply_adds(B, B, P, D, inside) for inside in (P, padded(P))))
        workspace = 3 * BF16 * B * B * aligned(P)  # ds, a and c a
        kept = 3 * FP32 * B * B  # <pooled, t>, the softmax's denominator, the norm
        yield [
            f"{B:,}",
            *(giga(2 * count) for count in counts),
            f"2 x {workspace / 1e9:,.3g} GB",
            f"{kept / 1e6:,.1f} MB",
        ]


def exchanged_rows(processes: Sequence[int], D: int) -> Iterator[list[str]]:
    """What each process gives to collective operations in a step."""
    for count in processes:
        sizes = (exchanged(count, TEXTS, D, parameters) for parameters in (HEAD_PARAMETERS, 0))
        yield [str(count), f"{count * TEXTS:,}", *(f"{size / 1e6:,.1f}" for size in sizes)]


def giga(count: float) -> str:
    """A number in billions."""
    return f"{count / 1e9:,.1f}" if count < 1e11 else f"{count / 1e9:,.0f}"


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.speed.floors", __doc__)
    parser.add_argument("--patches", type=int, metavar="P", default=196, help="of an image (default: 196)")
    parser.add_argument("--width", type=int, metavar="D", default=512, help="of the embeddings (default: 512)")
    parser.add_argument(
        "--batches", type=int, nargs="+", metavar="B", default=[128, 256, 1024, 4096, 16384],
        help="images, and as many texts (default: 128 256 1024 4096 16384)",
    )  # fmt: skip
    parser.add_argument(
        "--processes", type=int, nargs="+", metavar="N", default=[2, 8, 64, 512],
        help=f"of a training, each with {TEXTS} texts (default: 2 8 64 512)",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the three tables."""
    args = build_parser().parse_args(argv)
    need_output()
    check_least(args, patches=1, width=1)
    for name in ("batches", "processes"):
        if (least := min(getattr(args, name))) < 1:
            raise ArgumentError(name, least, "must be at least 1")
    P, D = args.patches, args.width
    with printing():
        for title, header, rows in (
            (f"The floor of phi, P = {P}, D = {D}", PHI, phi_rows(args.batches, P, D)),
            ("The Triton kernel, forward and backward", TRITON, triton_rows(args.batches, P, D)),
            (f"What a training step exchanges, {TEXTS} texts a process", EXCHANGED, exchanged_rows(args.processes, D)),
        ):
            print(f"{title}\n\n{markdown_table(header, list(rows), range(len(header)))}\n")
    return 0


if __name__ == "__main__":
    run_verb(PROG, main)
