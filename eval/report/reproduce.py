"""Do runs with the public weights reach the published figures?

    python -m eval.report.reproduce                       what to run, and what it is to reach
    python -m eval.report.reproduce out/segmentation      pass or fail within 0.5 mIoU, figure by figure

A figure is compared where everything is as published: OpenAI's ViT-B/16 (and its proxy), the method, the protocol with
its settings and its list of class names, and the whole split. All else is listed with the reason. Exit code 0: whatever
can be compared passes; 1: something fails; 2: nothing can be compared. Published figures and their sources are in
eval/report/published.yaml.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from eval.common.command import new_parser
from eval.common.result import Result, read_results
from eval.segmentation.registry import BENCHMARKS
from eval.segmentation.protocol import read_protocol
from pacl.cli.messages import EXIT_USER_ERROR, run_verb
from pacl.errors import UserError

FILE = Path(__file__).parent / "published.yaml"
TOLERANCE = 0.5
BASELINES = "assumed"  # verdict on a row whose settings nobody states


@dataclass(frozen=True)
class Published:
    """A row of published figures, in percent.

    Attributes:
        title: the method as it is known.
        source: key of the paper.
        scores: benchmark -> mIoU, or what its table says.
        protocol: name of our protocol; None: not to be reproduced with this code.
        method: name of our method.
        changed: settings that the row changes in the protocol.
        assumed: why its settings are not certain; "" where they are.
        family: whose protocol it was measured with, or which, where it is none of ours or the method is not.
        backbone: image towers.
        proxy: name of the image tower that our CLIP needs as its proxy; "" for none.
    """

    title: str
    source: str
    scores: dict[str, float]
    protocol: str | None = None
    method: str | None = None
    changed: dict[str, Any] = field(default_factory=dict)
    assumed: str = ""
    family: str = ""
    backbone: str = "ViT-B/16"
    proxy: str = ""

    @property
    def models(self) -> list[str]:
        """Names of our backbones that are the published one."""
        return [f"{clip},proxy={self.proxy}" if self.proxy else clip for clip in published()["clips"]]

    @property
    def setting(self) -> str:
        """Protocol and changes in words."""
        changes = [f"{key} {value}" for key, value in self.changed.items()]
        return ", ".join([self.protocol or self.family, *changes])


@dataclass(frozen=True)
class Verdict:
    """What became of a result.

    Attributes:
        result: the user's.
        row: the published one; None where there is none.
        reasons: why the two cannot be compared; none where they can.
        passed: whether it is within the tolerance; None where they cannot be compared.
    """

    result: Result
    row: Published | None
    reasons: tuple[str, ...]
    passed: bool | None = None

    @property
    def word(self) -> str:
        """``pass``, ``fail``, ``assumed`` (misses a row that may have had other settings) or ``-``."""
        if self.passed is None or self.row is None:
            return "-"
        return "pass" if self.passed else BASELINES if self.row.assumed else "fail"


@cache
def published() -> dict[str, Any]:
    """The file of published figures."""
    content: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return content


def published_rows(table: str) -> list[Published]:
    """The rows of one of the file's tables: segmentation, patch_classification, classification or retrieval."""
    return [Published(**row) for row in published()[table]]


def segmentation_rows() -> list[Published]:
    """The published rows of mIoUs."""
    return published_rows("segmentation")


def compare(result: Result, tolerance: float = TOLERANCE) -> Verdict:
    """Find the published row that a result repeats, and see whether it reaches it."""
    if result.task != "segmentation":
        return Verdict(result, None, (f"{result.task}: only mIoU is compared",))
    rows = [row for row in segmentation_rows() if row.protocol is not None]
    rows = [row for row in rows if (row.method, row.protocol) == (result.method, result.protocol.get("name"))]
    if not rows:
        return Verdict(
            result, None, (f"no figure is published of {result.method} with protocol {result.protocol.get('name')}",)
        )
    if all(result.dataset not in row.scores for row in rows):
        return Verdict(result, None, (f"no figure is published on {result.dataset}",))
    differences = [(differ(result, row), row) for row in rows]
    reasons, row = min(differences, key=lambda each: len(each[0]))
    if reasons:
        return Verdict(result, row, tuple(reasons))
    # (rounded away from the noise of decimals: 40.0 is within 0.5 of 39.5)
    return Verdict(result, row, (), round(abs(result.scores["miou"] - row.scores[result.dataset]), 6) <= tolerance)


def differ(result: Result, row: Published) -> list[str]:
    """In what a result is not what the published row is; empty where they can be compared."""
    benchmark = BENCHMARKS[result.dataset]
    full = benchmark.full.get(benchmark.split)
    reasons = []
    if result.model.get("clip") not in row.models or result.model.get("trained"):
        head = "a trained head on " if result.model.get("trained") else ""
        reasons.append(f"other weights: {head}{result.model.get('clip')}")
    if result.split != benchmark.split:
        reasons.append(f"split {result.split} instead of {benchmark.split}")
    elif result.partial or result.images != full:
        reasons.append(f"subset: {result.images} of {full} images")
    names = read_protocol(str(row.protocol), benchmark.name, background=benchmark.background).names
    if result.protocol.get("names") != names:
        reasons.append(f"other names: {result.protocol.get('names')} instead of {names}")
    if result.protocol.get("precision", "fp32") != "fp32":
        reasons.append(f"precision {result.protocol['precision']}")
    changed = {key: result.protocol.get(key) for key in result.protocol.get("changed") or () if key != "names"}
    for key in sorted({*changed, *row.changed}):
        if key not in row.changed:
            reasons.append(f"changed: {key} {changed[key]}")
        elif result.protocol.get(key) != row.changed[key]:
            reasons.append(f"{key} {result.protocol.get(key)} instead of {row.changed[key]}")
    if not reasons and not result.scores.get("miou", float("nan")) >= 0:
        reasons.append("no mIoU in the result")
    return reasons


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """1 if something fails, 0 if something passes and nothing fails, else 2."""
    words = {verdict.word for verdict in verdicts}
    return 1 if "fail" in words else 0 if "pass" in words else EXIT_USER_ERROR


def commands(rows: Sequence[Published]) -> list[tuple[str, list[Published]]]:
    """What to run, and the rows that it is to reach; rows with the same settings share a run."""
    groups: dict[tuple[str, str], list[Published]] = {}
    for row in rows:
        groups.setdefault((row.setting, row.models[0]), []).append(row)
    found = []
    for (setting, model), own in groups.items():
        changes = "".join(f" --{key} {value}" for key, value in own[0].changed.items())
        found.append(
            (
                f"python -m eval.segmentation {' '.join(own[0].scores)} --data ROOT --model {model} --protocol "
                f"{own[0].protocol} --method {' '.join(str(row.method) for row in own)}{changes} --precision fp32 "
                f"--out out/segmentation/{setting.replace(', ', '-').replace(' ', '-')}",
                own,
            )
        )
    return found


def plan(rows: Sequence[Published]) -> str:
    """The commands with the figures, as text."""
    lines = ["Nothing to compare was named. What to run, and the mIoU that each is to reach:", ""]
    for command, own in commands(rows):
        lines += [command]
        for row in own:
            figures = ", ".join(f"{name} {score:.1f}" for name, score in row.scores.items())
            lines += [f"    {row.title}: {figures}" + (f" (not certain: {row.assumed})" if row.assumed else "")]
        lines += [""]
    return "\n".join([*lines, "then: python -m eval.report.reproduce out/segmentation"])


def show(verdicts: Sequence[Verdict], tolerance: float) -> None:
    """Print what can be compared as a table, and the rest with its reasons."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    compared = [verdict for verdict in verdicts if verdict.passed is not None]
    if compared:
        table = Table(title=f"mIoU, within {tolerance:g} of the published figure")
        for i, column in enumerate(("benchmark", "published row", "measured", "published", "off by", "")):
            table.add_column(column, justify="right" if 1 < i < 5 else "left", no_wrap=i != 1)
        for each in compared:
            assert each.row is not None
            measured, wanted = each.result.scores["miou"], each.row.scores[each.result.dataset]
            table.add_row(
                each.result.dataset, each.row.title, f"{measured:.1f}", f"{wanted:.1f}", f"{measured - wanted:+.2f}",
                each.word,
            )  # fmt: skip
        console.print(table)
    for row in {each.row.title: each.row for each in compared if each.row and each.word == BASELINES}.values():
        console.print(escape(f"{row.title}: {row.assumed}; a miss is no failure"), soft_wrap=True)
    rest = [verdict for verdict in verdicts if verdict.passed is None]
    if rest:
        console.print(f"Not comparable: {len(rest)} of {len(verdicts)} results")
        for each in rest:
            r = each.result
            settings = f"protocol {r.protocol.get('name')}, names {r.protocol.get('names')}, {r.images:,} images"
            what = f"{r.dataset}, {r.method}, {settings}: {'; '.join(each.reasons)}"
            console.print(escape(f"  {what}"), soft_wrap=True)


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    parser = new_parser("eval.report.reproduce", __doc__)
    parser.add_argument("results", nargs="*", metavar="RESULTS", help="results.json files, or folders with some below")
    parser.add_argument("--protocol", nargs="+", metavar="NAME", help="only runs and figures of these protocols")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, metavar="MIOU", help=f"(default: {TOLERANCE} mIoU)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, or say what to run."""
    args = build_parser().parse_args(argv)
    if not args.tolerance >= 0:
        raise UserError(f"--tolerance {args.tolerance}: 0 or more")
    rows = [row for row in segmentation_rows() if row.protocol is not None]
    known = dict.fromkeys(str(row.protocol) for row in rows)
    for name in args.protocol or ():
        if name not in known:
            raise UserError(f"--protocol {name}: figures that can be reproduced are of {', '.join(known)}")
    wanted = args.protocol or list(known)
    if not args.results:
        print(plan([row for row in rows if row.protocol in wanted]))
        return 0
    results = read_results(args.results)
    if args.protocol:
        results = [result for result in results if result.protocol.get("name") in wanted]
    if not results:
        raise UserError(f"{' '.join(args.results)}: holds no result" + (" of these protocols" if args.protocol else ""))
    order = {name: i for i, name in enumerate(BENCHMARKS)}
    results.sort(key=lambda r: (order.get(r.dataset, len(order)), r.dataset, r.method, str(r.protocol.get("name"))))
    verdicts = [compare(result, args.tolerance) for result in results]
    show(verdicts, args.tolerance)
    return exit_code(verdicts)


if __name__ == "__main__":
    run_verb("eval.report.reproduce", main)
