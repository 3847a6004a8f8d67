"""Models that ship with the package."""

from __future__ import annotations

from pathlib import Path


def shipped_model() -> Path:
    """Folder of the checkpoint for the simulated Panda; its MODEL_CARD.md tells what it can do."""
    return Path(__file__).parent / "libero_panda"
