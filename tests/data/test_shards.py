import bz2
import gzip
import io
import json
import lzma
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pacl.data import shards
from pacl.data.shards import (
    APART,
    DOTTED,
    LINKS,
    NOT_UTF8,
    OTHERS,
    REPEATED,
    UNREAD,
    Unused,
    count_pairs,
    samples,
    shard_urls,
)
from pacl.errors import UserError


def write(path, files):
    """A tar of a mapping of names to contents, or of such pairs."""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items() if isinstance(files, dict) else files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def test_captions_are_found_where_the_usual_tools_write_them(tmp_path):
    path = write(
        tmp_path / "a.tar",
        {
            "0.jpg": b"0",
            "0.json": json.dumps({"caption": "from json", "status": "success"}).encode(),
            "0.txt": "a caf\u00e9\n at  night ".encode(),
            "1.PNG": b"1",
            "1.json": b'{"captions": ["one", " ", "two"], "nouns": [["a one"], ["two", "twos"]]}',
            "2.webp": b"2",
            "2.caption": b"plain",
            "2.json": b"broken {",
            "3.jpeg": b"3",
            "3.json": b'{"text": "a red dog", "nouns": ["dog"]}',
            "sub/4.jpg": b"4",
            "sub/4.json": b'{"caption": 7, "nouns": [1]}',
            "5.seg.png": b"of no use",
        },
    )
    found = list(samples(path))
    assert [sample.name for sample in found] == ["a.tar/0", "a.tar/1", "a.tar/2", "a.tar/3", "a.tar/sub/4"]
    assert [sample.image for sample in found] == [b"0", b"1", b"2", b"3", b"4"]
    assert [sample.captions for sample in found] == [
        ("a caf\u00e9", "at night"),
        ("one", "two"),
        ("plain",),
        ("a red dog",),
        (),
    ]
    assert [sample.nouns for sample in found] == [None, (("a one",), ("two", "twos")), None, (("dog",),), None]
    assert [sample.index for sample in found] == [0, 1, 2, 3, 4]
    assert count_pairs(path) == 5


def test_braces_and_double_colons_name_shards(tmp_path):
    for name in ("0", "1", "x"):
        write(tmp_path / f"{name}.tar", {"k.jpg": b"", "k.txt": name.encode()})
    pattern = f"{tmp_path}/{{0..1}}.tar::file:{tmp_path}/x.tar::pipe:cat {tmp_path}/0.tar"
    assert [(s.shard, s.captions) for s in samples(pattern)] == [(0, ("0",)), (1, ("1",)), (2, ("x",)), (3, ("0",))]


def test_wildcards_and_folders_name_shards(tmp_path):
    for name in ("0.tar", "1.tar", "x/2.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, {"k.jpg": b"", "k.txt": b"a cat"})
    (tmp_path / "0.parquet").touch()
    names = [str(tmp_path / name) for name in ("0.tar", "1.tar", "x/2.tar")]
    assert shard_urls(f"{tmp_path}/*.tar") == names[:2]
    assert shard_urls(f"{tmp_path}/**/*.tar") == shard_urls(str(tmp_path)) == names
    assert shard_urls(f"{tmp_path}/{{0..1}}.tar::{tmp_path}/x/*.tar") == names
    with pytest.raises(UserError, match="no shard"):
        shard_urls(f"{tmp_path}/y*.tar")


def test_what_is_no_caption_is_left_out_of_samples(tmp_path):
    boxes = b"0 0.5 0.5 0.1 0.1\n"
    files = {"1.jpg": b"", "1.txt": b"nan", "2.bmp": b"", "2.txt": boxes, "3.gif": b"", "3.caption.txt": b"a cat"}
    path = write(tmp_path / "0.tar", files | {"3.png": b"", "4.jpg": b"", "4.json": b'{"caption": "NaN"}'})
    assert [sample.captions for sample in samples(path)] == [(), (), ("a cat",), ()]
    assert count_pairs(path) == 4  # 3 has two images


def test_missing_shards_are_one_line(tmp_path):
    write(tmp_path / "0.tar", {})
    with pytest.raises(UserError, match=r"1\.tar: .*2 of the 3 "):
        shard_urls(f"{tmp_path}/{{0..2}}.tar")
    with pytest.raises(UserError, match="pattern"):
        shard_urls("a{0..2.tar")
    with pytest.raises(UserError, match="size"):
        count_pairs("https://example.org/{0..2}.tar")


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    shards.webdataset.cache_clear()
    write(tmp_path / "a.tar", {})
    with pytest.raises(UserError, match="pip install") as error:
        shard_urls(str(tmp_path / "a.tar"))
    assert "pattern" not in str(error.value)
    for missing in ("none", "none/", "none.tar", "none.csv"):
        with pytest.raises(UserError, match="no such file or folder"):
            shard_urls(str(tmp_path / missing))


PADDED = {f"{i}.{suffix}": bytes([i]) * 3000 for i in range(1, 5) for suffix in ("jpg", "txt")}  # 3584 bytes each


@pytest.mark.parametrize(
    ("damage", "whole"),
    [
        (lambda tar: tar[: 6 * 3584 + 900], 3),  # in a image
        (lambda tar: tar[: 4 * 3584] + b"\1" * 512 + tar[4 * 3584 + 512 :], 2),  # a header
        (lambda tar: tar[: 4 * 3584], 2),  # between two samples
        (lambda tar: b"<html>not found</html>" * 100, 0),
        (lambda tar: b"", 0),
    ],
)
def test_of_a_broken_shard_the_samples_before_the_break_are_read(tmp_path, capfd, recwarn, damage, whole):
    path = tmp_path / "0.tar"
    write(path, PADDED)
    path.write_bytes(damage(path.read_bytes()))
    write(tmp_path / "1.tar", {"9.jpg": b"9", "9.txt": b"9"})
    failed = []
    found = [sample.name for sample in samples(f"{tmp_path}/{{0..1}}.tar", failed)]
    assert found == [*(f"0.tar/{i}" for i in range(1, whole + 1)), "1.tar/9"]
    assert len(failed) == 1
    assert failed[0].startswith(f"{path} ends after {whole} images (")
    assert "\n" not in failed[0]
    assert capfd.readouterr() == ("", "")
    assert not recwarn


def test_a_whole_shard_of_any_kind_breaks_nowhere(tmp_path):
    paths = [write(tmp_path / "0.tar", PADDED), str(tmp_path / "1.tar"), str(tmp_path / "2.tar.gz")]
    content = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "1.tar").write_bytes(content[: 8 * 3584 + 1024])  # not padded to a record
    with tarfile.open(paths[2], "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("1.jpg"), io.BytesIO())
    failed = []
    assert len(list(samples("::".join(paths), failed))) == 4 + 4 + 1
    assert not failed


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_of_joined_tars_the_first_is_read_and_the_rest_is_said(tmp_path, suffix):
    joined = tmp_path / f"joined.{suffix}"
    with joined.open("wb") as file:
        for i in range(2):
            with tarfile.open(tmp_path / "one", f"w:{suffix.partition('.')[2]}") as tar:
                tar.addfile(tarfile.TarInfo(f"{i}.jpg"), io.BytesIO())
            file.write((tmp_path / "one").read_bytes())
    failed = []
    assert [sample.name for sample in samples(str(joined), failed)] == [f"joined.{suffix}/0"]
    assert len(failed) == 1
    assert failed[0].startswith(f"{joined} ends after 1 image (")
    assert "truncated" not in failed[0]
    assert count_pairs(str(joined)) == 1


def test_a_tar_in_several_parts_of_gzip_is_read_as_a_whole(tmp_path):
    content = Path(write(tmp_path / "0.tar", PADDED)).read_bytes()
    parts = [gzip.compress(content[start : start + 5000]) for start in range(0, len(content), 5000)]
    (tmp_path / "1.tar.gz").write_bytes(b"".join(parts))
    failed = []
    for url in (f"{tmp_path}/1.tar.gz", f"pipe:cat {tmp_path}/1.tar.gz"):
        assert [sample.image for sample in samples(url, failed)] == [PADDED[f"{i}.jpg"] for i in range(1, 5)]
    assert not failed


def test_of_a_truncated_gzip_all_whole_samples_are_read(tmp_path):
    random = np.random.default_rng(0)
    names = {f"{i}.jpg": random.bytes(3000) for i in range(5)}
    content = gzip.compress(Path(write(tmp_path / "0.tar", names)).read_bytes())
    (tmp_path / "1.tar.gz").write_bytes(content[:10_000])  # three images and a part of the fourth
    failed = []
    assert len(list(samples(f"{tmp_path}/1.tar.gz", failed))) == 3
    assert len(failed) == 1


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, bz2.compress])
def test_of_damaged_compression_the_images_before_the_damage_are_counted(tmp_path, compress):
    random = np.random.default_rng(0)
    names = {f"{i}.jpg": random.bytes(300_000) for i in range(5)}
    content = compress(Path(write(tmp_path / "0.tar", names)).read_bytes())
    middle = len(content) // 2
    (tmp_path / "1.tar.gz").write_bytes(content[:middle] + bytes(50_000) + content[middle + 50_000 :])
    failed = []
    read = len(list(samples(f"{tmp_path}/1.tar.gz", failed)))
    assert len(failed) == 1
    assert read <= count_pairs(f"{tmp_path}/1.tar.gz") < 5


def test_what_cannot_be_opened_is_listed(tmp_path, capfd):
    failed = []
    assert not list(samples("pipe:exit 3::gopher://x/0.tar", failed))
    assert len(failed) == 2
    assert all("ends after 0 images" in line for line in failed)


def test_leaving_a_command_early_is_no_failure(tmp_path):
    path = write(tmp_path / "0.tar", {f"{i}.jpg": bytes(100_000) for i in range(50)})
    failed = []
    stream = samples(f"pipe:cat {path}", failed)
    next(stream)
    stream.close()
    assert not failed


def test_odd_samples_do_not_end_a_shard(tmp_path):
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("1.txt", "2.jpg", "2.jpg", "2.txt", "README", "3.jpg", "3.txt"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    failed, unused = [], Unused()
    assert [sample.name for sample in samples(str(path), failed, unused)] == ["0.tar/2", "0.tar/3"]
    assert failed == ["0.tar/1 has no image that is read"]
    assert unused.first == {REPEATED: "2.jpg", OTHERS: "README"}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 1, 0, 3), (0, 3, 2, 1)])
def test_captions_apart_from_their_image_are_counted(tmp_path, order):
    """As in tars in the order of a folder on disk: captions are not used, but there is an image."""
    files = [("0.json", b'{"caption": "a cat"}'), ("1.jpg", b""), ("0.jpg", b""), ("1.txt", b"a dog")]
    failed, unused = [], Unused()
    path = write(tmp_path / "0.tar", [files[i] for i in order])
    assert [sample.captions for sample in samples(path, failed, unused)] == [(), ()]
    assert failed == []
    assert unused.counts == {APART: 2}
    assert "\n" not in unused.describe(path)


def test_captions_of_a_repeated_image_are_counted(tmp_path):
    files = [("0.jpg", b""), ("1.jpg", b""), ("0.jpg", b""), ("0.txt", b"a cat")]
    failed, unused = [], Unused()
    assert len(list(samples(write(tmp_path / "0.tar", files), failed, unused))) == 2
    assert (failed, unused.counts) == ([], {APART: 1, REPEATED: 1})


def test_an_image_may_be_in_the_part_of_a_shard_that_is_lost(tmp_path):
    path = write(tmp_path / "0.tar", {"0.txt": b"a cat", "1.jpg": bytes(3000), "0.jpg": bytes(3000)})
    Path(path).write_bytes(Path(path).read_bytes()[:6000])
    failed = []
    assert [sample.name for sample in samples(path, failed)] == ["0.tar/1"]
    assert len(failed) == 1
    assert "ends after 1 image" in failed[0]


def used_and_not(path):
    """Names of the samples, and how many files of each kind are in none; `count_pairs` must agree."""
    failed, unused = [], Unused()
    names = [sample.name.partition("/")[2] for sample in samples(path, failed, unused)]
    assert failed == []
    assert count_pairs(path) == len(names) == len(set(names))
    return names, dict(unused.counts)


JPEG = b"\xff\xd8\xff" + bytes(20)


@pytest.mark.parametrize(
    ("names", "used", "unused"),
    [
        (["0.jpg", "2024.05.01.jpg", "v1.5.PNG", "3.jpg"], ["0", "3"], {DOTTED: 2}),
        (["0.jpg", "0.seg.png", "1.seg.png", "1.png"], ["0", "1"], {DOTTED: 2}),
        (["a.b/0.jpg", "a.b/c.d/0.jpg", "./0.jpg"], ["a.b/0", "a.b/c.d/0", "./0"], {}),
        (["0.jpg", "0.png", "0.JPG", "1.jpg", "0.webp"], ["0", "1"], {REPEATED: 3}),
        (["0.jpg", "0.heic", "1.HEIC", "2.dng", "x/y", ".jpeg"], ["0"], {UNREAD: 4}),
        (["0.jpg", ".0.jpg", "._0.jpg", "x/._0.jpg", "__MACOSX/0.jpg", "__meta__"], ["0"], {}),
    ],
)
def test_every_image_that_is_in_no_sample_is_counted(tmp_path, names, used, unused):
    assert used_and_not(write(tmp_path / "0.tar", [(name, JPEG) for name in names])) == (used, unused)


def test_other_fields_of_samples_and_other_files_are_counted(tmp_path):
    names = ["0.cls", "0.jpg", "0.npy", "1.jpg", "README", "stats.csv"]
    assert used_and_not(write(tmp_path / "0.tar", [(name, b"no image") for name in names])) == (["0", "1"], {OTHERS: 4})


def test_links_are_counted(tmp_path):
    """tar stores the second name of a file as a link to the first."""
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("0.jpg", tarfile.REGTYPE), ("1.jpg", tarfile.LNKTYPE), ("2.jpg", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "" if kind == tarfile.REGTYPE else "0.jpg"
            tar.addfile(info)
    assert used_and_not(str(path)) == (["0"], {LINKS: 2})


def test_the_first_file_of_a_kind_is_named_with_its_shard(tmp_path):
    path = write(tmp_path / "0.tar", {"0.jpg": b"", "2024.05.01.jpg": b"", "2024.05.02.jpg": b"", "0.cls": b""})
    unused = Unused()
    list(samples(path, None, unused))
    assert unused.kinds() == {f"{DOTTED} (first: 2024.05.01.jpg)": 2, f"{OTHERS} (first: 0.cls)": 1}
    line = unused.describe(path)
    assert line.startswith(f"{path}: ")
    assert f"2 {DOTTED} (first: 2024.05.01.jpg)" in line
    assert "\n" not in line


def test_captions_in_another_encoding_are_counted(tmp_path):
    """With replaced letters, words would be cut where they were."""
    files = [("0.jpg", b""), ("0.txt", "ein Café".encode("latin-1")), ("1.jpg", b""), ("1.txt", "ein Café".encode())]
    files += [("2.jpg", b""), ("2.txt", "Öl".encode("cp1252")), ("2.json", b'{"caption": "oil"}')]
    failed, unused = [], Unused()
    path = write(tmp_path / "0.tar", files)
    assert [sample.captions for sample in samples(path, failed, unused)] == [(), ("ein Café",), ("oil",)]
    assert (failed, unused.counts, unused.first) == ([], {NOT_UTF8: 2}, {NOT_UTF8: "0.txt"})
