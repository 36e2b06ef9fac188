"""A linear probe that is trained on masks: what the frozen tokens hold, for comparison with a head trained on captions.

    python -m eval.segmentation.mask_probe voc20 --data ROOT [--model photos] [--limit N]

Even and odd photos form two halves. A linear layer on the patch tokens is trained on the majority labels of the
patches of one half and labels the other half, then the same with the halves exchanged. Patch labels become pixel labels
in the same way as with a head. If there are few photos, the probe has hardly seen the rare classes, and the result says
how well the frequent ones can be told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from eval.common.command import add_model, load, new_parser
from eval.segmentation.arguments import add_data, find_benchmark
from eval.segmentation.label_check import inspect
from eval.segmentation.patch_labels import majorities
from eval.segmentation.registry import BENCHMARKS, CUSTOM
from pacl.cli.messages import need_output, run_verb
from pacl.cli.progress import tracked
from pacl.data.masks import MaskFolder
from pacl.errors import UserError
from pacl.metrics.segmentation import count_areas, scores
from pacl.printing import counted
from pacl.segmentation.encode import encode_images
from pacl.segmentation.patch_maps import PatchMaps
from pacl.segmentation.settings import SegmenterSettings

if TYPE_CHECKING:
    from pacl.models.model import PACL

STEPS, BATCH, LR, WEIGHT_DECAY = 600, 1024, 2e-3, 0.05
"""Settings of AdamW; the learning rate falls linearly to 0."""


class TokenModel:
    """Takes the place of a model in `encode_images`, with the frozen tokens themselves as patch vectors."""

    def __init__(self, model: PACL) -> None:
        self.clip, self.config, self.device = model.clip, model.config, model.device

    def patch_vectors(self, tokens: Tensor) -> Tensor:
        """The tokens ``[B, P, W]``, unchanged."""
        return tokens


def train_probe(tokens: Tensor, labels: Tensor, classes: int, seed: int = 0) -> nn.Linear:
    """Train a linear classifier of tokens.

    Args:
        tokens: ``[N, W]``.
        labels: int64 ``[N]``, classes 0..C-1; tokens with a negative label are not used.
        classes: C.
        seed: seed of the initial weights and of the batches.

    Raises:
        UserError: no token has a class.
    """
    tokens, labels = tokens[labels >= 0], labels[labels >= 0]
    if not len(tokens):
        raise UserError("half of the photos have no labelled patch: nothing to train a probe on")
    rng = torch.Generator().manual_seed(seed)
    probe = nn.Linear(tokens.shape[1], classes)
    with torch.no_grad():
        probe.weight.normal_(std=tokens.shape[1] ** -0.5, generator=rng)
        probe.bias.zero_()
    optimizer = torch.optim.AdamW(probe.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for _ in range(STEPS):
        some = torch.randint(len(tokens), (BATCH,), generator=rng)
        loss = F.cross_entropy(probe(tokens[some]), labels[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return probe


def probed(maps: Sequence[PatchMaps], targets: Sequence[np.ndarray], classes: int) -> list[PatchMaps]:
    """Class logits of the patches of all images, values [1, C, h, w], by the probe trained on the other half."""
    tokens = [rearrange(each.values, "1 w y x -> (y x) w") for each in maps]
    labels = [torch.from_numpy(majorities(m, target)).long().flatten() for m, target in zip(maps, targets, strict=True)]
    found = list(maps)
    for half in (0, 1):
        train, test = range(1 - half, len(maps), 2), range(half, len(maps), 2)
        seen = torch.cat([tokens[i] for i in train])
        mean, std = seen.mean(0), seen.std(0) + 1e-5
        probe = train_probe((seen - mean) / std, torch.cat([labels[i] for i in train]), classes)
        with torch.no_grad():
            for i in test:
                grid = maps[i].grid
                logits = rearrange(probe((tokens[i] - mean) / std), "(y x) c -> 1 c y x", y=grid.h)
                found[i] = replace(maps[i], values=logits)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Train and test the probe, and print its scores."""
    parser = new_parser("eval.segmentation.mask_probe", __doc__)
    parser.add_argument("benchmark", metavar="BENCHMARK", help=", ".join([*BENCHMARKS, "custom"]))
    add_data(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="N photos only, evenly spread")
    parser.add_argument("--size", type=int, metavar="N", help="short side of the photos (default: the model's own)")
    add_model(parser)
    args = parser.parse_args(argv)
    need_output()
    benchmark = find_benchmark(args.benchmark, args)
    if benchmark.background:
        raise UserError(f"{args.benchmark}: the probe takes benchmarks without background, such as voc20")
    folder = benchmark.open(args.data, args.split, names=benchmark.lists()[0], limit=args.limit, partial=args.partial)
    if len(folder) < 2:
        raise UserError(f"{args.benchmark}: {counted(len(folder), 'photo')}; a probe needs two halves")
    inspect("eval.segmentation.mask_probe", args.benchmark, folder, own=args.benchmark == CUSTOM)
    model = load(args)
    found = scores(measure(model, folder, SegmenterSettings(size=args.size, scales=(1.0,), precision=args.precision)))
    print(
        f"{len(folder)} photos of {folder.images}, probe on the tokens of {model.clip.name}: "
        f"mIoU {100 * found['miou']:.1f}, pixel accuracy {100 * found['pixel_accuracy']:.1f}"
    )
    return 0


def measure(model: PACL, folder: MaskFolder, settings: SegmenterSettings) -> np.ndarray:
    """Train the probe on each half of the photos and test it on the other: areas, int64 [3, C], of all photos."""
    tokens: list[PatchMaps] = []
    targets: list[np.ndarray] = []
    raw: Any = TokenModel(model)
    with torch.inference_mode():
        for i in tracked(range(len(folder)), "photos"):
            item = folder[i]
            maps = encode_images([raw], [item.image()], settings)[0][0].patches
            tokens.append(replace(maps, values=maps.values.cpu()))
            targets.append(item.mask)
    tokens = [
        replace(maps, values=maps.values.clone()) for maps in tokens
    ]  # a copy can be trained on, an inference tensor cannot
    areas = np.zeros((3, len(folder.labels)), np.int64)
    for maps, target in zip(probed(tokens, targets, len(folder.labels)), targets, strict=True):
        labels = np.concatenate([band.argmax(0).numpy() for _, _, band in maps.bands()])
        areas += count_areas(labels, target, len(folder.labels))
    return areas


if __name__ == "__main__":
    run_verb("eval.segmentation.mask_probe", main)
