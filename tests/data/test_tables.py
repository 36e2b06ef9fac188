import gzip
import json
import sys
from types import SimpleNamespace

import pytest

from pacl.data.tables import read_rows
from pacl.errors import UserError

ROWS = [["image", "caption"], ["a.jpg", 'a cät, "red"'], ["b.jpg", "x"]]
COMMAS = 'image,caption\na.jpg,"a cät, ""red"""\nb.jpg,x\n'
RECORDS = [dict(zip(ROWS[0], row, strict=True)) for row in ROWS[1:]]
TABS = 'image\tcaption\na.jpg\t"a cät, ""red"""\n"b.jpg"\tx\n'


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(COMMAS.encode(), id="commas"),
        pytest.param(COMMAS.encode("utf-8-sig"), id="byte order mark"),
        pytest.param(TABS.encode("utf-16"), id="Excel's Unicode text"),
        pytest.param(b"\xfe\xff" + TABS.encode("utf-16-be"), id="UTF-16, big endian"),
        pytest.param(("sep=;\r\n" + COMMAS.replace("e,c", "e;c").replace("g,", "g;")).encode(), id="Excel's sep="),
        pytest.param(gzip.compress(COMMAS.encode()), id="gzip"),
        pytest.param("\n".join(map(json.dumps, RECORDS)).encode(), id="JSON lines"),
        pytest.param(json.dumps(RECORDS, indent=1).encode(), id="a JSON list"),
    ],
)
def test_all_ways_to_write_a_table(tmp_path, content):
    path = tmp_path / "table"
    path.write_bytes(content)
    assert read_rows(path) == ROWS


@pytest.mark.parametrize(
    "content",
    [b"\x1f\x8b\x08\x00" + b"\xff" * 200, gzip.compress(COMMAS.encode())[:-20]],
    ids=["no gzip", "cut short"],
)
def test_damaged_gzip_is_an_error_of_the_user(tmp_path, content):
    (tmp_path / "table.csv.gz").write_bytes(content)
    with pytest.raises(UserError, match="table"):
        read_rows(tmp_path / "table.csv.gz")


def test_fields_that_are_missing_are_empty(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"image": "a.jpg"}\n\n{"caption": ["x"], "image": "b.jpg"}\n')
    assert read_rows(path) == [["image", "caption"], ["a.jpg", ""], ["b.jpg", ["x"]]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04" + bytes(60), "Excel.* CSV"),
        (b"\xd0\xcf\x11\xe0" + bytes(60), "Excel.* CSV"),
        (COMMAS.encode("utf-16-le"), "binary"),
        pytest.param(gzip.compress(COMMAS.encode())[:-9], "cannot be read", id="a cut gzip"),  # it holds the time
        (b'{"image": "a.jpg", "caption": "x"}\n{"image"\n', "line 2"),
        (b'[{"image": "a.jpg"},\n{]', "line 2"),
        (b'{"image": "a.jpg", "caption": "x"}\n3\n', "objects"),
        (b'[{"a":' + b"[" * 100_000, "nested"),
        (b"[{}]", "two columns"),
        (b"# by hand\nimage,caption\na.jpg,a cat", "comment"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, content, message):
    path = tmp_path / "table"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_rows(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_parquet_if_pyarrow_is_there(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1" + bytes(60))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match="pyarrow"):
        read_rows(path)
    columns = SimpleNamespace(to_pydict=lambda: {"image": ["a.jpg", "b.jpg"], "caption": ["x", None]})
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", SimpleNamespace(read_table=lambda file: columns))
    assert read_rows(path) == [["image", "caption"], ["a.jpg", "x"], ["b.jpg", None]]


@pytest.mark.parametrize("start", ["[", ""])
def test_a_number_without_end_is_an_error_of_the_user(start, tmp_path):
    (tmp_path / "table.jsonl").write_text(start + '{"image": ' + "9" * 5000 + "}")
    with pytest.raises(UserError, match="table"):
        read_rows(tmp_path / "table.jsonl")
