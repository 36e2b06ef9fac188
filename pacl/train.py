"""Train the patch embedder on images with captions: ``python -m pacl.train [--config FILE] [--SETTING VALUE ...]``.

Without ``--config`` it trains on the procedural scenes, on the bundled CLIP (``configs/scenes.yaml``). Every setting
can be given in YAML and as a flag; ``--help`` lists them and ``--print_config`` prints their values. ``--out`` is the
folder of the head, which ``--model`` of the other commands takes, and of logs and checkpoints.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pacl.cli.messages import run_verb


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, train and save the head."""
    from pacl.cli.training import run  # slow: Ctrl-C during the import must end in one line too

    return run(sys.argv[1:] if argv is None else argv, __doc__)


if __name__ == "__main__":
    run_verb("pacl train", main)
