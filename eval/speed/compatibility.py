"""Time and peak memory of phi and its gradient, for each implementation and several sizes of inputs.

    python -m eval.speed.compatibility
    python -m eval.speed.compatibility --device cuda --dtype bfloat16

The command prints one line per size and implementation: the shortest time of several forward and backward passes, and
the peak memory including gradients, but not inputs. Gradients are computed for the patches only, as in training. Times
of different runs of the command are not comparable.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from eval.common.command import check_least, new_parser
from eval.common.memory import peak_memory, reset_peak_memory
from eval.speed.timing import describe, seconds
from pacl.cli.messages import run_verb
from pacl.cli.model import choose_device
from pacl.errors import ArgumentError

if TYPE_CHECKING:
    import torch

# B images, T texts, P patches, D embedding. P = 196, D = 512 is ViT-B/16 at 224 px; P = 2809 is the same at stride 4.
CPU_SIZES = [(64, 64, 64, 128), (256, 256, 64, 128), (64, 64, 196, 512), (256, 256, 196, 512), (8, 64, 2809, 512)]
GPU_SIZES = [*CPU_SIZES[2:], (1024, 1024, 196, 512), (1024, 4096, 196, 512), (4096, 4096, 196, 512)]


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.speed.compatibility", __doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="dtype of the inputs (default: float32)",
    )
    parser.add_argument(
        "--temperature", type=float, default=0.1, metavar="X", help="pooling temperature (default: 0.1)"
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="timed runs per line (default: 3)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all sizes and implementations and print the table."""
    args = build_parser().parse_args(argv)
    check_least(args, runs=1)
    if not args.temperature > 0:
        raise ArgumentError("temperature", args.temperature, "must be above 0")
    device = choose_device(args.device)
    import torch
    from torch.nn.functional import normalize

    from pacl.models.compatibility import IMPLEMENTATIONS, MAX_PATCHES, compatibility

    print(f"{describe(device)}, {args.dtype}, temperature {args.temperature}")
    print(f"{'B':>5} {'T':>5} {'P':>5} {'D':>4}  {'impl':<9} {'ms':>9} {'MiB':>8}")
    for B, T, P, D in GPU_SIZES if device.type == "cuda" else CPU_SIZES:
        make = {"device": device, "dtype": getattr(torch, args.dtype)}
        patches = normalize(torch.randn(B, P, D, **make), dim=-1).requires_grad_()
        texts = normalize(torch.randn(T, D, **make), dim=-1)
        for impl in IMPLEMENTATIONS[1:]:  # without "auto"
            if impl == "triton" and (device.type != "cuda" or P > MAX_PATCHES):
                continue

            def run(patches: torch.Tensor = patches, texts: torch.Tensor = texts, impl: str = impl) -> None:
                patches.grad = None
                compatibility(patches, texts, temperature=args.temperature, impl=impl).sum().backward()

            patches.grad = None
            try:
                ms, mib = measure(run, device, args.runs)
                result = f"{ms:9.1f} {mib:8.0f}"
            except torch.OutOfMemoryError:
                result = "out of memory"
            print(f"{B:5} {T:5} {P:5} {D:4}  {impl:<9} {result}", flush=True)
    return 0


def measure(run: Callable[[], None], device: torch.device, runs: int) -> tuple[float, float]:
    """Shortest time of a call in milliseconds, and by how much its peak memory exceeds the memory in use, in MiB."""
    before = reset_peak_memory(device)
    run()  # untimed: the first call includes initialization
    peak = peak_memory(device)
    return 1e3 * min(seconds(run, device) for _ in range(runs)), (peak - before) / 2**20


if __name__ == "__main__":
    run_verb("eval.speed.compatibility", main)
