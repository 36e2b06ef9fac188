"""What training and segmentation of very many images take, by measured rates: time, memory, traffic, cost, bottleneck.

    python -m eval.speed train segment data                             measures the rates
    python -m eval.speed.scale out/speed/.../speed.json                 prints the table
    python -m eval.speed.scale speed.json --price 2.5 --cores 12        with other assumptions

Nothing is measured here. A rate is that of the file; N GPUs are taken to be N times as fast, as long as decoding,
reading and the network keep up, which is what the column "bottleneck" compares. Assumptions are flags.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.common.command import check_least, new_parser
from eval.common.tables import markdown_table
from eval.speed.floors import HEAD_PARAMETERS, exchanged
from eval.speed.measure import Row
from eval.speed.report import read
from pacl.cli.messages import need_output, printing, run_verb
from pacl.errors import ArgumentError

PROG = "python -m eval.speed.scale"
DEVICES = (1, 8, 64)
PAIRS = (118_000, 3_000_000, 30_000_000, 1_000_000_000)
IMAGES = (1_000_000, 1_000_000_000)
HEADER = (
    "what",
    "images",
    "devices",
    "hours",
    "bottleneck",
    "read",
    "written",
    "exchanged in a step",
    "memory",
    "cost",
)
LIMITED_TO = {"train": "step", "segment": "predict_batch"}
DECODING = {"train": "random crop, reduced", "segment": "decode in full"}


@dataclass(frozen=True)
class Machine:
    """What is assumed of the machines.

    Attributes:
        per_machine: devices in one machine.
        cores: CPU cores for each device.
        read: MB/s that a machine reads from storage.
        network: GB/s between machines.
        price: of an hour of one device; 0 is unknown.
    """

    per_machine: int
    cores: int
    read: float
    network: float
    price: float


@dataclass(frozen=True)
class Work:
    """What is assumed of the images and the training.

    Attributes:
        image_kb: size of an image's file.
        record_kb: size of an image's masks as compressed run lengths.
        epochs: passes over the pairs in training.
        batch: images of a process in a step.
        dim: width of the text embeddings.
        parameters: of the head.
    """

    image_kb: float
    record_kb: float
    epochs: float
    batch: int
    dim: int
    parameters: int


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.speed.scale", __doc__)
    parser.add_argument(
        "json", type=Path, nargs="+", metavar="SPEED_JSON", help="of python -m eval.speed; one or several"
    )
    parser.add_argument("--model", metavar="NAME", help="whose rates are taken (default: the first in the files)")
    for name, default, text in (
        ("per_machine", 8, "devices in one machine"),
        ("cores", 12, "CPU cores for each device"),
        ("batch", 256, "images of a process in a training step"),
        ("dim", 512, "width of the text embeddings"),
        ("parameters", HEAD_PARAMETERS, "trained parameters (default: those of a head for ViT-B/16)"),
    ):
        parser.add_argument(f"--{name}", type=int, metavar="N", default=default, help=f"{text} (default: {default:,})")
    for name, size, text in (
        ("read", 2000.0, "MB/s that a machine reads from storage"),
        ("network", 25.0, "GB/s between machines"),
        ("image_kb", 60.0, "kB of an image's file"),
        ("record_kb", 2.0, "kB of an image's compressed masks"),
        ("epochs", 10.0, "passes over the pairs in training"),
        ("price", 0.0, "of an hour of one device; 0 leaves the cost out"),
    ):
        parser.add_argument(f"--{name}", type=float, metavar="X", default=size, help=f"{text} (default: {size:g})")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of the rates in the files.

    Raises:
        UserError: a file is none of `eval.speed`, or lacks the rates.
        ArgumentError: a file is of tiny sizes, or two have the same line, as those of two machines have.
    """
    args = build_parser().parse_args(argv)
    need_output()
    check_least(args, per_machine=1, cores=1, batch=1, dim=1, parameters=0)
    for name in ("read", "network", "image_kb", "record_kb", "epochs"):
        if not 0 < getattr(args, name) < float("inf"):
            raise ArgumentError(name, getattr(args, name), "must be above 0")
    rows: list[Row] = []
    devices: dict[str, None] = {}
    clocks: dict[str, None] = {}
    for path in args.json:
        own, made = read(path)
        if made.get("quick"):
            raise ArgumentError(
                "json", path, "is of tiny sizes (--quick), which say nothing about speed; measure again"
            )
        if twice := {_key(row) for row in own} & {_key(row) for row in rows}:
            part, method, _ = min(twice)
            raise ArgumentError(
                "json", path, f"has {part}: {method}, as a file before it; give the file of one machine"
            )
        rows += own
        devices[str(made.get("device", ""))] = None
        if made.get("clock"):
            clocks[str(made["clock"])] = None
    machine = Machine(args.per_machine, args.cores, args.read, args.network, args.price)
    work = Work(args.image_kb, args.record_kb, args.epochs, args.batch, args.dim, args.parameters)
    table = markdown_table(HEADER, list(lines(rows, machine, work, args.model)), range(1, len(HEADER)))
    with printing():
        clock = f" ({', '.join(clocks)})" if clocks else ""
        print(f"Rates of {', '.join(devices)}{clock}. Assumed: {machine}, {work}.\n\n{table}")
    return 0


def _key(row: Row) -> tuple[str, str, str]:
    """What is the same of a line in the files of two machines."""
    return row.part, row.method, row.case


def lines(rows: Sequence[Row], machine: Machine, work: Work, model: str | None = None) -> Iterator[list[str]]:
    """The rows of the table.

    Raises:
        ArgumentError: a rate is missing.
    """
    for part, counts in (("train", PAIRS), ("segment", IMAGES)):
        rate = row_of(rows, part, LIMITED_TO[part], model)
        decoding = row_of(rows, "data", DECODING[part], None)
        for count in counts:
            for devices in DEVICES:
                yield line(part, count, devices, rate, decoding, machine, work)


def row_of(rows: Sequence[Row], part: str, method: str, model: str | None) -> Row:
    """The fastest line of a method.

    Raises:
        ArgumentError: there is none.
    """
    own = [row for row in rows if (row.part, row.method) == (part, method) and row.figures.get("images_per_second")]
    names = list(dict.fromkeys(row.case.partition(",")[0] for row in own))
    if part != "data":
        own = [row for row in own if row.case.partition(",")[0] == (model or next(iter(names), None))]
    if not own:
        known = f"; its models are {', '.join(names)}" if names else ""
        raise ArgumentError("json", f"without {part}: {method}", f"run python -m eval.speed train segment data{known}")
    return max(own, key=lambda row: row.figures["images_per_second"])


def line(part: str, count: int, devices: int, rate: Row, decoding: Row, machine: Machine, work: Work) -> list[str]:
    """One row of the table: the time is that of the slowest of what happens at the same time."""
    machines = -(-devices // machine.per_machine)
    passes = work.epochs if part == "train" else 1
    images = count * passes
    moved = exchanged(devices, work.batch, work.dim, work.parameters) if part == "train" else 0
    steps = images / (devices * work.batch)
    written = 0.0 if part == "train" else count * work.record_kb / 1e9  # TB
    seconds = {
        "device": images / (devices * rate.figures["images_per_second"]),
        "decoding": images / (devices * machine.cores * decoding.figures["images_per_second"]),
        "reading": images * work.image_kb / 1e3 / (machines * machine.read),
        "network": steps * 2 * moved * machine.per_machine / (machine.network * 1e9) if machines > 1 else 0.0,
    }
    slowest = max(seconds, key=lambda name: seconds[name])
    hours = seconds[slowest] / 3600
    return [
        part,
        f"{count:,}" + (f" x {passes:g}" if passes > 1 else ""),
        str(devices),
        f"{hours:,.2f}" if hours < 10 else f"{hours:,.0f}",
        slowest,
        f"{images * work.image_kb / 1e9:,.3g} TB",
        f"{written:,.3g} TB" if written else "-",
        f"{moved / 1e6:,.1f} MB" if moved else "-",
        f"{rate.peak_mb / 1e3:,.2f} GB" if rate.peak_mb else "-",
        f"{hours * devices * machine.price:,.0f}" if machine.price else "-",
    ]


if __name__ == "__main__":
    run_verb(PROG, main)
