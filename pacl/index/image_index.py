"""`Index`: the images of a folder, ranked by how well they fit a text or another image.

text   --text tower-->  vectors [N, D] --cosine with the vectors of all images-->  candidates
candidates  --phi of their patches and the text-->  ranking (scores phi and both)
image  --image tower-->  vector [D]    --cosine with the vectors of all images-->  ranking

The vector of an image is CLIP's pooled embedding, or, for the score ``phi``, the mean of its patch vectors: the cosine
of that with a text is phi with mean pooling, which is one matrix product for all images.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pacl.classification.scorer import BATCH, EmbeddedImages, EncodedLabels, Score, Scorer
from pacl.errors import ArgumentError, ImageWarning, UserError, check_count, first_few
from pacl.image_batches import each_or_error, read_batches
from pacl.image_folders import FolderContent, are_first, no_images, search_folder
from pacl.index.file import open_file
from pacl.index.indexing import Changed, Indexing, Progress, alone, image_vectors, read_as_known, stamp_or_none
from pacl.index.place import made_by, place
from pacl.index.ranking import DIGITS, Vectors, best
from pacl.models.precision import inference
from pacl.printing import counted, rounded
from pacl.prompts import Label
from pacl.segmentation.encode import AnyImage, warn_of_black
from pacl.segmentation.segmenter import as_labels

if TYPE_CHECKING:
    from torch import Tensor

    from pacl.models.model import PACL

TOP = 10
RERANK = 100


@dataclass(frozen=True)
class Hit:
    """An image that was found.

    Attributes:
        rank: from 1.
        score: in [-1, 1], with 6 decimals: of the text and the image, see `pacl.score_images`, or the cosine of images.
        path: of the image, absolute.
    """

    rank: int
    score: float
    path: Path


class Index:
    """The images of a folder by their embeddings, which are kept on disk: computed once, searched often.

    `build` makes an index or brings it up to date; `open` takes the one that is there. Where the model gets other
    weights or settings later, the index is that of the model as it is then, which `update` makes.

    Args:
        scorer: the model and the score.
        folder: of images, with its subfolders.
        index: the folder that the index is kept in. None is ``.pacl_index`` in ``folder``, or where that cannot be
            written ``$XDG_CACHE_HOME/pacl/index`` (``~/.cache/pacl/index``).
        keep_patches: for the scores ``phi`` and ``both``: whether the patch vectors of new images are kept, too. Those
            that are not kept are computed for every search in which the image is a candidate.

    Attributes:
        folder: of images, absolute: the current folder may change.
        unread: what is wrong with each image that the last `update` could not read.
        own: images that the last `update` left out because this package wrote them, such as overlays.
        repeated: further paths of images, by symbolic links, that the last `update` left out: each image is found once.
    """

    def __init__(
        self, scorer: Scorer, folder: str | Path, index: str | Path | None = None, *, keep_patches: bool = True
    ) -> None:
        self.scorer, self.folder = scorer, Path(folder).absolute()
        self.keep_patches = keep_patches
        self.unread: list[UserError] = []
        self.own: list[Path] = []
        self.repeated: list[Path] = []
        self._index = None if index is None else Path(index).absolute()
        self._read: tuple[object, Vectors] | None = None  # with what they depend on

    def __repr__(self) -> str:
        return f"<Index of {self.folder} by {self.scorer.score} of {self.scorer.model.config.backbone}>"

    @classmethod
    def build(
        cls,
        folder: str | Path,
        model: PACL | str | Path = "auto",
        score: Score | None = None,
        *,
        weight: float = 0.5,
        templates: str | Path = "none",
        precision: str = "fp32",
        index: str | Path | None = None,
        keep_patches: bool = True,
        progress: Progress | None = None,
    ) -> Index:
        """Make the index of a folder, or bring it up to date; see `update`.

        Args:
            folder: of images, with its subfolders.
            model: the model, or its name for `pacl.load_model`.
            score: as for `pacl.score_images`.
            weight: as for `pacl.score_images`.
            templates: as for `pacl.score_images`.
            precision: of the image tower: ``fp32``, ``bf16`` or ``auto``.
            index: see `Index`.
            keep_patches: see `Index`.
            progress: called after each image that is encoded, with the numbers of images that are done and to do.

        Raises:
            UserError: the folder has no image that can be read; the index cannot be written, or another process writes
                it.
            ArgumentError: the model or the score does not work.

        Warns:
            ImageWarning: an image cannot be read; it is left out.

        Example:
            >>> Index.build("photos").search("a dog on a beach", top=5)
        """
        content = search_folder(Path(folder), recursive=True, look_inside=False)
        if not content.images:  # before the model is loaded, which takes long
            raise no_images(folder, content.unread)
        scorer = Scorer(model, score, weight=weight, templates=templates, precision=precision)
        built = cls(scorer, folder, index, keep_patches=keep_patches)
        built.update(content, progress=progress)
        for error in built.unread:
            warnings.warn(str(error), ImageWarning, stacklevel=2)
        return built

    @classmethod
    def open(
        cls,
        folder: str | Path,
        model: PACL | str | Path = "auto",
        score: Score | None = None,
        *,
        weight: float = 0.5,
        templates: str | Path = "none",
        precision: str = "fp32",
        index: str | Path | None = None,
    ) -> Index:
        """The index of a folder as it is, which may be older than the folder; see `build`.

        Images that are gone since are left out of answers. Those that have changed since have the scores they had, or
        are left out where their patches are needed and not kept.

        Raises:
            UserError: the folder has no index of this model and score, or it cannot be read.
        """
        opened = cls(Scorer(model, score, weight=weight, templates=templates, precision=precision), folder, index)
        opened.vectors  # noqa: B018 (reads the file)
        return opened

    @property
    def path(self) -> Path:
        """The file of the index, whether there is one or not."""
        return place(self.folder, self._index, self.scorer, write=False)

    @property
    def vectors(self) -> Vectors:
        """The vectors of all images, read into memory when they are first used: 4 D bytes for an image.

        They are read again once the model has changed, or the file: another process may bring it up to date.
        """
        by, path = made_by(self.scorer), self.path
        now = (by, path, stamp_or_none(path))
        if self._read is None or self._read[0] != now:
            with open_file(path, by) as file:
                self._read = now, Vectors.read(file)
        return self._read[1]

    def __len__(self) -> int:
        """The number of images in the index."""
        return len(self.vectors.paths)

    def update(self, content: FolderContent | None = None, *, progress: Progress | None = None) -> None:
        """Encode new and changed images, and forget those that are gone.

        An image has changed if its size or its time of change has, and its content, too. A renamed one is not encoded
        again. Where this is interrupted, the images that were encoded are kept.

        Args:
            content: what `pacl.image_folders.search_folder` found in the folder, if it was searched already.
            progress: see `build`.

        Raises:
            UserError: see `build`.
        """
        content = content or search_folder(self.folder, recursive=True, look_inside=False)
        if not content.images:
            raise no_images(self.folder, content.unread)
        self._read = None
        first = are_first(content.images)
        path = place(self.folder, self._index, self.scorer, write=True)
        with alone(path), open_file(path, made_by(self.scorer), write=True) as file:
            indexing = Indexing(file, self.folder, self.scorer, self.keep_patches, progress or (lambda *_: None))
            indexing.run(list(compress(content.images, first)))
        self.unread, self.own = indexing.unread, indexing.own
        self.repeated = [image for image, is_first in zip(content.images, first, strict=True) if not is_first]
        if not len(self):
            reason = self.unread[0] if self.unread else "all are results of this package"
            raise UserError(f"{self.folder}: has no image to search for ({reason})")

    def search(self, query: str | Label | EncodedLabels, top: int = TOP, *, rerank: int = RERANK) -> list[Hit]:
        """The images that fit a text best.

        Args:
            query: a text, as for `pacl.Segmenter.predict`: of several prompts (``a dog;a puppy``) the highest score
                counts; or what `Scorer.encode` made of it.
            top: the number of images, at least 1.
            rerank: for the scores ``phi`` and ``both``: the number of images, the best by their vectors, that are
                ranked by the score itself; ``top`` at least.

        Returns:
            At most ``top`` images, the best first; those whose scores are equal are sorted by path.

        Raises:
            ArgumentError: ``top`` or ``rerank`` is no whole number from 1; ``query`` is no text, or of several labels;
                another model encoded it.
            UserError: the text makes no sense to the model, the folder has no index of the model as it is now, or all
                images are gone or have changed.

        Warns:
            UnknownWords, UnfamiliarWords: as `pacl.Segmenter.predict` does.
            ImageWarning: an image of the index is not there any more, or its patches are not kept and it has changed or
                cannot be read any more; it is left out.
        """
        top, rerank = check_count("top", top), check_count("rerank", rerank)
        if not isinstance(query, (str, Label, EncodedLabels)):
            raise ArgumentError("query", f"of type {type(query).__name__}", "must be a text; similar takes images")
        labels = query if isinstance(query, EncodedLabels) else self.scorer.encode(as_labels(query))
        self.scorer.check(labels)
        if len(labels.names) != 1:
            raise ArgumentError(
                "query", f"of {len(labels.names)} labels", "must be one, which may have several prompts"
            )
        vectors = self.vectors
        scores = vectors.scores(labels.head if self.scorer.score == "phi" else labels.clip)
        if self.scorer.score == "clip":
            return self._hits(scores, vectors.paths, top)
        candidates = np.sort(best(scores, max(top, rerank)))
        paths = [vectors.paths[image] for image in candidates]
        return self._hits(self._exact(vectors, candidates, labels), paths, top)

    def similar(self, image: AnyImage, top: int = TOP) -> list[Hit]:
        """The images that are most similar to an image, by the cosine of their vectors.

        Args:
            image: in any form that `pacl.Segmenter.set_image` takes. If it is in the folder, it is found itself.
            top: as for `search`.

        Raises:
            ArgumentError: ``top`` is no whole number from 1, or ``image`` is no image.
            UserError: it cannot be read, the folder has no index of the model as it is now, or all images are gone.

        Warns:
            ImageWarning: an image of the index is not there any more; it is left out. Or as
                `pacl.Segmenter.set_image` does.
        """
        top = check_count("top", top)
        warn_of_black([image], ["image"])
        vectors = self.vectors
        scores = vectors.scores(image_vectors(self.scorer.embed([image], ["image"])))
        return self._hits(scores, vectors.paths, top)

    def _hits(self, scores: np.ndarray, paths: Sequence[bytes], top: int) -> list[Hit]:
        """The best of some images by their scores [C]; ``paths`` are theirs, ascending. Those that are gone are none.

        Raises:
            UserError: all are gone.
        """
        hits: list[Hit] = []
        gone: list[Path] = []
        for n in best(scores, len(scores)).tolist():
            if len(hits) == top or not np.isfinite(scores[n]):
                break
            path = self._path_of(paths[n])
            if path.exists():
                hits.append(Hit(len(hits) + 1, rounded(float(scores[n]), DIGITS), path))
            else:
                gone.append(path)
        if not hits:
            raise UserError(f"{self.folder}: the images of its index are gone or have changed; bring it up to date")
        if gone:
            some = f"{counted(len(gone), 'image')} of the index that cannot be found any more ({first_few(gone)})"
            warnings.warn(f"left out {some}; bring it up to date", ImageWarning, stacklevel=3)
        return hits

    @inference()
    def _exact(self, vectors: Vectors, images: np.ndarray, labels: EncodedLabels) -> np.ndarray:
        """The scores of some images with a text, float32 [C]; -inf for those that are not what they were."""
        scores = np.full(len(images), -np.inf, dtype=np.float32)
        rows, device = vectors.rows[images], self.scorer.model.device
        for n, patches in self._patches(vectors, images):
            pooled = torch.from_numpy(vectors.vectors[rows[n]])[None].to(device)
            scores[n] = float(self.scorer.compare(EmbeddedImages(pooled, [patches.to(device)]), labels)[0, 0])
        return scores

    def _patches(self, vectors: Vectors, images: np.ndarray) -> Iterator[tuple[int, Tensor]]:
        """The patch vectors of some images, float32 [P, D], each with its place among them: kept ones, then others."""
        ids, missing, changed = vectors.ids[images], list[_Candidate](), list[Path]()
        with open_file(self.path, made_by(self.scorer)) as file:
            for n, embedding in enumerate(ids.tolist()):
                kept = file.patches(embedding, vectors.vectors.shape[1])
                if kept is None:
                    path = self._path_of(vectors.paths[images[n]])
                    missing.append(_Candidate(n, path, file.content(embedding)))
                else:
                    yield n, kept
        for batch in read_batches(missing, BATCH, read_as_known):
            for each, _, found in each_or_error(batch, self._embed, "a smaller model, or bf16"):
                if isinstance(found, Changed):
                    changed.append(each.path)
                elif isinstance(found, UserError):
                    warnings.warn(str(found), ImageWarning, stacklevel=5)
                else:
                    yield each.place, found
        if changed:
            some = f"{counted(len(changed), 'image')} of the index whose file has changed ({first_few(changed)})"
            warnings.warn(f"left out {some}; bring it up to date", ImageWarning, stacklevel=5)

    def _embed(self, candidates: list[_Candidate], images: list[np.ndarray]) -> list[Tensor]:
        """The patch vectors of some images, float32 [P, D] each."""
        return self.scorer.embed(images, [str(each.path) for each in candidates]).patches or []

    def _path_of(self, key: bytes) -> Path:
        return self.folder / os.fsdecode(key)


@dataclass(frozen=True)
class _Candidate:
    """An image whose patches are not kept.

    Attributes:
        place: among the candidates.
        path: of the file.
        content: digest of the content that was indexed; None if the index has it no more.
    """

    place: int
    path: Path
    content: bytes | None
