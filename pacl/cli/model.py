"""The flags that name a model and a device."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from pacl.cli.messages import shown_warnings
from pacl.errors import ArgumentError, FallbackModel, OtherDenseVariant
from pacl.models.config import SHIPPED
from pacl.models.device import choose_device

if TYPE_CHECKING:
    from pacl.models.model import PACL


def add_model(group: argparse._ArgumentGroup, *, device: bool = True, many: bool = False) -> None:
    """``--model``, ``--dense`` and, where the model computes much, ``--device``; for many images ``--compile``."""
    group.add_argument(
        "--model",
        default="auto",
        help="auto (OpenAI's ViT-B/16 when it is in the cache or can be downloaded, else photos, else bundled), "
        "photos, bundled, the folder of a trained head, open_clip:NAME/TAG, hf-hub:ORG/REPO or local-dir:PATH "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--dense",
        metavar="VARIANT",
        help="of the image tower's last block: clip, value, maskclip, sclip, clearclip or naclip; proxyclip for a CLIP "
        "with a second image tower, CLIP,proxy=timm:NAME (default: what the head was trained on; for a CLIP without a "
        "head proxyclip where it has a proxy, else naclip)",
    )
    if not device:
        group.set_defaults(device="cpu")
        return
    group.add_argument(
        "--device",
        default="auto",
        help="auto (cuda if there is one, else mps, else cpu), cpu, cuda, cuda:N or mps (default: %(default)s)",
    )
    if many:
        group.add_argument(
            "--compile", action="store_true",
            help="compile the image tower (torch.compile): for many images; the first takes a minute or more, and the "
            "first of another size as long again",
        )  # fmt: skip


def backbone_name(model: str) -> str:
    """The name of a model's backbone as far as it is known without torch: that of a head in a folder, or the model's.

    Towers that were trained apart are ``IMAGE+TEXT``.
    """
    folder = Path(__file__).parents[1] / model if model in SHIPPED else Path(model)
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return model
    name = about.get("backbone") if isinstance(about, dict) else None
    return name if isinstance(name, str) else ""


def load(args: argparse.Namespace) -> PACL:
    """The model of `add_model`'s flags, on its device; a misspelt variant or device is refused before weights are read.

    Its `name` is that of the flag; of ``auto``, that of the model that was taken: what results state.

    Raises:
        UserError: it cannot be found, or does not fit.
    """
    device = choose_device(args.device)
    from pacl.models.loading import load_model
    from pacl.models.towers.dense import NAMES

    if args.dense is not None and args.dense not in NAMES:
        raise ArgumentError("dense", args.dense, f"choose from {', '.join(NAMES)}")
    with shown_warnings(getattr(args, "prog", "pacl"), FallbackModel, OtherDenseVariant):
        model = load_model(args.model, dense=args.dense, device=device, fallback=True)
    if getattr(args, "compile", False):
        model.clip.compile_image_tower()
    return model
