"""Segmentation of procedural scenes with exact masks: trained heads, training-free variants and upper bounds.

    python -m eval.scenes                     the full table: 500 + 500 test scenes, three seeds
    python -m eval.scenes --quick             a small version that takes about a minute
    python -m eval.scenes --tune              choose hyperparameters on validation scenes; every method gets 6 trials

There are two test sets. In "seen", all (colour, kind) pairs of objects also occur in the training scenes. In "new",
none of them occurs in any training image or caption. Each test set is segmented twice: with the names that are in the
scene as classes ("own"), and with all names as classes ("all").

The metric is mIoU: pixel counts are summed over all scenes of a test set, then IoU is averaged over the names,
separately for objects and grounds. Patch scores of all methods are upsampled bilinearly between patch centres.
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

from eval.common.command import add_overwrite, check_least, check_seeds, new_parser
from eval.common.figures import check_report, figures_arguments
from eval.common.folders import only_writer
from eval.common.head_training import mean_and_std, write_report
from eval.common.tables import markdown_table
from eval.scenes.evaluator import BOUNDS, SceneEvaluator
from eval.scenes.sets import COMPETITORS, SceneSet
from pacl.cli.configs import TRAIN_CONFIG, find_config
from pacl.cli.model import load
from pacl.cli.parser import check_unused
from pacl.errors import ArgumentError
from pacl.files import check_folder, make_folder
from pacl.models.model import PACL

TEST_SETS = {"seen": "seen", "new": "held_out"}  # name in the tables -> ``pairs`` of `SceneDataset`
QUICK_STEPS = 60  # training steps with --quick
VALIDATION_SCENES = 200  # for --tune

# The trained methods, each with the settings in which it differs from configs/scenes.yaml.
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
# `--tune` tries six settings for every method. Methods with a fixed temperature below 1 try three learning rates with
# two temperatures; the others have no temperature to choose and try six learning rates.
LRS, MORE_LRS = (1e-3, 2e-3, 5e-3), (5e-4, 1e-2, 2e-2)
TEMPERATURES = (0.05, 0.1)

# What `--tune` chose for the baselines. All other methods keep the settings of configs/scenes.yaml.
TUNED: dict[str, dict[str, Any]] = {
    "mean pooling": {"lr": 2e-2},
    "PACL on clip tokens, temperature 1 (the paper's)": {"lr": 1e-2},
    "PACL, temperature 1 (none), start clip": {"lr": 2e-2},
    "PACL, temperature 1 (none), start paper": {"lr": 2e-2},
}


def base_settings() -> dict[str, Any]:
    """The content of configs/scenes.yaml, which trains the bundled head and has the defaults of all methods."""
    return yaml.safe_load(find_config(TRAIN_CONFIG).read_text(encoding="utf-8"))


def compare(
    evaluator: SceneEvaluator, seeds: Sequence[int], shipped: PACL | None, steps: int, quick: bool
) -> dict[str, list[dict[str, float]]]:
    """Evaluate all methods.

    Args:
        evaluator: the CLIP and the test sets.
        seeds: training seeds.
        shipped: a trained head to evaluate as it is, if there is one.
        steps: training steps of each head.
        quick: whether to train the supervised patch classifier on less data.

    Returns:
        Name of the method -> its scores (see `SceneEvaluator.measure`), once per seed if the method is trained.
    """
    rows: dict[str, list[dict[str, float]]] = {name: [scores] for name, scores in evaluator.upper_bounds().items()}
    rows["CLIP's pooled embedding"] = [evaluator.pooled_top1()]
    for dense in evaluator.clip.dense_variants:
        say(f"untrained {dense}")
        rows[f"untrained {dense}"] = [evaluator.measure(PACL.untrained(evaluator.clip, dense=dense))]
    say("supervised probe")
    scenes, probe_steps = (300, 60) if quick else (4000, 1200)
    rows["supervised probe (trained on masks)"] = [evaluator.supervised(scenes, probe_steps)]
    if shipped is not None:
        rows["the head as shipped"] = [evaluator.measure(shipped)]
    for name, settings in METHODS.items():
        settings = {**settings, **TUNED.get(name, {}), "max_steps": steps}
        rows[name] = []
        for seed in seeds:
            say(f"{name}, seed {seed}")
            rows[name].append(evaluator.measure(evaluator.train(settings, seed)))
    return rows


def tune(evaluator: SceneEvaluator) -> dict[str, dict[str, Any]]:
    """Choose the settings of every method on validation scenes.

    Returns:
        Name of the method -> the settings with the highest mIoU of objects, averaged over both choices of classes.
    """
    chosen = {}
    for name, settings in METHODS.items():
        tunes_temperature = "temperature" not in settings and not settings.get("learn_temperature")
        candidates: list[dict[str, Any]] = (
            [{"lr": lr, "temperature": temperature} for lr in LRS for temperature in TEMPERATURES]
            if tunes_temperature
            else [{"lr": lr} for lr in (*LRS, *MORE_LRS)]
        )
        trials = []
        for candidate in candidates:
            scores = evaluator.measure(evaluator.train({**settings, **candidate}, seed=0))
            trials.append((statistics.mean(scores[f"objects/{c}/seen"] for c in COMPETITORS), candidate))
            say(f"{name}: {candidate} {trials[-1][0]:.1f}")
        chosen[name] = max(trials, key=lambda trial: trial[0])[1]
        print(f"{name}: {chosen[name]}", flush=True)
    return chosen


def table(rows: dict[str, list[dict[str, float]]], kind: str) -> str:
    """A Markdown table of mIoU in percent.

    Args:
        rows: the result of `compare`.
        kind: ``objects`` or ``grounds``.

    Returns:
        For each method the mean ± standard deviation over seeds, and the mean as a percentage of each upper bound.
    """
    columns = [(c, s) for c in COMPETITORS for s in TEST_SETS]
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
    """A Markdown table of zero-shot top-1 accuracy in percent on scenes with one object, over all names of objects."""
    lines = [
        [name, *(mean_and_std([run[f"top1/{s}"] for run in runs]) for s in TEST_SETS)]
        for name, runs in rows.items()
        if "top1/seen" in runs[0]
    ]
    return markdown_table(["top-1 of one object among 80", *(f"{s} pairs" for s in TEST_SETS)], lines)


def say(message: str) -> None:
    """Print a progress message with the time on standard error."""
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)


def markdown(rows: dict[str, list[dict[str, float]]], settings: dict[str, Any]) -> str:
    """The report: the settings, then a table each for objects, grounds and top-1 accuracy."""
    facts = ", ".join(f"{key} {value}" for key, value in settings.items())
    tables = [table(rows, "objects"), table(rows, "grounds"), top1_table(rows)]
    return "\n\n".join(["# Scenes: what patches find", facts, *tables]) + "\n"


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.scenes", __doc__)
    parser.add_argument(
        "--model",
        default="bundled",
        help="a CLIP, or a trained head on a CLIP, by the names that pacl.segment takes (default: %(default)s)",
    )
    parser.add_argument(
        "--scenes", type=int, default=500, metavar="N", help="scenes per test set (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="training seeds (default: 0 1 2)")
    parser.add_argument("--steps", type=int, metavar="N", help="training steps (default: as in configs/scenes.yaml)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/scenes"),
        help="folder for scenes.json and scenes.md (default: out/scenes)",
    )
    add_overwrite(parser)
    parser.add_argument(
        "--quick", action="store_true", help="60 test scenes, one seed, 60 training steps on 1000 training scenes"
    )
    parser.add_argument(
        "--tune", action="store_true", help="choose hyperparameters on validation scenes and print them"
    )
    parser.set_defaults(dense=None, device="cpu")  # the comparison covers all dense variants, on the CPU
    return parser


def check_model(model: PACL, name: str) -> None:
    """Refuse a model from which the trained methods cannot start, before anything is measured.

    Raises:
        ArgumentError: the model's backbone is not a CLIP with a linear visual projection and all needed dense variants.
    """
    if not model.clip.shared or model.clip.projection is None:
        raise ArgumentError(
            "model", name, "the comparison needs a CLIP with a linear visual projection, such as bundled"
        )
    needed = {"clip", "value"}
    if missing := sorted(needed.difference(model.clip.dense_variants)):
        reason = f"its image tower does not support the dense variant {missing[0]}, which the comparison needs"
        raise ArgumentError("model", name, f"{reason}; choose a plain ViT, such as bundled")


def main(argv: Sequence[str] | None = None) -> int:
    """Run all methods, or with ``--tune`` the hyperparameter search; print and save the results."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.tune:
        check_unused(args, parser, ("scenes", "seeds", "steps"), "with --tune")
    check_least(args, scenes=1, steps=1)
    check_seeds(args.seeds)
    if args.quick:
        args.scenes, args.seeds = min(args.scenes, 60), args.seeds[:1]
    arguments = figures_arguments(args)
    check_folder(args.out)
    model = load(args)
    check_model(model, model.name or args.model)
    folder = make_folder(args.out)
    with only_writer(folder):
        check_report(folder / ("tuned.json" if args.tune else "scenes.json"), arguments, args.overwrite)
        measure(args, model, folder, arguments)
    return 0


def measure(args: argparse.Namespace, model: PACL, folder: Path, arguments: dict[str, Any]) -> None:
    """`main` for parsed flags, a model that fits and a folder that is free."""
    started = time.perf_counter()
    size = model.clip.size
    base = base_settings()
    data = {**base["data"]["init_args"], "size": size}
    if args.quick:
        data["scenes"] = min(1000, data["scenes"])
    config = {**base, "data": {**base["data"], "init_args": data}}
    if args.tune:
        sets = {"seen": SceneSet.render("val", VALIDATION_SCENES, "seen", size)}
        chosen = tune(SceneEvaluator(model.clip, sets, {}, config))
        write_report(folder, "tuned", {"arguments": arguments, "chosen": chosen})
        return
    say("rendering test scenes")
    sets = {name: SceneSet.render("test", args.scenes, pairs, size) for name, pairs in TEST_SETS.items()}
    singles = {name: SceneSet.render("test", args.scenes, pairs, size, objects=1) for name, pairs in TEST_SETS.items()}
    evaluator = SceneEvaluator(model.clip, sets, singles, config)
    steps = args.steps or (QUICK_STEPS if args.quick else base["trainer"]["max_steps"])
    rows = compare(evaluator, args.seeds, model if model.config.trained else None, steps, args.quick)

    settings = {
        "model": model.name,
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
    report = {"arguments": arguments, "settings": settings, "base": base, "methods": methods, "rows": rows}
    write_report(folder, "scenes", report, page)
    say(f"written to {folder}")
