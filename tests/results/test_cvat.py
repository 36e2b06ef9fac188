"""One file of CVAT for a run, completed only where it is as it was written."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from pacl.errors import ArgumentError
from tests.results.drawn import write_run


def test_a_file_with_an_image_twice_is_not_completed(tmp_path: Path) -> None:
    """One of the two would be lost."""
    path = write_run(tmp_path / "out", "cvat", "a.jpg")
    tree = ElementTree.parse(path)
    image = tree.find("image")
    assert image is not None
    tree.getroot().append(image)
    tree.write(path)
    before = path.read_bytes()
    with pytest.raises(ArgumentError) as refused:
        write_run(tmp_path / "out", "cvat", "b.jpg")
    assert refused.value.argument == "out"
    assert path.read_bytes() == before
