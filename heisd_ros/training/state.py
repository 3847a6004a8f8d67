"""The state of a training run on disk: written atomically, and resumed only by a matching run."""

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
_ADVICE = "give a new folder, or move it away; the run then starts from the beginning"


def save_state(path: Path, layout: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Writes a state atomically.

    Args:
        path: The file; an existing one is replaced.
        layout: Plain values that must be the same in a run that resumes this state.
        state: Tensors and plain values.
    """
    with replacing(path) as partial:
        torch.save({"layout": dict(layout), **state}, partial)


def resume_state(
    path: Path,
    layout: Mapping[str, Any],
    device: torch.device,
    restore: Callable[[dict[str, Any]], None],
    remedies: Mapping[str, str] | None = None,
) -> bool:
    """Restores a saved state into a run that resumes it.

    Args:
        path: The file.
        layout: Layout of this run.
        device: Device of the tensors.
        restore: Called with the state.
        remedies: What to do where a value of the layout differs, by its dotted name.

    Returns:
        False if there is no file.

    Raises:
        CheckpointError: It is damaged, or its layout differs; the message names what differs.
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
        own = next((text for name, text in (remedies or {}).items() if name in differing), "")
        advice = f"{own}; or {_ADVICE}" if own else _ADVICE
        raise CheckpointError(f"{path} is of another run, which differs in {names}; {advice}")
    try:
        restore(state)
    except _DAMAGE as error:
        raise CheckpointError(f"{path} does not fit this run: {error!r}; {_ADVICE}") from error
    return True


def _differences(saved: Any, present: Any, name: str = "") -> Iterator[str]:
    """Yields the dotted names of the values that differ in two nested mappings."""
    if isinstance(saved, dict) and isinstance(present, dict):
        for key in sorted(saved.keys() | present.keys()):
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(saved.get(key), present.get(key), inner)
    elif saved != present:
        yield name
