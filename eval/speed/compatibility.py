"""How long phi and its gradient take, and what memory: ``python -m eval.speed.compatibility [--device cuda]``.

One line per size and implementation: best of a few runs, forward plus backward with respect to the patches (the
texts are frozen in training), and the peak memory beyond the inputs, the gradient included. Compare only lines of
one run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch.nn.functional import normalize

from eval.common.memory import peak_memory, reset_peak_memory
from pacl.cli.messages import run_verb
from pacl.cli.model import choose_device
from pacl.errors import UserError
from pacl.models.compatibility import compatibility

# B, T, P, D. P = 196, D = 512 is ViT-B/16 at 224 px; P = 2809 the same at stride 4.
CPU_SIZES = [(64, 64, 64, 128), (256, 256, 64, 128), (64, 64, 196, 512), (256, 256, 196, 512), (8, 64, 2809, 512)]
GPU_SIZES = [*CPU_SIZES[2:], (1024, 1024, 196, 512), (1024, 4096, 196, 512), (4096, 4096, 196, 512)]


def measure(run: Callable[[], None], device: torch.device, repeats: int) -> tuple[float, float]:
    """Best milliseconds, and peak MiB beyond what was there before."""
    before = reset_peak_memory(device)
    run()  # untimed: the first call pays for set-up
    peak = peak_memory(device)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best * 1e3, (peak - before) / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--temperature", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if args.repeats < 1 or not args.temperature > 0:
        raise UserError(f"--repeats {args.repeats} --temperature {args.temperature}: at least 1, and above 0")
    device = choose_device(args.device)
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    print(f"{device}{threads}, {args.dtype}, temperature {args.temperature}, torch {torch.__version__}")
    print(f"{'B':>5} {'T':>5} {'P':>5} {'D':>4}  {'impl':<9} {'ms':>9} {'MiB':>8}")
    for B, T, P, D in GPU_SIZES if device.type == "cuda" else CPU_SIZES:
        make = {"device": device, "dtype": getattr(torch, args.dtype)}
        patches = normalize(torch.randn(B, P, D, **make), dim=-1).requires_grad_()
        texts = normalize(torch.randn(T, D, **make), dim=-1)
        for impl in ("reference", "chunked"):

            def run(patches: torch.Tensor = patches, texts: torch.Tensor = texts, impl: str = impl) -> None:
                patches.grad = None
                compatibility(patches, texts, temperature=args.temperature, impl=impl).sum().backward()

            patches.grad = None
            try:
                ms, mib = measure(run, device, args.repeats)
                result = f"{ms:9.1f} {mib:8.0f}"
            except torch.OutOfMemoryError:
                result = "out of memory"
            print(f"{B:5} {T:5} {P:5} {D:4}  {impl:<9} {result}", flush=True)
    return 0


if __name__ == "__main__":
    run_verb("eval.speed.compatibility", main)
