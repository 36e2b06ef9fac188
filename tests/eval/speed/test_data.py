import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from eval.speed.data import main
from pacl.errors import UserError


@pytest.fixture
def jpeg(tmp_path):
    path = tmp_path / "picture.jpg"
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(path)
    return path


def test_every_way_of_a_table_and_of_shards_has_its_line(tmp_path, jpeg, capsys):
    (tmp_path / "pairs.csv").write_text("image,caption\npicture.jpg,black\n")
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        tar.add(jpeg, "0.jpg")
    for source in ("pairs.csv", "0.tar"):
        assert main([str(tmp_path / source), "--size", "16", "--seconds", "0"]) == 0
        first, *lines = capsys.readouterr().out.splitlines()
        assert first.startswith("1 pictures, 96 x 64")
        assert len(lines) == 5
        assert all(float(line.split()[-1]) > 0 for line in lines)


def test_a_source_without_readable_pictures_is_one_line(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("0.jpg"), io.BytesIO())
    with pytest.raises(UserError, match="none of its first"):
        main([str(tmp_path / "0.tar")])
