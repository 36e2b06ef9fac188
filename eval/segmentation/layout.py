"""Where a segmentation data set's files lie below the folder of all data sets, and folders to write them to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pacl.errors import ArgumentError
from pacl.files import make_folder


@dataclass(frozen=True)
class FileLayout:
    """The folders of a data set. Alternatives are tried in order; "{split}" is replaced by the split.

    Attributes:
        bases: folder of the data set, relative to the folder of all data sets.
        images: folder of the images, relative to the base.
        masks: folder of the masks, relative to the base.
        only: file that lists the images of the split, relative to the base; empty: all images of the folder.
        image_ending: end of the images' file names; None: a dot and any suffix.
        mask_ending: what replaces it in the masks' file names.
        raw: folder of the published label files that masks are converted from, relative to the base or to the
            folder of all data sets.
        raw_ending: what replaces the image's ending in their file names.
    """

    bases: tuple[str, ...]
    images: tuple[str, ...]
    masks: tuple[str, ...]
    only: tuple[str, ...] = ()
    image_ending: str | None = None
    mask_ending: str = ".png"
    raw: tuple[str, ...] = ()
    raw_ending: str = ".png"

    def find(self, data: str | Path, split: str) -> Locations:
        """Find the files of a split. Of several bases, one with images and masks wins over one with images alone.

        Args:
            data: folder of all data sets.
            split: such as "val".

        Raises:
            ArgumentError: ``data`` is not a folder.
        """
        data = Path(data)
        if not data.is_dir():
            raise ArgumentError("data", data, "is not a folder")

        def rank(found: Locations) -> int:
            if not found.images.is_dir():
                return found.base.is_dir() and found.base != data
            return 3 if _has_files(found.masks, self.mask_ending) else 2

        return max((self._locate(data, base, split) for base in self.bases), key=rank)  # the first of equals

    def _locate(self, data: Path, base: str, split: str) -> Locations:
        folder = data / base

        def first(names: Sequence[str], ending: str | None = None, below: Sequence[Path] = (folder,)) -> Path:
            paths = [start / name.replace("{split}", split) for start in below for name in names]
            existing = (path for path in paths if (path.exists() if ending is None else _has_files(path, ending)))
            return next(existing, paths[0])

        raw = first(self.raw, self.raw_ending, (folder, data)) if self.raw else None
        return Locations(
            base=folder,
            images=first(self.images),
            masks=first(self.masks, self.mask_ending),
            only=first(self.only) if self.only else None,
            raw=raw if raw is not None and _has_files(raw, self.raw_ending) else None,
        )


@dataclass(frozen=True)
class Locations:
    """Paths of one split's files: those that exist, else those where they are expected.

    Attributes:
        base: folder of the data set.
        images: folder of the images.
        masks: folder of the masks.
        only: file that lists the images of the split; None: all images of the folder.
        raw: folder of the label files that masks are converted from; None: not found, or none are needed.
    """

    base: Path
    images: Path
    masks: Path
    only: Path | None
    raw: Path | None


def _has_files(folder: Path, ending: str) -> bool:
    """Whether a file with that ending lies in the folder or below it; converted masks do not count as raw labels."""
    return any(ending != ".png" or not path.stem.endswith("TrainIds") for path in folder.glob(f"**/*{ending}"))


def make_writable_folder(folder: Path, argument: str) -> Path:
    """Like `make_folder`, but a folder without write permission is refused for root, too, who could write to it.

    Args:
        folder: the folder to make.
        argument: name of the argument that errors mention.

    Raises:
        ArgumentError: the folder cannot, or must not, be written to.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.stat().st_mode & 0o222:
        raise ArgumentError(argument, folder, f"{existing} is read-only; choose another folder")
    return make_folder(folder, argument)
