"""Help and start-up import only what they need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pacl.models.towers.dense import VARIANTS
from pacl.models.towers.efficientnet_lite import LITE2
from pacl.models.towers.packaged import PACKAGES
from tests.paths import ROOT


def test_help_names_what_there_is_and_needs_no_torch() -> None:
    code = "import sys, pacl.segment as s\ntry: s.main(['--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.endswith("False\n")
    text = " ".join(done.stdout.split())
    for word in (*VARIANTS, "overlay", "polygons", "--window CROP[/STEP]", "examples:", "exit codes:"):
        assert word in text


@pytest.mark.skipif(PACKAGES[LITE2].find() is None, reason=f"needs {PACKAGES[LITE2].distribution}")
@pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="einops imports torch._dynamo where torch is old")
def test_the_photo_model_imports_only_what_it_needs(tmp_path: Path) -> None:
    """What others import takes seconds, torch's compiler and its way through torchvision above all."""
    code = (
        "import json, sys, pacl.segment as s\n"
        f"s.main(['pacl/photos/demo.jpg', 'a cat', '--model', 'photos', '--out', {str(tmp_path)!r}])\n"
        "print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    found = set(json.loads(done.stdout.splitlines()[-1]))
    assert "torch" in found
    needless = {
        *("torch._dynamo", "torch._inductor", "torchvision", "timm", "open_clip", "transformers", "lightning"),
        *("sentence_transformers", "torchmetrics", "matplotlib", "sympy", "scipy", "sklearn", "pandas"),
    }
    assert not found & needless
