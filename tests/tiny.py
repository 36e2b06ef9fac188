"""Models of a few thousand weights, saved in their libraries' own formats: what most tests run on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pacl.models.backbone import Backbone
from pacl.models.model import PACL

VISION = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}


def save_tiny_clip(folder: Path, *, quick_gelu: bool = False, seed: int = 0, **vision: Any) -> str:
    """Write a randomly initialised CLIP to ``folder`` and return its name for `load_backbone`."""
    import open_clip

    config = {
        "embed_dim": 16,
        "vision_cfg": {**VISION, **vision},
        "text_cfg": TEXT,
        **({"quick_gelu": True} if quick_gelu else {}),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**config)
        with torch.no_grad():  # larger than the default start, so that blocks matter in the comparisons
            for parameter in model.visual.transformer.parameters():
                parameter.normal_(std=0.2) if parameter.ndim == 1 else parameter.mul_(2)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def configure_clip(name: str, *, preprocess: dict[str, Any] | None = None, **settings: Any) -> str:
    """Change settings in the configuration of a CLIP that `save_tiny_clip` wrote, but no weights; returns its name."""
    path = Path(name.removeprefix("local-dir:"), "open_clip_config.json")
    config = json.loads(path.read_text())
    vision = {**config["model_cfg"]["vision_cfg"], **settings.pop("vision", {})}
    model = {**config["model_cfg"], "vision_cfg": vision, **settings}
    path.write_text(json.dumps({"model_cfg": model, "preprocess_cfg": preprocess or config["preprocess_cfg"]}))
    return name


def phi(model: PACL, images: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
    """phi of normalised images ``[B, 3, H, W]`` with every text: ``[B, T]``."""
    return model.phi(model.encode_patches(images)[0], model.encode_text(texts))


def save_tiny_encoder(folder: Path, *, seed: int = 0, pieces: Sequence[str] = ()) -> str:
    """Write a randomly initialised sentence encoder to ``folder`` and return its name; texts of up to 8 tokens.

    ``pieces`` are added to its word pieces.
    """
    from sentence_transformers import SentenceTransformer
    from transformers import BertConfig, BertModel, BertTokenizer

    try:
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    except ModuleNotFoundError:  # older versions
        from sentence_transformers.models import Pooling, Transformer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "of", "dog", "cat", "red", "house", *pieces]
    bert = folder.with_name(f"{folder.name}-bert")
    bert.mkdir(parents=True)
    (bert / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(bert / "vocab.txt"), do_lower_case=True).save_pretrained(bert)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=12, **sizes)).save_pretrained(bert)
    modules = [Transformer(str(bert), max_seq_length=8), Pooling(16)]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    return f"st:{folder}"


def fill_hub_cache(cache: Path, repository: str, folder: Path) -> None:
    """Lay a folder's files out as the hub's client caches those of ``ORG/REPO``."""
    revision = "0" * 40
    place = cache / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(revision)
    shutil.copytree(folder, place / "snapshots" / revision)


def trained_head(clip: Backbone, **options: Any) -> PACL:
    """A head with weights of its own."""
    model = PACL.untrained(clip, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.config.trained = True
    return model
