"""Which files of a folder are images, and which only look like them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pacl.errors import UserError
from pacl.image_folders import IMAGE_SUFFIXES, UNREAD_SUFFIXES, list_images, search_folder, starts_like_an_image
from pacl.images import open_image
from pacl.video.containers import is_video


def test_list_images(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "c.txt", ".hidden.jpg", "sub/d.webp", ".git/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.name for p in list_images(tmp_path)] == ["a.PNG", "b.jpg"]
    assert [p.name for p in list_images(tmp_path, recursive=True)] == ["a.PNG", "b.jpg", "d.webp"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.jpg").touch()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real/up").symlink_to("..")
    found = list_images(tmp_path, recursive=True)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["link/a.jpg", "real/a.jpg"]


def test_links_that_lead_nowhere_are_named_by_who_reads_them(tmp_path: Path) -> None:
    for name, target in (("gone.jpg", "moved.jpg"), ("loop.jpg", "loop.jpg"), ("loop", "loop"), ("gone.txt", "x")):
        (tmp_path / name).symlink_to(target)
    found = search_folder(tmp_path, recursive=True)
    assert [path.name for path in found.images] == ["gone.jpg", "loop.jpg"]
    assert found.unread == []
    for path in found.images:
        with pytest.raises(UserError, match=path.name):
            open_image(path)


def test_images_that_are_not_read_are_found(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.HEIC", "c.CR2", "notes.txt", "table.csv", ".d.heic"):
        (tmp_path / name).write_bytes(b"text")
    (tmp_path / "photo").write_bytes(b"\xff\xd8\xff\xe0")  # JPEG without a suffix
    (tmp_path / "x.download").write_bytes(b"RIFF1234WEBPVP8 ")
    found = search_folder(tmp_path)
    assert [path.name for path in found.images] == ["a.jpg"]
    assert [path.name for path in found.unread] == ["b.HEIC", "c.CR2", "photo", "x.download"]
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(UserError, match=r"b\.HEIC, c\.CR2"):
        list_images(tmp_path)


def test_every_suffix_of_pillows_image_formats_is_an_image() -> None:
    """Those that it lists but are no images of things: video, pages, grids of science, textures of games."""
    others = {"MPEG", "FLI", "PDF", "PALM", "GRIB", "BUFR", "HDF5", "FITS", "WMF", "IPTC", "MSP", "FTEX", "BLP", "GBR"}
    others |= {"IM", "PIXAR", "PCD", "SUN", "XBM", "XPM", "DCX"}
    Image.init()
    names = {suffix for suffix, kind in Image.EXTENSION.items() if kind not in others}
    assert names - {".ps", ".bw", ".rgb", ".rgba"} <= IMAGE_SUFFIXES | UNREAD_SUFFIXES
    assert not IMAGE_SUFFIXES & UNREAD_SUFFIXES


def test_list_images_errors(tmp_path: Path) -> None:
    (tmp_path / "only.txt").touch()
    for path, word in (
        (tmp_path, "no images"),
        (tmp_path / "no", "does not exist"),
        (tmp_path / "only.txt", "not"),
    ):
        with pytest.raises(UserError, match=word):
            list_images(path)


def test_suffixes_are_lower_case() -> None:
    assert {".jpg", ".png", ".webp", ".tiff"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)


@pytest.mark.parametrize("brand", [b"avif", b"avis", b"heic", b"isom"])
def test_a_file_in_the_container_of_mp4_is_an_image_or_a_video(tmp_path: Path, brand: bytes) -> None:
    start = b"\x00\x00\x00\x1cftyp" + brand
    (tmp_path / "unnamed").write_bytes(start)
    assert starts_like_an_image(start) is (brand != b"isom")
    assert is_video(tmp_path / "unnamed") is (brand == b"isom")
