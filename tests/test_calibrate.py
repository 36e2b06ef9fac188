"""The command: which photos it looks at, where the head goes, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from pacl.calibrate import main
from pacl.cli.messages import run_verb
from pacl.images import open_image
from pacl.models.card import with_calibration, write_card
from pacl.models.config import CARD, CONFIG
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.segmentation.calibration import calibrate
from tests.colours import noise
from tests.tiny import trained_head

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own with photos/a.png, photos/sub/b.png and photos/sub/c.png."""
    monkeypatch.chdir(tmp_path)
    Path("photos/sub").mkdir(parents=True)
    for seed, name in enumerate(("a", "sub/b", "sub/c")):
        Image.fromarray(noise(40, 56, seed)).save(f"photos/{name}.png")
    Path("photos/notes.txt").write_text("no photo")
    return tmp_path


@pytest.fixture
def head(tiny_clip: str) -> PACL:
    """A head, saved to the folder "head" with a card of its own."""
    model = trained_head(load_model(tiny_clip).clip)
    model.save_pretrained("head", card="# Mine\n\ndrawn by hand: é\n")
    return model


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """(exit code, standard output, standard error)"""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            run_verb("pacl calibrate", lambda: main([*words, "--device", "cpu"]))
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, captured.out, captured.err

    return run


def snapshot(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_head_is_calibrated_in_place_and_keeps_its_card(run: Run, head: PACL) -> None:
    code, out, _ = run("head", "photos")
    assert code == 0
    model = load_model("head")
    expected = calibrate(head, [open_image(path) for path in sorted(Path("photos").rglob("*.png"))])
    assert expected.centre is not None
    assert model.centre is not None
    assert torch.equal(model.centre, expected.centre)
    assert model.config == expected.config
    card = Path("head", CARD).read_text(encoding="utf-8")
    assert card == with_calibration("# Mine\n\ndrawn by hand: é\n", 3, model.config.presence)
    assert out.startswith("head: calibrated on 3 photos")
    assert f"{model.config.presence:.3f}" in out


def test_with_out_the_head_stays_as_it_was_and_the_card_goes_along(run: Run, head: PACL) -> None:
    before = snapshot("head")
    assert run("head", "photos", "--out", "new/place")[0] == 0
    assert snapshot("head") == before
    assert snapshot("new/place").keys() == before.keys()
    assert snapshot("new/place")[CARD].startswith(before[CARD])
    model = load_model("new/place")
    model.save_pretrained("again")
    assert snapshot("again")[CARD] == snapshot("new/place")[CARD] != before[CARD]
    assert model.config.presence > 0
    assert torch.equal(model.embedder.skip.weight, head.embedder.skip.weight)


def test_a_model_by_name_goes_to_out(run: Run, tiny_clip: str) -> None:
    assert run(tiny_clip, "photos", "--out", "out")[0] == 0
    assert load_model("out").config.presence > 0
    Path("out", CARD).write_text("# Written later")
    assert run("out", "photos")[0] == 0
    assert Path("out", CARD).read_text().startswith("# Written later\n")


def test_a_head_that_is_replaced_leaves_no_card(run: Run, head: PACL, tiny_clip: str) -> None:
    assert run(tiny_clip, "photos", "--out", "head", "--overwrite")[0] == 0
    assert not load_model("head").config.trained
    config = load_model("head").config
    assert Path("head", CARD).read_text(encoding="utf-8") == with_calibration(write_card(config), 3, config.presence)


@pytest.mark.parametrize("file", ["training.png", "checkpoints/last.ckpt"])
def test_no_head_goes_beside_files_of_another_training(run: Run, head: PACL, tiny_clip: str, file: str) -> None:
    Path("head", file).parent.mkdir(exist_ok=True)
    Path("head", file).touch()
    before = Path("head", CONFIG).read_bytes()
    code, _, err = run(tiny_clip, "photos", "--out", "head", "--overwrite")
    assert (code, len(err.splitlines()), file in err) == (2, 1, True)
    assert Path("head", CONFIG).read_bytes() == before
    assert run("head", "photos")[0] == 0


@pytest.mark.parametrize("file", ["probe.json", "dual_config.json", "open_clip_config.json"])
def test_no_head_goes_beside_a_model_of_another_kind(run: Run, head: PACL, file: str) -> None:
    Path("other").mkdir()
    Path("other", file).touch()
    code, _, err = run("head", "photos", "--out", "other", "--overwrite")
    assert (code, len(err.splitlines()), file in err) == (2, 1, True)
    assert [path.name for path in Path("other").iterdir()] == [file]


@pytest.mark.parametrize(("few", "warns"), [(2, False), (100, True)])
def test_few_photos_are_warned_of(run: Run, head: PACL, few: int, warns: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacl.calibrate.FEW", few)
    code, _, err = run("head", "photos")
    assert code == 0
    assert ("warning" in err) == warns


@pytest.mark.parametrize("words", [["photos", "--limit", "1"], ["same"]])
def test_photos_that_are_the_same_count_once(
    run: Run, head: PACL, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("same").mkdir()
    for i in range(3):
        Image.open("photos/a.png").save(f"same/{i}.png")
    monkeypatch.setattr("pacl.calibrate.FEW", 2)
    code, _, err = run("head", *words)
    assert code == 0
    assert "warning: 1 distinct photo" in err


def test_another_head_is_replaced_with_overwrite_only(run: Run, head: PACL) -> None:
    assert run("head", "photos", "--out", "new")[0] == 0
    before = snapshot("new")
    code, _, err = run("head", "photos/a.png", "--out", "new")
    assert code == 2
    assert "--overwrite" in err
    assert snapshot("new") == before
    assert run("head", "photos/a.png", "--out", "new", "--overwrite")[0] == 0
    assert snapshot("new") != before


def test_a_readme_of_the_users_own_is_kept(run: Run, head: PACL) -> None:
    Path("new").mkdir()
    Path("new", CARD).write_text("# My project")
    code, _, err = run("head", "photos", "--out", "new", "--overwrite")
    assert (code, len(err.splitlines())) == (2, 1)
    assert [path.name for path in Path("new").iterdir()] == [CARD]
    assert Path("new", CARD).read_text() == "# My project"


@pytest.mark.parametrize("name", ["bundled", "open_clip:ViT-B-16/openai", "nowhere", "folder"])
def test_what_is_no_head_needs_out(run: Run, name: str) -> None:
    Path("folder").mkdir()
    Path("folder", CONFIG).write_text('{"model_type": "clip"}')  # of another library: not to be written over
    code, out, err = run(name, "photos")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert ("--out" if name != "nowhere" else "no such folder") in err
    assert Path("folder", CONFIG).read_text() == '{"model_type": "clip"}'


def test_bad_photos_are_one_line_and_the_head_stays(run: Run, head: PACL) -> None:
    before = snapshot("head")
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/x.png").write_bytes(Path("photos/a.png").read_bytes()[:200])
    for words in (("photos", "nowhere"), ("photos", "empty"), ("broken",), ("photos/notes.txt",)):
        code, out, err = run("head", *words)
        assert (code, out) == (2, ""), words
        assert words[-1] in err
        assert len(err.strip().splitlines()) == 1
    assert snapshot("head") == before


def test_a_broken_photo_among_others_is_skipped(run: Run, head: PACL) -> None:
    assert run("head", "photos", "--out", "without")[0] == 0
    Path("broken").mkdir()
    Path("broken/x.png").write_bytes(Path("photos/a.png").read_bytes()[:200])
    code, _, err = run("head", "photos", "broken", "--out", "with")
    assert code == 0
    assert "broken/x.png" in err
    assert snapshot("with")["model.safetensors"] == snapshot("without")["model.safetensors"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limit", "0"], "--limit 0"),
        (["--limit", "x"], "--limit"),
        (["--device", "cloud"], "--device cloud"),
        (["--devise", "cpu"], "did you mean --device"),
        (["--out", "photos/a.png"], "--out photos/a.png: is a file"),
    ],
)
def test_flags_that_make_no_sense(head: PACL, words: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        run_verb("pacl calibrate", lambda: main(["head", "photos", *words]))
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_told_of_first(run: Run, head: PACL) -> None:
    Path("locked").mkdir(mode=0o500)
    code, _, err = run("head", "photos", "--out", "locked")
    assert code == 2
    assert "--out locked" in err


def test_the_limit_reaches_the_photos(run: Run, head: PACL) -> None:
    code, out, _ = run("head", "photos", "--limit", "2")
    assert code == 0
    assert "calibrated on 2 photos" in out
    expected = calibrate(head, [open_image("photos/a.png"), open_image("photos/sub/b.png")])
    assert load_model("head").config.presence == expected.config.presence


def test_the_verb_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    from pacl.__main__ import VERBS

    assert "calibrate" in VERBS
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for words in ("--out", "--limit", "--device", "MODEL", "PHOTOS"):
        assert words in shown
