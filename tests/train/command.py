"""A small training by its command."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from pacl import train

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.logger=false"]
SMALL = ["--data.scenes=24", "--data.size=32", "--data.batch_size=8", "--model.warmup=1", "--model.patches=null"]


def run(tiny_clip: str, out: Path, *more: str) -> Path:
    arguments = [*SMALL, *QUIET, f"--model.backbone={tiny_clip}", f"--out={out}", *more]
    assert train.main(arguments) == 0
    return out


def captioned(folder: Path, count: int) -> list[str]:
    for i in range(count):
        Image.new("RGB", (32, 32), (10 * i, 0, 0)).save(folder / f"{i}.png")
    (folder / "t.csv").write_text("image,caption\n" + "".join(f"{i}.png,a dog number {i}\n" for i in range(count)))
    return [
        "--config=configs/scenes.yaml",
        "--data=pacl.data.CaptionData",
        f"--data.pairs={folder / 't.csv'}",
        "--data.hold_out=8",
    ]
