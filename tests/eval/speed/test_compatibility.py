import pytest

from eval.speed import compatibility
from pacl.errors import ArgumentError


def test_one_line_per_size_and_implementation(capsys, monkeypatch):
    monkeypatch.setattr(compatibility, "CPU_SIZES", [(2, 3, 4, 8), (3, 2, 5, 8)])
    assert compatibility.main(["--device", "cpu", "--runs", "1"]) == 0
    _, _, *lines = (line.split() for line in capsys.readouterr().out.splitlines())
    assert [line[:5] for line in lines] == [
        [*size, impl] for size in ("2348", "3258") for impl in ("reference", "chunked")
    ]
    assert all(float(line[5]) > 0 for line in lines)


@pytest.mark.parametrize(("argument", "value"), [("runs", 0), ("temperature", 0.0)])
def test_wrong_arguments(argument, value):
    with pytest.raises(ArgumentError) as error:
        compatibility.main([f"--{argument}", str(value)])
    assert (error.value.argument, error.value.value) == (argument, value)
