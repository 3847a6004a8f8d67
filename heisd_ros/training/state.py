"""The state of a training run on disk: written whole or not at all, resumed only where it fits."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from heisd_ros.errors import CheckpointError
from heisd_ros.files.atomic import replacing

_DAMAGE = (EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError, pickle.PickleError)
"""What PyTorch raises on a damaged file, and on a state of other names, shapes or optimiser."""
_ADVICE = "give a new folder, or move it away; the run then begins anew"


def save_state(path: Path, layout: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Writes a state.

    Args:
        path: The file; what is there is replaced at once.
        layout: Plain values that a run must agree on to go on from this state.
        state: Tensors and plain values.
    """
    with replacing(path) as partial:
        torch.save({"layout": dict(layout), **state}, partial)


def resume_state(
    path: Path,
    layout: Mapping[str, Any],
    device: torch.device,
    restore: Callable[[dict[str, Any]], None],
) -> bool:
    """Hands a saved state to the run that goes on from it.

    Args:
        path: The file.
        layout: That of this run.
        device: Where the tensors go.
        restore: Takes the state.

    Returns:
        False if there is no file.

    Raises:
        CheckpointError: It is damaged, or of another layout, which is named.
    """
    if not path.is_file():
        return False
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        differing = [*_differences(state["layout"], dict(layout))]
    except _DAMAGE as error:
        raise CheckpointError(f"{path} holds no state of a run: {error!r}; {_ADVICE}") from error
    if differing:
        names = ", ".join(differing)
        raise CheckpointError(f"{path} is of another run, which differs in {names}; {_ADVICE}")
    try:
        restore(state)
    except _DAMAGE as error:
        raise CheckpointError(f"{path} does not fit this run: {error!r}; {_ADVICE}") from error
    return True


def _differences(saved: Any, present: Any, name: str = "") -> Iterator[str]:
    """Dotted names of the values that are not the same in two nested mappings."""
    if isinstance(saved, dict) and isinstance(present, dict):
        for key in sorted(saved.keys() | present.keys()):
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(saved.get(key), present.get(key), inner)
    elif saved != present:
        yield name
