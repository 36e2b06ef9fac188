"""Train a head on images with captions.

  python -m pacl.train --config configs/own_photos.yaml --data.pairs my.csv --data.images photos --out runs/mine
  python -m pacl.train --config configs/own_photos.yaml --data.pairs my.csv --data.images photos --out runs/mine \\
    --ckpt_path last                       # the same command goes on where it was stopped

The settings that most runs need:
  --config FILE                  a YAML file with settings; without it: drawn scenes (configs/scenes.yaml)
  --data.pairs FILE              your captions: a table with the columns image,caption (or --data.train in YAML)
  --data.images FOLDER           the folder of the images in that table
  --data.hold_out N              images that are kept for validation, or a share of them, such as 0.1
  --data.batch_size N            images in a step
  --model.backbone NAME          the frozen model: bundled, open_clip:NAME/TAG, IMAGE+TEXT ...
  --model.lr X                   peak learning rate
  --model.images_at_once N       embeds N images of a step at a time, to save memory
  --trainer.max_steps N          length of the training; or --trainer.max_epochs N
  --trainer.accelerator NAME     cpu, gpu or auto
  --out FOLDER                   the head, its model card, logs and checkpoints; --model of the other commands takes it

All settings can be in YAML and are flags, too. --print_config prints their values, --data.help CLASS and
--trainer.callbacks.help CLASS explain those of a class, and all others follow. docs/training.md is a guide.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pacl.cli.messages import run_verb, say


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, train and save the head."""
    from pacl.cli.early import check_training, say_default

    argv = sys.argv[1:] if argv is None else argv
    check_training(argv)
    if note := say_default(argv):
        say("pacl train", f"note: {note}")
    from pacl.cli.training_run import run  # slow: Ctrl-C during the import must end in one line, too

    return run(argv, __doc__)


if __name__ == "__main__":
    run_verb("pacl train", main)
