"""Do patches find what words name? The whole claim of the method, measured on scenes whose masks are exact.

    python -m eval.scenes                     the full table: 500 + 500 test scenes, three seeds
    python -m eval.scenes --quick             the same in a minute, on little
    python -m eval.scenes --tune              choose settings on validation scenes, the same grid for every method

Test scenes hold (colour, kind) pairs that training saw ("seen"), or only pairs that occur in no training picture or
caption ("new"). IoU is summed over all pixels of a set and averaged over its names, objects and grounds apart.
Competitors are the scene's own names ("own"), or every name there is ("all"). All methods go through the same
bilinear upsampling between patch centres.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from eval.experiments.heads import quiet_lightning, train_head
from eval.scenes.probe import train_probe
from eval.scenes.sets import COMPETITORS, NAMES, OBJECTS, SceneSet, bound_majority, bound_shares, score_patches
from pacl.cli.lightning import find_config
from pacl.errors import UserError
from pacl.files import make_folder, written_whole
from pacl.models.backbone import Backbone
from pacl.models.grid import PatchGrid
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.scenes.data import SceneData
from pacl.training.run import DEFAULT_CONFIG

SETS = {"seen": "seen", "new": "held_out"}  # column -> pairs of the scenes
QUICK_STEPS = 60  # of the trained methods under --quick
VALIDATION = 200  # scenes that settings are chosen on; seen pairs only

BOUNDS = {"upper bound: majority label": bound_majority, "upper bound: label shares": bound_shares}

# What the trained methods differ in; everything else stands in configs/scenes.yaml, which trains the head that ships.
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
# `--tune` tries six points for every method: those with a fixed temperature search it beside the learning rate, the
# others more learning rates.
LRS, MORE_LRS = (1e-3, 2e-3, 5e-3), (5e-4, 1e-2, 2e-2)
TEMPERATURES = (0.05, 0.1)

# What it chose for the baselines. The rows of PACL with a temperature keep the settings of the head that ships.
TUNED: dict[str, dict[str, Any]] = {
    "mean pooling": {"lr": 2e-2},
    "PACL on clip tokens, temperature 1 (the paper's)": {"lr": 1e-2},
    "PACL, temperature 1 (none), start clip": {"lr": 2e-2},
    "PACL, temperature 1 (none), start paper": {"lr": 2e-2},
}


# ---------------------------------------------------------------- what is compared


class Bench:
    """One frozen CLIP with its frozen tokens of everything, each computed once per dense variant.

    Args:
        clip: the frozen CLIP.
        sets: name -> scenes to segment.
        singles: name -> scenes with one object, to classify.
        train: arguments of the training data (`pacl.scenes.data.SceneData`).
    """

    def __init__(
        self, clip: Backbone, sets: dict[str, SceneSet], singles: dict[str, SceneSet], train: dict[str, Any]
    ) -> None:
        self.clip, self.sets, self.singles, self.train = clip, sets, singles, train
        self.base = base_settings()  # once: an edit of the file must not mix settings within a run
        self.data: dict[str, SceneData] = {}  # by dense variant, with the frozen tokens of its scenes
        self.tokens: dict[tuple[str, str, str], Tensor] = {}
        self.grid = PatchGrid(0, 0, 0, 0)

    def tokens_of(self, kind: str, name: str, dense: str) -> Tensor:
        """Frozen tokens float16 [N, P, W] of a set to segment or of single objects."""
        key = (kind, name, dense)
        if key not in self.tokens:
            self.tokens[key] = self.frozen((self.sets if kind == "sets" else self.singles)[name].images, dense)
        return self.tokens[key]

    @torch.inference_mode()
    def frozen(self, images: Tensor, dense: str) -> Tensor:
        """Frozen tokens float16 [N, P, W] of uint8 images [N, 3, H, W]."""
        parts = []
        for some in images.split(64):
            tokens, self.grid = self.clip.patch_tokens(self.clip.normalize(some), dense)
            parts.append(tokens.half())
        return torch.cat(parts)

    @torch.inference_mode()
    def measure(self, model: PACL) -> dict[str, float]:
        """All figures of a model, in percent: "objects/own/seen" ..., and "top1/seen", "top1/new" of its phi."""
        model.eval()
        result: dict[str, float] = {}
        names = model.encode_text(NAMES)
        for name, scenes in self.sets.items():
            patches = self.embed(model, self.tokens_of("sets", name, model.config.dense))
            scores = score_patches(patches, names, scenes, self.grid)
            result |= {f"{key}/{name}": value for key, value in scores.items()}
        for name, scenes in self.singles.items():
            patches = self.embed(model, self.tokens_of("singles", name, model.config.dense))
            phi = torch.cat([model.phi(some, names[: len(OBJECTS)]) for some in patches.split(64)])
            result[f"top1/{name}"] = 100 * float((phi.argmax(1) == scenes.uppermost).float().mean())
        return result

    @staticmethod
    def embed(model: PACL, tokens: Tensor) -> Tensor:
        return torch.cat([model.embed_tokens(some.float()) for some in tokens.split(256)])

    @torch.inference_mode()
    def pooled_top1(self) -> dict[str, float]:
        """Zero-shot top-1 of CLIP's own pooled embedding, in percent."""
        names = self.clip.encode_text(NAMES[: len(OBJECTS)])
        result = {}
        for name, scenes in self.singles.items():
            pooled = torch.cat([self.clip.encode_image(self.clip.normalize(x)) for x in scenes.images.split(64)])
            result[f"top1/{name}"] = 100 * float(((pooled @ names.T).argmax(1) == scenes.uppermost).float().mean())
        return result

    def bounds(self) -> dict[str, dict[str, float]]:
        """What the patch grid allows, by name of the bound."""
        self.tokens_of("sets", next(iter(self.sets)), "clip")  # makes the grid known
        result: dict[str, dict[str, float]] = {name: {} for name in BOUNDS}
        for row, bound in zip(result.values(), BOUNDS.values(), strict=True):
            for name, scenes in self.sets.items():
                row |= {f"{key}/{name}": value for key, value in bound(scenes, self.grid).items()}
        return result

    def probed(self, scenes: int, steps: int, dense: str = "value") -> dict[str, float]:
        """The figures of a classifier trained on the masks of training scenes (`eval.scenes.probe`)."""
        train = SceneSet.draw("train", scenes, "seen", self.clip.size)
        tokens = self.frozen(train.images, dense)
        probe = train_probe(tokens, train, self.grid, steps)
        result: dict[str, float] = {}
        with torch.inference_mode():
            for name, wanted in self.sets.items():
                scores = probe(self.tokens_of("sets", name, dense).float()).softmax(dim=-1)  # [N, P, C]
                found = score_patches(scores, torch.eye(len(NAMES)), wanted, self.grid)
                result |= {f"{key}/{name}": value for key, value in found.items()}
        return result

    def trained(self, settings: dict[str, Any], seed: int) -> PACL:
        """A head trained with the settings of configs/scenes.yaml, some of them changed."""
        model, data = dict(self.base["model"]), dict(self.train)
        steps = settings.get("max_steps", self.base["trainer"]["max_steps"])
        for key, value in settings.items():
            if key != "max_steps":
                (data if key in data else model)[key] = value
        dense = model["dense"]
        if dense not in self.data:
            self.data[dense] = SceneData(**data)
        return train_head(self.clip, model, self.data[dense], {"max_steps": steps}, seed)


def base_settings() -> dict[str, Any]:
    """configs/scenes.yaml: the settings of the head that ships, and the start of all others."""
    return yaml.safe_load(find_config(DEFAULT_CONFIG).read_text(encoding="utf-8"))


def compare(
    bench: Bench, seeds: Sequence[int], shipped: PACL | None, steps: int, quick: bool
) -> dict[str, list[dict[str, float]]]:
    """Every row of the table: name -> one dictionary of figures a seed (one for what has no seed)."""
    rows: dict[str, list[dict[str, float]]] = {name: [row] for name, row in bench.bounds().items()}
    rows["CLIP's pooled embedding"] = [bench.pooled_top1()]
    for dense in bench.clip.dense_variants:
        say(f"untrained {dense}")
        rows[f"untrained {dense}"] = [bench.measure(PACL.untrained(bench.clip, dense=dense))]
    say("supervised probe")
    rows["supervised probe (trained on masks)"] = [bench.probed(300, 60) if quick else bench.probed(4000, 1200)]
    if shipped is not None:
        rows["the head as shipped"] = [bench.measure(shipped)]
    for name, settings in METHODS.items():
        settings = {**settings, **TUNED.get(name, {}), "max_steps": steps}
        rows[name] = []
        for seed in seeds:
            say(f"{name}, seed {seed}")
            rows[name].append(bench.measure(bench.trained(settings, seed)))
    return rows


def tune(bench: Bench) -> dict[str, dict[str, Any]]:
    """The best settings of every method on validation scenes with seen pairs: objects, mean of own and all."""
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
            row = bench.measure(bench.trained({**settings, **point}, seed=0))
            tried.append((statistics.mean(row[f"objects/{c}/seen"] for c in COMPETITORS), point))
            say(f"{name}: {point} {tried[-1][0]:.1f}")
        chosen[name] = max(tried, key=lambda pair: pair[0])[1]
        print(f"{name}: {chosen[name]}", flush=True)
    return chosen


# ---------------------------------------------------------------- how it is shown


def table(rows: dict[str, list[dict[str, float]]], what: str) -> str:
    """Markdown: mIoU of objects or grounds, mean ± standard deviation over seeds, and the shares of both bounds."""
    columns = [(c, s) for c in COMPETITORS for s in SETS]
    shares = [bound.removeprefix("upper bound: ") for bound in BOUNDS]
    lines = [
        f"| {what}, mIoU | " + " | ".join(f"{c} names, {s} pairs" for c, s in columns) + " | "
        + " | ".join(f"% of {share}" for share in shares) + " |",
        "|---|" + "---|" * (len(columns) + len(shares)),
    ]  # fmt: skip
    for name, row in rows.items():
        keys = [f"{what}/{c}/{s}" for c, s in columns]
        if keys[0] not in row[0]:
            continue
        cells = [mean_and_spread([r[key] for r in row]) for key in keys]
        for bound in BOUNDS:
            parts = [100 * statistics.mean(r[key] for r in row) / rows[bound][0][key] for key in keys]
            cells.append(" / ".join(f"{part:.0f}" for part in parts))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def top1_table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: zero-shot top-1 of single objects among all colour-kinds."""
    lines = ["| top-1 of one object among 80 | " + " | ".join(f"{s} pairs" for s in SETS) + " |", "|---|---|---|"]
    for name, row in rows.items():
        if "top1/seen" in row[0]:
            cells = [mean_and_spread([r[f"top1/{s}"] for r in row]) for s in SETS]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_and_spread(values: Sequence[float]) -> str:
    """ "71.2 ± 0.4": mean and standard deviation."""
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


def say(message: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)


def markdown(rows: dict[str, list[dict[str, float]]], settings: dict[str, Any]) -> str:
    """The whole result as a page."""
    facts = ", ".join(f"{key} {value}" for key, value in settings.items())
    tables = [table(rows, "objects"), table(rows, "grounds"), top1_table(rows)]
    return "\n\n".join(["# Scenes: what patches find", facts, *tables]) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.scenes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="bundled", help="head or CLIP to measure, as pacl.segment takes it")
    parser.add_argument("--scenes", type=int, default=500, help="test scenes of each kind (default 500)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of training (default 0 1 2)")
    parser.add_argument("--steps", type=int, help="of every trained row (default: those of the head that ships)")
    parser.add_argument("--out", type=Path, default=Path("out/scenes"), help="folder for the JSON and the Markdown")
    parser.add_argument("--quick", action="store_true", help="60 scenes, one seed, 60 steps on 1000 scenes")
    parser.add_argument("--tune", action="store_true", help="choose settings on validation scenes and print them")
    args = parser.parse_args(argv)
    for flag in ("scenes", "steps"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise UserError(f"--{flag} {value}: at least 1")
    if args.quick:
        args.scenes, args.seeds = min(args.scenes, 60), args.seeds[:1]
    folder = make_folder(args.out)
    quiet_lightning()
    started = time.perf_counter()

    model = load_model(args.model)
    size = model.clip.size
    train = {**base_settings()["data"]["init_args"], "size": size}
    if args.quick:
        train = {**train, "scenes": min(1000, train["scenes"])}
    if args.tune:
        bench = Bench(model.clip, {"seen": SceneSet.draw("val", VALIDATION, "seen", size)}, {}, train)
        chosen = tune(bench)
        write(folder / "tuned.json", json.dumps(chosen, indent=2) + "\n")
        return 0
    say("drawing test scenes")
    sets = {name: SceneSet.draw("test", args.scenes, pairs, size) for name, pairs in SETS.items()}
    singles = {name: SceneSet.draw("test", args.scenes, pairs, size, objects=1) for name, pairs in SETS.items()}
    bench = Bench(model.clip, sets, singles, train)
    steps = args.steps or (QUICK_STEPS if args.quick else bench.base["trainer"]["max_steps"])
    rows = compare(bench, args.seeds, model if model.config.trained else None, steps, args.quick)

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
    result = {"settings": settings, "base": bench.base, "methods": methods, "rows": rows}
    write(folder / "scenes.json", json.dumps(result, indent=2, allow_nan=False) + "\n")
    write(folder / "scenes.md", page)
    say(f"written to {folder}")
    return 0


def write(path: Path, text: str) -> None:
    """Write a result whole or not at all."""
    with written_whole(path) as aside:
        aside.write_text(text, encoding="utf-8")
