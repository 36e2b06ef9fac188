import pytest

from eval.speed.retrieval import main
from pacl.errors import ArgumentError


def test_one_line_per_method(tmp_path, capsys):
    assert (
        main(
            [
                "--device",
                "cpu",
                "--images",
                "9",
                "--patches",
                "4",
                "--dim",
                "8",
                "--first_stage",
                "3",
                "--scratch",
                str(tmp_path),
            ]
        )
        == 0
    )
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("9 images x 45 captions, 4 patches of 8 dimensions, cpu")
    assert [line.partition(":")[0] for line in lines] == ["pooled then phi", "phi"]
    assert not list(tmp_path.iterdir())
    assert main(["--device", "cpu", "--images", "3", "--patches", "2", "--dim", "4", "--skip_phi"]) == 0
    assert "\nphi:" not in capsys.readouterr().out


def test_wrong_arguments():
    with pytest.raises(ArgumentError) as error:
        main(["--images", "0"])
    assert (error.value.argument, error.value.value) == ("images", 0)
