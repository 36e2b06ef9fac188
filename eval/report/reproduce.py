"""Do runs with the public weights reproduce the published figures?

    python -m eval.report.reproduce                       what to run, and the figures to reach
    python -m eval.report.reproduce out/segmentation      pass or fail within 0.5 mIoU, figure by figure

A figure is compared where everything is as published: OpenAI's ViT-B/16 (and its proxy), the method, the protocol with
its settings and its list of class names, and the whole split. All other results are listed with the reason. Exit code
0: everything that can be compared passes; 1: something fails; 2: nothing can be compared. Published figures and their
sources are in eval/report/published.yaml.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from eval.common.command import new_parser
from eval.common.result import read_results
from eval.common.tables import terminal_table
from eval.report.published import ASSUMED, TOLERANCE, Published, Verdict, compare, published_rows
from eval.segmentation.registry import BENCHMARKS
from pacl.cli.messages import EXIT_USER_ERROR, need_output, run_verb
from pacl.errors import ArgumentError, UserError
from pacl.printing import counted, escaped


def commands(rows: Sequence[Published]) -> list[tuple[str, list[Published]]]:
    """Commands to run, and the rows that each is to reach; rows with the same settings share a command."""
    groups: dict[tuple[str, str], list[Published]] = {}
    for row in rows:
        groups.setdefault((row.setting, row.models[0]), []).append(row)
    found = []
    for (setting, model), own in groups.items():
        changes = "".join(f" --{key} {value}" for key, value in own[0].changed.items())
        command = (
            f"python -m eval.segmentation {' '.join(own[0].scores)} --data ROOT --model {model} --protocol "
            f"{own[0].protocol} --method {' '.join(str(row.method) for row in own)}{changes} --precision fp32 "
            f"--out out/segmentation/{setting.replace(', ', '-').replace(' ', '-')}"
        )
        found.append((command, own))
    return found


def plan(rows: Sequence[Published]) -> str:
    """The commands with the figures, as text."""
    lines = ["No results were named. What to run, and the mIoU that each command is to reach:", ""]
    for command, own in commands(rows):
        lines += [command]
        for row in own:
            figures = ", ".join(f"{name} {score:.1f}" for name, score in row.scores.items())
            lines += [f"    {row.title}: {figures}" + (f" (uncertain: {row.assumed})" if row.assumed else "")]
        lines += [""]
    return "\n".join([*lines, "then: python -m eval.report.reproduce out/segmentation"])


def show(verdicts: Sequence[Verdict], tolerance: float) -> None:
    """Print the comparisons as a table, and the other results with the reasons."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    rows, assumed = [], {}
    for each in verdicts:
        if each.passed is None or each.row is None:
            continue
        measured, wanted = each.result.scores["miou"], each.row.scores[each.result.dataset]
        figures = (f"{measured:.1f}", f"{wanted:.1f}", f"{measured - wanted:+.2f}")
        rows.append([each.result.dataset, each.row.title, *figures, each.word])
        if each.word == ASSUMED:
            assumed[each.row.title] = each.row.assumed
    if rows:
        header = ("benchmark", "published row", "measured", "published", "off by", "")
        console.print(terminal_table(header, rows, (2, 3, 4), title=f"mIoU, within {tolerance:g} of the published"))
    for title, why in assumed.items():
        console.print(f"{title}: {why}; a miss is not a failure", soft_wrap=True, markup=False)
    rest = [verdict for verdict in verdicts if verdict.passed is None]
    if rest:
        console.print(f"Not comparable: {len(rest)} of {counted(len(verdicts), 'result')}")
    for each in rest:
        r = each.result
        settings = f"protocol {r.protocol.get('name')}, names {r.protocol.get('names')}, {r.images:,} images"
        line = escaped(f"  {r.dataset}, {r.method}, {settings}: {'; '.join(each.reasons)}")
        console.print(line, soft_wrap=True, markup=False)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """1 if something fails, 0 if something passes and nothing fails, else 2."""
    words = {verdict.word for verdict in verdicts}
    return 1 if "fail" in words else 0 if "pass" in words else EXIT_USER_ERROR


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = new_parser("eval.report.reproduce", __doc__)
    parser.add_argument("results", nargs="*", metavar="RESULTS", help="results.json files, or folders that hold some")
    parser.add_argument("--protocol", nargs="+", metavar="NAME", help="only runs and figures of these protocols")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, metavar="MIOU", help=f"(default: {TOLERANCE} mIoU)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Compare results, or print what to run."""
    args = build_parser().parse_args(argv)
    need_output()
    if not args.tolerance >= 0:
        raise ArgumentError("tolerance", args.tolerance, "must be at least 0")
    rows = [row for row in published_rows() if row.protocol is not None]
    known = list(dict.fromkeys(str(row.protocol) for row in rows))
    wanted = args.protocol or known
    if unknown := next((name for name in wanted if name not in known), None):
        raise ArgumentError("protocol", unknown, f"figures that can be reproduced are of {', '.join(known)}")
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
