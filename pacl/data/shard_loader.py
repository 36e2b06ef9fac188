"""Training on WebDataset shards: any number of shards, processes and workers.

The shards are shuffled each epoch and divided evenly among the streams; each worker of each process is one stream and
reads a contiguous range. A shard at the border of two ranges is shared: its samples go to its streams in turns. A
stream that reaches the end of its range before the epoch ends starts its range again, so that every process makes
every step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from random import Random
from typing import Any

import numpy as np
import torch.distributed as dist
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader, Dataset, Sampler

from pacl.data.batches import Batch, Batches
from pacl.data.crop import SquareCrop
from pacl.data.pairs import Description
from pacl.data.sampling import StepIndices, as_is, epoch_counts
from pacl.data.shards import Sample, Unused, count_pairs, read_shard, shard_urls, webdataset
from pacl.data.sources import Source
from pacl.distributed import rank_count
from pacl.errors import ArgumentError, UserError
from pacl.images import decode_image
from pacl.printing import counted

UNUSED_SHOWN = 3
"""Number of shards of which a loader says what it does not use; `python -m pacl.data check` counts that of all."""

State = list[dict[str, Any]]
"""Position of a stream in each source; see `ShardStream.state`."""

# --- Streams ------------------------------------------------------------------------------------------------------


def shard_range(shards: int, stream: int, streams: int) -> list[tuple[int, range]]:
    """The shards that one of n = ``streams`` streams reads, in the order of the shards.

    Every shard has n parts: sample i belongs to part i modulo n. A stream reads as many consecutive parts as there are
    shards.

    Returns:
        Indices of shards, each with the parts of it that the stream reads.
    """
    start, end = stream * shards, (stream + 1) * shards
    return [
        (place, range(max(start - place * streams, 0), min(end - place * streams, streams)))
        for place in range(start // streams, (end - 1) // streams + 1)
    ]


class ShardStream:
    """The samples of one source in one stream: its range of shards, repeated without end, through a shuffle buffer.

    Shards are numbered in the order in which they are read; the numbers go on when the range is repeated.

    Args:
        urls: the shards.
        stream: index of the stream.
        streams: number of streams.
        shuffle: number of samples in the shuffle buffer.
        order: random generator for the order of the shards; with the same seed in all streams.
        buffer: random generator for the shuffle buffer.
        failed: a message is appended for each damaged shard.
        unused: a message is appended for each shard with files that no sample uses.
        state: where to continue; None starts at the beginning.
    """

    def __init__(
        self,
        urls: Sequence[str],
        stream: int,
        streams: int,
        shuffle: int,
        order: Random,
        buffer: Random,
        failed: list[str],
        unused: list[str],
        state: dict[str, Any] | None = None,
    ) -> None:
        shuffled = order.sample(range(len(urls)), len(urls))
        self.range = [(shuffled[place], parts) for place, parts in shard_range(len(urls), stream, streams)]
        self.urls, self.streams, self.shuffle, self.buffer = urls, streams, shuffle, buffer
        self.failed, self.unused = failed, unused
        state = state or {"taken": 0, "shard": 0, "out": []}
        self.taken, self.reading = state["taken"], state["shard"]
        self.yielded = {
            self.reading + i: int(bits, 16) for i, bits in enumerate(state["out"])
        }  # bit masks of sample indices
        self.waiting: Counter[int] = Counter()  # buffered samples of each shard

    def state(self) -> dict[str, Any]:
        """How many samples were yielded; the first shard that has others; and from there on, which (hex, by shard)."""
        first = min([self.reading, *+self.waiting])
        out = [f"{self.yielded.get(shard, 0):x}" for shard in range(first, max([first, *self.yielded]) + 1)]
        return {"taken": self.taken, "shard": first, "out": out}

    def __iter__(self) -> Iterator[Sample]:
        shuffled = webdataset().shuffle(self.shuffle, initial=self.shuffle, rng=self.buffer)
        while True:
            for shard, sample in shuffled(self._round()):
                self.taken += 1
                self.waiting[shard] -= 1
                self.yielded[shard] = self.yielded.get(shard, 0) | 1 << sample.index
                yield sample

    def _round(self) -> Iterator[tuple[int, Sample]]:
        """The samples of one pass over the range that were not yielded before, from shard `reading` on."""
        start, found = self.reading % len(self.range), False
        for number, parts in self.range[start:]:
            # Errors of a shared shard are reported by the stream that reads its first part.
            url, unused = self.urls[number], Unused()
            for sample in read_shard(url, number, self.failed if 0 in parts else [], unused):
                if sample.index % self.streams not in parts:
                    continue
                found = True
                if not self.yielded.get(self.reading, 0) >> sample.index & 1:
                    self.waiting[self.reading] += 1
                    yield self.reading, sample
            if unused.counts and 0 in parts:
                self.unused.append(unused.describe(url))
            self.reading += 1
            self.waiting = +self.waiting  # drops zeros
            first = min([self.reading, *self.waiting])
            self.yielded = {shard: bits for shard, bits in self.yielded.items() if shard >= first}
        if start or found:
            return
        whole = [(number, range(self.streams)) for number in range(len(self.urls))]
        if self.range == whole:
            reason = (self.failed + self.unused or ["all are empty"])[0]
            raise UserError(f"{self.urls[0]}: no image in any shard ({reason})")
        self.range = whole  # its own range has no images: read all shards


@dataclass(frozen=True)
class Request:
    """A batch that the main process requests from a worker; it carries the epoch to persistent workers.

    Attributes:
        epoch: from 0.
        step: within the epoch, from 0.
        stream: index of the stream that makes it.
        starts: whether it is the stream's first batch of the epoch, or since the run was resumed.
        state: where the stream starts; None for its beginning.
    """

    epoch: int
    step: int
    stream: int
    starts: bool
    state: State | None


@dataclass
class StreamBatches(Dataset[Batch]):
    """Turns requests into batches (see `Batches`), each with the new state of the stream under "state".

    Attributes:
        urls: the shards of each source.
        counts: number of samples of each source per epoch.
        share: images per batch of this process.
        steps: steps per epoch.
        workers: streams per process.
        streams: streams of all processes.
        seed: decides everything random.
        shuffle: number of samples in the shuffle buffer of each source.
        make: makes `Batches` from pair sources.
    """

    urls: Sequence[Sequence[str]]
    counts: Sequence[int]
    share: int
    steps: int
    workers: int
    streams: int
    seed: int
    shuffle: int
    make: partial[Batches]
    failed: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __getitem__(self, request: Request) -> Batch:
        try:
            if request.starts:
                self.readers = [self._open(k, request) for k in range(len(self.urls))]
                self.stream = self._mixed(request)
            chosen = [next(self.stream) for _ in range(self.share)]
            source = _SampleSource(chosen, bool(self.make.keywords["templates"]))
        except UserError as error:  # raised in a worker, it would come with the worker's traceback
            return {"error": str(error)}
        # Names take the place of slots as seeds: they do not depend on the numbers of processes and workers.
        names = np.array([sample.name for sample in chosen], dtype=object)
        step = StepIndices(request.epoch, request.step, names, np.zeros(self.share, np.int64), np.arange(self.share))
        batch = self.make([source])[step]
        batch["skipped"] += self.failed
        batch["unused"] = self.unused[:]
        self.failed.clear()
        self.unused.clear()
        return {**batch, "state": [reader.state() for reader in self.readers]}

    def _open(self, k: int, request: Request) -> ShardStream:
        seed = f"{self.seed}/{request.epoch}/{k}"
        order, buffer = Random(seed), Random(f"{seed}/{request.stream}/{request.step}")
        found = self.failed, self.unused
        state = request.state[k] if request.state else None
        return ShardStream(self.urls[k], request.stream, self.streams, self.shuffle, order, buffer, *found, state)

    def _mixed(self, request: Request) -> Iterator[Sample]:
        """Samples of all sources at random, in the proportions of `counts` over this stream's part of the epoch."""
        own = self.share * len(range(request.stream % self.workers, self.steps, self.workers))
        ends = np.rint(np.cumsum(self.counts) / sum(self.counts) * own).astype(int)
        quotas = np.diff(ends, prepend=0).tolist()
        streams = [iter(reader) for reader in self.readers]
        rng = Random(f"{self.seed}/{request.epoch}/{request.stream}/{request.step}")
        while True:
            left = [max(0, quota - reader.taken) for quota, reader in zip(quotas, self.readers, strict=True)]
            yield next(rng.choices(streams, left if any(left) else quotas)[0])


class _SampleSource:
    """The samples of one batch. A `pacl.data.pairs.PairSource`."""

    def __init__(self, chosen: Sequence[Sample], nouns: bool) -> None:
        self.chosen = chosen
        self.described = [_describe(sample) if nouns else [(each, ()) for each in sample.captions] for sample in chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    def name(self, index: int) -> str:
        return self.chosen[index].name

    def image(self, index: int, short_side: int | None = None) -> np.ndarray:
        return decode_image(self.chosen[index].image, self.chosen[index].name, short_side=short_side)

    def descriptions(self, index: int) -> Sequence[Description]:
        return self.described[index]


def _describe(sample: Sample) -> list[Description]:
    nouns = map(_nouns, sample.captions) if sample.nouns is None else sample.nouns
    return list(zip(sample.captions, nouns, strict=True))


@lru_cache(1 << 16)
def _nouns(caption: str) -> tuple[str, ...]:
    from pacl.data.nouns import nouns

    return nouns(caption)


# --- Loader -------------------------------------------------------------------------------------------------------


class RequestSampler(Sampler[Request]):
    """The requests of one process; each iteration is one epoch.

    Args:
        steps: number of steps of an epoch.
        workers: streams of this process; they make its steps in turns.
        rank: rank of this process.

    Attributes:
        epoch: the epoch of the next iteration.
        start: its first step; reset to 0 for the following epoch.
        states: of the streams that do not start at their beginning.
    """

    def __init__(self, steps: int, workers: int, rank: int) -> None:
        self.steps, self.workers, self.rank = steps, workers, rank
        self.epoch = self.start = 0
        self.states: dict[int, State] = {}

    def __len__(self) -> int:
        return self.steps

    def set_epoch(self, epoch: int) -> None:
        """Request that epoch next, from its first step."""
        self.epoch, self.start, self.states = epoch, 0, {}

    def __iter__(self) -> Iterator[Request]:
        epoch, start, states = self.epoch, self.start, self.states
        self.set_epoch(epoch + 1)  # at once: Lightning takes a number of steps and never exhausts the iterator
        for step in range(start, self.steps):
            stream, starts = self.stream(step), step < start + self.workers
            yield Request(epoch, step, stream, starts, states.get(stream) if starts else None)

    def stream(self, step: int) -> int:
        """The stream that makes a step. `DataLoader` asks its workers in turns, so a stream stays with one worker."""
        return self.rank * self.workers + step % self.workers


class ShardLoader:
    """The batches of one process from shards; each iteration is one epoch. Its state is part of every checkpoint.

    All processes make the same number of steps. An image that cannot be read makes its batch one smaller. Batches
    depend on the seed and on the numbers of processes and workers.

    Args:
        sources: the shards. Without weights, every image comes once per epoch if the numbers of images are divisible
            by the numbers of processes, workers and steps; otherwise some streams leave out or repeat a few.
        batch: images per step, over all processes.
        size: side of the square images.
        crop: how images are cropped.
        seed: decides the order of shards and images, the crops, captions and templates.
        templates: noun phrases are put into these, and become texts beside the captions. The noun phrases come from
            the shard ("nouns" in the JSON) or, without any there, from `pacl.data.nouns`. None leaves them out.
        shuffle: number of images (not decoded) in the shuffle buffer of each worker and source.
        workers: processes that make batches; 0 makes them in this one.
        rank: rank of this process.
        ranks: number of processes.

    Raises:
        UserError: shards are missing or cannot be counted, or a source has settings that shards do not support.
        ArgumentError: ``batch_size``: less than one image per process, or more than all images.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        batch: int,
        size: int,
        crop: SquareCrop,
        seed: int,
        shuffle: int,
        templates: Sequence[str] = (),
        workers: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        for source in sources:
            source.check_settings()
        if batch < ranks:
            raise ArgumentError("batch_size", batch, f"must be at least 1 image for each of the {ranks} processes")
        urls = [shard_urls(source.pairs) for source in sources]
        counts = epoch_counts([_size(source) for source in sources], [source.weight for source in sources])
        steps = sum(counts) // batch
        if not steps:
            raise ArgumentError("batch_size", batch, f"{sources[0].pairs} has only {counted(sum(counts), 'pair')}")
        workers = min(workers, steps)  # the range of a worker without steps would never be read
        per_rank, share = max(1, workers), batch // ranks + (rank < batch % ranks)
        make = partial(Batches, size=size, crop=crop, seed=seed, templates=templates)
        self.layout = [seed, ranks, per_rank, *map(len, urls)]
        self.order = RequestSampler(steps, per_rank, rank)  # not named "sampler": Lightning would set its epoch
        self.loader = DataLoader(
            StreamBatches(urls, counts, share, steps, per_rank, ranks * per_rank, seed, shuffle, make),
            batch_size=None,  # a request is a whole batch
            sampler=self.order,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=as_is,
        )
        self.epoch = self.done = 0
        self.states: dict[int, State] = {}
        self.told: set[str] = set()

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        self.epoch, self.done, self.states = self.order.epoch, self.order.start, dict(self.order.states)
        for batch in self.loader:
            if "error" in batch:
                raise UserError(batch["error"])
            self.states[self.order.stream(self.done)] = batch.pop("state")
            self._tell(batch.pop("unused"))
            self.done += 1
            yield batch

    def _tell(self, unused: list[str]) -> None:
        """Warn of the first shards with files that no sample uses."""
        for line in unused:
            if line not in self.told and len(self.told) < UNUSED_SHOWN:
                self.told.add(line)
                rank_zero_warn(line)

    def state(self) -> dict[str, Any]:
        """The epoch, the number of its steps that are done, the state of all streams. All processes must call it."""
        gathered: list[dict[int, State]] = [self.states] * rank_count()
        if len(gathered) > 1:
            dist.all_gather_object(gathered, self.states)
        streams = {stream: state for states in gathered for stream, state in states.items()}
        return {
            "epoch": self.epoch,
            "done": self.done,
            "layout": self.layout,
            "streams": streams,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state.

        If the shards, the seed or the number of processes or workers are not its own, the rest of the epoch starts with
        the first shards again. In a training only the number of processes can differ: `CaptionData` refuses other
        shards and workers, and takes the seed of the checkpoint.
        """
        epoch, done, streams = state["epoch"], state["done"], state["streams"]
        if done >= len(self):
            epoch, done, streams = epoch + 1, 0, {}
        if streams and state["layout"] != self.layout:
            rank_zero_warn(
                "the shards, the seed or the number of processes or workers differ from the checkpoint: "
                "the rest of this epoch starts with its first shards again"
            )
            streams = {}
        self.order.epoch, self.order.start, self.order.states = epoch, done, streams
        self.epoch, self.done, self.states = epoch, done, dict(streams)


def _size(source: Source) -> int:
    """The number of pairs that are trained on once each where there are no other sources."""
    if source.weight == 0:
        return 0
    if source.size is not None:
        return source.size
    size = count_pairs(source.pairs)
    rank_zero_info(f"{source.pairs}: {counted(size, 'pair')}; set size: {size} to skip the counting")
    return size
