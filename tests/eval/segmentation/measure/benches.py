"""Benchmarks of a few images in plain colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eval.segmentation.measure import Bench, Extras, Row
from eval.segmentation.protocol import PUBLISHED, Protocol
from pacl.data.masks import MaskFolder
from pacl.prompts import Label
from pacl.segmentation.query import Query
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import COLOURS, ColourModel


def a_protocol(background_text: bool = True, present: bool = False, **settings: Any) -> Protocol:
    settings = {**PUBLISHED, "templates": "none", **settings}
    return Protocol("mine", SegmenterSettings(**settings), background_text=background_text, present=present)


PLAIN = a_protocol(size=64)
RED, GREEN, BLUE, GREY = (Label(name, (name,)) for name in ("red", "green", "blue", "grey"))


def folder_of(tmp_path: Path, count: int = 5, names: str = "red\ngreen\nblue\n") -> MaskFolder:
    """Pictures of 64 x 64 in patches of 8: the left half red, the right green; picture i has i wrong label rows."""
    for sub in ("images", "masks"):
        (tmp_path / sub).mkdir(exist_ok=True)
    for i in range(count):
        image = np.empty((64, 64, 3), np.uint8)
        image[:, :32], image[:, 32:] = COLOURS["red"], COLOURS["green"]
        mask = np.zeros((64, 64), np.uint8)
        mask[:, 32:] = 1
        mask[:i] = 2  # "blue", which nothing shows
        mask[-1] = 255
        Image.fromarray(image).save(tmp_path / "images" / f"{i:02}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i:02}.png")
    (tmp_path / "names.txt").write_text(names)
    return MaskFolder(str(tmp_path / "images"), str(tmp_path / "masks"), str(tmp_path / "names.txt"))


def ask(labels: list[Label], background: bool, protocol: Protocol) -> Query:
    return Row("pacl", ColourModel(), protocol, labels, background).prepare({}).query.query  # type: ignore[arg-type]


def a_bench(folder: MaskFolder, **extras: bool) -> Bench:
    return Bench(folder, [Row("naclip", ColourModel(), PLAIN, folder.labels, False)], Extras(**extras))
