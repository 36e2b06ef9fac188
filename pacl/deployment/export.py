"""Write a model as files that other programs run: graphs, class embeddings, and a description of both.

FOLDER/image.onnx   pixels -> patch embeddings          FOLDER/classes.npy  embeddings of labels
FOLDER/text.onnx    token ids -> text embeddings        FOLDER/model.json   sizes, constants, labels
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from pacl.deployment import SETTINGS
from pacl.deployment.classes import ClassEmbeddings, embed_classes
from pacl.deployment.folder import CLASSES, DESCRIPTION, IMAGE, NAME, TEXT, files_of_export, owned
from pacl.deployment.formats import FORMATS, Format, Sizes
from pacl.deployment.graphs import ImageGraph, TextGraph, tokenize
from pacl.errors import ArgumentError, UserError
from pacl.files import atomic_write, write_together
from pacl.models.loading import as_model
from pacl.models.precision import without_autocast
from pacl.models.towers.hub import first_line
from pacl.prompts import Label
from pacl.segmentation.segmenter import Segmenter, as_settings
from pacl.segmentation.settings import SegmenterSettings
from pacl.segmentation.windows import MAX_ASPECT

if TYPE_CHECKING:
    from pacl.models.model import PACL

VERSION = 1
MOST_PATCHES = 512  # along a side
MOST_IMAGES, MOST_TEXTS = 1024, 65536  # in a batch
TOLERANCE = 1e-3
"""Largest difference of an exported graph's result from the model's own, both of unit norm, at a size that the
exporter has not seen. It is about 1e-6 where all is well, and larger than 0.1 where a size was taken for a constant."""


@dataclass(frozen=True)
class ExportedModel:
    """What `export_model` wrote.

    Attributes:
        folder: the folder.
        files: the files in it, in the order in which they were written.
        description: the content of ``model.json``.
    """

    folder: Path
    files: tuple[Path, ...]
    description: dict[str, Any]


def export_model(
    model: PACL | str | Path,
    folder: str | Path,
    to: str = "onnx",
    labels: Iterable[str | Label] | None = None,
    *,
    settings: SegmenterSettings | None = None,
    text: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> ExportedModel:
    """Export a model for programs that have neither pacl nor, for ONNX, torch.

    The graph of image tower and head is compared with the model at a size that the exporter has not seen.

    Args:
        model: the model, or its name for `pacl.load_model`; it is not changed.
        folder: folder for the files, made if needed. All are written, or none.
        to: ``onnx``, ``torchscript`` or ``pt2`` (`torch.export`).
        labels: as for `Segmenter.predict`: their embeddings are written, too.
        settings: size, scales, templates, background, prior and logit_scale become constants in ``model.json``; the
            graphs do not depend on them. The others change what is computed and must have their defaults, but for
            ``window_batch``, which changes no result; exports compute in float32.
        text: also export the text tower, from token ids.
        overwrite: replace an export that is in the folder.
        progress: is called with the name of each step before it begins.

    Raises:
        ArgumentError: an argument does not work, ``settings`` has some that an export cannot have, or ``model`` cannot
            be exported.
        UserError: a package is missing, or as `Segmenter.predict` and `atomic_write`.
    """
    if to not in FORMATS:
        raise ArgumentError("to", to, f"must be one of {', '.join(FORMATS)}")
    form = FORMATS[to]
    form.check_installed()
    settings = as_settings(settings)
    check_settings(settings)
    model = as_model(model)
    model = model if model.device.type == "cpu" else copy.deepcopy(model).cpu()
    with torch.no_grad(), without_autocast(), evaluating(model), owned(Path(folder), overwrite) as place:
        image, tower = ImageGraph(model), TextGraph(model) if text else None
        segmenter = Segmenter(model, settings)
        classes = None if labels is None else embed_classes(segmenter, labels)
        about = describe(segmenter, image, tower, classes, form)
        contents: dict[str, bytes] = {}
        contents[f"{IMAGE}{form.suffix}"] = _image(form, image, json.dumps(about), progress)
        if tower is not None:
            contents[f"{TEXT}{form.suffix}"] = _text(form, tower, json.dumps(about), progress)
        if classes is not None:
            file = io.BytesIO()
            np.save(file, classes.embeddings.numpy())
            contents[CLASSES] = file.getvalue()
        contents[DESCRIPTION] = (json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
        progress("writing the files")
        replaced = files_of_export(place)
        with write_together():
            for name, content in contents.items():
                with atomic_write(place / name) as aside:
                    aside.write_bytes(content)
        for path in replaced:
            if path.name not in contents:
                path.unlink()
    return ExportedModel(place, tuple(place / name for name in contents), about)


def check_settings(settings: SegmenterSettings) -> None:
    """Refuse settings that an export would ignore.

    Raises:
        ArgumentError: ``settings`` has some.
    """
    may_differ = {*SETTINGS, "window_batch"}  # (which changes no result)
    if settings.precision == "fp32":  # as exports compute
        may_differ.add("precision")
    given, own = asdict(settings), asdict(SegmenterSettings())
    ignored = [name for name, value in own.items() if name not in may_differ and given[name] != value]
    if ignored:
        reason = f"cannot be exported; leave them at their defaults (only {', '.join(SETTINGS)} can)"
        raise ArgumentError("settings", ", ".join(ignored), reason)


def describe(
    segmenter: Segmenter,
    image: ImageGraph,
    tower: TextGraph | None,
    classes: ClassEmbeddings | None,
    form: Format,
) -> dict[str, Any]:
    """All that a program needs to know beside the graphs: the content of ``model.json``."""
    model, own = segmenter.model, segmenter.resolved_settings()
    clip, config = model.clip, model.config
    assert own.size is not None
    assert own.scales is not None
    temperature = float(model.temperature.detach())
    return {
        "format": NAME,
        "version": VERSION,
        "model": {"backbone": clip.name, "dense": config.dense, "trained": config.trained, "checksum": clip.checksum()},
        "image": {
            "file": f"{IMAGE}{form.suffix}",
            "input": {"pixels": ["batch", 3, "height", "width"], "dtype": "float32", "colours": "RGB", "range": [0, 1]},
            "outputs": {
                name: shape
                for name, shape in (
                    ("patches", ["batch", config.vector_width, "height / patch", "width / patch"]),
                    ("pooled", ["batch", clip.dim]),
                )
                if name in image.outputs
            },
            "patch": clip.patch,
            "multiple_of": clip.patch,
            "smallest": form.smallest * clip.patch,
            "largest": MOST_PATCHES * clip.patch,
            "normalised_in_the_graph": {"mean": list(clip.mean), "std": list(clip.std)},
        },
        "resize": {
            "size": own.size,  # at a scale of 1, which the short sides may lack
            "short_sides": [round(own.size * scale) for scale in sorted(own.scales)],
            "interpolation": "bicubic",
            "antialias": True,
            "largest_aspect": MAX_ASPECT,
        },
        "scores": {
            "logit_scale": own.logit_scale,
            **({"clip_logit_scale": clip.logit_scale} if "pooled" in image.outputs else {}),
            "prior": own.prior,
            "presence": config.presence,
            "phi_temperature": temperature if np.isfinite(temperature) else "inf",
            "phi_cosine": config.cosine,
        },
        "classes": None if classes is None else classes.described(CLASSES) | {"templates": str(own.templates)},
        "text": None if tower is None else _describe_text(model, tower, form),
    }


def _describe_text(model: PACL, tower: TextGraph, form: Format) -> dict[str, Any]:
    return {
        "file": f"{TEXT}{form.suffix}",
        "input": {"ids": ["texts", tower.length], "dtype": "int64"},
        "outputs": {"texts": ["texts", model.config.vector_width]},
        "centre": None if model.centre is None else model.centre.tolist(),
    }


def _image(form: Format, graph: ImageGraph, about: str, progress: Callable[[str], None]) -> bytes:
    patch = graph.model.clip.patch
    axes = {
        0: ("batch", 1, MOST_IMAGES),
        2: ("rows", patch, MOST_PATCHES),
        3: ("columns", patch, MOST_PATCHES),
    }
    generator = torch.Generator().manual_seed(0)
    example = torch.rand(2, 3, 5 * patch, 7 * patch, generator=generator)
    other = torch.rand(3, 3, 8 * patch, 4 * patch, generator=generator)
    kind = type(graph.model.clip.image).__name__
    progress("exporting the image tower")
    what = f"{graph.model.clip.name}: its image tower ({kind})"
    return _checked(form, graph, example, other, ("pixels", graph.outputs), Sizes(axes), about, what, progress)


def _text(form: Format, graph: TextGraph, about: str, progress: Callable[[str], None]) -> bytes:
    example = torch.zeros(2, graph.length, dtype=torch.int64)
    example[:, 3] = 1  # the end of a text, the highest id
    other = tokenize(graph, ["a fish", "a red fish on a blue house", "grass"])  # a vocabulary may be small
    what = f"{graph.name}: its text tower"
    progress("exporting the text tower")
    sizes = Sizes({0: ("texts", 1, MOST_TEXTS)})
    return _checked(form, graph, example, other, ("ids", ("texts",)), sizes, about, what, progress)


def _checked(
    form: Format,
    graph: nn.Module,
    example: Tensor,
    other: Tensor,
    names: tuple[str, Iterable[str]],
    sizes: Sizes,
    about: str,
    what: str,
    progress: Callable[[str], None],
) -> bytes:
    """Export a graph, and compare it with the module on another input.

    Raises:
        ArgumentError: the graph cannot be exported, or has other results.
    """
    works = "photos, bundled and open_clip's ViTs can be exported"
    try:
        expected = graph(other)
        content = form.export(graph, example, (names[0], tuple(names[1])), sizes, about)
        progress("comparing it with the model")
        found = form.run(content, other)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # exporters raise many types
        cause: BaseException = error
        while cause.__cause__ is not None:  # the outer ones say only that the export failed
            cause = cause.__cause__
        reason = f"cannot be exported for inputs of any size ({first_line(cause)}); {works}"
        raise ArgumentError("model", what, reason) from error
    wanted = expected if isinstance(expected, tuple) else (expected,)
    worst = max(
        float((a - b).abs().max()) if a.shape == b.shape else np.inf for a, b in zip(found, wanted, strict=True)
    )
    if not worst <= TOLERANCE:
        raise ArgumentError("model", what, f"its exported graph is off by {worst:.2g} at other sizes; {works}")
    return content


@contextmanager
def evaluating(model: PACL) -> Iterator[None]:
    """The model in evaluation mode; afterwards its parts are in the modes that they had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
