"""Damage valid files at random and read them: ``python -m tests.fuzz [--minutes N] [--seed S] [--kinds NAME...]``.

A reader may return or raise a `UserError`. Anything else is reported with the damaged file, which is kept: another
error, more than `SECONDS` of computing or `WALL_SECONDS` in all, or more than `MEMORY` bytes.
"""

from __future__ import annotations

import argparse
import faulthandler
import gzip
import io
import json
import random
import resource
import shutil
import signal
import tarfile
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from eval.segmentation.protocol import read_protocol
from pacl.cli.configured_sources import read_config
from pacl.cli.training_run import read_checkpoint
from pacl.data.mask_palette import read_palette
from pacl.data.masks import read_colours, read_mask
from pacl.data.readers import read_json, read_table
from pacl.data.shards import samples
from pacl.errors import UserError
from pacl.images import open_image, save_image
from pacl.models.model import PACL
from pacl.prompts import get_templates, read_classes
from pacl.results.coco_dataset import CocoDataset
from pacl.results.run_file import Run
from pacl.segmentation.segmenter import Segmenter
from tests.colours import noise
from tests.fuzz_commands import command_examples
from tests.fuzz_own import own_examples
from tests.fuzz_values import other_values

SECONDS = 20
"""Of the process's own time, which other programs on a busy machine leave alone."""
WALL_SECONDS = 300
"""For reads that wait and compute nothing."""
MEMORY = 2 << 30
LIMITS = ((signal.ITIMER_PROF, signal.SIGPROF, SECONDS), (signal.ITIMER_REAL, signal.SIGALRM, WALL_SECONDS))
LABELS = ["a red fish", "sky"]
TOKENS = [
    b"\0",
    b"\xff",
    b"\xff\xfe",
    b"\r",
    b"\n\n",
    b'"',
    b"'",
    b",",
    b"\t",
    b"[",
    b"{",
    b"}",
    b":",
    b"-",
    b"#",
    b"null",
]
TOKENS += [
    b"NaN",
    b"1e999",
    b"-1",
    b"0",
    b"9" * 400,
    b"9" * 5000,
    b"[" * 3000,
    b"- " * 3000,
    b"true",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"x" * 300,
    b"../",
    b"*",
    b"&a",
]

Reader = Callable[[Path], Any]


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A content with one to four changes: bits, bytes, pieces moved or gone, or a token that parsers stumble over.

    Half of the files that have values, such as JSON, get other values instead.
    """
    if chance.random() < 0.5 and (changed := other_values(content, chance)) is not None:
        return changed
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        place = min(place, chance.choice([16, 64, 256, len(data)]))  # headers more often
        end = place + chance.choice([1, 2, 4, 16, 64])
        match chance.randrange(9):
            case 0:
                data[place:end] = bytes(byte ^ (1 << chance.randrange(8)) for byte in data[place:end])
            case 1:
                data[place:end] = chance.randbytes(len(data[place:end]))
            case 2:
                del data[place:end]
            case 3:
                data[place:place] = data[place:end] * chance.choice([1, 3, 200])
            case 4:
                del data[place:]
            case 5:
                data[place : place + chance.randrange(4)] = chance.choice(TOKENS)
            case 6:
                data[place : place + 4] = chance.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
            case _:
                lines = bytes(data).split(b"\n")
                line = lines.pop(chance.randrange(len(lines)))
                places = [chance.randrange(len(lines) + 1) for _ in range(chance.choice([0, 0, 2]))]
                for at in places:
                    lines.insert(at, line)
                data = bytearray(b"\n".join(lines))
    return bytes(data)


def image(path: Path, kind: str, mode: str = "RGB", **options: Any) -> Path:
    """Write an image of a kind of Pillow's."""
    Image.fromarray(noise(40, 56)).convert(mode).save(path, kind, **options)
    return path


def deep(path: Path, **options: Any) -> Path:
    """Write an image of 16 bits."""
    Image.fromarray(noise(40, 56)[..., 0].astype(np.uint16)).save(path, **options)
    return path


def examples(folder: Path) -> dict[str, list[tuple[Path, Reader]]]:
    """Valid files and what reads them, by kind."""
    model = PACL.from_pretrained("bundled")
    model.save_pretrained(folder / "head")
    segmenter = Segmenter(model)
    segmenter.set_image(noise(40, 56))
    segmenter.get_image_embedding().save(folder / "e.safetensors")
    found = segmenter.predict(LABELS)
    found.save(folder / "out", formats=["coco"])
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "ab":
        save_image(folder / f"{name}.png", noise(40, 56))
    texts = {
        "a.csv": 'image,caption\na.png,a cat\nb.png,"a, dog"\n',
        "a.tsv": "image\tcaption\na.png\ta cat\n",
        "a.jsonl": '{"image": "a.png", "caption": ["a cat", "x y"]}\n' * 2,
        "a.json": json.dumps(
            {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "caption": "a"}]}
        ),
        "k.json": json.dumps({"images": [{"filename": "a.png", "sentences": [{"raw": "a cat"}]}]}),
        "n.json": json.dumps({"a.png": "a cat", "b.png": ["a dog", "x y"]}),
        "o.json": json.dumps([{"image": "a.png", "caption": "a cat", "id": 3}]),
        "c.txt": "cat\ndog;puppy=dog\n# x\nred fish\n",
        "c.yaml": "nc: 2\nnames:\n  0: cat\n  1: dog\n",
        "c.json": '{"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}',
        "p.txt": "road:128,64,128::\ncar:0,0,142::\n",
        "t.txt": "a photo of a {}.\n",
        "d.yaml": "data:\n  init_args:\n    train:\n    - {pairs: a.csv, hold_out: 2}\n    cut: {mode: random}\n",
        "q.yaml": "size: 336\nwindow: 224\nscales: [1.0]\nbackground: none\nlogit_scale: 40\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "a.csv.gz").write_bytes(gzip.compress(texts["a.csv"].encode(), mtime=0))
    (folder / "u.csv").write_text(texts["a.csv"], encoding="utf-16")
    tables = ["a.csv", "a.tsv", "a.jsonl", "a.csv.gz", "u.csv"]
    if find_spec("pyarrow"):  # which only tables in parquet need
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        content = pyarrow.table({"image": ["a.png", "b.png"], "caption": ["a cat", "a dog"]})
        parquet.write_table(content, folder / "a.parquet")
        tables.append("a.parquet")
    with tarfile.open(folder / "s.tar", "w") as tar:
        for name, content in (("0.png", (folder / "a.png").read_bytes()), ("0.txt", b"a cat"), ("0.json", b'{"a": 1}')):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    state = {"state_dict": {"w": torch.zeros(3)}, "global_step": 3, "pytorch-lightning_version": "2.5"}
    torch.save({**state, "optimizer_states": [1], "objective": [1], "loops": [1]}, folder / "l.ckpt")

    def head(path: Path) -> None:
        place = folder / f"damaged{path.suffix}"
        shutil.copytree(folder / "head", place, dirs_exist_ok=True)
        shutil.copy(path, place / ("config.json" if path.suffix == ".json" else "model.safetensors"))
        PACL.from_pretrained(place, clip=model.clip)

    def embedding(path: Path) -> None:
        segmenter.set_image_embedding(path)
        segmenter.predict(LABELS)

    def dataset(path: Path) -> None:
        place = folder / "coco"
        place.mkdir(exist_ok=True)
        shutil.copy(path, place / "annotations.json")
        CocoDataset(Run(place, LABELS, {"image": "image.png"})).save()

    def table(path: Path) -> None:
        read_table(path, folder)

    return {
        "image": [
            (image(folder / "i.jpg", "JPEG", exif=exif), open_image),
            (image(folder / "g.jpg", "JPEG", progressive=True), open_image),
            (folder / "a.png", open_image),
            (image(folder / "p.png", "PNG", "P"), open_image),
            (image(folder / "i.tif", "TIFF", compression="tiff_lzw"), open_image),
            (image(folder / "i.webp", "WEBP"), open_image),
            (image(folder / "i.gif", "GIF"), open_image),
            (image(folder / "i.bmp", "BMP"), open_image),
            (image(folder / "c.jpg", "JPEG", "CMYK"), open_image),
            (deep(folder / "d.png"), open_image),
            (deep(folder / "d.tif", compression="tiff_adobe_deflate"), open_image),
        ],
        "mask": [(folder / "p.png", read_mask), (folder / "a.png", read_colours), (folder / "d.png", read_mask)],
        "table": [(folder / name, table) for name in tables],
        "json": [(folder / f"{name}.json", lambda path: read_json(path, folder)) for name in "akno"],
        "classes": [(folder / name, read_classes) for name in ("c.txt", "c.yaml", "c.json")],
        "text": [(folder / "p.txt", read_palette), (folder / "t.txt", get_templates)],
        "config": [
            (folder / "d.yaml", read_config),
            (folder / "q.yaml", lambda path: read_protocol(str(path), "voc21", background=True)),
            (folder / "head/config.json", head),
        ],
        "tar": [(folder / "s.tar", lambda path: list(samples(str(path), [])))],
        "weights": [(folder / "head/model.safetensors", head), (folder / "l.ckpt", lambda p: read_checkpoint(str(p)))],
        "embedding": [(folder / "e.safetensors", embedding)],
        "coco": [(next((folder / "out").glob("*.json")), dataset)],
        **own_examples(folder),
        **command_examples(folder / "commands", model),
    }


class TooLong(BaseException):
    """A reader took too long: no `Exception`, which a reader may take for a fault of the file."""


@contextmanager
def limited() -> Iterator[None]:
    """Raise `TooLong` where the block takes longer than `LIMITS`."""

    def stop(number: int, _: object) -> None:
        raise TooLong(
            f"more than {next(limit for _, own, limit in LIMITS if own == number)} s ({signal.Signals(number).name})"
        )

    former = [signal.signal(number, stop) for _, number, _ in LIMITS]
    try:
        for timer, _, limit in LIMITS:
            signal.setitimer(timer, limit)
        yield
    finally:
        for (timer, number, _), handler in zip(LIMITS, former, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def read(path: Path, reader: Reader) -> str:
    """What is wrong with how a file was read, with the last lines of a traceback; empty if nothing."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    try:
        with limited():
            reader(path)
    except UserError:
        pass
    except (Exception, TooLong):  # what this is for
        return "".join(traceback.format_exc().splitlines(keepends=True)[-5:])
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return f"memory grew by {(after - before) >> 20} MiB\n" if after - before > MEMORY else ""


def fuzz(folder: Path, minutes: float, seed: int, kinds: list[str] | None = None) -> tuple[Counter[str], list[str]]:
    """Read damaged files for some time.

    Args:
        folder: for the files; those with a finding are kept in ``finds`` there.
        minutes: how long.
        seed: of the damage.
        kinds: some of those of `examples`; None: all.

    Returns:
        How many files of each kind were read, and what was found.
    """
    chance = random.Random(seed)
    files = [(kind, *each) for kind, own in examples(folder).items() if not kinds or kind in kinds for each in own]
    for kind, path, reader in files:
        try:
            reader(path)
        except Exception as error:
            raise AssertionError(f"{kind} {path} cannot be read undamaged") from error
    read_files: Counter[str] = Counter()
    finds: dict[str, str] = {}
    end = time.monotonic() + 60 * minutes
    (folder / "finds").mkdir()
    while time.monotonic() < end:
        kind, path, reader = chance.choice(files)
        broken = folder / f"broken{path.suffix}"
        broken.write_bytes(damaged(path.read_bytes(), chance))
        read_files[kind] += 1
        if (wrong := read(broken, reader)) and wrong.splitlines()[-1] not in finds:
            kept = shutil.copy(broken, folder / f"finds/{kind}-{len(finds)}{path.suffix}")
            finds[wrong.splitlines()[-1]] = f"{kept}\n{wrong}"
    return read_files, list(finds.values())


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    faulthandler.enable()  # where a library ends the process, the file is the newest in the folder
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    read_files, finds = fuzz(folder, args.minutes, args.seed, args.kinds)
    print(*finds, sep="\n")
    print(f"{read_files.total()} files ({', '.join(f'{k} {n}' for k, n in read_files.items())}): {len(finds)} findings")
    return 1 if finds else 0


if __name__ == "__main__":
    raise SystemExit(main())
