"""Training curves are read from the logs of runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import eval.common.charts as charts
from eval.report.curve import find_logs, main, read_run
from pacl.errors import ArgumentError, UserError

HEAD = "accuracy,loss,step,val_recall,val_recall_chance\n"
LOG = HEAD + ",,0,0.25,0.1\n0.5,4.0,0,,\n0.5,3.5,2,,\n,,3,0.5,\n0.75,2.0,4,,\n"  # steps as Lightning logs them


@pytest.fixture
def run(tmp_path):
    """A run's folder with one log."""
    folder = tmp_path / "run"
    (folder / "logs" / "version_0").mkdir(parents=True)
    (folder / "logs" / "version_0" / "metrics.csv").write_text(LOG)
    return folder


def test_each_value_is_read_with_its_step(run):
    loss, recall, chance = read_run(find_logs(run))
    assert loss == ([1, 3, 5], [4.0, 3.5, 2.0])
    assert recall == ([0, 4], [0.25, 0.5])
    assert chance == 0.1


def test_the_newest_log_has_the_highest_number(run):
    for version in ("version_2", "version_10", "version_x"):
        shutil.copytree(run / "logs" / "version_0", run / "logs" / version)
    newest = run / "logs" / "version_10" / "metrics.csv"
    assert find_logs(run)[0] == newest
    assert find_logs(newest) == [newest]


def test_the_curve_of_a_resumed_run_begins_at_the_first_step(run):
    for number, log in enumerate((",7.0,0,,\n,6.0,4,,\n", "", ",5.0,6,,\n,,7,0.6,\n"), 1):
        (run / "logs" / f"version_{number}").mkdir()
        (run / "logs" / f"version_{number}" / "metrics.csv").write_text(HEAD + log)
    shutil.copytree(run / "logs" / "version_0", run / "logs" / "version_2", dirs_exist_ok=True)
    loss, recall, chance = read_run(find_logs(run))  # 1 was replaced by 2, and 3 went on with that
    assert loss == ([1, 3, 5, 7], [4.0, 3.5, 2.0, 5.0])
    assert recall == ([0, 4, 8], [0.25, 0.5, 0.6])
    assert chance == 0.1
    early = run / "logs" / "version_4"
    early.mkdir()
    (early / "metrics.csv").write_text(HEAD + ",1.0,3,,\n,,5,0.7,\n")  # from a checkpoint before that
    loss, recall, _ = read_run(find_logs(run))
    assert loss == ([1, 3, 4], [4.0, 3.5, 1.0])
    assert recall == ([0, 4, 6], [0.25, 0.5, 0.7])


@pytest.mark.parametrize(
    ("begun", "steps"),
    [
        ("null", [3, 6]),
        ("elsewhere/checkpoints/last.ckpt", [3, 6]),
        ("last", [1, 3, 6]),
        ("run/checkpoints/best.ckpt", [1, 3, 6]),
        ("its/former/place/checkpoints/last.ckpt", [1, 3, 6]),
    ],
)
def test_a_replaced_run_is_not_in_the_curve(run, begun, steps, monkeypatch):
    """Without validation no log begins at step 0, and of several intervals between values none tells."""
    monkeypatch.chdir(run.parent)
    Path("elsewhere/checkpoints").mkdir(parents=True)
    Path("elsewhere/checkpoints/last.ckpt").touch()
    for number, (given, log) in enumerate(
        [("null", ",4.0,0,,\n,3.9,3,,\n"), (begun, ",5.0,2,,\n"), ("last", ",3.0,5,,\n")]
    ):
        version = run / "logs" / f"version_{number}"
        version.mkdir(exist_ok=True)
        (version / "metrics.csv").write_text(HEAD + log)
        (version / "config.yaml").write_text(f"ckpt_path: {given}\n")
    assert read_run(find_logs(run))[0].steps == steps
    (run / "logs" / "version_1" / "metrics.csv").unlink()  # killed before it wrote its log
    assert (1 in read_run(find_logs(run))[0].steps) == (1 in steps)


def test_loss_and_recall_have_their_own_axes(run, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="charts need pacl[eval]")
    caught, save = [], charts._save
    monkeypatch.setattr(charts, "_save", lambda figure, path: (caught.append(figure), save(figure, path)))
    out = tmp_path / "new" / "curve.png"
    assert main([str(run), "--out", str(out), "--title", "costs $5"]) == 0
    left, right = caught[0].axes
    np.testing.assert_allclose(left.lines[0].get_xydata(), [[1, 4], [3, 3.5], [5, 2]])
    np.testing.assert_allclose(right.lines[0].get_xydata(), [[0, 25], [4, 50]])
    assert list(right.lines[1].get_ydata()) == [10, 10]  # by chance
    assert all(float(tick).is_integer() for tick in left.get_xticks())
    assert right.get_ylim()[0] == 0
    assert caught[0].texts[0].get_text() == r"costs \$5"
    with Image.open(out) as picture:
        assert min(picture.size) > 300
    assert out.stat().st_size < 100_000


def test_a_run_without_validation_has_one_curve(run, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="charts need pacl[eval]")
    caught = []
    monkeypatch.setattr(charts, "_save", lambda figure, path: caught.append(figure))
    log = tmp_path / "metrics.csv"
    log.write_text("loss,step\n4.0,1\n3.0,2\n")
    assert main([str(log), "--out", str(tmp_path / "curve.png")]) == 0
    assert len(caught[0].axes) == 1


@pytest.mark.parametrize(
    "content",
    [
        HEAD,
        HEAD + "0.5,nan,1,\n",
        HEAD + "0.5,many,1,\n",
        "loss\n1.0\n",
        "image,caption\na.jpg,a dog\n",
        b"\xff\xfe\x00",
    ],
)
def test_files_that_are_not_logs_are_named(run, tmp_path, content):
    log = run / "logs" / "version_0" / "metrics.csv"
    log.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"version_0/metrics\.csv"):
        main([str(run), "--out", str(tmp_path / "curve.png")])
    assert not (tmp_path / "curve.png").exists()


def test_a_folder_without_logs_is_named(tmp_path):
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        find_logs(tmp_path)


def test_a_chart_replaces_charts_alone(run, tmp_path):
    log = find_logs(run)[0]
    photo = tmp_path / "photo.png"
    Image.new("RGB", (4, 4)).save(photo)
    for path in (log, photo):
        before = path.read_bytes()
        with pytest.raises(ArgumentError):
            main([str(run), "--out", str(path)])
        assert path.read_bytes() == before
    for _ in range(2):
        assert main([str(run), "--out", str(tmp_path / "curve.png")]) == 0
