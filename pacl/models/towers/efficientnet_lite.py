"""EfficientNet-Lite in plain torch: the photo model's image tower, without timm.

timm has the same networks, but importing it imports torchvision and torch's compiler, which takes most of the time to
a first mask. Weights have timm's names, so that a head trained with one implementation works with the other.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pacl.models.towers.packaged import packaged_state

LITE2 = "timm:tf_efficientnet_lite2.in1k"
STEM, FEATURES = 32, 1280  # channels, independent of the scale
# Blocks, kernel size, stride, expansion and channels of each stage at scale 1 (Tan and Le, 2019, table 1).
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite(nn.Module):
    """EfficientNet without squeeze-and-excitation and with ReLU6, trained on ImageNet.

    Architecture, scales and padding are those of the reference implementation
    (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite); names and order of the weights,
    and the methods that `pacl.models.towers.timm_tower.TimmTower` calls, are those of timm.

    Args:
        width: factor of the stages' channels.
        depth: factor of the stages' blocks, except in the first and the last one.
        size: side in pixels of the square images that it was trained on.
        output_stride: pixels between the final features; stages that would exceed it are dilated instead.
    """

    num_classes = 1000

    def __init__(self, width: float, depth: float, size: int, output_stride: int = 16) -> None:
        super().__init__()
        self.pretrained_cfg: dict[str, Any] = {
            "input_size": (3, size, size),
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "interpolation": "bicubic",
        }
        self.feature_info: list[dict[str, int]] = []  # the last stage before each stride, and the last of all
        self.conv_stem = SameConv2d(3, STEM, 3, stride=2)
        self.bn1 = NormReLU6(STEM)
        self.blocks = nn.Sequential()
        channels, reduction, dilation = STEM, 2, 1
        last = len(STAGES) - 1
        for index, (count, kernel, stride, expansion, base) in enumerate(STAGES):
            stage = nn.Sequential()
            for number in range(count if index in (0, last) else math.ceil(count * depth)):
                step, rate = stride if number == 0 else 1, dilation
                if reduction * step > output_stride:
                    step, dilation = 1, dilation * step  # (from the next block on: this one sees no wider grid yet)
                reduction *= step
                out = round_channels(base * width)
                stage.append(
                    InvertedResidual(channels, out, kernel, step, rate, expansion)
                    if expansion > 1
                    else DepthwiseSeparable(channels, out, kernel, step, rate)
                )
                channels = out
            self.blocks.append(stage)
            if index == last or STAGES[index + 1][2] > 1:
                self.feature_info.append({"stage": index, "reduction": reduction, "num_chs": channels})
        self.conv_head = SameConv2d(channels, FEATURES, 1)
        self.bn2 = NormReLU6(FEATURES)
        self.classifier = nn.Linear(FEATURES, self.num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """Normalised images ``[B, 3, H, W]`` -> final features ``[B, 1280, h, w]``."""
        return self.forward_intermediates(images, [])[0]

    def forward_intermediates(
        self, images: Tensor, indices: Sequence[int], norm: bool = True, output_fmt: str = "NCHW"
    ) -> tuple[Tensor, list[Tensor]]:
        """Final features, and those of the stages at these ascending indices of ``feature_info``.

        ``norm`` and ``output_fmt`` exist for compatibility with timm and have no effect.
        """
        stages = [self.feature_info[index]["stage"] for index in indices]
        earlier = []
        x = self.conv_stem(images, self.bn1)
        for index, stage in enumerate(self.blocks):
            x = stage(x)
            if index in stages:
                earlier.append(x)
        return self.conv_head(x, self.bn2), earlier

    def get_classifier(self) -> nn.Linear:
        """The linear classifier on the mean of the final features."""
        return self.classifier

    def forward_head(self, features: Tensor) -> Tensor:
        """Final features ``[B, 1280, h, w]`` -> class logits ``[B, K]``."""
        return self.classifier(features.mean(dim=(2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images ``[B, 3, H, W]`` -> class logits ``[B, K]``."""
        return self.forward_head(self.forward_features(images))


class DepthwiseSeparable(nn.Module):
    """A depthwise and a pointwise convolution."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv_dw = SameConv2d(channels, channels, kernel, stride, dilation, groups=channels)
        self.bn1 = NormReLU6(channels)
        self.conv_pw = SameConv2d(channels, out, 1)
        self.bn2 = Norm(out)
        self.skip = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_dw(x, self.bn1)
        y = self.conv_pw(y, self.bn2)
        return y + x if self.skip else y


class InvertedResidual(nn.Module):
    """MobileNetV2's block: a pointwise convolution to more channels, a depthwise and a pointwise one."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, dilation: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.conv_pw = SameConv2d(channels, wide, 1)
        self.bn1 = NormReLU6(wide)
        self.conv_dw = SameConv2d(wide, wide, kernel, stride, dilation, groups=wide)
        self.bn2 = NormReLU6(wide)
        self.conv_pwl = SameConv2d(wide, out, 1)
        self.bn3 = Norm(out)
        self.skip = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_pw(x, self.bn1)
        y = self.conv_dw(y, self.bn2)
        y = self.conv_pwl(y, self.bn3)
        return y + x if self.skip else y


class Norm(nn.BatchNorm2d):
    """Batch norm with TensorFlow's epsilon. Its convolution applies it, see `SameConv2d.forward`."""

    relu6 = False

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3)


class NormReLU6(Norm):
    """Batch norm and ReLU6 in one module, as in timm, so that the weights have timm's names."""

    relu6 = True


class SameConv2d(nn.Conv2d):
    """Convolution without bias, with TensorFlow's SAME padding: an odd pixel is added at the right and bottom."""

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        padding = dilation * (kernel - 1) // 2 if stride == 1 else 0
        super().__init__(channels, out, kernel, stride, padding, dilation, groups, bias=False)

    def forward(self, x: Tensor, norm: Norm) -> Tensor:  # type: ignore[override]
        """The convolution and the batch norm after it, with its ReLU6 where it has one.

        In eval mode a batch norm is a factor and an offset, which are applied to the weights. This saves a pass over
        the features of every layer, up to a third of the tower's time on a CPU. The weights are scaled at each call,
        which costs little, so that there is no second copy of them.
        """
        if self.stride != (1, 1):  # the padding depends on the size
            (top, bottom), (left, right) = (self._padding(axis, x.shape[2 + axis]) for axis in (0, 1))
            x = F.pad(x, (left, right, top, bottom))
        if norm.training:
            y = norm(self._conv_forward(x, self.weight, None))
        else:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            y = self._conv_forward(x, self.weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale)
        return F.relu6(y, inplace=True) if norm.relu6 else y

    def _padding(self, axis: int, length: int) -> tuple[int, int]:
        # TensorFlow's own formula; it is a constant where the stride divides the length, which exporters can tell.
        stride, reach = self.stride[axis], self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
        total = max(reach - (length % stride or stride), 0)
        return total // 2, total - total // 2


def round_channels(channels: float) -> int:
    """The nearest multiple of 8 that is at least 0.9 of the channels."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def load_lite2() -> EfficientNetLite | None:
    """EfficientNet-Lite2 with the weights of their package; ``None`` if it is not installed.

    Raises:
        UserError: the package's file is not the expected one.
    """
    with torch.device("meta"):  # skips the initialisation of weights
        model = EfficientNetLite(width=1.1, depth=1.2, size=260)
    state = packaged_state(LITE2, model.state_dict())
    if state is None:
        return None
    model.load_state_dict(state, assign=True)
    return model


def imagenet_classes() -> tuple[list[tuple[str, ...]], list[str]]:
    """Names and definitions of the 1,000 classes in timm's data files, without importing it.

    Raises:
        FileNotFoundError: this version of timm keeps them elsewhere.
    """
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("timm")
    folder = Path(spec.origin).parent / "data" / "_info"
    synsets = (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").splitlines()
    wanted = set(synsets)

    def read(name: str) -> dict[str, str]:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            lines = (line for line in file if line.partition("\t")[0] in wanted)  # of 21,844
            return dict(csv.reader(lines, delimiter="\t"))

    names, definitions = read("imagenet_synset_to_lemma.txt"), read("imagenet_synset_to_definition.txt")
    return [tuple(names[synset].split(", ")) for synset in synsets], [definitions[synset] for synset in synsets]
