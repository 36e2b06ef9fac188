"""`ImageEmbedding`: an encoded image that can be kept on disk and used again by the same model and settings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pacl.errors import ArgumentError, UserError
from pacl.files import atomic_write, parse_json
from pacl.models import identity
from pacl.models.towers.base import weights_checksum
from pacl.models.towers.grid import PatchGrid
from pacl.printing import printable
from pacl.segmentation.encode import EncodedImage
from pacl.segmentation.patch_maps import PatchMaps
from pacl.segmentation.windows import WindowLayout

if TYPE_CHECKING:
    from pacl.models.model import PACL
    from pacl.models.sam import Sam
    from pacl.segmentation.settings import SegmenterSettings

FORMAT, VERSION = "pacl-image-embedding", 2
PREDICT_SETTINGS = frozenset(
    ("background", "min_area", "logit_scale", "prior", "templates", "refine", "refine_on", "dilations")
)
"""The settings that act in `Segmenter.predict`. What patch vectors depend on are all others but `SPEED_SETTINGS`."""
SPEED_SETTINGS = frozenset(("window_batch", "precision"))
"""The settings that change the last digits of patch vectors at most."""


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """The patch vectors of one image, with what they depend on.

    Attributes:
        encoded: the image as `Segmenter` keeps it.
        made_by: the model and the settings, see `made_by`.
    """

    encoded: EncodedImage
    made_by: dict[str, Any]

    def __repr__(self) -> str:
        (height, width), shape = self.size, list(self.encoded.patches.values.shape)
        return f"<ImageEmbedding of an image of {width} x {height} pixels, vectors {shape}>"

    @property
    def vectors(self) -> Tensor:
        """Patch vectors, float32 [T, D, h, w]: T windows (1 without sliding windows), D numbers for each patch.

        They are a copy: what is done to them does not change what the image is labelled by.
        """
        return self.encoded.patches.values.clone()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image, in pixels."""
        return self.encoded.patches.layout.size

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, atomically. Of the image itself, only its absolute path is kept, where it has one
        that is UTF-8.

        Raises:
            UserError: the file cannot be written.
        """
        patches, source = self.encoded.patches, self.encoded.path
        tensors = {"patches": patches.values}
        if self.encoded.guide is not None:
            tensors["guide"] = self.encoded.guide
        for level, features in enumerate(self.encoded.sam or ()):
            tensors[f"sam.{level}"] = features
        about = {
            "format": FORMAT,
            "version": VERSION,
            "grid": vars(patches.grid),
            "layout": vars(patches.layout),
            "source": source if source and source == printable(source) else None,
            "stamp": self.encoded.stamp,
            "made_by": self.made_by,
        }
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        about["checksum"] = _checksum(about, tensors)
        with atomic_write(path) as temporary:
            save_file(tensors, temporary, metadata={"pacl": json.dumps(about)})

    @classmethod
    def load(cls, path: str | Path) -> ImageEmbedding:
        """Read a file written by `save`; its tensors are in host memory.

        Raises:
            UserError: there is no such file, it is none of these, or it was changed since.
        """
        try:
            with safe_open(path, framework="pt") as file:
                about = parse_json((file.metadata() or {}).get("pacl", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(f"{path} cannot be read as an image embedding ({error})") from None
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise UserError(f"{path} is not an image embedding that ImageEmbedding.save wrote")
        if about.pop("checksum", None) != _checksum(about, tensors) or about.get("version") != VERSION:
            raise UserError(f"{path} is damaged, or of another version of this package; encode the image again")
        try:
            layout: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in about["layout"].items()}
            patches = PatchMaps(tensors["patches"], PatchGrid(**about["grid"]), WindowLayout(**layout))
            sam = tuple(tensors[name] for name in sorted(tensors) if name.startswith("sam."))
            stamp = tuple(about["stamp"]) if about.get("stamp") else None
            source = about["source"]
            encoded = EncodedImage(patches, tensors.get("guide"), source, sam or None, stamp, path=source)
            return cls(encoded, about["made_by"])
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged, or of another version of this package ({error!r})") from None

    def check(self, expected: dict[str, Any]) -> None:
        """Refuse the embedding if it was made with another model or other settings.

        Args:
            expected: `made_by` of these.

        Raises:
            ArgumentError: ``embedding``: it differs, and in what.
        """
        check_made_by("embedding", self.made_by, expected)


def check_made_by(argument: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse an encoded image that depends on something else than it should.

    Raises:
        ArgumentError: ``argument``: it differs, and in what.
    """
    for key in dict.fromkeys([*expected, *found]):
        own, value = found.get(key), expected.get(key)
        if own == value or (key in ("guide", "sam") and value is None):  # what is not needed does no harm
            continue
        raise ArgumentError(argument, "that is encoded", f"was made {_difference(key, own, value)}")


def _difference(key: str, own: Any, value: Any) -> str:
    """What an embedding was made with, beside what a segmenter has, in the words of its settings."""
    if key in ("guide", "sam") and own is None:
        needed = "refine" if key == "guide" else "refine='sam:NAME'"
        return f"without {needed}, which keeps more of the image; encode the image again with it"
    if key in ("backbone", "head"):  # checksums
        return f"with other weights of the {key}; encode the image again"
    shown = [_shown(each) for each in (own, value)]
    return f"with {'refine_on' if key == 'guide' else key} {shown[0]}, not {shown[1]}; encode the image again"


def _shown(value: Any) -> str:
    """A setting in messages; None, the default, in words."""
    return "by default" if value is None else str(value)


def _checksum(about: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """SHA-256 of all that an embedding is made of."""
    return hashlib.sha256(f"{json.dumps(about, sort_keys=True)}{weights_checksum(tensors)}".encode()).hexdigest()


def made_by(model: PACL, settings: SegmenterSettings, sam: Sam | None = None, *, quick: bool = False) -> dict[str, Any]:
    """What an encoded image depends on, JSON-serialisable.

    Args:
        model: see `pacl.models.identity.patches`.
        settings: with those that were left to the model resolved, see `Segmenter.resolved_settings`.
        sam: the SAM that encoded the image, too; its checksum is taken.
        quick: take the backbone's fingerprint and the SAM's name in place of checksums of large files.
    """
    return {
        **identity.patches(model, quick=quick),
        **encode_settings(settings, model.clip.patch),
        "sam": None if sam is None else settings.sam if quick else sam.checksum(),
    }


def encode_settings(settings: SegmenterSettings, patch: int) -> dict[str, Any]:
    """The settings that an encoded image depends on, JSON-serialisable; see `made_by`.

    Args:
        settings: see `made_by`.
        patch: of the image tower in pixels, which is the stride where the settings have none.
    """
    skipped = PREDICT_SETTINGS | SPEED_SETTINGS
    own = {name: value for name, value in dataclasses.asdict(settings).items() if name not in skipped}
    return {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in own.items()},
        "stride": settings.stride or patch,
        "guide": settings.refine_on if settings.refine_steps else None,
    }
