"""Where tests find the repository and, where they are there, the real photos beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""

SHARED = ROOT.parent / "shared"
"""Real photos; tests that use them skip where they are missing."""
