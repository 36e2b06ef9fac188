"""Train the patch embedder on captioned pictures: ``python -m pacl.train [--config FILE] [--SETTING VALUE ...]``.

Without ``--config`` it trains on the procedural scenes, on the bundled CLIP (``configs/scenes.yaml``). Every setting
stands in the YAML and on the command line; ``--help`` lists them and ``--print_config`` shows those of a run.
Results go to ``--out``: the head (``config.json``, ``model.safetensors``: give the folder to ``--model``), logs and
checkpoints.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pacl.cli.messages import run_verb


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, save the head."""
    from pacl.training.run import run  # takes seconds; Ctrl-C in them ends in one line too

    return run(sys.argv[1:] if argv is None else argv, __doc__)


if __name__ == "__main__":
    run_verb("pacl train", main)
