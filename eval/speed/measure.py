"""How every line is measured: several ways to compute the same thing, in turns, beside a reference and a limit."""

from __future__ import annotations

import gc
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from eval.common.memory import peak_memory, reset_peak_memory
from pacl.cli.messages import is_out_of_memory
from pacl.models.precision import Precision
from pacl.printing import counted

if TYPE_CHECKING:
    import torch

SHORTEST = 0.02  # seconds of a timed run: shorter calls are repeated and averaged
MOST_REPEATS = 100


@dataclass(frozen=True)
class Options:
    """What the user chose.

    Attributes:
        device: where models and tensors are.
        runs: timed runs of each line.
        quick: whether sizes are tiny, to try the command.
        models: names for `pacl.load_model`.
        precisions: of image towers.
        photos: image files that fp32 and bf16 label.
        source: a data source whose images are decoded; None takes the demo photo.
        images: folder of the images of ``source``.
        cpu_time: whether times are CPU time of this process instead of wall time, which a busy machine prolongs.
    """

    device: torch.device
    runs: int = 5
    quick: bool = False
    models: Sequence[str] = ()
    precisions: Sequence[Precision] = ("fp32",)
    photos: Sequence[Path] = ()
    source: str | None = None
    images: str | None = None
    cpu_time: bool = False

    @property
    def clock(self) -> Callable[[], float]:
        """What the times of a table are read from, in seconds."""
        return time.process_time if self.cpu_time else time.perf_counter


@dataclass(frozen=True, eq=False)
class Way:
    """One way to compute something, and a line of the results.

    Attributes:
        method: its name.
        run: computes it once.
        precision: of inputs or of the image tower.
        reference: the way whose time this one's is divided by.
        limit: the way that computes only what cannot be avoided.
        items: images of a call, for images/s; 0 if it has none.
        sizes: what the call is about, in numbers.
    """

    method: str
    run: Callable[[], object]
    precision: str = "fp32"
    reference: Way | None = None
    limit: Way | None = None
    items: int = 0
    sizes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A line of the results.

    Attributes:
        part: which of the command's parts measured it.
        case: what was computed; the ways of a case are comparable.
        method, precision, sizes: of the `Way`.
        ms: milliseconds of a call in every run; none where memory ran out.
        peak_mb: by how much the peak of memory exceeded the memory in use before the call, in MB (10^6 bytes).
        reference: the method that ``ratio`` compares with, with its precision if that differs.
        ratio: least time over that of the reference.
        limit: the method that ``fraction`` compares with.
        fraction: least time of the limit over the least time; 1 is as fast as can be.
        figures: further results, such as images_per_second.
        note: why something is missing.
    """

    part: str
    case: str
    method: str
    precision: str = "fp32"
    sizes: dict[str, float] = field(default_factory=dict)
    ms: list[float] = field(default_factory=list)
    peak_mb: float | None = None
    reference: str | None = None
    ratio: float | None = None
    limit: str | None = None
    fraction: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def least(self) -> float | None:
        """The shortest run in milliseconds."""
        return min(self.ms, default=None)

    @property
    def spread(self) -> float | None:
        """By which share the longest run exceeds the shortest; None for a single run."""
        return max(self.ms) / min(self.ms) - 1 if len(self.ms) > 1 else None


def compare(
    part: str,
    case: str,
    ways: Sequence[Way],
    options: Options,
    *,
    once: bool = False,
    clock: Callable[[], float] | None = None,
) -> list[Row]:
    """Measure ways in turns: one run of each, then the next run of each, so that other load meets all of them alike.

    Args:
        part, case: of the rows.
        ways: those that others name as their reference or limit included.
        options: device and number of runs.
        once: for long calls: a single run, which includes what only a first call does, is timed.
        clock: seconds; None is that of the options.

    Returns:
        A row for each way, in order.
    """
    device, clock = options.device, clock or options.clock
    times: dict[Way, list[float]] = {way: [] for way in ways}
    peaks: dict[Way, float] = {}
    repeats: dict[Way, int] = {}
    for way in ways:
        try:
            if device.type == "cuda" and not once:
                way.run()  # compiles kernels and allocates the libraries' workspaces
            before = reset_peak_memory(device)
            first = seconds(way.run, device, clock)
            peaks[way] = max(0, peak_memory(device) - before) / 1e6
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            free(device)
            continue
        repeats[way] = max(1, min(MOST_REPEATS, int(SHORTEST / max(first, 1e-9))))
        if once:
            times[way].append(1e3 * first)
    for _ in range(0 if once else options.runs):
        for way in repeats:
            times[way].append(1e3 * seconds(way.run, device, clock, repeats[way]))
    least = {way: min(own) for way, own in times.items() if own}

    def over(one: Way | None, other: Way | None) -> float | None:
        return least[one] / least[other] if one in least and other in least and least[other] else None

    return [
        Row(
            part,
            case,
            way.method,
            way.precision,
            dict(way.sizes),
            times[way],
            peaks.get(way),
            _named(way.reference, way),
            over(way, way.reference),
            _named(way.limit, way),
            over(way.limit, way),
            {"images_per_second": 1e3 * way.items / least[way]} if way.items and least.get(way) else {},
            "" if way in least else "out of memory",
        )
        for way in ways
    ]


def _named(other: Way | None, way: Way) -> str | None:
    """The name of a way as another one's row states it."""
    if other is None:
        return None
    return other.method if other.precision == way.precision else f"{other.method}, {other.precision}"


def seconds(
    run: Callable[[], object], device: torch.device, clock: Callable[[], float] = time.perf_counter, repeats: int = 1
) -> float:
    """Seconds of a call, the mean of ``repeats`` calls, including work that they leave to the GPU."""
    import torch

    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    synchronize()
    start = clock()
    for _ in range(repeats):
        run()
    synchronize()
    return (clock() - start) / repeats


def free(device: torch.device) -> None:
    """Give back memory that nothing uses any more."""
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def describe(device: torch.device) -> str:
    """Describe a device, such as "cpu (AMD EPYC, 2 threads)" or "cuda (NVIDIA H100)"."""
    import torch

    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"{device} ({processor()}, {counted(threads, 'thread')})"


def processor() -> str:
    """The name of the CPU."""
    try:
        names = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):  # not Linux
        names = None
    return names[1].strip() if names else platform.processor() or platform.machine()
