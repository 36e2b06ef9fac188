import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from eval.speed.data import main
from pacl.errors import UserError


@pytest.fixture
def jpeg(tmp_path):
    path = tmp_path / "image.jpg"
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(path)
    return path


def test_one_line_per_operation_for_a_table_and_for_shards(tmp_path, jpeg, capsys):
    (tmp_path / "pairs.csv").write_text("image,caption\nimage.jpg,black\n")
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        tar.add(jpeg, "0.jpg")
    for source in ("pairs.csv", "0.tar"):
        assert main([str(tmp_path / source), "--size", "16", "--seconds", "0"]) == 0
        first, *lines = capsys.readouterr().out.splitlines()
        assert first.startswith("1 images, median 96 x 64")
        assert len(lines) == 5
        assert all(float(line.split()[-1]) > 0 for line in lines)


def test_a_source_without_readable_images(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("0.jpg"), io.BytesIO())
    with pytest.raises(UserError, match=r"0\.tar"):
        main([str(tmp_path / "0.tar")])
