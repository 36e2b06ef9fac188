import pytest

from eval.speed.retrieval import main
from pacl.errors import UserError


def test_both_ways_have_their_line(tmp_path, capsys):
    assert (
        main(["--images", "9", "--patches", "4", "--dim", "8", "--first_stage", "3", "--scratch", str(tmp_path)]) == 0
    )
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("9 pictures x 45 captions, 4 patches of 8 dimensions, cpu")
    assert [line.partition(":")[0] for line in lines] == ["pooled then phi", "phi"]
    assert not list(tmp_path.iterdir())
    assert main(["--images", "3", "--patches", "2", "--dim", "4", "--skip_phi"]) == 0
    assert "\nphi:" not in capsys.readouterr().out


def test_nonsense_is_one_line():
    with pytest.raises(UserError, match="--images 0: 1 or more"):
        main(["--images", "0"])
