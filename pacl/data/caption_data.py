"""The data of a training: sources, their cache of frozen tokens, batches for every process, and what was skipped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_warn

from pacl.data.batches import Batch, Batches
from pacl.data.kept_tokens import kept_tokens
from pacl.data.loader import EpochLoader
from pacl.data.pairs import FilePairs, PairSource
from pacl.data.photos import Cut
from pacl.data.sampling import DrawSampler
from pacl.data.shards import ShardLoader
from pacl.data.sources import Source, sources_of
from pacl.data.texts import with_person
from pacl.data.token_store import TokenStore
from pacl.distributed import sum_over_ranks
from pacl.errors import UserError
from pacl.prompts import get_templates

Loader = TypeVar("Loader", EpochLoader, ShardLoader)
WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)\b|[^\W_]+|[^\w\s]")  # a contraction's end, a word or number, a sign
SKIPPED_NAMED = 5  # bad samples that a run names; `python -m pacl.data check` names them all
SKIPPED_GRACE = 1000  # pictures before a share of bad ones means anything


class CaptionData(LightningDataModule):
    """Pictures with captions, from files.

    Args:
        pairs: what to train on, if it is one table, captions JSON, folder by class or pattern of shards.
        images: folder of its pictures; null looks beside it, and in images/ there.
        image_column: of a table, the pictures' column by name; null finds it.
        caption_column: of a table, the captions' column by name; null finds it.
        hold_out: how many of its pictures are kept for validation.
        train: sources to train on, besides that one, with more to say of each.
        val: sources to validate on, besides what was held out of the training sources.
        batch_size: images a step, over all processes.
        size: side in pixels of the square that pictures are cut to; null takes the CLIP's own.
        cut: how training pictures become square; validation takes their middle, or as training if that is not random.
        nouns: put each caption's nouns beside the captions as further texts (the paper's augmentation).
        templates: templates that nouns are put into: none, photo, paper, imagenet or a file.
        cache: where the frozen tokens of all pictures are kept once they are computed: "memory" or a folder (2 P W
            bytes a picture, either way); null computes them every time. For cuts without chance only.
        cache_dtype: of the kept tokens; bfloat16 has the larger range, float16 the finer steps.
        workers: processes that read pictures; 0 reads them in the training process.
        max_skipped: share of the pictures that may be unreadable or without caption before the run stops.
        shuffle_buffer: of shards, samples that each worker draws the next one from.
    """

    contrast: tuple[str, ...] | None = None
    """Prompts that a single prompt competes with: none are known of captions."""

    def __init__(
        self,
        pairs: str | None = None,
        images: str | None = None,
        image_column: str | None = None,
        caption_column: str | None = None,
        hold_out: int = 0,
        train: list[Source] = [],  # noqa: B006  (nothing writes to it, and --help shows it)
        val: list[Source] = [],  # noqa: B006
        batch_size: int = 256,
        size: int | None = None,
        cut: Cut = Cut(),  # noqa: B008  (frozen)
        nouns: bool = False,
        templates: str = "paper",
        cache: str | None = None,
        cache_dtype: Literal["float16", "bfloat16"] = "float16",
        workers: int = 0,
        max_skipped: float = 0.05,
        shuffle_buffer: int = 2000,
    ) -> None:
        super().__init__()
        self.train = sources_of(
            pairs,
            train,
            images=images,
            image_column=image_column,
            caption_column=caption_column,
            hold_out=hold_out,
        )
        self.val, self.batch_size, self.size, self.cut = val, batch_size, size, cut
        self.nouns, self.templates, self.cache = nouns, templates, cache
        self.workers, self.max_skipped, self.shuffle_buffer = workers, max_skipped, shuffle_buffer
        self.seed: int | None = None  # of the order of pictures, their cuts, captions and templates: the run's
        self.seen = self.skipped = self.named = 0
        self.cache_dtype = cache_dtype
        self.stores: dict[str, list[TokenStore]] = {}
        self.loader: EpochLoader | ShardLoader | None = None  # of the training pairs
        self._place: dict[str, Any] | None = None  # where a checkpoint left it
        self.split: tuple[list[PairSource], list[PairSource]] | None = None

    # ------------------------------------------------------------ sources

    @property
    def validates(self) -> bool:
        """Whether there are pairs to validate on."""
        return bool(self.val) or any(source.hold_out for source in self.train)

    def parts(self) -> tuple[list[PairSource], list[PairSource]]:
        """Training and validation sources, read when first asked for."""
        if self.split is None:
            self.check()
            self.split = self.read()
        return self.split

    def check(self) -> None:
        """Raise a `UserError` for settings without sense: what a constructor raises, jsonargparse buries."""
        if self.batch_size < 2:
            raise UserError(f"--data.batch_size {self.batch_size}: a contrastive batch needs 2 images or more")
        if not 0 <= self.max_skipped <= 1:
            raise UserError(f"--data.max_skipped {self.max_skipped}: a share from 0 to 1")
        for name, value, least in (("size", self.size, 1), ("workers", self.workers, 0)):
            if value is not None and value < least:
                raise UserError(f"--data.{name} {value}: {least} or more")
        self.cut.check()

    def read(self) -> tuple[list[PairSource], list[PairSource]]:
        """Training and validation sources."""
        if not self.train:
            raise UserError("--data.pairs: name a table of pictures and captions, or list sources in --data.train")
        if self.streams:
            return [], [source.read() for source in self.val]
        splits = [source.split(self._with_nouns(source.read())) for source in self.train]
        val = [held for _, held in splits if len(held)] + [source.read() for source in self.val]
        return [kept for kept, _ in splits], val

    def summary(self) -> list[str]:
        """What was trained on, a line for each source."""
        if self.streams:
            return [f"{source.pairs} ({source.size or 'all'} pairs)" for source in self.train]
        kept, held = self.parts()
        lines = [
            f"{source.pairs} ({len(part):,} pictures" + (f", weight {source.weight:g})" if source.weight else ")")
            for source, part in zip(self.train, kept, strict=True)
        ]
        return [*lines, f"validation on {sum(map(len, held)):,} other pictures"] if held else lines

    @property
    def streams(self) -> bool:
        """Whether the training pairs come from shards.

        Raises:
            UserError: some do and some do not.
        """
        kinds = {source.kind == "shards" for source in self.train}
        if len(kinds) == 2:
            raise UserError("--data.train: shards are a stream of their own; make shards of the other sources too")
        return kinds == {True}

    def _with_nouns(self, pairs: FilePairs) -> FilePairs:
        if self.nouns and pairs.nouns is None:
            from pacl.data.nouns import tag_all

            kept = Path(self.cache) if self.cache not in (None, "memory") else None
            pairs.set_nouns(tag_all([pairs.captions[i] for i in range(len(pairs.captions))], cache=kept))
        return pairs

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """The words and signs that training captions hold three times or more.

        None (any) for shards, which nobody has read yet.
        """
        if self.streams:
            return None
        words = Counter(
            word
            for source in self.parts()[0]
            for index in range(len(source))
            for caption, _ in source.descriptions(index)
            for word in WORD.findall(caption.lower())
        )
        return tuple(sorted(word for word, count in words.items() if count >= 3))

    def count_nouns(self) -> Counter[str]:
        """The nouns of the training captions, with how often each comes.

        None at all of shards, which nobody has read yet, or with ``nouns: false``.
        """
        if self.streams:
            return Counter()
        return Counter(
            noun
            for source in self.parts()[0]
            for index in range(len(source))
            for _, nouns in source.descriptions(index)
            for noun in with_person(nouns)
        )

    def warn_of_unknown_words(self) -> None:
        """Say so if the CLIP was never taught the words of the captions (small ones of one's own know few)."""
        clip = getattr(getattr(self._module, "pacl", None), "clip", None)  # a pretraining has none
        known = getattr(clip, "vocabulary", None)
        if known is None or self.streams:
            return
        source = self.parts()[0][0]
        some = range(0, len(source), max(1, len(source) // 1000))
        texts = [text.lower() for i in some for text, _ in source.descriptions(i)]
        words = [word for text in texts for word in re.findall(r"[^\W_]+", text)]
        unknown = [word for word in words if word not in known]
        if len(unknown) > 0.05 * len(words):
            often = ", ".join(word for word, _ in Counter(unknown).most_common(5))
            rank_zero_warn(
                f"{len(unknown) / len(words):.0%} of the captions' words are none of the {len(known)} this CLIP knows "
                f"({often}, ...): choose another --model.backbone"
            )

    # ------------------------------------------------------------ loaders

    def train_dataloader(self) -> EpochLoader | ShardLoader:
        """Batches as `pacl.training.module.PACLModule` takes them, in an order that a resumed run goes on with."""
        assert self.trainer is not None
        if self.seed is None:
            self.seed = self.trainer.strategy.broadcast(torch.initial_seed() % 2**32)
        sources, _ = self.parts()
        self.warn_of_unknown_words()
        templates = get_templates(self.templates) if self.nouns else ()
        if self.streams:
            if self.cache is not None:
                raise UserError(f"--data.cache {self.cache}: tokens are kept of files, not of shards; leave it out")
            return self._shard_loader(templates)
        batches = Batches(
            sources, self.image_size(), self.cut, self._stores(sources, "train", self.cut), self.seed, templates
        )
        return self._loader(batches, [source.weight for source in self.train] or [None], shuffle=True)

    def val_dataloader(self) -> EpochLoader | list[Any]:
        """All captions of the held-out pictures, in their order."""
        _, sources = self.parts()
        if not sources:
            return []
        cut = Cut() if self.cut.is_random else self.cut
        batches = Batches(sources, self.image_size(), cut, self._stores(sources, "val", cut), all_captions=True)
        return self._loader(batches, [None] * len(sources), shuffle=False)

    def _stores(self, sources: Sequence[PairSource], part: str, cut: Cut) -> list[TokenStore] | None:
        """The frozen tokens of all sources of a part, if they are to be kept."""
        if self.cache is None:
            return None
        if part not in self.stores:
            assert self.trainer is not None
            where = None if self.cache == "memory" else Path(self.cache) / part
            self.stores[part] = kept_tokens(
                self.trainer, sources, cut, self.image_size(), where, self.cache_dtype, self.workers
            )
        return self.stores[part]

    def image_size(self) -> int:
        """Side of the squares in pixels."""
        return self.size or int(self._module.image_size)

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
            if sum(sizes) < 2:
                raise UserError(f"--data: {sum(sizes)} pictures to train on; a contrast needs 2 or more")
            rank_zero_warn(f"--data.batch_size {batch_size}: of {sum(sizes)} pictures every step takes them all")
            batch_size = sum(sizes)
        order = DrawSampler(
            sizes,
            weights,
            batch_size,
            self.seed or 0,
            shuffle=shuffle,
            drop_last=shuffle,
            rank=trainer.global_rank,
            ranks=trainer.world_size,
        )
        loader = EpochLoader(batches, order, 0 if batches.stores else self.workers)
        return self._resumed(loader) if shuffle else loader

    def _resumed(self, loader: Loader) -> Loader:
        """Training batches, from where a checkpoint says."""
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
            templates,
            self.shuffle_buffer,
            self.workers,
            trainer.global_rank,
            trainer.world_size,
        )
        return self._resumed(loader)

    # ------------------------------------------------------------ skipped samples

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Count what was skipped on all processes, and stop all of them when it is too much."""
        assert self.trainer is not None
        bad = batch.pop("skipped")
        for reason in bad[: max(0, SKIPPED_NAMED - self.named)]:
            rank_zero_warn(f"skipped: {reason}")
        self.named += len(bad)
        if not self.trainer.training:
            return batch
        device = self.trainer.strategy.root_device
        counts = sum_over_ranks(torch.tensor([len(batch["positives"]) + len(bad), len(bad)], device=device))
        self.seen, self.skipped = self.seen + int(counts[0]), self.skipped + int(counts[1])
        batch["skipped"] = self.skipped
        self.check_skipped(bad[-1] if bad else "on another process")
        return batch

    def check_skipped(self, last: str, *, at_the_end: bool = False) -> None:
        """Raise a `UserError` when too many pictures could not be used, or none could."""
        share = self.skipped / max(1, self.seen)
        if self.seen < min(SKIPPED_GRACE, 2 * self.batch_size) and not at_the_end:
            return
        if self.seen == self.skipped > 0 or share > self.max_skipped:
            raise UserError(
                f"{self.skipped} of {self.seen} pictures could not be used, more than --data.max_skipped "
                f"{self.max_skipped}; the last: {last}; python -m pacl.data check names them all"
            )

    def state_dict(self) -> dict[str, Any]:
        """The seed, the place in the epoch, and how many pictures were seen and skipped. All processes call it."""
        place = self.loader.state() if self.loader else self._place
        counts = {"seen": self.seen, "skipped": self.skipped}
        return {"seed": self.seed, **counts, "place": place, "settings": self._settings()}

    def _settings(self) -> dict[str, Any]:
        """What the place in an epoch depends on."""
        return {"--data.batch_size": self.batch_size, "--data": "; ".join(self.summary())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in self._settings().items():
            if (before := state_dict["settings"].get(name)) != value:
                raise UserError(f"--ckpt_path: that run has {name} {before}, this one {value}; go on with the same")
        self.seed, self.seen, self.skipped, self._place = (
            state_dict[key] for key in ("seed", "seen", "skipped", "place")
        )
