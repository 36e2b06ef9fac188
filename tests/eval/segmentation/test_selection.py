"""Lists of class names and the classes that they are compared with."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from eval.segmentation.run import build_parser
from eval.segmentation.selection import Selection, select
from pacl.errors import ArgumentError

PLAIN = ["sky", "grass", "dark water"]


def write(path: Path, names: list[str]) -> str:
    path.write_text("\n".join(names) + "\n")
    return str(path)


@pytest.fixture
def custom(tmp_path: Path) -> list[str]:
    """Flags of a benchmark with one image and the classes `PLAIN`."""
    for folder, mode in (("images", "RGB"), ("masks", "RGB")):
        (tmp_path / folder).mkdir()
        Image.new(mode, (8, 8), 0).save(tmp_path / folder / "a.png")
    classes = write(tmp_path / "classes.txt", PLAIN)
    return ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks"), "--classes", classes]


def chosen(flags: list[str], *names: str) -> Selection:
    return select("custom", build_parser().parse_args(["custom", *flags, "--names", *names]))


@pytest.mark.parametrize(
    ("names", "wrong"),
    [
        (["the sky", "a meadow", "a lake"], None),
        (["Sky", "GRASS", "dark_water"], None),
        (["grass=sky", "meadow=grass", "lake=dark water"], None),  # a word of another class, but it says what it means
        (["dark water", "grass", "sky"], "dark water"),
        (["the sky", "Dark_Water", "lawn"], "Dark_Water"),
        (["a lake=dark water", "meadow=grass", "the sky=sky"], "dark water"),
    ],
)
def test_names_in_the_places_of_other_classes_are_refused(tmp_path, custom, names, wrong):
    file = write(tmp_path / "names.txt", names)
    for lists in ([file], [custom[-1], file]):
        if wrong is None:
            assert chosen(custom, *lists).folders[-1].labels[0].name.lower().endswith("sky")
            continue
        with pytest.raises(ArgumentError, match=f'"{wrong}" stands') as error:
            chosen(custom, *lists)
        assert (error.value.argument, error.value.value) == ("names", file)


def test_a_palette_numbers_the_classes_by_the_first_list(tmp_path, custom):
    """So a list alone may have any order, and a further one has that of the first."""
    colours = [f"{name}:{i},{i},{i}" for i, name in enumerate(PLAIN)]
    flags = [*custom, "--palette", write(tmp_path / "palette.txt", colours)]
    file = write(tmp_path / "names.txt", PLAIN[::-1])
    (folder,) = chosen(flags, file).folders
    assert folder[0].mask.max() == PLAIN[::-1].index("sky")
    with pytest.raises(ArgumentError, match="stands"):
        chosen(flags, custom[-1], file)
