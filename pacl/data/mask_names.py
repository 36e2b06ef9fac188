"""Why images have no masks: what lies in the folder of the masks instead, and which setting would find it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from pacl.data.folder_files import files_below
from pacl.errors import ArgumentError, UserError

LOOKED_AT = 100
"""Images whose masks are searched: enough to see how masks are named."""

SEPARATORS = "_-. "

MASK_FORMATS = (".jpg", ".jpeg", ".bmp", ".gif", ".mat", ".npy", ".npz", ".tif", ".tiff", ".webp")
"""Suffixes of files in which other programs store masks, which are not read here."""


def missing_masks(
    images: Mapping[str, Path], masks: Path, image_ending: str | None, mask_ending: str
) -> UserError | None:
    """What is wrong with the names of masks, if that can be seen.

    Args:
        images: name -> path of images without a mask.
        masks: folder of the masks.
        image_ending, mask_ending: as in `pacl.data.masks.MaskFolder`.

    Returns:
        An error that says what is there and what to set; None if nothing in the folder resembles the images' names.
    """
    files = sorted(files_below(masks, skip_unreadable=True))
    if not files:
        return UserError(f"{masks} has no files")
    some = dict(list(images.items())[:LOOKED_AT])
    name, path = next(iter(some.items()))
    if found := _endings(some, files):
        if _suffix(found[0]) != ".png":
            return _other_format(masks, name + found[0], mask_ending)
        return ArgumentError(
            "mask_ending", mask_ending, f"{masks} has {name}{found[0]} for {path.name}; use {_or(found)}"
        )
    lower = {file.casefold(): file for file in files}
    if other := lower.get((name + mask_ending).casefold()):
        return UserError(f"{masks} has {other} for {path.name}: names must agree in upper and lower case; rename one")
    flat = {PurePosixPath(file).name: file for file in files}
    if other := flat.get(PurePosixPath(name).name + mask_ending):
        return UserError(
            f"{masks} has {other} for {name}{path.suffix}: a mask lies in the same folder below masks as its image "
            "below images"
        )
    own = _common_ending(some.values()) if image_ending is None else ""
    bases = {name.removesuffix(own.removesuffix(path.suffix)): path for name, path in some.items()} if own else {}
    if own and (found := _endings(bases, files)):
        base = next(iter(bases))
        if _suffix(found[0]) != ".png":
            return _other_format(masks, base + found[0], mask_ending)
        return ArgumentError(
            "image_ending",
            image_ending,
            f"{masks} has {base}{found[0]} for {path.name}; use {own}, and mask_ending {_or(found)}",
        )
    if other := next((file for file in files if PurePosixPath(file).stem.endswith(PurePosixPath(name).name)), None):
        return UserError(
            f"{masks} has {other} for {path.name}: a mask's name starts like its image's; rename the masks"
        )
    return None


def _endings(images: Iterable[str], files: Iterable[str]) -> list[str]:
    """What follows the images' names in the names of files, the most frequent first; [] if too few have any."""
    by_folder = defaultdict(list)
    for file in files:
        by_folder[str(PurePosixPath(file).parent)].append(file)
    names = list(images)
    votes = Counter(
        file[len(name) :]
        for name in names
        for file in by_folder[str(PurePosixPath(name).parent)]
        if file.startswith(name) and file[len(name) :][:1] in SEPARATORS  # or nothing follows
    )
    enough = [ending for ending, count in votes.items() if 2 * count >= len(names)]
    return sorted(enough, key=lambda ending: (_suffix(ending) != ".png", -votes[ending], len(ending)))


def _common_ending(paths: Iterable[Path]) -> str:
    """The end that all file names share, from a separator on; "" without one before the suffix."""
    names = [path.name for path in paths]
    shared = names[0]
    while not all(name.endswith(shared) for name in names):
        shared = shared[1:]
    start = min((i for i, letter in enumerate(shared) if letter in SEPARATORS[:2]), default=None)
    return "" if start is None or len(names) < 2 else shared[start:]


def _other_format(masks: Path, file: str, mask_ending: str) -> UserError:
    suffix = _suffix(file)
    if suffix not in MASK_FORMATS and mask_ending != ".png":  # an ending that was asked for
        return ArgumentError("mask_ending", mask_ending, f"{masks} has no file that ends so; it has {file}")
    if suffix in (".jpg", ".jpeg"):
        return UserError(f"{masks} holds JPEG files ({file}): JPEG blurs class values; masks must be PNG, saved anew")
    return UserError(f"{masks} holds {suffix or 'other'} files ({file}): masks must be PNG; convert them")


def _suffix(ending: str) -> str:
    """The suffix of a file's name or of its end, in lower case; `Path(".PNG")` has none."""
    return Path(f"x{ending}").suffix.lower()


def _or(endings: list[str]) -> str:
    return " or ".join(endings[:3])
