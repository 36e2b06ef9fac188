"""Zero-shot classification, and linear probes on the same frozen features.

Three ways to score a picture against the names of the classes, side by side from one pass of the image tower: CLIP's
pooled embedding ("pooled"), PACL's compatibility of all patches with each name ("phi"), and the mean of the two
cosines ("mean"). Pictures are cut as CLIP's own preprocessing does it, to the CLIP's native size. A class is the mean
of its name's embeddings in all templates; of several names the best counts. Every result has top-1, top-5 and the
mean per class, and says which of them the literature gives for that data set.

    python -m eval.classification imagenet --data imagenet --model bundled
    python -m eval.classification food101 oxford_pets cifar10 --data data --templates paper
    python -m eval.classification custom --data photos --names names.txt
    python -m eval.classification cifar10 --data data --probe --shots 1 2 4 8 16 all --seeds 0 1 2

data sets: imagenet, imagenet_v2, imagenet_a, imagenet_r, imagenet_sketch, food101, stanford_cars, oxford_pets, sun397,
eurosat, caltech101, cifar10, cifar100, and custom: a folder for each class, in test/ and train/ if there are such
parts. A file of names has a line for each class: "words=folder", or words alone in the order of the folders.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.arguments import add_model, add_out, load, new_parser
from eval.result import Result, describe_model, made_with, write_results
from pacl.errors import UserError, run_verb
from pacl.files import make_folder, written_whole
from pacl.prompts import fill, get_templates, unknown_words

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from eval.image_sets import ImageSet
    from eval.linear_probe import Shots
    from pacl.model import PACL

METHODS = ("pooled", "phi", "mean")
SHOTS = ("1", "2", "4", "8", "16", "all")


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    parser = new_parser("classification", __doc__)
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="one or more data sets, or custom")
    data = parser.add_argument_group("data")
    data.add_argument("--data", metavar="ROOT", type=Path, required=True, help="where the official folders lie")
    data.add_argument("--split", help="part for zero-shot (default: the one that the literature measures)")
    data.add_argument("--names", metavar="FILE", help="the classes in words (default: CLIP's own names)")
    data.add_argument("--templates", default="imagenet", help="imagenet (80), paper (7), photo, none or a file")
    data.add_argument("--limit", metavar="N", type=int, help="measure so many pictures only, at equal distances")
    data.add_argument("--batch", type=int, default=64, help="pictures at a time (default: 64)")
    data.add_argument("--workers", type=int, default=2, help="processes that read pictures (default: 2)")
    data.add_argument("--download", action="store_true", help="let torchvision download what is missing")
    probe = parser.add_argument_group("linear probe")
    probe.add_argument("--probe", action="store_true", help="also fit linear classifiers on the training pictures")
    probe.add_argument(
        "--shots",
        nargs="+",
        choices=SHOTS,
        default=list(SHOTS),
        help="training pictures a class (default: each of them)",
    )
    probe.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the draws (default: 0 1 2)")
    probe.add_argument(
        "--features", nargs="+", choices=("pooled", "patches"), default=["pooled"],
        help="pooled: CLIP's image feature before its projection; patches: mean of PACL's (default: pooled)",
    )  # fmt: skip
    probe.add_argument("--train_limit", metavar="N", type=int, help="draw from so many training pictures only")
    add_model(parser)
    add_out(parser, "out/classification")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything that can be checked in an instant, load the model, measure data set by data set."""
    args = build_parser().parse_args(argv)
    for flag in ("batch", "workers"):
        if (value := getattr(args, flag)) < (least := int(flag == "batch")):
            raise UserError(f"--{flag} {value}: at least {least}")
    templates = get_templates(args.templates)
    make_folder(args.out)

    from rich.console import Console

    from eval.image_sets import IMAGE_BENCHMARKS, open_image_set

    def opened(name: str, split: str | None, limit: int | None) -> ImageSet:
        images = open_image_set(name, args.data, split, args.names, limit=limit, download=args.download)
        if not len(images):
            raise UserError(f"{name}: {args.data} holds no picture of split {images.split}")
        return images

    sets = [opened(name, args.split, args.limit) for name in dict.fromkeys(args.datasets)]
    parts: list[tuple[ImageSet, ImageSet] | None] = [None] * len(sets)
    if args.probe:
        from eval.linear_probe import check_installed

        check_installed()
        for i, images in enumerate(sets):
            if (splits := images.benchmark.probe) is None:
                raise UserError(f"--probe: {images.benchmark.name} has no training pictures")
            train = opened(images.benchmark.name, splits[0], args.train_limit)
            parts[i] = train, opened(images.benchmark.name, splits[1], args.limit)
    model = load(args)
    results: list[Result] = []
    for images, part in zip(sets, parts, strict=True):
        name = images.benchmark.name
        warn_of_names(model, images, templates)
        found = zero_shot_results(model, images, templates, args)
        if part is not None:
            found += probe_results(model, *part, args)
        write_results(args.out / name, found)
        results += found
    with written_whole(args.out / "results.md") as aside:
        aside.write_text(markdown(results), encoding="utf-8")
    console = Console(highlight=False)
    titles = {name: IMAGE_BENCHMARKS[name].title for name in IMAGE_BENCHMARKS}
    console.print(table(results, titles))
    console.print(f"results in {args.out}", markup=False)
    return 0


# --- zero-shot ------------------------------------------------------------------------------------


def zero_shot_results(
    model: PACL, images: ImageSet, templates: Sequence[str], args: argparse.Namespace
) -> list[Result]:
    """A result for each of `METHODS`."""
    from eval.memory import peak_memory

    start = time.perf_counter()
    counts = zero_shot(model, images, templates, args.batch, args.workers, args.precision)
    seconds = time.perf_counter() - start
    common = {
        "name": "zero-shot",
        "names": images.names,
        "templates": args.templates,
        "template_count": len(templates),
        **picture_protocol(model, images, args),
    }
    speed = {
        "images_per_second": len(images) / seconds,  # the embedding of the names included
        "seconds": seconds,
        "peak_memory_mb": peak_memory(model.device) / 2**20,
    }
    scores = {
        "pooled": "cosine of CLIP's pooled embedding with the class",
        "phi": f"phi of the {model.config.dense} patches with the class, temperature {float(model.temperature):g}"
        + ("" if model.config.cosine else ", the raw product, no cosine"),
    }
    scores["mean"] = f"({scores['pooled']} + {scores['phi']}) / 2"
    return [
        _result(model, images, method, counts[method], {**common, "score": scores[method]}, args, speed)
        for method in METHODS
    ]


def zero_shot(
    model: PACL, images: ImageSet, templates: Sequence[str], batch: int, workers: int, precision: str = "fp32"
) -> dict[str, np.ndarray]:
    """`eval.accuracy.outcomes`, int64 [C, 3], of each of `METHODS`; memory does not grow with the pictures.

    Raises:
        UserError: A picture cannot be read, or the model's scores are no numbers.
    """
    import torch

    from eval.accuracy import outcomes
    from eval.image_features import batches, class_texts, embed

    prompts = [prompt for synonyms in images.prompts for prompt in synonyms]
    owners = torch.tensor([i for i, synonyms in enumerate(images.prompts) for _ in synonyms], device=model.device)
    with torch.inference_mode():
        for_pooled = class_texts(model.clip.encode_text, prompts, templates)  # [N, D]
        for_phi = class_texts(model.encode_text, prompts, templates)

    def by_class(scores: Tensor) -> Tensor:
        """Of a class's synonyms the best: [B, N] -> [B, C]."""
        if scores.shape[1] == len(images.keys):
            return scores
        best = scores.new_full((len(scores), len(images.keys)), -torch.inf)
        return best.scatter_reduce(1, owners.expand(len(scores), -1), scores, "amax")

    counts: dict[str, Any] = dict.fromkeys(METHODS, 0)
    title = f"{images.benchmark.name} {images.split}"
    for squares, labels in batches(images, model, batch, workers, title):
        with torch.inference_mode():
            pooled, patches = embed(model, squares, precision)  # [B, D], [B, P, D]
            scores = {"pooled": pooled @ for_pooled.T, "phi": model.phi(patches, for_phi)}  # [B, N]
            scores["mean"] = (scores["pooled"] + scores["phi"]) / 2
            for method in METHODS:
                if not scores[method].isfinite().all():
                    raise UserError(f"{images.benchmark.name}: scores are no numbers; the model's weights are damaged")
                counts[method] = counts[method] + outcomes(by_class(scores[method]), labels)
    return counts


def warn_of_names(model: PACL, images: ImageSet, templates: Sequence[str]) -> None:
    """Say how much of the names the model cannot read: words it was never taught, texts longer than it takes."""
    clip, prompts = model.clip, [prompt for synonyms in images.prompts for prompt in synonyms]
    if unknown := unknown_words(prompts, clip.vocabulary):
        shown = ", ".join(map(repr, unknown[:5]))
        more = ", ..." if len(unknown) > 5 else ""
        _say(f"{images.benchmark.name}: this model was never taught words of the names ({len(unknown)}: {shown}{more})")
    longest = max(templates, key=lambda template: clip.count_tokens(fill(template, "x")))
    cut = sum(clip.count_tokens(fill(longest, prompt)) > clip.context_length for prompt in prompts)
    if cut:
        _say(
            f"{images.benchmark.name}: {cut} of {len(prompts)} names do not fit the longest template into "
            f"{clip.context_length} tokens and are cut"
        )


# --- probes ---------------------------------------------------------------------------------------


def probe_results(model: PACL, train: ImageSet, test: ImageSet, args: argparse.Namespace) -> list[Result]:
    """A result for each kind of feature and number of shots: means over the seeds."""
    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from eval.image_features import kept_features
    from eval.linear_probe import ALL, Examples, Probe, draw_shots, probe
    from eval.memory import peak_memory

    wanted: list[Shots] = [ALL if shots == ALL else int(shots) for shots in dict.fromkeys(args.shots)]
    seeds = list(dict.fromkeys(args.seeds))
    # Where all examples are used, a seed only draws what C is chosen on: the first one is enough.
    used = {shots: seeds[:1] if shots == ALL else seeds for shots in wanted}
    draws = {
        (shots, seed): draw_shots(train.labels, shots, seed, train.keys) for shots in wanted for seed in used[shots]
    }
    needed = np.unique(np.concatenate([indices for draw in draws.values() for indices in draw]))
    options: dict[str, Any] = {"batch": args.batch, "workers": args.workers, "precision": args.precision}
    folder = args.out / test.benchmark.name / "features"
    parts = train.subset(needed), test
    start = time.perf_counter()
    known, asked = (
        kept_features(model, images, folder, title=f"{images.benchmark.name} {images.split}", **options)
        for images in parts
    )
    embedding = time.perf_counter() - start
    results = []
    runs = [(kind, shots) for kind in dict.fromkeys(args.features) for shots in wanted]
    for kind, shots in track(runs, "probes", console=Console(stderr=True), transient=True):
        examples = Examples(known[kind].numpy(), train.labels[needed])
        aim = Examples(asked[kind].numpy(), test.labels)
        found: list[Probe] = []
        start = time.perf_counter()
        for seed in used[shots]:
            fit, validation = (examples[np.searchsorted(needed, indices)] for indices in draws[shots, seed])
            found.append(probe(fit, validation, aim, len(test.keys), refit=shots == ALL))
        protocol = {
            "name": "linear probe" if shots == ALL else "few-shot",
            "names": "none",
            "shots": shots,
            "seeds": used[shots],
            "features": kind,
            "train_split": train.split,
            "train_images": len(train),
            "train_full": train.full,
            "classifier": "scikit-learn LogisticRegression, L-BFGS, 1,000 iterations; C by validation accuracy",
            **picture_protocol(model, test, args),
        }
        speed = {
            "images_per_second": sum(map(len, parts)) / embedding,  # of training and test; kept ones are only read
            "fitting_seconds": time.perf_counter() - start,
            "peak_memory_mb": peak_memory(model.device) / 2**20,
        }
        results.append(_probe_result(model, test, f"probe {kind} {shots}", found, protocol, args, speed))
    return results


def _probe_result(
    model: PACL, test: ImageSet, method: str, found: Sequence[Any], protocol: dict[str, Any],
    args: argparse.Namespace, speed: dict[str, float],
) -> Result:  # fmt: skip
    """Scores are means over seeds, each of which weighs the same; with their spread and the chosen C in the details."""
    import numpy as np

    from eval.accuracy import accuracies

    result = _result(model, test, method, sum(each.counts for each in found), protocol, args, speed)
    every = [accuracies(each.counts) for each in found]
    result.details["seeds"] = [
        {"seed": seed, "C": each.C, "validation_top1": each.validation, **{k: float(v) for k, v in scores.items()}}
        for seed, each, scores in zip(protocol["seeds"], found, every, strict=True)
    ]
    result.details["deviation"] = {
        name: float(np.std([scores[name] for scores in every], ddof=1)) if len(every) > 1 else None for name in every[0]
    }
    result.intervals.clear()  # those of several seeds' counts together would be too narrow
    return result


# --- what is written ------------------------------------------------------------------------------


def picture_protocol(model: PACL, images: ImageSet, args: argparse.Namespace) -> dict[str, Any]:
    """What decides the figures beside names and method."""
    return {
        "main": images.benchmark.main,
        "classes": len(images.keys),
        "size": model.clip.size,
        "preprocessing": model.clip.clip.visual.preprocess_cfg.get("resize_mode", "shortest"),
        "precision": args.precision,
        "pictures": "drawn by seed 0" if images.benchmark.drawn and images.split != "all" else "the split's own",
        "limit": args.limit,
    }


def _result(
    model: PACL, images: ImageSet, method: str, counts: np.ndarray, protocol: dict[str, Any],
    args: argparse.Namespace, speed: dict[str, float],
) -> Result:  # fmt: skip
    from eval.accuracy import accuracies, intervals, per_class

    shares = dict(zip(images.keys, (100 * per_class(counts)).tolist(), strict=True))
    return Result(
        task="classification",
        dataset=images.benchmark.name,
        split=images.split,
        images=len(images),
        full=images.full,
        method=method,
        model=describe_model(model, args.model),
        protocol=protocol,
        scores={name: float(value) for name, value in accuracies(counts).items()},
        intervals=intervals(counts),
        details={"classes_measured": int((counts.sum(axis=1) > 0).sum()), "per_class": shares},
        speed=speed,
        made=made_with(model.device),
    )


@dataclass(frozen=True)
class Row:
    """A line of the tables."""

    dataset: str
    images: str
    method: str
    top1: str
    top5: str
    mean_per_class: str
    interval: str


def rows(results: Sequence[Result], bold: str) -> list[Row]:
    """The results in words; ``bold`` marks the score that the literature gives, with its value in place of ``{}``."""
    found = []
    for result in results:
        scores = {name: f"{result.scores[name]:.1f}" for name in ("top1", "top5", "mean_per_class")}
        main = result.protocol["main"]
        low, high = result.intervals.get(main, (math.nan, math.nan))
        scores["interval"] = "" if math.isnan(low) else f"{low:.1f}-{high:.1f}"
        scores[main] = bold.format(scores[main])
        images = f"{result.images:,}" if not result.partial or result.full is None else (
            f"{result.images:,}/{result.full:,}"
        )  # fmt: skip
        found.append(Row(f"{result.dataset} {result.split}", images, result.method, **scores))
    return found


HEADS = ("data set", "images", "method", "top-1", "top-5", "per class", "95 %")


def markdown(results: Sequence[Result]) -> str:
    """A table, the literature's score in bold with its 95 % interval, and how it was measured."""
    lines = ["# Classification", "", f"| {' | '.join(HEADS)} |", "|---|---|---|" + "---:|" * 4]
    lines += ["| " + " | ".join(asdict(row).values()) + " |" for row in rows(results, "**{}**")]
    first = results[0]
    model = ", ".join(f"{key} {value}" for key, value in first.model.items())
    lines += [
        "",
        f"Percent; in bold what the literature gives for the data set, with its 95 % interval. Model: {model}.",
        "",
    ]
    stated: dict[str, None] = {}
    for result in results:
        said = ", ".join(f"{key} {value}" for key, value in result.protocol.items())
        stated[f"- {result.dataset}, {result.method}: {said}"] = None
    return "\n".join([*lines, *stated]) + "\n"


def table(results: Sequence[Result], titles: dict[str, str]) -> Any:
    """The same for the terminal."""
    from rich import box
    from rich.table import Table

    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for head in HEADS:
        found.add_column(head, justify="right" if head in HEADS[3:] else "left", no_wrap=True)
    last = ""
    for row, result in zip(rows(results, "{}"), results, strict=True):
        if last not in ("", result.dataset):
            found.add_section()
        last = result.dataset
        values = asdict(row)
        values["dataset"] = f"{titles.get(result.dataset, result.dataset)} {result.split}"
        values[result.protocol["main"]] = f"[bold]{values[result.protocol['main']]}[/]"
        found.add_row(*values.values())
    return found


def _say(message: str) -> None:
    print(f"pacl eval.classification: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    run_verb("eval.classification", main)
