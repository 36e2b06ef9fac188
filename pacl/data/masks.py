"""Pictures with index masks, the form of every segmentation benchmark: a folder each, and a file of class names.

A mask is a PNG of the picture's size whose values ARE the classes: 8- or 16-bit grey, or palette (whose colours mean
nothing). Line i of the names file, counted from 0, is the value ``i + offset``:

    Pascal VOC with background      names of 21 lines, "background" on top    offset 0, ignore [255]
    Pascal VOC without background   names of 20 lines                         offset 1, ignore [0, 255]
    ADE20K                          names of 150 lines                        offset 1, ignore [0]
    Cityscapes (labelTrainIds)      names of 19 lines                         offset 0, ignore [255]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from pacl.data.lists import read_list
from pacl.errors import UserError
from pacl.images import list_images, open_image
from pacl.prompts import Label, read_classes

IGNORED = -1
"""What pixels that are not scored become, whatever their value in the file; no number of classes reaches it."""

OUTSIDE = -2
"""What values without a name become, on their way to an error."""

SHOWN = 3
"""Names that an error about many files tells."""


@dataclass(frozen=True, eq=False)
class MaskedPicture:
    """One picture of a `MaskFolder`.

    Attributes:
        name: the picture's path below its folder, without its ending; as the lines of ``only``.
        path: the picture.
        mask: int32 [H, W]: the class 0..C-1 of every pixel, or `IGNORED`; for
            ``pacl.metrics.segmentation.count_areas``.
    """

    name: str
    path: Path
    mask: np.ndarray

    def picture(self) -> np.ndarray:
        """The picture, RGB uint8 [H, W, 3].

        Raises:
            UserError: it cannot be read, or is not of its mask's size.
        """
        picture = open_image(self.path)
        if picture.shape[:2] != self.mask.shape:
            (height, width), (rows, columns) = picture.shape[:2], self.mask.shape
            raise UserError(f"{self.path} is {width} x {height} pixels but its mask {columns} x {rows}: not its mask?")
        return picture


@dataclass(frozen=True)
class MaskFolder:
    """Pictures with index masks. A sequence of `MaskedPicture`; the disk is first read when it is used.

    Attributes:
        images: folder of the pictures; those in folders below it count too.
        masks: folder of the masks, index PNGs; "x/y.jpg" below ``images`` has its mask at "x/y.png" here.
        names: file with a class a line, synonyms after semicolons; line i (from 0) is the mask value i + offset.
        only: file with the pictures to use, a line each: their paths below ``images`` without the ending (such as
            VOC's ImageSets/Segmentation/val.txt); null takes all.
        ignore: mask values of pixels that are not scored; they need no name, and win over one.
        offset: mask value of the first name: 1 where 0 stands for unlabelled pixels.
        limit: use the first so many pictures only; null takes all.
        image_ending: how the pictures' file names end; null takes all pictures and any suffix. Cityscapes needs
            "_leftImg8bit.png".
        mask_ending: what stands in its place in the masks' names. Cityscapes needs "_gtFine_labelTrainIds.png".
        partial: leave out pictures that ``only`` lists but are not there, and those without a mask; else they are an
            error. For a part of a data set.
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

    @cached_property
    def labels(self) -> list[Label]:
        """The C classes, in the order of the names file."""
        return read_classes(self.names, shared_prompts=True)  # whoever asks a model decides what a tie means

    @cached_property
    def files(self) -> list[tuple[str, Path, Path]]:
        """Name, picture and mask of every item: in the order of ``only``, else sorted.

        Raises:
            UserError: a folder or file is missing, a picture or mask of the list is, or two pictures share a mask.
        """
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit {self.limit}: use 1 picture or more, or null for all")
        if not Path(self.masks).is_dir():
            raise UserError(f"{self.masks} is not a folder: the masks of {self.images} belong there")
        pictures = self._pictures()
        names = list(pictures) if self.only is None else read_list(self.only)
        if self.partial:
            names = [name for name in names if name in pictures and self._mask(name).is_file()]
            if not names:
                raise UserError(f"{self.masks} has no mask of a picture in {self.images}")
        if missing := [name for name in names if name not in pictures]:
            raise UserError(f"{self.images} lacks {_some(missing, 'picture')} that {self.only} lists")
        files = [(name, pictures[name], self._mask(name)) for name in names[: self.limit]]
        if missing := [mask.relative_to(self.masks).as_posix() for _, _, mask in files if not mask.is_file()]:
            raise UserError(
                f"{self.masks} lacks {_some(missing, 'mask')} of pictures in {self.images}; "
                "to go on with the others, set partial"
            )
        return files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> MaskedPicture:
        """`read` an item."""
        return self.read(*self.files[index])

    def read(self, name: str, path: Path, file: Path) -> MaskedPicture:
        """Read the mask of one of `files` (not the image).

        Raises:
            UserError: the mask cannot be read, is no index PNG, or has a value that is neither a class nor ignored.
        """
        values = read_mask(file)
        mask = self._classes[values]  # [H, W]
        if (outside := mask == OUTSIDE).any():
            last = self.offset + len(self.labels) - 1
            raise UserError(
                f"{file} holds the value {values[outside][0]}, but {self.names} names {self.offset} to {last}: "
                "add it to the names or to ignore, or change offset"
            )
        return MaskedPicture(name, path, mask)

    @cached_property
    def _classes(self) -> np.ndarray:
        """The class, `IGNORED` or `OUTSIDE`, of each of the 65,536 values that a mask may hold."""
        if self.offset < 0 or not all(0 <= value < 2**16 for value in self.ignore):
            raise UserError(f"offset {self.offset}, ignore {list(self.ignore)}: mask values are between 0 and 65535")
        classes = np.full(2**16, OUTSIDE, np.int32)
        named = classes[self.offset :][: len(self.labels)]
        named[:] = np.arange(len(named))
        classes[list(self.ignore)] = IGNORED
        return classes

    def _mask(self, name: str) -> Path:
        return Path(self.masks, name + self.mask_ending)

    def _pictures(self) -> dict[str, Path]:
        """Name -> path of all pictures in the folder."""
        found: dict[str, Path] = {}
        for path in list_images(self.images, recursive=True):
            ending = path.suffix if self.image_ending is None else self.image_ending
            if path.name.endswith(ending):
                name = path.relative_to(self.images).as_posix()[: -len(ending)]
                if name in found:
                    raise UserError(f"{found[name]} and {path} would have the same mask: say image_ending")
                found[name] = path
        if not found:
            raise UserError(f'{self.images} has no pictures that end in "{self.image_ending}"')
        return found


def read_mask(path: str | Path) -> np.ndarray:
    """The values of an index PNG as they are stored: int [H, W], 0 to 65535.

    Raises:
        UserError: It is missing, broken, no PNG, or one of colours rather than of indices.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            # Pillow spreads 2 and 4 bits of grey over 0..255, as one would look at them; a class is the value itself.
            step = {"L;2": 85, "L;4": 17}.get(str(image.tile[0][3]), 1)
            if image.mode not in ("1", "L", "P", "I;16", "I"):
                raise UserError(
                    f"{path} is a picture in colours ({image.mode}): a mask holds class indices, one a pixel"
                )
            return np.asarray(image).astype(np.int32) // step
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except Image.UnidentifiedImageError:
        raise UserError(f"{path} is not a PNG file: other formats lose or recolour class indices") from None
    except Exception as error:  # decoders answer broken bytes with OSError, SyntaxError, struct.error, ...
        raise UserError(f"{path} is broken or cannot be read ({error}): save or download it again") from None


def _some(names: Sequence[str], what: str) -> str:
    """As "5 pictures (a, b, c, ...)"."""
    more = ", ..." if len(names) > SHOWN else ""
    return f"{len(names)} {what}{'s' * (len(names) > 1)} ({', '.join(names[:SHOWN])}{more})"
