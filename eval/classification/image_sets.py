"""Image classification data sets: their registry, and opening them.

A class has a key, the data set's own name for it (a synset, a folder), and one or more prompts. Data sets without
images of some classes are still classified among all their classes: ImageNet-A and -R among their own 200, as their
authors evaluate them, the other ImageNets among 1,000.

To add a data set, write a finder in `eval.classification.layouts` (or reuse one), a list of its classes in
``class_names/NAME.txt``, and an `ImageBenchmark` in `IMAGE_BENCHMARKS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from eval.classification import layouts
from eval.classification.layouts import Found, ImageBenchmark, Images
from eval.classification.names import Prompts, class_keys, class_prompts
from eval.common.folders import files_digest
from pacl.errors import ArgumentError, UserError
from pacl.images import open_image

NOT_A_CLASS = ("BACKGROUND_Google",)  # folder of Caltech-101, left out as by torchvision
DRAW_SEED = 0  # of splits that are not official


@dataclass(frozen=True)
class ImageSet:
    """Labelled images and the classes among which they are classified.

    Attributes:
        benchmark: the data set.
        split: the part of it.
        images: files, or uint8 [I, H, W, 3].
        labels: int64 [I], the class of each image.
        keys: keys of the C classes.
        prompts: prompts of the C classes, one or more each.
        names: source of the prompts.
        full: images of the whole split; None if unknown.
    """

    benchmark: ImageBenchmark
    split: str
    images: Images = field(repr=False)
    labels: np.ndarray = field(repr=False)
    keys: tuple[str, ...] = field(repr=False)
    prompts: Prompts = field(repr=False)
    names: str
    full: int | None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def chosen(self) -> str:
        """How the images of the split are chosen, in words."""
        if self.benchmark.drawn is None:
            return "the split's own"
        which = "all" if self.split == "all" else f"drawn by seed {DRAW_SEED}"
        return f"{which}; there is no official split, {self.benchmark.published}"

    def read(self, index: int) -> np.ndarray:
        """An image, uint8 [H, W, 3], decoded at full size so that its pixels are those of other evaluations."""
        image = self.images[index]
        return image if isinstance(image, np.ndarray) else open_image(image)

    def subset(self, indices: np.ndarray) -> ImageSet:
        """The images of these numbers, int64 [i], among the same classes."""
        images = self.images
        some = images[indices] if isinstance(images, np.ndarray) else [images[i] for i in indices]
        return replace(self, images=some, labels=self.labels[indices])

    def spread(self, limit: int | None) -> ImageSet:
        """``limit`` evenly spaced images: images are ordered by class, so that all classes are among them."""
        if limit is None or limit >= len(self):
            return self
        return self.subset(np.arange(limit) * len(self) // limit)

    def digest(self) -> str:
        """Digest of paths, sizes and modification times of the files, or of pixels, and of the labels."""
        digest = hashlib.sha256(self.labels.tobytes())
        if isinstance(self.images, np.ndarray):
            digest.update(np.ascontiguousarray(self.images).data)
        else:
            digest.update(files_digest(self.images).encode("ascii"))
        return digest.hexdigest()


def open_image_set(
    name: str,
    data: str | Path,
    split: str | None = None,
    names: str | Path | None = None,
    *,
    limit: int | None = None,
    download: bool = False,
) -> ImageSet:
    """Open one of `IMAGE_BENCHMARKS`.

    Args:
        name: the data set.
        data: parent of its official folder, or (ImageNets, custom) that folder itself.
        split: part of the data set; None is the default one.
        names: file with a class on each line, see `pacl.prompts.read_classes`: ``words=key`` in any order, or words
            alone in the order of the keys. None takes CLIP's names, and for ``custom`` the names of the folders.
        limit: take only this many images, evenly spaced.
        download: let torchvision download what is missing, where it can.

    Raises:
        UserError: files are missing or do not fit; the message says what is expected where.
        ArgumentError: an invalid ``data``, ``split``, ``names``, ``limit`` or ``download``.
    """
    if name not in IMAGE_BENCHMARKS:
        raise UserError(f"{name}: no such data set; choose from {', '.join(IMAGE_BENCHMARKS)}")
    benchmark, root = IMAGE_BENCHMARKS[name], Path(data).expanduser()
    if limit is not None and limit < 1:
        raise ArgumentError("limit", limit, "must be at least 1")
    if not root.is_dir() and not download:
        raise ArgumentError("data", root, "no such folder")
    if download and benchmark.torchvision is None:
        raise ArgumentError("download", download, f"torchvision cannot download {name}; get it from {benchmark.source}")
    if split is None:
        split = layouts.custom_split(root) if name == "custom" else next(iter(benchmark.splits))
    elif name != "custom" and split not in benchmark.splits:
        raise ArgumentError("split", split, f"{name} has {', '.join(benchmark.splits)}")
    images, found = benchmark.find(benchmark, root, split, download)
    keys = layouts.custom_keys(root, split) if name == "custom" else class_keys(name)
    positions = {key: i for i, key in enumerate(keys)}
    for image, key in zip(images, found, strict=True):
        if key not in positions:
            raise UserError(f"{name}: {image} is of {key!r}, which is not a class of {benchmark.title}")
    labels = np.array([positions[key] for key in found], dtype=np.int64)
    if benchmark.drawn is not None and split in ("train", "test"):
        indices = draw_split(labels, split, *benchmark.drawn)
        images, labels = [images[i] for i in indices], labels[indices]
    prompts, source = class_prompts(name, keys, names)
    full = len(labels) if name == "custom" else benchmark.splits[split]
    return ImageSet(benchmark, split, images, labels, keys, prompts, source, full).spread(limit)


def draw_split(labels: np.ndarray, split: str, train: int, test: int | None) -> np.ndarray:
    """Indices of a random split with a fixed seed: ``train`` and ``test`` images of each class (None: all others)."""
    chosen = []
    for label in np.unique(labels):
        of_class = np.random.default_rng([DRAW_SEED, label]).permutation(np.flatnonzero(labels == label))
        end = None if test is None else train + test
        chosen.append(of_class[:train] if split == "train" else of_class[train:end])
    return np.sort(np.concatenate(chosen))


def _imagenet(*candidates: str) -> Callable[[ImageBenchmark, Path, str, bool], Found]:
    return partial(layouts.find_imagenet, folders={"test": candidates})


_BENCHMARKS = (
    ImageBenchmark(
        "imagenet", "ImageNet", {"val": 50_000, "train": 1_281_167},
        "val/n01440764/*.JPEG, or all files in one folder, named by synset (n01440764_tench.JPEG)",
        "image-net.org",
        partial(layouts.find_imagenet, folders={
            "val": ("val", "imagenet/val", "ILSVRC2012/val"), "train": ("train", "imagenet/train", "ILSVRC2012/train"),
        }),
        probe=("train", "val"),
    ),
    ImageBenchmark(
        "imagenet_v2", "ImageNet-V2", {"matched-frequency": 10_000, "threshold0.7": 10_000, "top-images": 10_000},
        "imagenetv2-matched-frequency-format-val/0/*.jpeg", "github.com/modestyachts/ImageNetV2",
        layouts.find_imagenet_v2,
    ),
    ImageBenchmark(
        "imagenet_a", "ImageNet-A", {"test": 7_500}, "imagenet-a/n01498041/*.jpg",
        "github.com/hendrycks/natural-adv-examples", _imagenet("imagenet-a", "imagenet_a"),
    ),
    ImageBenchmark(
        "imagenet_r", "ImageNet-R", {"test": 30_000}, "imagenet-r/n01443537/*.jpg",
        "github.com/hendrycks/imagenet-r", _imagenet("imagenet-r", "imagenet_r"),
    ),
    ImageBenchmark(
        "imagenet_sketch", "ImageNet-Sketch", {"test": 50_889}, "sketch/n01440764/*.JPEG",
        "github.com/HaohanWang/ImageNet-Sketch", _imagenet("sketch", "imagenet-sketch", "imagenet_sketch"),
    ),
    ImageBenchmark(
        "food101", "Food-101", {"test": 25_250, "train": 75_750}, "food-101/images and food-101/meta",
        "data.vision.ee.ethz.ch/cvl/datasets_extra/food-101", layouts.find_food101,
        probe=("train", "test"), torchvision="Food101",
    ),
    ImageBenchmark(
        "stanford_cars", "Stanford Cars", {"test": 8_041, "train": 8_144},
        "stanford_cars/devkit, cars_train, cars_test and cars_test_annos_withlabels.mat, as torchvision reads them",
        "ai.stanford.edu/~jkrause/cars/car_dataset.html", layouts.find_cars, probe=("train", "test"),
    ),
    ImageBenchmark(
        "oxford_pets", "Oxford-IIIT Pet", {"test": 3_669, "trainval": 3_680},
        "oxford-iiit-pet/images and oxford-iiit-pet/annotations", "robots.ox.ac.uk/~vgg/data/pets", layouts.find_pets,
        main="mean_per_class", probe=("trainval", "test"), torchvision="OxfordIIITPet",
    ),
    ImageBenchmark(
        "sun397", "SUN397", {"test": 19_850, "train": 19_850, "all": 108_754},
        "SUN397/a/abbey/sun_*.jpg and SUN397/Testing_01.txt", "vision.princeton.edu/projects/2010/SUN",
        layouts.find_sun397, probe=("train", "test"), torchvision="SUN397",
    ),
    ImageBenchmark(
        "eurosat", "EuroSAT", {"all": 27_000, "test": 5_000, "train": 10_000}, "eurosat/2750/AnnualCrop/*.jpg",
        "github.com/phelber/EuroSAT", partial(layouts.find_folders, folders=("eurosat/2750", "EuroSAT/2750", "2750")),
        probe=("train", "test"), drawn=(1_000, 500), torchvision="EuroSAT",
        published="CLIP's paper measured 5,000 images",
    ),
    ImageBenchmark(
        "caltech101", "Caltech-101", {"all": 8_677, "test": 5_647, "train": 3_030},
        "caltech101/101_ObjectCategories/accordion/*.jpg", "data.caltech.edu/records/20086",
        partial(
            layouts.find_folders, folders=("caltech101/101_ObjectCategories", "101_ObjectCategories"), but=NOT_A_CLASS,
        ),
        main="mean_per_class", probe=("train", "test"), drawn=(30, None), torchvision="Caltech101",
        published="CLIP's paper measured 6,085 images in 102 classes",
    ),
    ImageBenchmark(
        "cifar10", "CIFAR-10", {"test": 10_000, "train": 50_000}, "cifar-10-batches-py",
        "cs.toronto.edu/~kriz/cifar.html",
        partial(layouts.find_cifar, folder="cifar-10-batches-py"), probe=("train", "test"), torchvision="CIFAR10",
    ),
    ImageBenchmark(
        "cifar100", "CIFAR-100", {"test": 10_000, "train": 50_000}, "cifar-100-python",
        "cs.toronto.edu/~kriz/cifar.html",
        partial(layouts.find_cifar, folder="cifar-100-python"), probe=("train", "test"), torchvision="CIFAR100",
    ),
    ImageBenchmark(
        "custom", "custom", {"test": None}, "a folder for each class, in test/ and train/ if there are such parts",
        "your own", layouts.find_custom, probe=("train", "test"),
    ),
)  # fmt: skip
IMAGE_BENCHMARKS = {benchmark.name: benchmark for benchmark in _BENCHMARKS}
