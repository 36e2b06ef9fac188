"""Segmentation of drawn scenes with exact masks: trained heads, untrained variants, upper bounds and a probe.

    python -m eval.scenes                     the full table: 500 + 500 test scenes, three seeds
    python -m eval.scenes --quick             a small version, in a minute
    python -m eval.scenes --tune              choose settings on validation scenes, with the same grid for all methods

Test scenes hold (colour, kind) pairs of the training scenes ("seen"), or only pairs that occur in no training image or
caption ("new"). Pixels are summed over all scenes of a set; IoU is averaged over names, separately for objects and
grounds. The classes are the names of the scene ("own"), or all names ("all"). All methods use the same bilinear
upsampling between patch centres.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from eval.common.command import check_least, new_parser
from eval.common.comparison import mean_and_std, write_results
from eval.common.tables import markdown_table
from eval.scenes.evaluator import BOUNDS, SceneEvaluator
from eval.scenes.sets import COMPETITORS, SceneSet
from pacl.cli.lightning import find_config
from pacl.cli.training import DEFAULT_CONFIG
from pacl.files import make_folder
from pacl.models.loading import load_model
from pacl.models.model import PACL

SETS = {"seen": "seen", "new": "held_out"}  # name in the tables -> pairs of the scenes
QUICK_STEPS = 60  # training steps with --quick
VALIDATION = 200  # scenes for --tune, of seen pairs

# Settings of the trained methods that differ from configs/scenes.yaml, which trains the bundled head.
METHODS: dict[str, dict[str, Any]] = {
    "mean pooling": {"temperature": math.inf},
    "PACL on clip tokens, temperature 1 (the paper's)": {"dense": "clip", "start": "paper", "temperature": 1.0},
    "PACL, temperature 1 (none), start clip": {"temperature": 1.0},
    "PACL, temperature 1 (none), start paper": {"temperature": 1.0, "start": "paper"},
    "PACL, temperature fixed, start clip": {},
    "PACL, temperature fixed, start paper": {"start": "paper"},
    "PACL, temperature learned, start clip": {"learn_temperature": True},
    "PACL, temperature learned, start paper": {"learn_temperature": True, "start": "paper"},
}
# `--tune` tries six points for every method: learning rates and temperatures where the temperature is fixed, else more
# learning rates.
LRS, MORE_LRS = (1e-3, 2e-3, 5e-3), (5e-4, 1e-2, 2e-2)
TEMPERATURES = (0.05, 0.1)

# Its choice for the baselines. PACL with a temperature keeps the settings of the bundled head.
TUNED: dict[str, dict[str, Any]] = {
    "mean pooling": {"lr": 2e-2},
    "PACL on clip tokens, temperature 1 (the paper's)": {"lr": 1e-2},
    "PACL, temperature 1 (none), start clip": {"lr": 2e-2},
    "PACL, temperature 1 (none), start paper": {"lr": 2e-2},
}


def base_settings() -> dict[str, Any]:
    """configs/scenes.yaml: the settings of the bundled head, and the defaults of all others."""
    return yaml.safe_load(find_config(DEFAULT_CONFIG).read_text(encoding="utf-8"))


def compare(
    evaluator: SceneEvaluator, seeds: Sequence[int], shipped: PACL | None, steps: int, quick: bool
) -> dict[str, list[dict[str, float]]]:
    """Measure all rows of the table: name -> scores for each seed, or once if nothing is trained."""
    rows: dict[str, list[dict[str, float]]] = {name: [row] for name, row in evaluator.bounds().items()}
    rows["CLIP's pooled embedding"] = [evaluator.pooled_top1()]
    for dense in evaluator.clip.dense_variants:
        say(f"untrained {dense}")
        rows[f"untrained {dense}"] = [evaluator.measure(PACL.untrained(evaluator.clip, dense=dense))]
    say("supervised probe")
    rows["supervised probe (trained on masks)"] = [evaluator.probed(300, 60) if quick else evaluator.probed(4000, 1200)]
    if shipped is not None:
        rows["the head as shipped"] = [evaluator.measure(shipped)]
    for name, settings in METHODS.items():
        settings = {**settings, **TUNED.get(name, {}), "max_steps": steps}
        rows[name] = []
        for seed in seeds:
            say(f"{name}, seed {seed}")
            rows[name].append(evaluator.measure(evaluator.trained(settings, seed)))
    return rows


def tune(evaluator: SceneEvaluator) -> dict[str, dict[str, Any]]:
    """The best settings of every method on validation scenes, by the mean mIoU of objects among own and all names."""
    chosen = {}
    for name, settings in METHODS.items():
        searched = "temperature" not in settings and not settings.get("learn_temperature")
        points: list[dict[str, Any]] = (
            [{"lr": lr, "temperature": temperature} for lr in LRS for temperature in TEMPERATURES]
            if searched
            else [{"lr": lr} for lr in (*LRS, *MORE_LRS)]
        )
        tried = []
        for point in points:
            row = evaluator.measure(evaluator.trained({**settings, **point}, seed=0))
            tried.append((statistics.mean(row[f"objects/{c}/seen"] for c in COMPETITORS), point))
            say(f"{name}: {point} {tried[-1][0]:.1f}")
        chosen[name] = max(tried, key=lambda pair: pair[0])[1]
        print(f"{name}: {chosen[name]}", flush=True)
    return chosen


def table(rows: dict[str, list[dict[str, float]]], kind: str) -> str:
    """Markdown: mIoU of objects or grounds, mean ± standard deviation over seeds, and percentages of both bounds."""
    columns = [(c, s) for c in COMPETITORS for s in SETS]
    keys = [f"{kind}/{c}/{s}" for c, s in columns]
    header = [f"{kind}, mIoU", *(f"{c} names, {s} pairs" for c, s in columns)]
    header += [f"% of {bound.removeprefix('upper bound: ')}" for bound in BOUNDS]
    lines = []
    for name, runs in rows.items():
        if keys[0] in runs[0]:
            means = [statistics.mean(run[key] for run in runs) for key in keys]
            shares = [
                " / ".join(f"{100 * mean / rows[bound][0][key]:.0f}" for mean, key in zip(means, keys, strict=True))
                for bound in BOUNDS
            ]
            lines.append([name, *(mean_and_std([run[key] for run in runs]) for key in keys), *shares])
    return markdown_table(header, lines)


def top1_table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: zero-shot top-1 accuracy of single objects among all names of objects."""
    lines = [
        [name, *(mean_and_std([run[f"top1/{s}"] for run in runs]) for s in SETS)]
        for name, runs in rows.items()
        if "top1/seen" in runs[0]
    ]
    return markdown_table(["top-1 of one object among 80", *(f"{s} pairs" for s in SETS)], lines)


def say(message: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)


def markdown(rows: dict[str, list[dict[str, float]]], settings: dict[str, Any]) -> str:
    """The result as a page."""
    facts = ", ".join(f"{key} {value}" for key, value in settings.items())
    tables = [table(rows, "objects"), table(rows, "grounds"), top1_table(rows)]
    return "\n\n".join(["# Scenes: what patches find", facts, *tables]) + "\n"


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.scenes", __doc__)
    parser.add_argument("--model", default="bundled", help="head or CLIP to measure, as for pacl.segment")
    parser.add_argument("--scenes", type=int, default=500, metavar="N", help="test scenes of each kind (default: 500)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="training seeds (default: 0 1 2)")
    parser.add_argument("--steps", type=int, metavar="N", help="training steps (default: those of configs/scenes.yaml)")
    parser.add_argument("--out", type=Path, default=Path("out/scenes"), help="folder for the JSON and the Markdown")
    parser.add_argument("--quick", action="store_true", help="60 scenes, one seed, 60 steps on 1000 scenes")
    parser.add_argument("--tune", action="store_true", help="choose settings on validation scenes and print them")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    args = build_parser().parse_args(argv)
    check_least(args, scenes=1, steps=1)
    if args.quick:
        args.scenes, args.seeds = min(args.scenes, 60), args.seeds[:1]
    folder = make_folder(args.out)
    started = time.perf_counter()

    model = load_model(args.model)
    size = model.clip.size
    base = base_settings()
    data = {**base["data"]["init_args"], "size": size}
    if args.quick:
        data["scenes"] = min(1000, data["scenes"])
    config = {**base, "data": {**base["data"], "init_args": data}}
    if args.tune:
        sets = {"seen": SceneSet.draw("val", VALIDATION, "seen", size)}
        write_results(folder, "tuned", tune(SceneEvaluator(model.clip, sets, {}, config)))
        return 0
    say("drawing test scenes")
    sets = {name: SceneSet.draw("test", args.scenes, pairs, size) for name, pairs in SETS.items()}
    singles = {name: SceneSet.draw("test", args.scenes, pairs, size, objects=1) for name, pairs in SETS.items()}
    evaluator = SceneEvaluator(model.clip, sets, singles, config)
    steps = args.steps or (QUICK_STEPS if args.quick else base["trainer"]["max_steps"])
    rows = compare(evaluator, args.seeds, model if model.config.trained else None, steps, args.quick)

    settings = {
        "model": args.model,
        "checksum": model.clip.checksum()[:12],
        "test scenes": f"{args.scenes} + {args.scenes}",
        "seeds": " ".join(map(str, args.seeds)),
        "steps": steps,
        "quick": args.quick,
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{torch.get_num_threads()} CPU threads",
        "seconds": round(time.perf_counter() - started),
    }
    page = markdown(rows, settings)
    print(page)
    methods = {name: {k: "inf" if v == math.inf else v for k, v in own.items()} for name, own in METHODS.items()}
    write_results(folder, "scenes", {"settings": settings, "base": base, "methods": methods, "rows": rows}, page)
    say(f"written to {folder}")
    return 0
