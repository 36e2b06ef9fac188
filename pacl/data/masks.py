"""Segmentation data sets: a folder of images, a folder of index masks and a file of class names.

A mask is a PNG of the size of its image whose values are class indices: 8- or 16-bit grey, palette (the colours are
ignored), or 8-bit colour with equal channels. With a palette file, colours stand for classes instead.

Class numbers, here and everywhere else: class c in 0..C-1 is line c of the names file, counted from 0. Only
files have other numbers: class c has the value ``c + offset`` in the mask files of a `MaskFolder`.

    Pascal VOC with background      names of 21 lines, "background" on top    offset 0, ignore [255]
    Pascal VOC without background   names of 20 lines                         offset 1, ignore [0, 255]
    ADE20K                          names of 150 lines                        offset 1, ignore [0]
    Cityscapes (labelTrainIds)      names of 19 lines                         offset 0, ignore [255]
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from pacl.data.folder_files import files_below
from pacl.data.mask_names import missing_masks
from pacl.data.mask_palette import classes_of, packed, read_palette, unpacked
from pacl.data.readers import read_list
from pacl.errors import ArgumentError, UserError, first_few
from pacl.image_folders import list_images, spread
from pacl.images import open_image
from pacl.printing import counted
from pacl.prompts import Label, read_classes

IGNORED = -1
"""Class number of pixels that are not scored."""

OUTSIDE = -2
"""Class number of mask values that are neither a class nor ignored, which is an error."""

SHOWN = 3
"""Number of file names in an error about many files."""


@dataclass(frozen=True, eq=False)
class MaskedImage:
    """One item of a `MaskFolder`.

    Attributes:
        name: path of the image below its folder, without its ending, as in the lines of ``only``.
        path: path of the image.
        mask: int32 [H, W]: the class 0..C-1 of every pixel, or `IGNORED`; for
            ``pacl.metrics.segmentation.count_areas``.
    """

    name: str
    path: Path
    mask: np.ndarray

    def image(self) -> np.ndarray:
        """The image, RGB uint8 [H, W, 3].

        Raises:
            UserError: it cannot be read, or its size is not that of the mask.
        """
        image = open_image(self.path)
        check_size(self.path, (image.shape[0], image.shape[1]), self.mask.shape)
        return image


@dataclass(frozen=True)
class MaskFolder:
    """Images with index masks: a sequence of `MaskedImage`. Files are read when they are used.

    Attributes:
        images: folder of the images, searched recursively.
        masks: folder of the masks, index PNGs; the mask of "x/y.jpg" below ``images`` is "x/y.png" below it.
        names: file with one class per line, synonyms after semicolons; line i (from 0) has the mask value i + offset.
        only: file with the images to use, one per line: their paths below ``images``, with or without the ending (VOC's
            ImageSets/Segmentation/val.txt has none); null uses all.
        ignore: mask values of pixels that are not scored, even if they are values of a class.
        offset: mask value of the first class: 1 if 0 means unlabelled pixels.
        limit: use only this many images, evenly spread over all in their order; null uses all.
        image_ending: ending of the image file names; null uses all images and their suffixes. Cityscapes needs
            "_leftImg8bit.png".
        mask_ending: ending of the mask file names instead. Cityscapes needs "_gtFine_labelTrainIds.png".
        partial: skip images of ``only`` that do not exist and images without a mask, instead of raising an error. For
            an incomplete data set.
        palette: file with the colour of every class, see `pacl.data.mask_palette`: masks are then read as colours, and
            those of no class are not scored. ``offset`` and ``ignore`` have no effect.
    """

    images: str
    masks: str
    names: str
    only: str | None = None
    ignore: tuple[int, ...] = (255,)
    offset: int = 0
    limit: int | None = None
    image_ending: str | None = None
    mask_ending: str = ".png"
    partial: bool = False
    palette: str | None = None

    @cached_property
    def labels(self) -> list[Label]:
        """The C classes, in the order of the names file."""
        first = None if self.palette else self.offset
        return read_classes(self.names, shared_prompts=True, first_id=first)  # ties are the caller's concern

    @cached_property
    def listed(self) -> list[str]:
        """Names of the images to expect: the lines of ``only``, otherwise all images in the folder."""
        images = self._images()
        if self.only is None:
            return list(images)
        by_file = {path.relative_to(self.images).as_posix(): name for name, path in images.items()}
        return [by_file.get(name, name) for name in read_list(self.only)]

    @cached_property
    def files(self) -> list[tuple[str, Path, Path]]:
        """Name, image path and mask path of every item: in the order of ``only``, otherwise sorted.

        Raises:
            UserError: a folder or file is missing, or two images share a mask.
            ArgumentError: ``limit``: below 1.
        """
        if self.limit is not None and self.limit < 1:
            raise ArgumentError("limit", self.limit, "must be at least 1, or null for all")
        if not Path(self.masks).is_dir():
            raise UserError(f"{self.masks} is not a folder: it should have the masks of {self.images}")
        images, names = self._images(), self.listed
        if self.partial:
            names = [name for name in names if name in images and os.path.isfile(self._mask(name))]
            if not names:
                raise self._why_missing(images) or UserError(f"{self.masks} has no mask of an image in {self.images}")
        if missing := [name for name in names if name not in images]:
            raise UserError(f"{self.images} lacks {_count(missing, 'image')} that {self.only} lists")
        files = [(name, images[name], self._mask(name)) for name in spread(names, self.limit)]
        if lost := {
            name: mask.relative_to(self.masks).as_posix() for name, _, mask in files if not os.path.isfile(mask)
        }:
            some = len(lost) < len(files)
            why = self._why_missing({name: images[name] for name in lost})
            if why is not None and not some:
                raise why
            raise UserError(
                f"{self.masks} lacks {_count(list(lost.values()), 'mask')} of images in {self.images}"
                + (f" ({why})" if why else "")
                + ("; to use only the others, set partial" if some else ""),
                *(("partial",) if some else ()),
            )
        return files

    def _why_missing(self, images: Mapping[str, Path]) -> UserError | None:
        return missing_masks(images, Path(self.masks), self.image_ending, self.mask_ending)

    def orphans(self) -> list[str]:
        """Masks without an image, as paths below ``masks``: files there with the ending of masks."""
        if self.only is not None or Path(self.masks).resolve() == Path(self.images).resolve():
            return []
        used = {self._mask(name) for name in self._images()}
        masks = (
            name for name in files_below(Path(self.masks), skip_unreadable=True) if name.endswith(self.mask_ending)
        )
        return sorted(name for name in masks if Path(self.masks, name) not in used)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> MaskedImage:
        """`read` an item."""
        return self.read(*self.files[index])

    def read(self, name: str, path: Path, file: Path) -> MaskedImage:
        """Read the mask of one of `files` (not the image).

        Raises:
            UserError: the mask cannot be read, is not an index PNG, or has a value that is neither a class nor ignored.
        """
        values = self.values(file)
        mask = self.classes[values]  # [H, W]
        if (outside := mask == OUTSIDE).any():
            last = self.offset + len(self.labels) - 1
            raise UserError(
                f"{file} has the value {values[outside][0]}, but {self.names} has classes {self.offset} to {last}: "
                "add it to the names or to ignore, or change offset",
                "ignore",
                "offset",
            )
        return MaskedImage(name, path, mask)

    def values(self, file: Path) -> np.ndarray:
        """What a mask file holds, int32 [H, W]: its values, or with ``palette`` the numbers of its colours there.

        Raises:
            UserError: the mask cannot be read, is not an index PNG, or has a colour that the palette lacks.
        """
        if self.palette is None:
            return read_mask(file)
        colours = packed(read_colours(file))
        found, index = np.unique(colours, return_inverse=True)
        numbers = {int(packed(np.array(colour))): i for i, colour in enumerate(self.colours)}
        if lacking := [unpacked(int(colour)) for colour in found if int(colour) not in numbers]:
            raise UserError(f"{file} has {_count(lacking, 'colour')} that {self.palette} lacks: add a line for each")
        return np.array([numbers[int(colour)] for colour in found], np.int32)[index.reshape(colours.shape)]

    @cached_property
    def colours(self) -> dict[tuple[int, int, int], str]:
        """The names of the palette's colours; empty without a palette."""
        return {} if self.palette is None else read_palette(self.palette)

    @cached_property
    def classes(self) -> np.ndarray:
        """The class, `IGNORED` or `OUTSIDE` of each of the 65,536 possible mask values, or of the palette's colours."""
        if self.palette is not None:
            return np.array(classes_of(self.colours, self.labels, self.palette, IGNORED), np.int32)
        if self.offset < 0 or not all(0 <= value < 2**16 for value in self.ignore):
            ignored = first_few(self.ignore, SHOWN)
            raise UserError(f"offset {self.offset}, ignore [{ignored}]: mask values are from 0 to 65535")
        classes = np.full(2**16, OUTSIDE, np.int32)
        named = classes[self.offset :][: len(self.labels)]
        named[:] = np.arange(len(named))
        classes[list(self.ignore)] = IGNORED
        return classes

    def _mask(self, name: str) -> Path:
        return Path(self.masks, name + self.mask_ending)

    def _images(self) -> dict[str, Path]:
        """Paths of all images in the folder by name."""
        found: dict[str, Path] = {}
        for path in list_images(self.images, recursive=True):
            ending = path.suffix if self.image_ending is None else self.image_ending
            if path.name.endswith(ending):
                name = path.relative_to(self.images).as_posix()[: -len(ending)]
                if name in found:
                    raise UserError(
                        f"{found[name]} and {path} would have the same mask: set image_ending", "image_ending"
                    )
                found[name] = path
        if not found:
            raise UserError(f'{self.images} has no images that end in "{self.image_ending}"')
        return found


def read_mask(path: str | Path) -> np.ndarray:
    """The values of an index PNG as they are stored: int [H, W], 0 to 65535.

    Colour images whose channels are equal are read as grey; transparency is ignored.

    Raises:
        UserError: the file is missing, broken, not a PNG, has colours instead of indices, or has several channels of
            16 bits.
    """
    with _opened(path) as image:
        # Pillow scales 2- and 4-bit grey values to 0..255; undo that.
        step = {"L;2": 85, "L;4": 17}.get(str(image.tile[0][3]), 1)
        if image.mode in ("1", "L", "P", "I;16", "I"):
            return np.asarray(image).astype(np.int32) // step
        if image.mode == "LA":
            return np.asarray(image)[..., 0].astype(np.int32)
        colours = np.asarray(image)[..., :3]  # RGB or RGBA
        if (colours == colours[..., :1]).all():
            return colours[..., 0].astype(np.int32)
        some = ", ".join(unpacked(int(colour)) for colour in np.unique(packed(colours))[:SHOWN])
        raise UserError(
            f"{path} is a colour image ({image.mode}; {some}, ...), not one of class indices: set palette to a file "
            'with a line such as "road:128,64,128" for each class'
        )


def read_colours(path: str | Path) -> np.ndarray:
    """The colours of a PNG, RGB uint8 [H, W, 3]; a palette is applied, transparency is ignored.

    Raises:
        UserError: the file is missing, broken, not a PNG, or has 16 bits a channel.
    """
    with _opened(path) as image:
        if image.mode in ("I;16", "I"):
            raise UserError(f"{path} is grey of 16 bits: colours have 8 bits a channel; save it so")
        plain = image.convert("RGBA") if image.mode == "P" else image
        return np.asarray(plain.convert("RGB"))


@contextmanager
def _opened(path: str | Path) -> Iterator[ImageFile]:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.tile[0][3] in ("LA;16B", "RGB;16B", "RGBA;16B"):
                raise UserError(
                    f"{path} has 16 bits in each of several channels, of which only the upper 8 are read: save class "
                    "indices as grey, and colours with 8 bits a channel"
                )
            yield image
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except Image.UnidentifiedImageError:
        raise UserError(f"{path} is not a PNG file: other formats lose or recolour class indices") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and others
        raise UserError(f"{path} is broken or cannot be read ({error}): save or download it again") from None


def check_size(path: Path, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    """Check that an image, as a viewer shows it, and its mask have the same (height, width).

    Raises:
        UserError: they differ; it names EXIF where that turned the image.
    """
    if tuple(image) == tuple(mask):
        return
    (height, width), (rows, columns) = image, mask
    what = f"{path} is {width} x {height} pixels but its mask is {columns} x {rows} pixels"
    if (height, width) == (columns, rows) and orientation(path) >= 5:
        what += (
            ": its EXIF orientation turns it by 90 degrees, and the mask is not turned; turn the mask, or remove the "
            "orientation from the image"
        )
    raise UserError(what)


def orientation(path: Path) -> int:
    """The EXIF orientation of an image file, 1 to 8: 1 is upright, 5 and above swap width and height."""
    try:
        with Image.open(path) as image:
            found = image.getexif().get(0x0112, 1)
    except Exception:  # reported when the image is read
        return 1
    return found if found in range(1, 9) else 1


def _count(names: Sequence[str], what: str) -> str:
    """Such as "5 images (a, b, c, ...)"."""
    return f"{counted(len(names), what)} ({first_few(names, SHOWN)})"
