"""What commands leave for later ones, for `tests.fuzz`: records, indices, probes, jobs, caches; videos and lists."""

from __future__ import annotations

import json
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.io import savemat
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from eval.classification.features import CONTENT, _content
from eval.classification.features import _read as read_features
from eval.common.figures import check_report, figures_arguments
from eval.retrieval.caption_sets import open_captions
from eval.segmentation.drawn_data import record_drawing, was_drawn
from eval.segmentation.label_maps import CONTEXT_IDS, check_context_names, read_context
from eval.segmentation.registry import BENCHMARKS
from pacl.classification.features import KINDS
from pacl.classification.probe import Probe, train_probe
from pacl.cli.early import read_settings
from pacl.data.nouns import tag_all
from pacl.index.image_index import Index
from pacl.jobs.folder import JobFolder, verify
from pacl.jobs.units import JobImage, find_units
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.models.towers.static_tower import load_static_tower
from pacl.results.replacing import check_replaceable
from pacl.results.sharing import check_same_model, of_other_labels
from pacl.results.writer import Writer
from pacl.similarity import is_own_table
from pacl.video.reading import open_video, read_frames
from tests.colours import noise
from tests.fuzz_own import Files, Reader, in_place_of
from tests.jobs.tars import write_shards
from tests.models.test_dual import save_random
from tests.results.drawn import LABELS, result, write_run
from tests.tiny import save_tiny_clip
from tests.video.clips import moving_scene, write_clip


def command_examples(folder: Path, model: PACL) -> Files:
    """Valid files and what reads them, by kind."""
    photos = folder / "photos"
    photos.mkdir(parents=True)
    for i in range(4):
        Image.fromarray(np.roll(noise(40, 56), 5 * i, axis=0)).save(photos / f"{i}.png")
    return {
        **records(folder / "records"),
        **indices(folder / "indices", photos, model),
        **probes(folder / "probes", photos, model),
        **jobs(folder / "jobs"),
        **videos(folder / "videos"),
        **encoders(folder / "encoders"),
        **caches(folder / "caches"),
        **benchmarks(folder / "benchmarks"),
    }


def inside(folder: Path, read: Reader, pattern: str = "*") -> list[tuple[Path, Reader]]:
    """The files of a folder, each read with the folder around it."""
    files = sorted(path for path in folder.rglob(pattern) if path.is_file() and not path.name.startswith("."))
    return [(path, in_place_of(path, folder, read)) for path in files]


def records(out: Path) -> Files:
    """The record and the drawings of an image, which later runs keep, complete or replace."""
    write_run(out / "mask", "mask", "a.png")
    write_run(out / "overlay", "overlay", "a.png")
    pixels = np.zeros((20, 30, 3), np.uint8)

    def rerun(folder: Path) -> None:
        check_replaceable(folder, ["a"], ["overlay"], LABELS)
        of_other_labels(folder, LABELS)
        check_same_model(folder, {"name": "tiny"})
        for overwrite in (False, True):
            writer = Writer(folder, ("rle",), {"name": "tiny"}, overwrite)
            writer.start(LABELS, {"a": "a.png"})
            writer.write("a", out / "photos/a.png", pixels, result(), "a.png")
            writer.finish()

    return {"record": [*inside(out / "mask", rerun), *inside(out / "overlay", rerun)]}


def indices(folder: Path, photos: Path, model: PACL) -> Files:
    """The index of a folder of images."""

    def search(of: Path) -> None:
        found = Index.open(photos, model, "both", index=of)
        found.search("a red fish")
        found.similar(photos / "0.png")

    def update(of: Path) -> None:
        Index.build(photos, model, "both", index=of)
        search(of)

    Index.build(photos, model, "both", index=folder / "index")
    return {"index": [*inside(folder / "index", search, "*.sqlite"), *inside(folder / "index", update, "*.sqlite")]}


def probes(folder: Path, photos: Path, model: PACL) -> Files:
    """A linear probe."""
    images = sorted(photos.iterdir())
    train_probe(model, images, ["a", "b", "a", "b"]).save(folder / "probe")
    return {"probe": inside(folder / "probe", lambda of: Probe.load(of, model).classify(images[:1]))}


def jobs(folder: Path) -> Files:
    """A finished job over many images, its shards, and a list of images."""
    folder.mkdir()
    shards = write_shards(folder / "shards", 1, 2)
    units = find_units(str(shards / "000.tar"))
    run = {"labels": ["a"], "model": {"clip": "x"}, "relative_to": None}

    def work(out: Path) -> None:
        job = JobFolder(out, run)
        for unit in units:
            with job.claim(unit) as is_free:
                if is_free:
                    job.write(unit, [{"image": image.name} for image in unit.images([])], [])
        job.manifest(units)
        verify(out)

    def check(out: Path) -> None:
        verify(out)
        work(out)

    def images(path: Path) -> None:
        for unit in find_units(str(path), folder=None if path.suffix == ".tar" else folder):
            list(map(JobImage.decode, unit.images([])))

    work(folder / "job")
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "list.txt").write_text("a.png\nb.png\n")
    return {
        "job": [*inside(folder / "job", work, "*.json*"), *inside(folder / "job", check, "*.json*")],
        "list": [(folder / "list.txt", images), (shards / "000.tar", images)],
    }


def videos(folder: Path) -> Files:
    """Short clips."""
    folder.mkdir()
    frames = moving_scene(4)
    clips = [write_clip(folder / "a.mp4", frames), write_clip(folder / "a.avi", frames, fourcc="MJPG")]
    frames = [Image.fromarray(frame) for frame in frames]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:])

    def play(path: Path) -> None:
        for number, _ in enumerate(read_frames(open_video(path), every=2)):
            if number > 100:
                break

    return {"video": [(path, play) for path in (*clips, folder / "a.gif")]}


def encoders(folder: Path) -> Files:
    """Two towers that were trained together, and one of word vectors."""
    clip = save_tiny_clip(folder / "clip")
    save_random(folder / "dual", (clip, clip), "linear")
    words = folder / "words"
    words.mkdir()
    Tokenizer(WordLevel({"[UNK]": 0, "a": 1, "fish": 2}, unk_token="[UNK]")).save(str(words / "tokenizer.json"))
    save_file({"embeddings": torch.eye(3), "weights": torch.ones(3)}, words / "model.safetensors")
    return {
        "towers": [
            *inside(folder / "dual", lambda of: load_model(f"local-dir:{of}")),
            *inside(words, lambda of: load_static_tower(f"static:{of}")[0].encode(["a fish"])),
        ]
    }


def caches(folder: Path) -> Files:
    """What is computed again where it is damaged."""
    folder.mkdir()
    captions = ["a cat on a sofa", "two dogs"]
    tag_all(captions, folder / "nouns")
    found = {kind: torch.eye(3) for kind in KINDS}
    save_file(found, folder / "features.safetensors", metadata={CONTENT: _content(found)})
    return {
        "cache": [
            *inside(folder / "nouns", lambda of: tag_all(captions, of)),
            (folder / "features.safetensors", lambda path: read_features(path, 3)),
        ]
    }


def benchmarks(folder: Path) -> Files:
    """Files of the data sets and the reports of ``eval``, and a table of ``pacl.similarity``."""
    layout = BENCHMARKS["voc20"].layout
    root, own = folder / "flickr", folder / "voc"
    (root / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "images/a.jpg")
    entry = {"filename": "a.jpg", "split": "test", "sentences": [{"raw": "a cat"}]}
    (root / "dataset_flickr8k.json").write_text(json.dumps({"images": [entry]}))
    record_drawing(own, layout, "val", {"size": 32})
    arguments = figures_arguments(Namespace(model="bundled", sizes=[1, 2]))
    (folder / "report.json").write_text(json.dumps({"arguments": arguments}))
    (folder / "scores.csv").write_text("image,a cat\na.png,0.2500\n")
    savemat(folder / "a.mat", {"LabelMap": np.eye(4, dtype=np.uint16)})
    (folder / "labels.txt").write_text("\n".join(f"{number}: {name}" for name, number in CONTEXT_IDS.items()))

    def drawn(of: Path) -> None:
        was_drawn(layout, of / layout.bases[0] / layout.images[0], "val")

    def settings(path: Path) -> Any:
        return read_settings(["--config", str(path)])

    (folder / "own.yaml").write_text("data:\n  pairs: a.csv\n  train: [{pairs: a.csv}]\ntrainer: {max_steps: 3}\n")
    return {
        "benchmark": [
            *inside(root, lambda of: open_captions("flickr8k", of, "test"), "*.json"),
            *inside(own, drawn, "*.json"),
            (folder / "report.json", lambda path: check_report(path, arguments, False)),
            (folder / "a.mat", read_context),
            (folder / "labels.txt", check_context_names),
        ],
        "settings": [(folder / "own.yaml", settings), (folder / "scores.csv", partial(is_own_table, texts=["a dog"]))],
    }
