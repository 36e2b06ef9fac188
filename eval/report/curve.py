"""Draw what a training logged: its loss and the recall of its validation.

    python -m eval.report.curve RUN --out FILE.png

RUN is the folder of ``python -m pacl.train --out RUN``, of whose logs the newest is drawn, or one ``metrics.csv``.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.common.charts import Points, training_curve
from eval.common.command import new_parser
from pacl.cli.messages import run_verb
from pacl.errors import UserError

LOSS, RECALL = "loss", "val_recall"  # as `pacl.training.module.PACLModule` logs them


def find_log(run: Path) -> Path:
    """The ``metrics.csv`` that a run's folder holds in ``logs/version_N``, of the highest N; a file is its own.

    Raises:
        UserError: there is none.
    """
    if run.is_file():
        return run
    logs = [log for log in run.glob("logs/version_*/metrics.csv") if log.parent.name[len("version_") :].isdecimal()]
    if not logs:
        raise UserError(f"{run}: no logs/version_*/metrics.csv; name the --out of a training, or its metrics.csv")
    return max(logs, key=lambda log: int(log.parent.name[len("version_") :]))


def read_log(log: Path) -> tuple[Points, Points]:
    """Steps with their loss, and steps with their validation recall in [0, 1], each in the order of the file.

    A step is logged by its number, from 0; recall at the first step 0 is that before training. Most lines of
    Lightning's file hold the figures of a training step or those of a validation, and nothing for the others.

    Raises:
        UserError: not such a file, or no loss in it.
    """
    loss, recall = Points([], []), Points([], [])
    try:
        with log.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for name, points in ((LOSS, loss), (RECALL, recall)):
                    if row.get(name):
                        points.steps.append(int(row["step"]))
                        points.values.append(float(row[name]))
    except OSError as error:
        raise UserError(f"{log}: cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{log}: not a metrics.csv of a training ({error})") from None
    if not loss.steps or not all(map(math.isfinite, loss.values)):
        raise UserError(f"{log}: no finite loss in it yet; the run writes it every --trainer.log_every_n_steps steps")
    return loss, recall


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    parser = new_parser("eval.report.curve", __doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a training, or a metrics.csv")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="picture that is written: PNG or JPEG")
    parser.add_argument("--title", help="over the picture (default: RUN)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Read the log and draw it.

    Raises:
        UserError: no log, nothing in it, or the picture cannot be written.
    """
    args = build_parser().parse_args(sys.argv[1:] if argv is None else argv)
    loss, recall = read_log(find_log(args.run))
    training_curve(args.out, loss, recall, args.title or str(args.run))
    print(f"{args.out}: {len(loss.steps)} figures of the loss, {len(recall.steps)} of the recall")
    return 0


if __name__ == "__main__":
    run_verb("eval.report.curve", main)
