"""What the command counts: defects, repeats, lengths, nouns, and what is not used."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pacl.data.inspection import read_items
from pacl.data.sources import Source
from pacl.errors import UserError
from tests.cli.data_check.sources import Check, jpeg
from tests.paths import SHARED


def test_every_defect_is_counted_and_named(check: Check) -> None:
    code, out, report = check("pairs.csv")
    (record,) = report["sources"]
    assert (code, report["fine"]) == (1, False)
    assert (record["images"], record["total"], record["pairs"], record["bad"]) == (8, 8, 7, 4)
    assert (record["missing"], record["unreadable"], record["without_caption"]) == (1, 2, 2)
    assert {(each["image"], each["problem"]) for each in record["problems"]} == {
        ("images/d.jpg", "unreadable"),
        ("images/e.jpg", "missing"),
        ("images/f.jpg", "no caption"),
        ("images/g.jpg", "unreadable"),
        ("images/g.jpg", "no caption"),
    }
    assert record["captions_per_image"] == {"min": 0, "median": 1, "mean": 7 / 8, "max": 2}
    assert record["decoded"] == 5
    assert record["repeated"] == {  # sub/a.jpg of 8; c of the 5 decoded; "a red cat" of 7
        "names": pytest.approx(1 / 8),
        "images": pytest.approx(1 / 5),
        "captions": pytest.approx(1 / 7),
        "pairs": 0,
    }
    for told in ("missing: images/e.jpg does not exist", "images/d.jpg is broken", "images/g.jpg is empty (0 bytes)"):
        assert told in out
    assert "4 of 8 images are bad; " in out
    assert "--max_bad (0.05" in out, "training allows so many"


def test_one_bad_image_is_counted_in_the_singular(check: Check) -> None:
    Path("one.csv").write_text("image,caption\na.jpg,a cat\ne.jpg,missing\n")
    assert "1 of 2 images is bad" in check("one.csv")[1]


def test_what_is_not_used_is_counted(check: Check) -> None:
    Path("spare.csv").write_text("index,image,caption\n0,a.jpg,a cat\n1,a.jpg,a cat\n2,b.jpg,a dog\n")
    Path("only.txt").write_text("a.jpg\na.jpeg\n")
    code, out, report = check("spare.csv", "--only", "only.txt")
    (record,) = report["sources"]
    assert (code, record["images"], record["repeated"]["pairs"]) == (1, 1, 0.5)  # one image cannot train
    assert record["unused"] == {
        "columns (index)": 1,
        "names in only.txt that are no images of it (first: a.jpeg)": 1,
        "images that only.txt does not list": 1,
        "images that no row names": 4,  # c, d, f and g
    }
    assert all(f"{count} {kind}" in out for kind, count in record["unused"].items())


def test_a_folder_with_none_of_the_images_is_one_line_as_in_training(check: Check) -> None:
    Path("holiday").mkdir()
    code, err, _ = check("pairs.csv", "--images", "holiday")
    assert code == 2
    assert "holiday: has none of the 8 images of pairs.csv (first: a.jpg)" in err


def test_out_is_two_other_flags(check: Check) -> None:
    code, err, _ = check("pairs.csv", "--out", "x.png")
    assert code == 2
    assert "--sheet x.png" in err
    assert "--report" in err


def test_a_missing_file_is_compared_with_what_is_there(check: Check) -> None:
    Path("other.csv").write_text("image,caption\na.jpg,a cat\nB.PNG,a dog\n")
    code, _, report = check("other.csv")
    assert code == 1
    assert "images/b.jpg" in report["sources"][0]["problems"][0]["message"]


def test_lengths_sizes_and_words(check: Check) -> None:
    record = check("pairs.csv")[2]["sources"][0]
    assert record["caption_words"] == {"min": 2, "median": 3, "mean": 3, "max": 5}
    assert record["caption_tokens"]["min"] == 4  # "a cow", start and end
    assert record["caption_tokens"]["cut"] == 0
    assert record["width"] == {"min": 40, "median": 40, "mean": 92, "max": 300}
    assert record["height"] == {"min": 30, "median": 30, "mean": 104, "max": 400}
    assert record["aspect"]["min"] == 0.75
    assert record["small"] == {"side": 224, "share": 0.8}
    assert list(record["words"].items())[:3] == [("a", 6), ("red", 2), ("cat", 2)]
    assert record["decoded_per_second"] > 0


def test_captions_longer_than_clip_reads(check: Check) -> None:
    long, longest = " ".join(["dog"] * 75), " ".join(["dog"] * 76)
    Path("long.csv").write_text(f"a.jpg,{long}\nb.jpg,{longest}\n")
    assert check("long.csv")[2]["sources"][0]["caption_tokens"] == {
        "min": 77,
        "median": 77.5,
        "mean": 77.5,
        "max": 78,
        "cut": 0.5,
    }


def test_nouns_are_the_sources_own_where_it_has_them(check: Check) -> None:
    for name in ("garden_gnome", "see"):
        Path("classes", name).mkdir(parents=True)
        Path("classes", name, "1.jpg").write_bytes(jpeg(len(name)))
    _, out, report = check("classes")
    assert report["sources"][0]["nouns"] == {"garden gnome": 1, "see": 1}
    assert "frequent nouns      garden gnome, see" in out


def test_without_a_tagger_nouns_are_left_out(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> tuple[str, ...]:
        raise UserError('pip install "pacl[nouns]"')

    monkeypatch.setattr("pacl.data.nouns.nouns", absent)
    code, out, report = check("fine.csv")
    assert (code, report["sources"][0]["nouns"]) == (0, None)
    assert "nouns" not in out
    monkeypatch.setattr("pacl.data.nouns.nouns", lambda caption: ())
    _, out, report = check("fine.csv")
    assert report["sources"][0]["nouns"] == {}
    assert "frequent nouns" in out  # none, as in another language
    monkeypatch.setattr("pacl.data.nouns.nouns", lambda caption: (caption.split()[-1],))
    assert check("fine.csv")[2]["sources"][0]["nouns"] == {"cat": 2, "mat": 1, "dog": 1}


def test_processes_count_the_same(check: Check) -> None:
    def without_time(report: dict[str, Any]) -> dict[str, Any]:
        del report["sources"][0]["decoded_per_second"]
        return report

    here, elsewhere = check("pairs.csv"), check("pairs.csv", workers="2")
    assert without_time(here[2]) == without_time(elsewhere[2])


def test_shards(check: Check) -> None:
    for number, names in enumerate(("ab", "cd")):
        with tarfile.open(f"{number}.tar", "w") as tar:
            for name in names:
                content = {"b": b"no image"}.get(name, jpeg(ord(name)))
                for suffix, data in (("jpg", content), ("txt", b"" if name == "c" else f"letter {name}".encode())):
                    entry = tarfile.TarInfo(f"{name}.{suffix}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    code, _, report = check("{0..1}.tar")
    (record,) = report["sources"]
    assert code == 1
    assert (record["images"], record["pairs"], record["bad"]) == (4, 3, 2)
    assert [(each["image"], each["problem"]) for each in record["problems"]] == [
        ("0.tar/b", "unreadable"),
        ("1.tar/c", "no caption"),
    ]
    assert record["unused"] == {}
    assert check("{0..1}.tar", "--limit", "1")[0] == 0
    with tarfile.open("two.tar", "w") as tar:
        for name in ("a.jpg", "a.png", "2024.05.01.jpg", "2024.05.02.jpg", "b.heic"):
            tar.addfile(entry := tarfile.TarInfo(name), io.BytesIO())
    _, out, report = check("two.tar")
    unused = report["sources"][0]["unused"]
    assert list(unused.values()) == [1, 2, 1]
    assert all(f"{count} {kind}" in out for kind, count in unused.items())
    assert all(name in out for name in ("a.png", "2024.05.01.jpg", "b.heic"))
    with tarfile.open("none.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("2024.05.01.jpg"))
    code, out, _ = check("none.tar")
    assert code == 1
    assert "no image in any shard" in out
    whole = Path("1.tar").read_bytes()
    Path("1.tar").write_bytes(whole[: len(whole) // 2])
    record = check("{0..1}.tar")[2]["sources"][0]
    assert record["broken_shards"] == 1
    code, err, _ = check("{0..2}.tar")
    assert code == 2
    assert "2.tar" in err


def test_held_out_images_are_looked_at() -> None:
    source = Source("pairs.csv", hold_out=3)
    images, total, _ = read_items(source, source.read())
    assert total == 8
    assert len({image.name for image in images}) == 8


@pytest.mark.skipif(not (SHARED / "data/coco").is_dir(), reason="the samples of COCO are not here")
def test_coco_with_most_images_missing(check: Check) -> None:
    data = SHARED / "data/coco"
    words = [str(data / "annotations/captions_val2017.json"), "--images", str(data / "images/val2017"), "--quick"]
    code, out, report = check(*words)
    (record,) = report["sources"]
    assert (code, record["images"], record["pairs"], record["missing"]) == (1, 5000, 25014, 4975)
    assert len(record["problems"]) == 4975
    assert "and 4,970 more, all in the report" in out
