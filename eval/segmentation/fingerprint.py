"""What the counts of a segmentation run depend on: a run is resumed only where all of it is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eval.common.files import files_digest
from eval.common.result import describe_model, made_with
from pacl.data.masks import MaskFolder
from pacl.prompts import get_templates

if TYPE_CHECKING:
    from eval.segmentation.measure import Bench

UNREAD = ("contrast", "contrast_margin", "vocabulary")  # fields of a head's configuration that no count depends on


def pictures(folder: MaskFolder) -> str:
    """Digest of the images and masks: their paths, sizes and modification times."""
    return files_digest(path for _, image, mask in folder.files for path in (image, mask))


def masks(folder: MaskFolder) -> dict[str, Any]:
    """How the values or colours of masks stand for classes."""
    colours = {name: list(colour) for colour, name in folder.colours.items()}
    return {"ignore": list(folder.ignore), "offset": folder.offset, **({"palette": colours} if folder.palette else {})}


def fingerprint(bench: Bench, folder: MaskFolder, **more: Any) -> dict[str, Any]:
    """The settings of a run, as JSON values.

    Args:
        bench: its rows, templates included.
        folder: the images and masks, see `pictures`.
        **more: further settings.
    """
    made = made_with(bench.device.type)
    return {
        "pictures": pictures(folder),
        "masks": masks(folder),
        "rows": [
            {
                "method": row.method,
                "model": {**describe_model(row.model, ""), "settings": None},  # the next line has those that act here
                "config": {key: value for key, value in vars(row.model.config).items() if key not in UNREAD},
                "protocol": row.protocol.described(),
                "templates": list(get_templates(row.protocol.settings.templates)),
                "classes": [[label.name, *label.prompts] for label in row.labels],
            }
            for row in (ready.row for ready in bench.rows)
        ],
        "made": {key: value for key, value in made.items() if key != "date"},
        **more,
    }
