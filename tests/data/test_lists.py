import pytest

from pacl.data.readers import read_list
from pacl.errors import UserError


def test_a_list_of_names(tmp_path):
    path = tmp_path / "only.txt"
    path.write_text("\ufeffa.jpg\n\n b.jpg \na.jpg\n", encoding="utf-8", newline="\r\n")
    assert read_list(path) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff", "not a text file"), (b"\n \n", "is empty"), (None, "cannot be read .*should list pictures")],
)
def test_what_is_no_list_is_one_line(tmp_path, content, message):
    path = tmp_path / "only.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"only.txt .*{message}"):
        read_list(path)
