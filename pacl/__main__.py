"""The `pacl` command: ``pacl VERB ...`` is ``python -m pacl.VERB ...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pacl.cli.dispatch import dispatch, installed_version

VERBS = {
    "segment": "segment images by words",
    "classify": "classify images by words",
    "similarity": "draw how well every image fits every text",
    "search": "find the images of a folder that fit a text or another image",
    "probe": "train a linear classifier on folders of images",
    "app": "segment images by words on a web page",
    "bulk": "segment millions of images on many processes",
    "export": "export a model for other programs, such as ONNX",
    "data": "check captioned images before training on them",
    "train": "train the patch embedder on images and captions",
    "pretrain": "train a dual encoder: a small CLIP, or projection heads on two towers",
    "calibrate": "calibrate a head on photos without captions, for better single prompts",
    "distill": "make a text tower of fixed token vectors from a sentence encoder",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Hand the words after the verb to its module's ``main(argv)``; exit codes are the verb's own."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["-V"], ["--version"]):
        print(f"pacl {installed_version()}")
        raise SystemExit(0)
    dispatch(words, VERBS, "pacl", "pacl.{verb}", " `pacl --version` prints the version.")


if __name__ == "__main__":
    main()
