"""Checks of the labels of a benchmark, before anything is measured.

Every mask and the header of every image is read once, which takes a small part of the time of an evaluation. Problems
stop an evaluation: masks that cannot be read, values that are no class, sizes that differ. Warnings do not: classes
that no mask shows, many pixels that are not scored, and signs that the masks are encoded in another way than assumed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from eval.common.command import warn
from eval.common.files import find_equal
from pacl.cli.progress import tracked
from pacl.data.masks import IGNORED, OUTSIDE, MaskFolder, check_size, orientation
from pacl.errors import UserError, first_few
from pacl.images import upright_size
from pacl.printing import counted

SHOWN = 5
"""Number of names in a warning."""

MANY = 0.1
"""Share of pixels of one ignored value that is worth a warning, where the ignored values were given by the user."""

NEARLY_ALL = 0.95
"""The same share for published benchmarks, some of which ignore all of the background."""

MOST_CLASSES = 200
"""Mask values from here on are rather colours than classes that the names lack; COCO-Stuff has 182."""

NO_CLASS = frozenset({"background", "unlabelled", "unlabeled", "void", "none", "other", "ignore"})
"""Class names that mean "no class"; their mask value is usually 0."""


@dataclass(frozen=True)
class Finding:
    """What one image and its mask hold.

    Attributes:
        name: of the image.
        mask: path of the mask.
        size: width and height of the mask.
        pixels: int64 [C + 1]: number of pixels of each class, and of pixels that are not scored.
        unscored: mask value (or number of a palette's colour) -> number of pixels that are not scored for it.
        outside: mask value that is no class -> number of pixels.
        turned: whether EXIF turns or mirrors the image in a way that width and height do not show.
        problem: description of the problem, or None; with a problem, the others are set only if it is ``outside``.
    """

    name: str = ""
    mask: str = ""
    size: tuple[int, int] = (0, 0)
    pixels: np.ndarray | None = None
    unscored: dict[int, int] = field(default_factory=dict)
    outside: dict[int, int] = field(default_factory=dict)
    turned: bool = False
    problem: str | None = None


def check_one(file: tuple[str, Path, Path], folder: MaskFolder, decode: bool = False) -> Finding:
    """Check one of ``folder.files``; ``decode`` reads the whole image, not only its header."""
    name, path, mask = file
    try:
        labels = folder.values(mask)  # [H, W]
        rows, columns = labels.shape
        counts = np.bincount(labels.ravel())
        values = np.flatnonzero(counts)
        counts, classes = counts[values], folder.classes[values]
        if decode and not (classes == OUTSIDE).any():
            folder.read(*file).image()
        turn = orientation(path)
        height, width = _image_size(path)
        check_size(path, (height, width), (rows, columns))
    except UserError as error:
        return Finding(name, str(mask), problem=str(error))
    total, scored = len(folder.labels), classes >= 0
    pixels = np.zeros(total + 1, np.int64)
    np.add.at(pixels, classes[scored], counts[scored])
    unscored, outside = (
        dict(zip(values[classes == kind].tolist(), counts[classes == kind].tolist(), strict=True))
        for kind in (IGNORED, OUTSIDE)
    )
    pixels[total] = sum(unscored.values())
    return Finding(
        name,
        str(mask),
        (columns, rows),
        pixels,
        unscored,
        outside,
        turned=turn in (2, 3, 4) or (turn >= 5 and height == width),
        problem=f"{mask} has {_values(list(outside))}, which is no class" if outside else None,
    )


def _image_size(path: Path) -> tuple[int, int]:
    """Height and width as a viewer shows the image, from its header."""
    try:
        return upright_size(path)
    except Exception:
        raise UserError(f"{path} is not an image that can be read") from None


Mapper = Callable[[Callable[[tuple[str, Path, Path]], Finding], Sequence[tuple[str, Path, Path]]], Iterable[Finding]]


def check(folder: MaskFolder, run: Mapper = map, *, decode: bool = False) -> list[Finding]:
    """Check all files of a folder; ``run`` is a ``map``, in several processes or with a progress bar."""
    return list(run(partial(check_one, folder=folder, decode=decode), folder.files))


def inspect(prog: str, name: str, folder: MaskFolder, *, own: bool, workers: int = 1) -> None:
    """Check the labels of a benchmark before a command measures it, and print its `warnings`.

    Args:
        prog: the command.
        name: the benchmark.
        folder: its images and masks.
        own: see `warnings`.
        workers: threads that read masks.

    Raises:
        UserError: a mask or an image's header cannot be read, sizes differ, or a value is no class.
    """
    title, total = f"masks of {name}", len(folder)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        findings = check(folder, lambda one, files: tracked(pool.map(one, files), title, total))
    if found := problems(folder, findings):
        more = f" (and {counted(len(found) - 1, 'more problem')})" if len(found) > 1 else ""
        raise UserError(f"{name}: {found[0]}{more}")
    for line in warnings(folder, findings, own=own):
        warn(prog, f"{name}: {line}")


def problems(folder: MaskFolder, findings: Sequence[Finding]) -> list[str]:
    """All problems; values that are no class come first, together."""
    found = []
    if outside := _total(finding.outside for finding in findings):
        masks = [finding for finding in findings if finding.outside]
        count = counted(len(masks), "mask has", "masks have")
        last = folder.offset + len(folder.labels) - 1
        found.append(
            f"{count} the {_values(list(outside))} (first: {masks[0].mask}), but {folder.names} has classes "
            f"{folder.offset} to {last}: {_advice(folder, findings, set(outside))}"
        )
    found += [finding.problem for finding in findings if finding.problem and not finding.outside]
    if not found and not any(finding.pixels is not None and finding.pixels[:-1].any() for finding in findings):
        found.append(f"no mask in {folder.masks} has a scored pixel: all values are ignored")
    return found


def _advice(folder: MaskFolder, findings: Sequence[Finding], outside: set[int]) -> str:
    """What may be meant by values that are no class."""
    classes = _pixels(findings, len(folder.labels))[:-1]
    beyond = folder.offset + len(folder.labels)
    if outside == {0} and folder.offset:
        return "0 usually marks pixels without a label; add it to --ignore"
    if outside <= {255, 65535}:
        return (
            "it usually marks pixels without a label; add it to --ignore, or name the colours of black and white masks "
            "in a file for --palette"
        )
    if outside == {beyond} and folder.offset == 0:
        if not classes[0]:
            return "no mask has a 0, so they seem to count from 1; use --offset 1"
        return "they seem to count from 1, with 0 for pixels without a label; use --offset 1, and add 0 to --ignore"
    if max(outside) < MOST_CLASSES and _is_consecutive(outside - {0}, beyond):
        count = counted(len(folder.labels), "line")
        return (
            f"{folder.names} has {count}, masks have values up to {max(outside)}: add the classes that it lacks; "
            "masks that were saved as JPEG or resized with interpolation have such values, too"
        )
    if len(outside) > 2 * len(folder.labels) + 10:
        return (
            "these look like colours, which need a palette file, or like masks that were saved as JPEG or resized with "
            "interpolation"
        )
    return "add them to the names or to --ignore, change --offset, or give a palette file where they stand for colours"


def _is_consecutive(values: set[int], first: int) -> bool:
    """Whether values are numbers of further classes: all those from ``first`` on, but for a few that nothing shows."""
    return min(values, default=-1) >= first and len(values) > 0.75 * (max(values) + 1 - first)


def warnings(folder: MaskFolder, findings: Sequence[Finding], *, own: bool) -> list[str]:
    """What is odd, a line each.

    Args:
        folder: the images and masks.
        findings: of `check`.
        own: whether the user described the masks; then fewer ignored pixels are worth a warning.
    """
    found = []
    names = [label.name for label in folder.labels]
    pixels = _pixels(findings, len(names))
    total, unscored = int(pixels.sum()), _total(finding.unscored for finding in findings)
    shares = {value: count / max(1, total) for value, count in unscored.items()}
    values = set(unscored) | {i + folder.offset for i in np.flatnonzero(pixels[:-1]).tolist()}
    black_and_white = values == {0, 255} and 255 in shares and not folder.palette
    if absent := [name for name, count in zip(names, pixels[:-1], strict=True) if not count]:
        classes = counted(len(names), "class", "classes")
        line = f"no mask shows {len(absent)} of the {classes} ({first_few(absent, SHOWN)})"
        total_images = len(replace(folder, limit=None)) if folder.limit else len(folder)
        few = len(folder) < total_images
        line += f"; only {len(folder):,} of {total_images:,} images were read" * few
        ends = {names[0], names[-1]} & set(absent)
        if own and ends and not few and not folder.palette and not black_and_white:
            last = folder.offset + len(names) - 1
            line += f"; value {folder.offset} is read as {names[0]} and {last} as {names[-1]}: is the offset right?"
        found.append(line)
    if black_and_white:
        found.append(
            f"all masks hold only 0 and 255, and 255 ({shares[255]:.0%} of the pixels) is not scored: if 255 is a "
            "class, write masks of 0 and 1, or give a palette file with the names of 0,0,0 and 255,255,255"
        )
    elif own:
        for value, share in shares.items():
            if share > MANY:
                found.append(f"{share:.0%} of the pixels are not scored, because {_value(folder, value)} is ignored")
    elif total and pixels[-1] > NEARLY_ALL * total:
        found.append(f"{pixels[-1] / total:.0%} of the pixels are not scored: are these the benchmark's own masks?")
    inside = [v for v in unscored if not folder.palette and 0 <= v - folder.offset < len(names)]
    found += [f"value {v} is ignored, but also that of the class {names[v - folder.offset]}" for v in inside]
    if own and folder.offset and not folder.palette and names[0].casefold() in NO_CLASS:
        found.append(f"offset {folder.offset} gives the value {folder.offset}, not 0, to the first name, {names[0]}")
    if nameless := [name for name, share in _unnamed(folder, shares).items() if own and share <= MANY]:
        found.append(f"colours of the palette that are no class are not scored: {first_few(nameless, SHOWN)}")
    if blank := [f.name for f in findings if f.pixels is not None and not f.pixels[:-1].any()]:
        found.append(f"{counted(len(blank), 'mask')} without a scored pixel ({first_few(blank, SHOWN)})")
    if turned := [finding.name for finding in findings if finding.turned]:
        found.append(
            f"{counted(len(turned), 'image')} turned or mirrored by EXIF, which sizes do not show "
            f"({first_few(turned, SHOWN)}): their masks must be turned, too"
        )
    if orphans := folder.orphans() if own and folder.limit is None else []:
        found.append(f"{counted(len(orphans), 'mask')} without an image ({first_few(orphans, SHOWN)})")
    for same in _same(folder):
        found.append(f"the same image is there {len(same)} times, and is counted each time: {first_few(same, SHOWN)}")
    return found


def _same(folder: MaskFolder) -> Iterator[list[str]]:
    """Names of images whose files are equal."""
    for group in find_equal([path for _, path, _ in folder.files]):
        yield [folder.files[i][0] for i in group]


def _unnamed(folder: MaskFolder, shares: dict[int, float]) -> dict[str, float]:
    """Colours of the palette that are no class -> their share of the pixels."""
    return {_value(folder, value): share for value, share in shares.items()} if folder.palette else {}


def _value(folder: MaskFolder, value: int) -> str:
    if not folder.palette:
        return f"value {value}"
    colour, name = list(folder.colours.items())[value]
    return f"{name} {','.join(map(str, colour))}"


def _pixels(findings: Sequence[Finding], classes: int) -> np.ndarray:
    """Sum of `Finding.pixels` over all findings, int64 [C + 1]."""
    counted = [finding.pixels for finding in findings if finding.pixels is not None]
    return np.sum([np.zeros(classes + 1, np.int64), *counted], axis=0)


def _total(counts: Iterable[dict[int, int]]) -> dict[int, int]:
    total: Counter[int] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def _values(values: Sequence[int]) -> str:
    return f"value{'s' * (len(values) > 1)} {first_few([str(value) for value in values], SHOWN)}"
