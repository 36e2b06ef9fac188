"""The tiles of the Triton kernels of phi: what each takes of a GPU's resources, and how long it takes on this one.

    python -m eval.speed.tiles                     builds and times all tiles on the GPU of this machine
    python -m eval.speed.tiles --build             only builds them, for an H100; needs no GPU

A tile is what a program of a kernel takes at a time: texts, and numbers of the embedding; with its warps and the depth
of its pipeline. `FORWARD` and `BACKWARD` of pacl.models.compatibility_triton hold those in use, marked "*". Registers
that are spilled lie on the stack, in memory. A multiprocessor of an H100 has 227 KB (of 1,024 bytes) of shared memory
for its programs.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eval.common.command import new_parser
from eval.common.tables import markdown_table
from eval.speed.phi import DTYPES
from pacl.cli.messages import printing, run_verb, say
from pacl.errors import UserError

if TYPE_CHECKING:
    from pacl.models.compatibility_triton import Tile

PROG = "python -m eval.speed.tiles"
TARGET = 90  # compute capability 9.0
B, T, P, D = 512, 4096, 196, 512
TILES = {
    "bf16": ((64, 64, 4, 2), (64, 64, 4, 3), (64, 64, 8, 2), (64, 128, 4, 2), (128, 64, 8, 2), (128, 64, 8, 3),
             (128, 64, 8, 4), (128, 128, 8, 2)),
    "fp32": ((64, 32, 4, 2), (64, 32, 8, 2), (128, 32, 8, 2)),
}  # fmt: skip
HEADER = ("kernel", "dtype", "texts", "width", "warps", "stages", "registers", "stack bytes", "shared KB", "ms")


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.speed.tiles", __doc__)
    parser.add_argument("--build", action="store_true", help="only build the kernels, without a GPU")
    parser.add_argument(
        "--dtype", nargs="+", choices=sorted(TILES), default=["bf16"],
        help="default: bf16; those of fp32 take minutes to build",
    )  # fmt: skip
    parser.add_argument("--used", action="store_true", help="only the tiles in use")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Build and time the tiles, and print each as soon as it is known."""
    args = build_parser().parse_args(argv)
    import torch

    if not args.build and not torch.cuda.is_available():
        raise UserError("there is no GPU to time tiles on; --build only builds them")
    lines = []
    for dtype in args.dtype:
        for name, tile, used in tiles(dtype, only_used=args.used):
            cells = [name + "*" * used, dtype, *map(str, tile), *resources(name, tile, dtype)]
            lines.append([*cells, "" if args.build else f"{milliseconds(name, tile, dtype):.2f}"])
            say("eval.speed.tiles", " ".join(lines[-1]))
    with printing():
        print(markdown_table(HEADER, lines, range(2, len(HEADER))))
    return 0


def tiles(dtype: str, only_used: bool) -> Iterator[tuple[str, Tile, bool]]:
    """Kernel, tile, and whether the kernel uses it."""
    from pacl.models.compatibility_triton import BACKWARD, FORWARD, Tile

    itemsize = DTYPES[dtype].itemsize
    for name, own in (("forward", FORWARD[itemsize]), ("backward", BACKWARD[itemsize])):
        for tile in dict.fromkeys([own, *(Tile(*numbers) for numbers in TILES[dtype])]):
            if tile == own or not only_used:
                yield name, tile, tile == own


def resources(name: str, tile: Tile, dtype: str) -> tuple[str, str, str]:
    """Registers of a thread, bytes of its stack, and KB (1,024 bytes) of shared memory of a program."""
    import torch
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pacl.models import compatibility_triton as kernels

    kernel = {"forward": kernels.forward_kernel, "backward": kernels.backward_kernel}[name]
    patches = torch.empty(B, P, D, dtype=DTYPES[dtype], device="meta")
    constants = kernels.constants(tile, patches, True) | {"STORE_A": True, "FOR_TAU": True}
    options = {key: constants.pop(key) for key in ("num_warps", "num_stages")}
    half = constants["HALF"]
    blocks = {"v": [1, half, tile.width], "t": [tile.texts, tile.width], "gram": [1, half, half]}
    blocks |= {argument: [tile.texts, 1, half] for argument in ("ds_out", "a_out", "ca_out")}
    types: dict[str, str] = {}
    for argument in kernel.arg_names:
        if argument in constants:
            types[argument] = "constexpr"
        elif argument in blocks:
            types[argument] = f"tensordesc<{dtype}[{','.join(map(str, blocks[argument]))}]>"
        else:
            types[argument] = {"T": "i32", "min_norm": "fp32"}.get(argument, "*fp32")
    source = ASTSource(kernel, types, {key: value for key, value in constants.items() if key in types})
    built = triton.compile(source, target=GPUTarget("cuda", TARGET, 32), options=options)
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.cubin").write_bytes(built.asm["cubin"])
        command = [str(tools / "cuobjdump"), "-res-usage", "kernel.cubin"]
        told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", told.stdout + told.stderr)
    assert found, told
    return found[1], found[2], f"{built.metadata.shared / 1024:.0f}"


def milliseconds(name: str, tile: Tile, dtype: str) -> float:
    """The time of phi of all pairs on the GPU by this tile, for ``backward`` with the gradient by the patches.

    Not a number where a program needs more than the GPU has.
    """
    import torch
    from torch.nn.functional import normalize
    from triton.runtime.errors import OutOfResources
    from triton.testing import do_bench

    from pacl.models import compatibility_triton as kernels
    from pacl.models.compatibility import compatibility

    shapes = ((B, P, D), (T, D))
    v, t = (normalize(torch.randn(shape, device="cuda"), dim=-1).to(DTYPES[dtype]) for shape in shapes)
    v.requires_grad_(name == "backward")
    tiles_in_use = {"forward": kernels.FORWARD, "backward": kernels.BACKWARD}[name]
    own, tiles_in_use[v.itemsize] = tiles_in_use[v.itemsize], tile

    def run() -> None:
        phi = compatibility(v, t, temperature=0.1, impl="triton")
        if v.requires_grad:
            v.grad = None
            phi.sum().backward()

    try:
        return float(do_bench(run, warmup=20, rep=100, return_mode="min"))
    except OutOfResources:
        return math.nan
    finally:
        tiles_in_use[v.itemsize] = own


if __name__ == "__main__":
    run_verb(PROG, main)
