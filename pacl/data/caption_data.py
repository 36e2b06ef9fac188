"""`CaptionData`, the data module of training: sources, token cache, batches of every process, skipped samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_warn

from pacl.data.batches import Batch, Batches
from pacl.data.caption_words import check_words, count_nouns, frequent_words, some_captions
from pacl.data.crop import SquareCrop
from pacl.data.pairs import FilePairs, PairSource
from pacl.data.resuming import PLACE, check_resumed, source_digests
from pacl.data.sampling import EpochLoader, StepSampler, check_weights
from pacl.data.shard_loader import ShardLoader
from pacl.data.sources import Source, check_short, describe_few, sources_of
from pacl.data.splits import MEND, count_images, read_source, read_validation, split_source, warn_of_copies
from pacl.data.token_cache import cached_tokens
from pacl.data.token_stamp import CacheDtype
from pacl.data.token_store import TokenStore
from pacl.distributed import sum_over_ranks
from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import Backbone
from pacl.progress import Tracked, untracked
from pacl.prompts import check_templates, get_templates

Loader = TypeVar("Loader", EpochLoader, ShardLoader)
SKIPPED_SHOWN = 5
"""Number of skipped samples whose errors a run shows; `python -m pacl.data check` lists all."""

MANY_DROPPED = 0.1
"""A warning tells of images that fill no whole batch if they are more than this share of an epoch."""

SKIPPED_GRACE = 1000
"""Number of images after which the share of skipped ones is first compared with its limit."""


class CaptionData(LightningDataModule):
    """Images with captions, from files.

    Args:
        pairs: training data: a table, a captions JSON, a folder with captions or by class, or shards; see `Source`.
        images: folder of its images; null searches the folder of the table and images/ in it.
        image_column: of a table, name of the column with the images; null detects it.
        caption_column: of a table, name of the column with the captions; null detects it.
        hold_out: number of its images that are kept for validation, or a share of them below 1; see `Source`.
        train: further training sources, with all settings of `Source`.
        val: validation sources, in addition to the images held out of the training sources.
        batch_size: images per step, over all processes.
        size: side of the square images in pixels; null uses the image size of the CLIP.
        cut: how training images are cropped; validation uses the same if it is not random, else central crops.
        nouns: use the nouns of the captions as further texts (the augmentation of the PACL paper).
        templates: templates that nouns are put into: none, photo, paper, imagenet or a file.
        cache: where the frozen tokens of all images are cached: "memory" or a folder (2 P W bytes per image in both
            cases); null computes them every time. Not for random crops.
        cache_dtype: of the cached tokens; bfloat16 has the larger range, float16 the higher precision.
        workers: processes that read images, at most one a core but for shards; 0 reads them in the training process.
        max_skipped: share of the images that train, and of those that validate, that may be unreadable or without
            caption before the run stops.
        shuffle_buffer: for shards, number of samples in the shuffle buffer of each worker.
    """

    contrast: tuple[str, ...] | None = None
    """Prompts that a single prompt competes with; None: `pacl.prompts.GENERIC_CONTRAST`."""

    same: tuple[str, ...] = ("batch_size", "nouns", "size")
    """Settings of which a resumed run must have the same values; `settings` has the others that matter."""

    def __init__(
        self,
        pairs: str | None = None,
        images: str | None = None,
        image_column: str | None = None,
        caption_column: str | None = None,
        hold_out: int | float = 0,
        train: list[Source] = [],  # noqa: B006  (nothing writes to it, and --help shows it)
        val: list[Source] = [],  # noqa: B006
        batch_size: int = 256,
        size: int | None = None,
        cut: SquareCrop = SquareCrop(),  # noqa: B008  (frozen)
        nouns: bool = False,
        templates: str = "paper",
        cache: str | None = None,
        cache_dtype: CacheDtype = "float16",
        workers: int = 0,
        max_skipped: float = 0.05,
        shuffle_buffer: int = 2000,
    ) -> None:
        super().__init__()
        short = {
            "images": images,
            "image_column": image_column,
            "caption_column": caption_column,
            "hold_out": hold_out,
        }
        train, val, cut = train or [], val or [], cut or SquareCrop()  # for null in a configuration
        self.train = sources_of(pairs, train, **short)
        self.pairs, self.short = pairs, short
        self.val, self.batch_size, self.size, self.cut = val, batch_size, size, cut
        self.nouns, self.templates, self.cache = nouns, templates, cache
        self.workers, self.max_skipped, self.shuffle_buffer = workers, max_skipped, shuffle_buffer
        self.seed: int | None = None  # of orders, crops, captions and templates: the seed of the run
        self.seen = self.skipped = self.shown = 0
        self.unmeasured = 0  # held-out images that no validation can use
        self._unmeasured: set[str] = set()  # why, for each of those of this process
        self.cache_dtype = cache_dtype
        self.stores: dict[str, list[TokenStore]] = {}
        self.loader: EpochLoader | ShardLoader | None = None  # of the training data
        self._place: dict[str, Any] | None = None  # its state in a checkpoint
        self._digested: dict[str, str] | None = None
        self.tracked: Tracked = untracked  # wraps captions whose nouns are found, and images whose tokens are cached
        self.split: tuple[list[PairSource], list[PairSource]] | None = None
        self.copies = self.twice = 0  # held-out images that are also in training, or twice, see `warn_of_copies`

    # ------------------------------------------------------------ sources

    @property
    def validates(self) -> bool:
        """Whether there are pairs to validate on."""
        return bool(self.val) or any(source.hold_out for source in self.train)

    def parts(self) -> tuple[list[PairSource], list[PairSource]]:
        """Training and validation sources; checked and read at the first call."""
        if self.split is None:
            self.check()
            self.split = self.read()
            self.copies, self.twice = warn_of_copies(*self.split) or (0, 0)
        return self.split

    def check(self) -> None:
        """Check the settings. Not in the constructor, whose errors jsonargparse would wrap in others.

        Raises:
            ArgumentError: a value is out of range.
        """
        if not 0 <= self.max_skipped <= 1:
            raise ArgumentError("max_skipped", self.max_skipped, "must be a share, from 0 to 1")
        for name, least in (("batch_size", 2), ("size", 1), ("workers", 0)):
            if (value := getattr(self, name)) is not None and value < least:
                raise ArgumentError(name, value, f"must be at least {least}")
        if self.nouns:
            check_templates(self.templates)
        try:
            self.cut.check()
        except ArgumentError as error:
            raise ArgumentError(f"cut.{error.argument}", error.value, error.reason) from None

    def read(self) -> tuple[list[PairSource], list[PairSource]]:
        """Read the training and validation sources."""
        if not self.train:
            raise ArgumentError(
                "pairs", "null", "is not set: name a table of images and captions, or list sources in train"
            )
        check_short(self.pairs, self.short)
        check_weights([source.weight for source in self.train])
        if self.streams:
            for source in self.train:
                source.check_settings()
            return [], [read_validation(source, self.max_skipped) for source in self.val]
        pairs = [read_source(source) for source in self.train]
        # A wrong `hold_out` and too few images are refused before the nouns are found, which takes long.
        splits = [split_source(*each, self.max_skipped) for each in zip(self.train, pairs, strict=True)]
        self._check_enough([kept for kept, _ in splits], [part for _, part in splits])
        for each in pairs:
            self._find_nouns(each)
        held = [part for _, part in splits if len(part)]
        return [kept for kept, _ in splits], held + [read_validation(each, self.max_skipped) for each in self.val]

    def _check_enough(self, kept: Sequence[PairSource], held: Sequence[PairSource]) -> None:
        """Raise a `UserError` unless a batch, which needs two images, can be made of those that are not held out."""
        if few := describe_few(self.train, sum(map(len, kept)), sum(map(len, held))):
            raise UserError(few)

    def summary(self) -> list[str]:
        """The training data, one line per source."""
        weights = ["" if source.weight is None else f", weight {source.weight:g}" for source in self.train]
        if self.streams:
            pairs = [f"{source.pairs} ({source.size or 'all'} pairs" for source in self.train]
            lines = [f"{each}{weight})" for each, weight in zip(pairs, weights, strict=True)]
        else:
            lines = [
                f"{source.pairs} ({len(part):,} images{weight})"
                for source, part, weight in zip(self.train, self.parts()[0], weights, strict=True)
            ]
        held = self.parts()[1]
        return [*lines, f"validation on {count_images(held):,} images{self._not_compared}"] if held else lines

    def extent(self) -> str:
        """How many images train and how many validate, in words; those of shards are not counted."""
        kept, held = self.parts()
        if self.streams:
            return f"validating on {count_images(held):,} images{self._not_compared}" if held else ""
        return f"training on {count_images(kept):,} images, holding out {count_images(held):,}"

    @property
    def _not_compared(self) -> str:
        return ", not compared with those of the shards" if self.streams else ""

    @property
    def streams(self) -> bool:
        """Whether the training data are shards.

        Raises:
            UserError: some sources are shards and others are not.
        """
        kinds = {source.kind == "shards" for source in self.train}
        if len(kinds) == 2:
            raise UserError("train: shards cannot be mixed with other formats; convert the other sources to shards")
        return kinds == {True}

    def _find_nouns(self, pairs: FilePairs) -> None:
        if self.nouns and pairs.nouns is None:
            from pacl.data.nouns import tag_all

            folder = Path(self.cache) if self.cache not in (None, "memory") else None
            pairs.set_nouns(tag_all([pairs.captions[i] for i in range(len(pairs.captions))], folder, self.tracked))

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """The words and signs that occur at least three times in the training captions.

        None (unknown) for shards, which are not read in advance.
        """
        if self.streams:
            return None
        return frequent_words(self.parts()[0])

    def count_nouns(self) -> Counter[str]:
        """How often each noun occurs in the training captions.

        Empty for shards, which are not read in advance, and with ``nouns: false``.
        """
        if self.streams:
            return Counter()
        return count_nouns(self.parts()[0])

    def setup(self, stage: str) -> None:
        """Check that the text tower knows the words of the captions, before anything is encoded; see `check_words`."""
        if stage == "fit" and not self.streams:
            check_words(some_captions(self.parts()[0]), self._clip)

    # ------------------------------------------------------------ loaders

    def train_dataloader(self) -> EpochLoader | ShardLoader:
        """Training batches; a resumed run continues in the same order."""
        assert self.trainer is not None
        if self.seed is None:
            self.seed = self.trainer.strategy.broadcast(torch.initial_seed() % 2**32)
        sources, _ = self.parts()
        templates = get_templates(self.templates) if self.nouns else ()
        if self.streams:
            if self.cache is not None:
                raise ArgumentError("cache", self.cache, "not supported for shards; set it to null")
            return self._shard_loader(templates)
        batches = Batches(
            sources, self.image_size(), self.cut, self._stores(sources, "train", self.cut), self.seed, templates
        )
        return self._loader(batches, [source.weight for source in self.train] or [None], shuffle=True)

    def val_dataloader(self) -> EpochLoader | list[Any]:
        """The held-out images with all their captions, in the order of the sources."""
        _, sources = self.parts()
        if not sources:
            return []
        crop = SquareCrop() if self.cut.is_random else self.cut
        batches = Batches(sources, self.image_size(), crop, self._stores(sources, "val", crop), all_captions=True)
        return self._loader(batches, [None] * len(sources), shuffle=False)

    def _stores(self, sources: Sequence[PairSource], part: str, crop: SquareCrop) -> list[TokenStore] | None:
        """The frozen tokens of all sources of a part ("train" or "val"), if they are cached."""
        if self.cache is None:
            return None
        if part not in self.stores:
            assert self.trainer is not None
            where = None if self.cache == "memory" else Path(self.cache) / part
            self.stores[part] = cached_tokens(
                self.trainer, sources, crop, self.image_size(), where, self.cache_dtype, self.workers, self.tracked
            )
        return self.stores[part]

    def image_size(self) -> int:
        """Side of the square images in pixels."""
        return self.size or int(self._module.image_size)

    @property
    def _clip(self) -> Backbone | None:
        """The backbone of the module; pretraining has none."""
        return getattr(getattr(self._module, "pacl", None), "clip", None)

    @property
    def _module(self) -> Any:
        assert self.trainer is not None
        return self.trainer.lightning_module

    def _loader(self, batches: Batches, weights: Sequence[float | None], shuffle: bool) -> EpochLoader:
        trainer = self.trainer
        assert trainer is not None
        sizes = [len(source) for source in batches.sources]
        batch_size = self.batch_size
        if shuffle and sum(sizes) < batch_size:
            rank_zero_warn(
                f"batch_size {batch_size}: there are only {sum(sizes)} images, so every step uses all of them"
            )
            batch_size = sum(sizes)
        order = StepSampler(
            sizes,
            weights,
            batch_size,
            self.seed or 0,
            shuffle=shuffle,
            drop_last=shuffle,
            rank=trainer.global_rank,
            ranks=trainer.world_size,
        )
        total = sum(order.counts)
        dropped = total - len(order) * batch_size
        if shuffle and dropped > MANY_DROPPED * total:
            rank_zero_warn(
                f"batch_size {batch_size}: {dropped:,} of {total:,} images, others each time, fill no whole batch and "
                f"are not used in an epoch; {total // (len(order) + 1)} leaves over fewer"
            )
        loader = EpochLoader(batches, order, 0 if batches.stores else self.workers)
        return self._resumed(loader) if shuffle else loader

    def _resumed(self, loader: Loader) -> Loader:
        """The loader of the training batches, at the position of the checkpoint."""
        if self._place is not None:
            loader.restore(self._place)
        self.loader = loader
        return loader

    def _shard_loader(self, templates: Sequence[str]) -> ShardLoader:
        trainer = self.trainer
        assert trainer is not None
        assert self.seed is not None
        loader = ShardLoader(
            self.train,
            self.batch_size,
            self.image_size(),
            self.cut,
            self.seed,
            self.shuffle_buffer,
            templates,
            self.workers,
            trainer.global_rank,
            trainer.world_size,
        )
        return self._resumed(loader)

    # ------------------------------------------------------------ skipped samples

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Count the skipped samples of all processes, and stop the run if there are too many."""
        assert self.trainer is not None
        bad = batch.pop("skipped")
        for reason in bad[: max(0, SKIPPED_SHOWN - self.shown)]:
            rank_zero_warn(f"skipped: {reason}")
        self.shown += len(bad)
        device = self.trainer.strategy.root_device
        if not self.trainer.training:
            self._unmeasured.update(bad)  # each validation has the same ones
            self.unmeasured = int(sum_over_ranks(torch.tensor(len(self._unmeasured), device=device)))
            self.check_validation(bad[-1] if bad else "on another process")
            return batch
        if self.streams and not self.seen:  # which are not read in advance
            check_words(batch["texts"], self._clip, sample="the first batch of ")
        counts = sum_over_ranks(torch.tensor([len(batch["positives"]) + len(bad), len(bad)], device=device))
        self.seen, self.skipped = self.seen + int(counts[0]), self.skipped + int(counts[1])
        batch["skipped"] = self.skipped
        self.check_skipped(bad[-1] if bad else "on another process")
        return batch

    def check_skipped(self, last: str, *, at_the_end: bool = False) -> None:
        """Raise an `ArgumentError` if too many images could not be used, or none could."""
        share = self.skipped / max(1, self.seen)
        if self.seen < min(SKIPPED_GRACE, 2 * self.batch_size) and not at_the_end:
            return
        if self.seen == self.skipped > 0 or share > self.max_skipped:
            raise ArgumentError(
                "max_skipped",
                self.max_skipped,
                f"{self.skipped} of {self.seen} images could not be used; the last: {last}; {MEND}",
            )

    def check_validation(self, last: str) -> None:
        """Raise an `ArgumentError` if too many held-out images could not be used: the figures are of the others."""
        held = count_images(self.parts()[1])
        if self.unmeasured > self.max_skipped * held:
            raise ArgumentError(
                "max_skipped",
                self.max_skipped,
                f"{self.unmeasured} of {held} held-out images could not be used; the last: {last}; {MEND}",
            )

    def state_dict(self) -> dict[str, Any]:
        """The seed, the position in the epoch, and the counts of images. All processes must call it."""
        place = self.loader.state() if self.loader else self._place
        counts = {"seen": self.seen, "skipped": self.skipped, "unmeasured": self.unmeasured}
        return {"seed": self.seed, **counts, "place": place, "settings": self.settings()}

    def settings(self) -> dict[str, Any]:
        """All that the batches of a run depend on beside its seed; a resumed run must have the same."""
        found = {name: getattr(self, name) for name in self.same}
        found |= {f"cut.{name}": value for name, value in self.cut.acting().items()}
        # Not their name: a file may have changed or moved.
        found["texts"] = list(get_templates(self.templates)) if self.nouns else []
        found["cache"] = None if self.cache is None else "memory or a folder"
        found["cache_dtype"] = self.cache_dtype if self.cache is not None else None
        found["weight"] = [source.weight for source in self.train]
        if self.streams:  # see `ShardLoader`
            found |= {"shuffle_buffer": self.shuffle_buffer, "workers": max(1, self.workers)}
        return {**found, "data": "; ".join(self.summary()), **self._digests()}

    def _digests(self) -> dict[str, str]:
        """`source_digests` of the training and validation sources; computed once."""
        if self._digested is None:
            self._digested = source_digests([each for part in self.parts() for each in part])
        return self._digested

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the place in the epoch, the seed and the counts of a checkpoint.

        Raises:
            UserError: other data or settings, or an older version, whose records differ.
        """
        check_resumed(state_dict, self.settings(), self)
        self.seed, self.seen, self.skipped, self._place = (state_dict[key] for key in PLACE)
        self.unmeasured = state_dict.get("unmeasured", 0)  # older versions did not count them
