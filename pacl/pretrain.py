"""Train a dual encoder with CLIP's loss.

  python -m pacl.pretrain --config configs/flickr8k_clip.yaml    # a small CLIP from random weights
  python -m pacl.pretrain --config configs/flickr8k_dual.yaml    # projection heads on two pretrained towers

The settings that most runs need:
  --config FILE                  a YAML file with settings; without it: drawn scenes (configs/scenes_clip.yaml)
  --model CLASS                  CLIPModule (the default) or DualEncoderModule
  --data.pairs FILE              your captions: a table with the columns image,caption (or --data.train in YAML)
  --trainer.max_steps N          length of the training; or --trainer.max_epochs N
  --export.folder FOLDER         the model, which the other commands load as --model local-dir:FOLDER

All settings can be in YAML and are flags, too. --print_config prints their values, --model.help CLASS explains those
of a class, and all others follow. A data module must yield the batches of
`pacl.training.contrastive.ContrastiveModule`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pacl.cli.messages import run_verb


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, train and export the model."""
    from pacl.cli.early import check_pretraining

    argv = sys.argv[1:] if argv is None else argv
    check_pretraining(argv)
    from pacl.cli.pretraining_run import run  # slow, so mistakes are looked for before

    return run(argv, __doc__)


if __name__ == "__main__":
    run_verb("pacl pretrain", main)
