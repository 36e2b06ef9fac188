"""WebDataset shards as a stream to train on: any number of shards over any number of processes and workers.

The shards lie in a line, in a new order each epoch, and the line is cut into stretches of equal length, one a stream
(a worker of a process). Where a cut goes through a shard, its samples are dealt out. A stream that comes to its end
before the epoch does reads its stretch again: every process makes every step, whatever the shards hold.
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
from pacl.data.loader import as_is
from pacl.data.pairs import Description
from pacl.data.photos import Cut
from pacl.data.sampling import Draw, epoch_counts
from pacl.data.sources import Source
from pacl.data.tars import Sample, count_pairs, read_shard, shard_urls, webdataset
from pacl.distributed import rank_count
from pacl.errors import UserError
from pacl.images import decode_image

State = list[dict[str, Any]]
"""Where a stream is, for each source; see `Reader.state`."""

# --- Streams ------------------------------------------------------------------------------------------------------


def stretch(shards: int, stream: int, streams: int) -> list[tuple[int, range]]:
    """What one of ``streams`` streams reads of a line of shards.

    Of n streams, a shard is n units long, and its samples lie on them in turns. A stream owns as many units as there
    are shards.

    Returns:
        Places in the line, each with the units there; sample i is on unit i modulo n.
    """
    start, end = stream * shards, (stream + 1) * shards
    return [
        (place, range(max(start - place * streams, 0), min(end - place * streams, streams)))
        for place in range(start // streams, (end - 1) // streams + 1)
    ]


class Reader:
    """One source as one stream reads it: its stretch, round after round, through a shuffle buffer.

    Shards are numbered as they are read, on and on over the rounds.

    Args:
        urls: the shards.
        stream: which stream.
        streams: of how many.
        shuffle: samples in the buffer.
        order: of the shards; the same for all streams.
        buffer: of the samples.
        failed: gets a line for each shard that is broken.
        state: where to go on; None begins.
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
        state: dict[str, Any] | None = None,
    ) -> None:
        line = order.sample(range(len(urls)), len(urls))
        self.stretch = [(line[place], units) for place, units in stretch(len(urls), stream, streams)]
        self.urls, self.streams, self.shuffle, self.buffer, self.failed = urls, streams, shuffle, buffer, failed
        state = state or {"taken": 0, "shard": 0, "out": []}
        self.taken, self.reading = state["taken"], state["shard"]
        self.out = {self.reading + i: int(bits, 16) for i, bits in enumerate(state["out"])}  # bit j: sample j is out
        self.waiting: Counter[int] = Counter()  # samples of each shard in the buffer

    def state(self) -> dict[str, Any]:
        """Samples taken; the first shard with one that is not out yet; of it and each one after, which are (hex)."""
        first = min([self.reading, *+self.waiting])
        out = [f"{self.out.get(shard, 0):x}" for shard in range(first, max([first, *self.out]) + 1)]
        return {"taken": self.taken, "shard": first, "out": out}

    def __iter__(self) -> Iterator[Sample]:
        shuffled = webdataset().shuffle(self.shuffle, initial=self.shuffle, rng=self.buffer)
        while True:
            for shard, sample in shuffled(self._round()):
                self.taken += 1
                self.waiting[shard] -= 1
                self.out[shard] = self.out.get(shard, 0) | 1 << sample.index
                yield sample

    def _round(self) -> Iterator[tuple[int, Sample]]:
        """The samples of a round that are not out yet, from shard `reading` on."""
        start, found = self.reading % len(self.stretch), False
        for number, units in self.stretch[start:]:
            # Of a shard that streams share, the first of them tells what is wrong.
            for sample in read_shard(self.urls[number], number, self.failed if 0 in units else []):
                if sample.index % self.streams not in units:
                    continue
                found = True
                if not self.out.get(self.reading, 0) >> sample.index & 1:
                    self.waiting[self.reading] += 1
                    yield self.reading, sample
            self.reading += 1
            self.waiting = +self.waiting  # without those that are zero
            first = min([self.reading, *self.waiting])
            self.out = {shard: bits for shard, bits in self.out.items() if shard >= first}
        if start or found:
            return
        whole = [(number, range(self.streams)) for number in range(len(self.urls))]
        if self.stretch == whole:
            raise UserError(f"{self.urls[0]}: no picture in any shard ({(self.failed or ['all are empty'])[0]})")
        self.stretch = whole  # better than to starve


@dataclass(frozen=True)
class Request:
    """A batch that the main process wants; so the epoch reaches workers that outlive it.

    Attributes:
        epoch: from 0.
        step: within the epoch, from 0.
        stream: which stream makes it.
        starts: whether the stream starts with it: at the epoch's beginning, or where a resumed run goes on.
        state: where the stream starts; None for its beginning.
    """

    epoch: int
    step: int
    stream: int
    starts: bool
    state: State | None


@dataclass
class StreamBatches(Dataset[Batch]):
    """Requests -> batches as `Batches` makes them, and under "state" where the stream is now.

    Attributes:
        urls: the shards of each source.
        counts: samples of each source an epoch.
        share: images of a batch.
        steps: steps of an epoch.
        workers: streams of each process.
        streams: streams in all.
        seed: of everything random.
        shuffle: samples in the shuffle buffer of each source.
        make: pair sources -> `Batches`.
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

    def __getitem__(self, request: Request) -> Batch:
        try:
            if request.starts:
                self.readers = [self._reader(k, request) for k in range(len(self.urls))]
                self.stream = self._mixed(request)
            drawn = [next(self.stream) for _ in range(self.share)]
            source = _Drawn(drawn, bool(self.make.keywords["templates"]))
        except UserError as error:  # a worker would wrap it in a traceback of its own
            return {"error": str(error)}
        # The name decides what is random about a picture, as elsewhere its slot does: it is the same for any numbers
        # of processes and workers.
        names = np.array([sample.name for sample in drawn], dtype=object)
        draw = Draw(request.epoch, request.step, names, np.zeros(self.share, np.int64), np.arange(self.share))
        batch = self.make([source])[draw]
        batch["skipped"] += self.failed
        self.failed.clear()
        return {**batch, "state": [reader.state() for reader in self.readers]}

    def _reader(self, k: int, request: Request) -> Reader:
        seed = f"{self.seed}/{request.epoch}/{k}"
        order, buffer = Random(seed), Random(f"{seed}/{request.stream}/{request.step}")
        state = request.state[k] if request.state else None
        return Reader(self.urls[k], request.stream, self.streams, self.shuffle, order, buffer, self.failed, state)

    def _mixed(self, request: Request) -> Iterator[Sample]:
        """Samples of all sources, each as often as it should come in this stream's part of the epoch."""
        own = self.share * len(range(request.stream % self.workers, self.steps, self.workers))
        ends = np.rint(np.cumsum(self.counts) / sum(self.counts) * own).astype(int)
        quotas = np.diff(ends, prepend=0).tolist()
        streams = [iter(reader) for reader in self.readers]
        rng = Random(f"{self.seed}/{request.epoch}/{request.stream}/{request.step}")
        while True:
            left = [max(0, quota - reader.taken) for quota, reader in zip(quotas, self.readers, strict=True)]
            yield next(rng.choices(streams, left if any(left) else quotas)[0])


class _Drawn:
    """The samples of a batch as a `pacl.data.pairs.PairSource`."""

    def __init__(self, drawn: Sequence[Sample], nouns: bool) -> None:
        self.drawn = drawn
        self.described = [_describe(sample) if nouns else [(each, ()) for each in sample.captions] for sample in drawn]

    def __len__(self) -> int:
        return len(self.drawn)

    def name(self, index: int) -> str:
        return self.drawn[index].name

    def image(self, index: int, short_side: int | None = None) -> np.ndarray:
        return decode_image(self.drawn[index].image, self.drawn[index].name, short_side=short_side)

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
    """The requests of one process, an epoch an iteration.

    Attributes:
        epoch: the epoch that the next iteration asks for.
        start: its first step; it is 0 again for the epoch after.
        states: of the streams that do not start at their beginning.
    """

    def __init__(self, steps: int, workers: int, rank: int) -> None:
        self.steps, self.workers, self.rank = steps, workers, rank
        self.epoch = self.start = 0
        self.states: dict[int, State] = {}

    def __len__(self) -> int:
        return self.steps

    def set_epoch(self, epoch: int) -> None:
        """Ask for that epoch next, from its first step."""
        self.epoch, self.start, self.states = epoch, 0, {}

    def __iter__(self) -> Iterator[Request]:
        epoch, start, states = self.epoch, self.start, self.states
        self.set_epoch(epoch + 1)  # now: who takes a number of steps does not ask for the end
        for step in range(start, self.steps):
            stream, starts = self.stream(step), step < start + self.workers
            yield Request(epoch, step, stream, starts, states.get(stream) if starts else None)

    def stream(self, step: int) -> int:
        """Which stream makes a step. `DataLoader` asks its workers in turns: a stream stays with one worker."""
        return self.rank * self.workers + step % self.workers


class ShardLoader:
    """The batches of one process from shards, an epoch an iteration. Its state goes into every checkpoint.

    An epoch has as many steps as the sizes have whole batches, on every process. A picture that cannot be read leaves
    its batch one smaller. Batches follow the seed and the numbers of processes and workers.

    Args:
        sources: the shards. Without weights each picture comes once an epoch, where processes, workers and steps
            divide the numbers; else some streams leave out or repeat a few.
        batch: pictures of a step, over all processes.
        size: side of the square pictures.
        cut: how they become square.
        seed: of the order of shards and pictures, of cuts, captions and templates.
        templates: what noun phrases are put into, beside the captions: the shard's own ("nouns" in the JSON), else
            those that `pacl.data.nouns` finds. None leaves them out.
        shuffle: pictures in the shuffle buffer of each worker and source, where they lie undecoded.
        workers: processes that make batches; 0 makes them in this one.
        rank: this process.
        ranks: processes.

    Raises:
        UserError: shards are missing, cannot be counted or hold less than a batch; settings that shards do not have.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        batch: int,
        size: int,
        cut: Cut,
        seed: int = 0,
        templates: Sequence[str] = (),
        shuffle: int = 1000,
        workers: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        for source in sources:
            if source.only is not None or source.hold_out:
                raise UserError(f"{source.pairs}: only and hold_out choose among files, not in shards")
        if batch < ranks:
            raise UserError(f"--data.batch_size {batch}: {ranks} processes need an image each")
        urls = [shard_urls(source.pairs) for source in sources]
        counts = epoch_counts([_size(source) for source in sources], [source.weight for source in sources])
        steps = sum(counts) // batch
        if not steps:
            raise UserError(
                f"--data.batch_size {batch}: {sources[0].pairs} holds {sum(counts)} pairs, less than a batch"
            )
        workers = min(workers, steps)  # a worker without a step would keep its stretch to itself
        per_rank, share = max(1, workers), batch // ranks + (rank < batch % ranks)
        make = partial(Batches, size=size, cut=cut, seed=seed, templates=templates)
        self.layout = [seed, ranks, per_rank, *map(len, urls)]
        self.order = RequestSampler(steps, per_rank, rank)  # (a sampler's epoch Lightning would set)
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

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        self.epoch, self.done, self.states = self.order.epoch, self.order.start, dict(self.order.states)
        for batch in self.loader:
            if "error" in batch:
                raise UserError(batch["error"])
            self.states[self.order.stream(self.done)] = batch.pop("state")
            self.done += 1
            yield batch

    def state(self) -> dict[str, Any]:
        """The epoch, how many of its steps are done, and where all processes' streams are. All processes call it."""
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
        """Go on where that state was taken; with other shards, processes or workers, with the first shards again."""
        epoch, done, streams = state["epoch"], state["done"], state["streams"]
        if done >= len(self):
            epoch, done, streams = epoch + 1, 0, {}
        if streams and state["layout"] != self.layout:
            rank_zero_warn(
                "other shards, processes, workers or another seed than in the checkpoint: "
                "the rest of this epoch starts with its first shards again"
            )
            streams = {}
        self.order.epoch, self.order.start, self.order.states = epoch, done, streams
        self.epoch, self.done, self.states = epoch, done, dict(streams)


def _size(source: Source) -> int:
    if source.size is not None:
        return source.size
    size = count_pairs(source.pairs)
    rank_zero_info(f"{source.pairs}: counted {size} pairs; size: {size} saves the counting")
    return size
