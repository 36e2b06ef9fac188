"""Draw the training curve of a run: loss and validation recall from its log.

    python -m eval.report.curve RUN --out FILE.png

RUN is the output folder of ``python -m pacl.train``, whose logs are read, one for each time that it was resumed, or a
``metrics.csv`` file.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from eval.common.charts import Points, training_curve
from eval.common.command import new_parser
from pacl.cli.messages import run_verb
from pacl.cli.resuming import checkpoint_path
from pacl.errors import UserError, unreadable
from pacl.files import check_output_file
from pacl.images import is_written_here
from pacl.printing import escaped
from pacl.training.run_files import resumes

LOSS, RECALL, CHANCE = "loss", "val_recall", "val_recall_chance"  # as `pacl.training.module.PACLModule` logs them


def find_logs(run: Path) -> list[Path]:
    """The logs in the folder of a run, ``logs/version_N/metrics.csv``, the newest first; or the file given.

    Logs of a run that was replaced are left out: those before one that did not go on from a checkpoint of the folder.

    Raises:
        UserError: the folder has no log.
    """
    if run.is_file():
        return [run]
    versions = [path for path in run.glob("logs/version_*") if path.name[len("version_") :].isdecimal()]
    logs = []
    for version in sorted(versions, key=lambda path: int(path.name[len("version_") :]), reverse=True):
        if (version / "metrics.csv").is_file():
            logs.append(version / "metrics.csv")
        if _begins(version, run):
            break
    if not logs:
        raise UserError(f"{run}: no logs/version_*/metrics.csv; give the folder of a training or its metrics.csv")
    return logs


def _begins(version: Path, run: Path) -> bool:
    """Whether a run began with a folder of logs, by the settings in it; False without settings.

    A checkpoint that is not where they say is taken for the run's own: the run was moved, or started elsewhere.
    """
    try:
        given = yaml.safe_load((version / "config.yaml").read_text(encoding="utf-8"))["ckpt_path"]
        checkpoint = checkpoint_path(run, given)
        return checkpoint is None or (Path(checkpoint).exists() and not resumes(run, checkpoint))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return False


def read_run(logs: Sequence[Path]) -> tuple[Points, Points, float | None]:
    """Read the logs of a run that was resumed any number of times, as `read_log` does.

    A log belongs to the run if it begins at an earlier step than the newer ones: logs of a run that was replaced lie in
    the same folder. What was logged after the checkpoint that was resumed from is left out.

    Args:
        logs: the newest first.

    Raises:
        UserError: an error of `read_log` for the newest log.
    """
    loss, recall, chance = read_log(logs[0])
    for log in logs[1:]:
        begin = min([*loss.steps[:1], *recall.steps[:1]])
        if begin == 0:
            break
        try:
            old_loss, old_recall, old_chance = read_log(log)
        except UserError:  # it was killed before it logged anything
            continue
        if min([*old_loss.steps[:1], *old_recall.steps[:1]]) < begin:
            loss, recall = _before(old_loss, loss, begin), _before(old_recall, recall, begin)
            chance = old_chance if chance is None else chance
    return loss, recall, chance


def _before(old: Points, new: Points, begin: int) -> Points:
    """The values of a log before those of a newer one, which begins at a step."""
    until = min([begin, *(step - 1 for step in new.steps[:1])])
    kept = sum(step <= until for step in old.steps)
    return Points(old.steps[:kept] + new.steps, old.values[:kept] + new.values)


def read_log(log: Path) -> tuple[Points, Points, float | None]:
    """Read a log of Lightning's ``CSVLogger``.

    Returns:
        The loss, and the validation recall in [0, 1], by the number of steps that were done: the first loss is that of
        step 1, and the recall at 0 was measured before training. Then the recall of a random order; None where the log
        does not tell.

    Raises:
        UserError: the file is not such a log, contains no loss, or contains a loss that is not finite.
    """
    loss, recall, chance = Points([], []), Points([], []), None
    try:
        with log.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                before = bool(row.get(CHANCE))  # only the validation before the first step logs it, with the steps done
                chance = float(row[CHANCE]) if before else chance
                for name, points in ((LOSS, loss), (RECALL, recall)):
                    if row.get(name):
                        points.steps.append(int(row["step"]) + (not before))  # Lightning counts from 0
                        points.values.append(float(row[name]))
    except OSError as error:
        raise unreadable(log, error) from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{log}: not a metrics.csv of a training ({error})") from None
    if not loss.steps or not all(map(math.isfinite, loss.values)):
        raise UserError(f"{log}: no finite loss; it is logged every trainer.log_every_n_steps steps")
    return loss, recall, chance


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = new_parser("eval.report.curve", __doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a training, or a metrics.csv")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="chart to write: PNG or JPEG")
    parser.add_argument("--title", help="title of the chart (default: RUN)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Read the log and draw the chart.

    Raises:
        UserError: there is no usable log, or the chart cannot be written.
    """
    args = build_parser().parse_args(sys.argv[1:] if argv is None else argv)
    logs = find_logs(args.run)
    check_output_file(args.out, is_written_here, inputs=logs)
    loss, recall, chance = read_run(logs)
    training_curve(args.out, loss, recall, args.title or str(args.run), chance)
    print(f"{escaped(args.out)}: {len(loss.steps)} values of the loss, {len(recall.steps)} of the recall")
    return 0


if __name__ == "__main__":
    run_verb("eval.report.curve", main)
