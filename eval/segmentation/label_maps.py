"""Tables that convert published label values to mask values, for the benchmarks that need a conversion.

A table holds the mask value of every published value. The masks are identical to those of the usual conversion
scripts, so that either may be used:

    COCO-Stuff       stuffthingmaps 0..181, 255 -> NAME_labelTrainIds.png      0..170, 255
    COCO-Object      stuffthingmaps 0..181, 255 -> NAME_instanceTrainIds.png   0..80, 0 everything but the 80 things
    Cityscapes       NAME_gtFine_labelIds.png   -> NAME_gtFine_labelTrainIds.png   0..18, 255
    Pascal Context   NAME.mat, 0..459           -> SegmentationClassContext/NAME.png   0..59, 0 everything else
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np

from pacl.errors import UserError
from pacl.files import read_text

VOID = 255
"""Value of pixels that are not scored, in the converted masks."""

NEVER = -1
"""Table entry of values that the data set does not have."""

COCO_THINGS = 80
COCO_VALUES = 182
COCO_UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
"""Raw values (COCO id - 1) of the eleven classes that COCO names but never labels: street sign, hat, shoe, ..."""

# Class name -> id of Cityscapes' labels, in the order of the train ids 0 to 18.
CITYSCAPES_IDS = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
CITYSCAPES_VALUES = 34

MATRIX, COMPRESSED = 14, 15
ELEMENTS = frozenset((1, 2, 3, 4, 5, 6, 7, 9, 12, 13, MATRIX, COMPRESSED, 16, 17, 18))
"""Types of elements in a MATLAB 5 file."""

# Class name -> id in Pascal Context's labels.txt (459 labels), in the order of the benchmark's classes 1 to 59.
CONTEXT_IDS = {
    name: int(number)
    for number, name in re.findall(
        r"(\d+) (\w+)",
        """
        2 aeroplane, 9 bag, 18 bed, 19 bedclothes, 22 bench, 23 bicycle, 25 bird, 31 boat, 33 book, 34 bottle,
        44 building, 45 bus, 46 cabinet, 59 car, 65 cat, 68 ceiling, 72 chair, 80 cloth, 85 computer, 98 cow,
        104 cup, 105 curtain, 113 dog, 115 door, 144 fence, 158 floor, 159 flower, 162 food, 187 grass, 189 ground,
        207 horse, 220 keyboard, 232 light, 258 motorbike, 259 mountain, 260 mouse, 284 person, 295 plate,
        296 platform, 308 pottedplant, 324 road, 326 rock, 347 sheep, 349 shelves, 354 sidewalk, 355 sign, 360 sky,
        366 snow, 368 sofa, 397 table, 415 track, 416 train, 420 tree, 424 truck, 427 tvmonitor, 440 wall,
        445 water, 454 window, 458 wood
        """,
    )
}
CONTEXT_VALUES = 460


def _coco_stuff() -> np.ndarray:
    table = np.full(256, NEVER, np.int16)
    table[[value for value in range(COCO_VALUES) if value not in COCO_UNUSED]] = np.arange(171)
    table[255] = VOID
    return table


def _coco_object() -> np.ndarray:
    """Stuff and pixels without a label are background, as in GroupViT's and TCL's conversion."""
    stuff = _coco_stuff()
    things = (stuff >= 0) & (stuff < COCO_THINGS)
    return np.where(things, stuff + 1, np.where(stuff == NEVER, NEVER, 0)).astype(np.int16)


def _cityscapes() -> np.ndarray:
    table = np.full(256, NEVER, np.int16)
    table[:CITYSCAPES_VALUES] = VOID
    table[255] = VOID  # id -1, licence plate, as 8 bits
    table[list(CITYSCAPES_IDS.values())] = np.arange(len(CITYSCAPES_IDS))
    return table


def _context() -> np.ndarray:
    table = np.zeros(CONTEXT_VALUES, np.int16)
    table[list(CONTEXT_IDS.values())] = np.arange(1, len(CONTEXT_IDS) + 1)
    return table


COCO_STUFF, COCO_OBJECT, CITYSCAPES, CONTEXT = _coco_stuff(), _coco_object(), _cityscapes(), _context()
"""int16 [V]: mask value of each raw value, or `NEVER`."""


def relabel(raw: np.ndarray, table: np.ndarray, path: str | Path) -> np.ndarray:
    """Convert raw labels, int [H, W], to a mask, uint8 [H, W].

    Args:
        raw: the values of a published label file.
        table: one of the tables of this module.
        path: the file, for error messages.

    Raises:
        UserError: the labels hold a value that the data set does not have.
    """
    known = (raw >= 0) & (raw < len(table))
    mask = np.where(known, table[np.where(known, raw, 0)], NEVER)
    if (wrong := mask == NEVER).any():
        raise UserError(f"{path} holds the value {raw[wrong][0]}, which the data set does not have: other labels?")
    return mask.astype(np.uint8)


def read_context(path: str | Path) -> np.ndarray:
    """Read a label file of Pascal Context, a MATLAB file: ids 0 to 459, int32 [H, W].

    Raises:
        UserError: the file is missing, broken or not a label file; or SciPy is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise UserError('reading MATLAB files needs SciPy: pip install "pacl[eval]"') from None
    try:
        _check_elements(Path(path).read_bytes())
        labels = loadmat(str(path), variable_names=["LabelMap"], appendmat=False)["LabelMap"]
    except KeyError:
        raise UserError(f"{path} has no LabelMap: it is not a label file of Pascal Context") from None
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except Exception as error:  # broken files raise OSError, ValueError, zlib.error, MatReadError, ...
        raise UserError(f"{path} is broken or cannot be read ({error}): unpack it again") from None
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise UserError(f"{path}: its LabelMap is not an image of label ids")
    return labels.astype(np.int32)


def _check_elements(content: bytes) -> None:
    """Refuse a MATLAB 5 file with an element of an unknown type.

    SciPy looks them up unchecked, and a damaged file would end the process. Compressed elements have a checksum.

    Raises:
        ValueError: there is such an element.
    """
    if (order := {b"IM": "<", b"MI": ">"}.get(content[126:128])) is None:
        return
    inner = [(128, len(content))]
    while inner:
        at, end = inner.pop()
        while at + 8 <= min(end, len(content)):
            kind, size = struct.unpack(f"{order}II", content[at : at + 8])
            if kind >> 16:  # a small element: its size, its type, and its content in four bytes
                kind, size = kind & 0xFFFF, 0
            if kind not in ELEMENTS:
                raise ValueError(f"no element has the type {kind}")
            if kind == MATRIX:
                inner.append((at + 8, at + 8 + size))
            at += 8 + size + (-size % 8 if kind != COMPRESSED else 0)


def check_context_names(labels: str | Path) -> None:
    """Compare `CONTEXT_IDS` with the data set's own labels.txt, lines of "ID: name".

    Raises:
        UserError: the file cannot be read, or a class has another id.
    """
    text = read_text(labels, "list of labels")
    found = dict(re.findall(r"^\s*(\d+)\s*:\s*(.+?)\s*$", text, re.MULTILINE))
    for name, number in CONTEXT_IDS.items():
        if (other := found.get(str(number))) != name:
            raise UserError(f'{labels}: id {number} is "{other}", not "{name}": not the 459 labels of Pascal Context?')
