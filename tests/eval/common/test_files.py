from __future__ import annotations

from eval.common.files import count_equal, file_digests, own_data


def test_equal_files_are_counted_once_each(tmp_path):
    for name, content in (("a", "1"), ("b", "1"), ("c", "2"), ("d", "1"), ("e", "10")):
        (tmp_path / name).write_text(content)
    assert count_equal([*tmp_path.iterdir(), tmp_path / "missing"]) == 3


def test_settings_that_are_files_are_known_by_their_content(tmp_path):
    for name, content in (("a.txt", "x"), ("b.txt", "x"), ("c.txt", "y")):
        (tmp_path / name).write_text(content)
    found = [file_digests(names=tmp_path / name, templates="none", name=None) for name in ("a.txt", "b.txt", "c.txt")]
    assert [list(each) for each in found] == [["names_sha256"]] * 3
    assert found[0] == found[1] != found[2]


def test_data_of_ones_own_have_a_name_of_any_bytes():
    assert own_data("mine", "0123456789") == "mine 01234567"
    own_data("caf\udce9", "0123456789").encode()
