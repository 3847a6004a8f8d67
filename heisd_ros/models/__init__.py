"""Models that ship with the package."""

from __future__ import annotations

from pathlib import Path

from heisd_ros.errors import CheckpointError

_PREFIX = "libero_"
_USUAL = "libero_panda"


def shipped_model() -> Path:
    """Folder of the checkpoint for the simulated Panda; its MODEL_CARD.md tells what it can do."""
    return Path(__file__).parent / _USUAL


def shipped_models() -> dict[str, Path]:
    """Folders of all shipped checkpoints by short name: `panda`, `reason` and `fast`.

    `libero_panda` is `panda`; of `libero_panda_reason` it is the last word.
    """
    found = sorted(path.parent for path in Path(__file__).parent.glob(f"{_PREFIX}*/config.json"))
    return {folder.name.rpartition("_")[2]: folder for folder in found}


def find_model(name: str) -> Path:
    """Folder of a model: a shipped one by name, else a folder; empty: `shipped_model`.

    Raises:
        CheckpointError: It is neither.
    """
    if not name:
        return shipped_model()
    if name in shipped_models():
        return shipped_models()[name]
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    raise CheckpointError(
        f"no model {name!r}; accepted: {', '.join(shipped_models())}, or a checkpoint's folder"
    )
