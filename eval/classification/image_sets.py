"""The image classification data sets, and a function that opens them.

Each class has a key, which is its name in the data set (a WordNet id or the name of a folder), and one or more prompts.
Images are always classified among all classes of the data set, even if some classes have no images: ImageNet-A and
ImageNet-R among their 200 classes, as their authors do, and the other ImageNets among 1,000.

To add a data set: write a finder in `eval.classification.layouts` or reuse one, list its classes in
``class_names/NAME.txt``, and add an `ImageBenchmark` to ``_BENCHMARKS``.
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
from eval.common.files import files_digest, find_equal
from pacl.data.class_folders import is_code
from pacl.data.copies import count_copies
from pacl.data.pairs import FilePairs
from pacl.errors import ArgumentError, UserError, first_few
from pacl.images import open_image

NOT_A_CLASS = ("BACKGROUND_Google",)  # folder of Caltech-101, excluded as in torchvision
SPLIT_SEED = 0  # of random splits, for data sets without official ones


@dataclass(frozen=True)
class ImageSet:
    """Labelled images and the classes among which they are classified.

    Attributes:
        benchmark: the data set.
        split: name of the split.
        images: I files, or an array, uint8 [I, H, W, 3].
        labels: class of each image, int64 [I].
        keys: keys of the C classes.
        prompts: prompts of the C classes, one or more for each.
        names: where the prompts come from, in words.
        full: number of images in the whole split; None if unknown.
        folder: name of the data folder.
        notes: what of the folders is left out, and what is odd about their names, a line for each kind.
    """

    benchmark: ImageBenchmark
    split: str
    images: Images = field(repr=False)
    labels: np.ndarray = field(repr=False)
    keys: tuple[str, ...] = field(repr=False)
    prompts: Prompts = field(repr=False)
    names: str
    full: int | None
    folder: str = ""
    notes: tuple[str, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def selection(self) -> str:
        """How the images of the split were chosen, in words."""
        if self.benchmark.name == "custom":
            return "one's own"
        if self.benchmark.split_sizes is None:
            return "official split"
        which = "all" if self.split == "all" else f"random, seed {SPLIT_SEED}"
        return f"{which}; there is no official split, {self.benchmark.published}"

    def read(self, index: int) -> np.ndarray:
        """Read an image at full size, uint8 [H, W, 3]; decoding at a reduced size would change its pixels."""
        image = self.images[index]
        return image if isinstance(image, np.ndarray) else open_image(image)

    def subset(self, indices: np.ndarray) -> ImageSet:
        """The images with these indices, int64 [i], and the same classes."""
        images = self.images
        chosen = images[indices] if isinstance(images, np.ndarray) else [images[i] for i in indices]
        return replace(self, images=chosen, labels=self.labels[indices])

    def limited(self, limit: int | None) -> ImageSet:
        """``limit`` evenly spaced images, or all. Images are ordered by class, so these cover the classes evenly."""
        if limit is None or limit >= len(self):
            return self
        return self.subset(np.arange(limit) * len(self) // limit)

    def digest(self) -> str:
        """SHA-256 of the labels and of the paths, sizes and modification times of the files, or of the pixels."""
        digest = hashlib.sha256(self.labels.tobytes())
        if isinstance(self.images, np.ndarray):
            digest.update(np.ascontiguousarray(self.images).data)
        else:
            digest.update(files_digest(self.images).encode("ascii"))
        return digest.hexdigest()


def equal_images(images: ImageSet) -> tuple[int, int]:
    """How many images are files with the bytes of another one, and how many of these are in several classes.

    Images in arrays are not compared.
    """
    if isinstance(images.images, np.ndarray):
        return 0, 0
    groups = find_equal(images.images)
    several = [group for group in groups if len(set(images.labels[group].tolist())) > 1]
    return sum(map(len, groups)), sum(map(len, several))


def trained_and_tested(train: ImageSet, test: ImageSet) -> int:
    """How many test images are also training images, as files of the same bytes; images in arrays are not compared."""
    files = [images for images in (train.images, test.images) if not isinstance(images, np.ndarray)]
    if len(files) < 2:
        return 0
    kept, held = (FilePairs(Path(), {str(path): [] for path in images}) for images in files)
    return count_copies([kept], [held])


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
        name: name of the data set.
        data: the folder that contains the data set's official folder; for ImageNet and its variants and for ``custom``
            also the data set's folder itself.
        split: name of the split; None is the default one.
        names: file with other names, see `eval.classification.names.class_prompts`. None takes those of the CLIP paper,
            for ``custom`` the names of the folders.
        limit: take only this many images, evenly spaced.
        download: let torchvision download missing files, for the data sets that it can download.

    Raises:
        UserError: files are missing or invalid; the message says which files are expected where.
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
    images, found, notes = benchmark.find(benchmark, root, split, download)
    keys = layouts.custom_keys(root, split) if name == "custom" else class_keys(name)
    numbers = {key: i for i, key in enumerate(keys)}
    for image, key in zip(images, found, strict=True):
        if key not in numbers:
            raise UserError(f"{name}: {image} has the class {key!r}, which is not a class of {benchmark.title}")
    labels = np.array([numbers[key] for key in found], dtype=np.int64)
    if benchmark.split_sizes is not None and split in ("train", "test"):
        indices = random_split(labels, split, *benchmark.split_sizes)
        images, labels = [images[i] for i in indices], labels[indices]
    prompts, source = class_prompts(name, keys, names)
    if name == "custom" and names is None and (codes := [key for key in keys if is_code(key)]):
        notes = [
            *notes,
            f"classes named by numbers or ids, not by words ({first_few(codes)}): say what they are (--names)",
        ]
    full = len(labels) if name == "custom" else benchmark.splits[split]
    return ImageSet(
        benchmark, split, images, labels, keys, prompts, source, full, root.resolve().name, tuple(notes)
    ).limited(limit)


def random_split(labels: np.ndarray, split: str, train: int, test: int | None) -> np.ndarray:
    """A random split with a fixed seed.

    Args:
        labels: classes of all images, int64 [I].
        split: ``train`` or ``test``.
        train: number of training images per class.
        test: number of test images per class; None takes all images that are not for training.

    Returns:
        Indices of the images in the split, int64, sorted.
    """
    chosen = []
    for label in np.unique(labels):
        shuffled = np.random.default_rng([SPLIT_SEED, label]).permutation(np.flatnonzero(labels == label))
        end = None if test is None else train + test
        chosen.append(shuffled[:train] if split == "train" else shuffled[train:end])
    return np.sort(np.concatenate(chosen))


def _imagenet(*candidates: str) -> Callable[[ImageBenchmark, Path, str, bool], Found]:
    return partial(layouts.find_imagenet, folders={"test": candidates})


_BENCHMARKS = (
    ImageBenchmark(
        "imagenet", "ImageNet", {"val": 50_000, "train": 1_281_167},
        "val/n01440764/*.JPEG, or all files in one folder, named by WordNet id (n01440764_tench.JPEG)",
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
        probe=("train", "test"), split_sizes=(1_000, 500), torchvision="EuroSAT",
        published="the CLIP paper uses 5,000 images",
    ),
    ImageBenchmark(
        "caltech101", "Caltech-101", {"all": 8_677, "test": 5_647, "train": 3_030},
        "caltech101/101_ObjectCategories/accordion/*.jpg", "data.caltech.edu/records/20086",
        partial(
            layouts.find_folders, folders=("caltech101/101_ObjectCategories", "101_ObjectCategories"),
            excluded=NOT_A_CLASS,
        ),
        main="mean_per_class", probe=("train", "test"), split_sizes=(30, None), torchvision="Caltech101",
        published="the CLIP paper uses 6,085 images in 102 classes",
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
        "custom", "custom", {"test": None}, "one folder per class, either directly or in test/ and train/",
        "your own", layouts.find_custom, probe=("train", "test"),
    ),
)  # fmt: skip
IMAGE_BENCHMARKS = {benchmark.name: benchmark for benchmark in _BENCHMARKS}
