"""Files that pacl writes and reads again, for `tests.fuzz`: data sets of a run, results, kept tokens, towers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from eval.common.folders import start_run
from eval.common.result import read_results, write_results
from eval.report.reproduce import compare as reproduced
from eval.report.run import page
from eval.report.run import read_results as report_results
from eval.segmentation.compare import compare
from eval.segmentation.counts import Counts
from eval.speed.measure import Row
from eval.speed.report import markdown, write_tables
from eval.speed.report import read as read_speed
from pacl.data.folders import read_caption_files, read_folders, read_metadata
from pacl.data.masks import MaskFolder
from pacl.data.token_stamp import Stamp
from pacl.data.token_store import TokenStore
from pacl.models.distillation import read_texts
from pacl.models.loading import load_model
from pacl.results.formats import FORMATS
from pacl.results.writer import Writer
from tests.eval.results import a_result, classified
from tests.results.drawn import LABELS, result, write_run

Reader = Callable[[Path], Any]
Files = dict[str, list[tuple[Path, Reader]]]


def own_examples(folder: Path) -> Files:
    """Valid files and what reads them, by kind."""
    return {
        **data_sets(folder / "run"),
        **evaluations(folder / "eval"),
        **tokens(folder / "tokens"),
        **captions(folder / "captions"),
        **towers(folder / "towers"),
    }


def in_place_of(path: Path, folder: Path, read: Reader) -> Reader:
    """Read a copy of a folder in which the damaged file stands for one of its own."""

    def reader(damaged: Path) -> None:
        copy = folder.with_name(f"{folder.name}-damaged")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        shutil.copy(damaged, copy / path.relative_to(folder))
        read(copy)

    return reader


def data_sets(out: Path) -> Files:
    """The file of each data set, which the next run completes; and masks that are compared with others."""

    def further(key: str) -> Reader:
        def run(folder: Path) -> None:
            writer = Writer(folder, (key,), {"name": "tiny"})
            writer.start(LABELS, {"a": "a.png"})
            pixels = np.zeros((20, 30, 3), np.uint8)
            writer.write("a", out / "photos/a.png", pixels, result(), "a.png")
            writer.finish()

        return run

    files = []
    for key, each in FORMATS.items():
        if each.dataset:
            path = write_run(out / key, key, "a.png", "b.png")
            files.append((path, in_place_of(path, out / key, further(key))))
    (out / "classes.txt").write_text("\n".join(LABELS))
    mask, masks = out / "mmseg/mmseg/ann_dir/a.png", out / "masks"
    shutil.copytree(mask.parent, masks)
    truth = MaskFolder(str(out / "photos"), str(masks), str(out / "classes.txt"))

    def prediction(damaged: Path) -> None:
        predicted = out / "predicted"
        shutil.copytree(masks, predicted, dirs_exist_ok=True)
        shutil.copy(damaged, predicted / "a.png")
        compare(truth, str(predicted))

    return {"data set": files, "prediction": [(masks / "a.png", prediction)]}


def evaluations(folder: Path) -> Files:
    """What the commands of ``eval`` keep, and the reports read."""
    folder.mkdir()
    write_results(folder, [a_result(intervals={"miou": [40.0, 42.0]}), classified()])

    def report(path: Path) -> None:
        found = report_results(path)
        page(found).encode()
        write_results(folder / "again", found)
        read_results(folder / "again")
        list(map(reproduced, found))

    settings = {"rows": [{"protocol": {"size": 336}}], "images": 3}
    start_run(folder / "run", settings, overwrite=False)

    def run(path: Path) -> None:
        parts = folder / "runs/parts"
        parts.mkdir(parents=True, exist_ok=True)
        (parts / "0.npz").touch()
        shutil.copy(path, folder / "runs/run.json")
        start_run(folder / "runs", settings, overwrite=False)

    one = np.zeros(1, np.int64)
    areas, confusion = np.zeros((2, 1, 3, 2), np.int64), np.zeros((1, 2, 2), np.int64)
    Counts(np.array(["x"]), np.arange(2), areas, confusion, one, one, one).save(folder / "0.npz")

    def speed(path: Path) -> None:
        markdown(*read_speed(path))

    row = Row("phi", "B", "PACL", "fp32", {"B": 64.0}, [1.5, 1.7], 3.0)
    write_tables(folder, [row], {"date": "2030-01-02", "device": "cpu", "runs": 2, "quick": False})
    return {
        "results": [(folder / "results.json", report)],
        "run": [(folder / "run/run.json", run)],
        "counts": [(folder / "0.npz", Counts.load)],
        "speed": [(folder / "speed.json", speed)],
    }


def tokens(folder: Path) -> Files:
    """A store of kept tokens."""
    stamp = Stamp(
        backbone="bundled", weights="0" * 16, quick_gelu=False, mean=(0.5,) * 3, std=(0.25,) * 3, dense="value",
        size=32, cut="centre", dtype="float16", images=3, source="f" * 16, patches=4, width=6,
    )  # fmt: skip
    TokenStore.build(folder, stamp, lambda indices: [(torch.zeros(len(indices) - 1, 4, 6), {indices[-1]: "missing"})])

    def build(kept: Path) -> None:
        store = TokenStore.build(
            kept, stamp, lambda indices: [(torch.zeros(0, 4, 6), dict.fromkeys(indices, "missing"))]
        )
        store.rows([0, 1, 2])
        assert set(store.missing) <= {0, 1, 2}

    return {"tokens": [(path, in_place_of(path, folder, build)) for path in sorted(folder.glob("[!.]*"))]}


def captions(folder: Path) -> Files:
    """Folders with captions in files, and lists of words."""
    files: dict[str, Reader] = {
        "beside/a.txt": read_caption_files,
        "json/a.json": read_caption_files,
        "meta/metadata.jsonl": read_metadata,
        "classes/names.txt": lambda each: read_folders(each, each / "names.txt"),
    }
    texts = {
        "beside/a.txt": "a cat\na dog, sleeping\n",
        "json/a.json": json.dumps({"caption": ["a cat", "['a dog', 'a bird']"]}),
        "meta/metadata.jsonl": '{"file_name": "a.png", "text": "a cat"}\n',
        "classes/names.txt": "n01: cat; kitten\nn02: dog\n",
    }
    found = []
    for name, read in files.items():
        path = folder / name
        for image in (path.parent / "a.png", path.parent / "n01/a.png"):
            if image.parent == path.parent or name.startswith("classes"):
                image.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8)).save(image)
        path.write_text(texts[name])
        found.append((path, in_place_of(path, path.parent, read)))
    (folder / "words.txt").write_text("# words\na cat\ntwo dogs\n")
    return {
        "captions": found,
        "words": [(folder / "words.txt", lambda path: read_texts([path], "words"))],
    }


def towers(folder: Path) -> Files:
    """The files of a CLIP in a folder."""
    import pacl

    own = Path(pacl.__file__).parent / "bundled/clip"
    shutil.copytree(own, folder / "clip")
    path = folder / "clip/open_clip_config.json"

    def load(each: Path) -> None:
        load_model(f"local-dir:{each}")

    return {"tower": [(path, in_place_of(path, folder / "clip", load))]}
