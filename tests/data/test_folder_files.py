"""The walk through a folder that readers of folders share."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pacl.data.folder_files import files_below
from pacl.data.masks import MaskFolder
from pacl.data.readers import read_table
from pacl.data.shards import shards_below
from pacl.data.sources import Source
from pacl.errors import ArgumentError, UserError


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder whose only folder is a link to another one."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    return tmp_path / "data"


def test_links_to_folders_are_followed_and_loops_and_hidden_files_are_not(linked: Path) -> None:
    for name in ("b.txt", ".hidden", "more/c.txt"):
        (linked / name).touch()
    (linked / "more" / "up").symlink_to(linked, target_is_directory=True)
    assert list(files_below(linked)) == ["b.txt", "more/c.txt"]


def test_a_folder_that_cannot_be_listed_is_an_error_or_left_out(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        list(files_below(tmp_path / "none"))
    assert list(files_below(tmp_path / "none", skip_unreadable=True)) == []


def test_shards_behind_a_linked_folder_are_found(linked: Path) -> None:
    for name in ("0.tar", ".1.tar"):
        (linked / "more" / name).touch()
    assert Source(str(linked)).kind == "shards"
    assert shards_below(linked) == [linked / "more" / "0.tar"]


def test_images_without_suffix_behind_a_linked_folder_are_found(linked: Path) -> None:
    Image.new("L", (4, 3)).save(linked / "more" / "1.png")
    (linked / "pairs.csv").write_text("image,caption\n1,a cat\n")
    pairs = read_table(linked / "pairs.csv")
    assert [pairs.name(i) for i in range(len(pairs))] == [str(linked / "more" / "1.png")]


def test_masks_behind_a_linked_folder_are_seen(linked: Path) -> None:
    (linked.parent / "names.txt").write_text("sky\nball\n")
    images = linked.parent / "images" / "more"
    images.mkdir(parents=True)
    Image.new("L", (4, 3)).save(images / "1.png")
    Image.new("L", (4, 3)).save(linked / "more" / "1_mask.png")
    masks = MaskFolder(str(images.parent), str(linked), str(linked.parent / "names.txt"))
    with pytest.raises(ArgumentError) as error:
        len(masks)
    assert error.value.argument == "mask_ending"
    assert masks.orphans() == ["more/1_mask.png"]
