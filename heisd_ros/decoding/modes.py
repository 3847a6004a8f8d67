"""Decoding modes: the files of ``config/modes`` and the decoders that they describe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from heisd_ros.decoding.assembly import Assembly, Extend
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.types import Decoder
from heisd_ros.errors import ModeError
from heisd_ros.files.bounded import expanded, naming, shown
from heisd_ros.files.ros_yaml import read_yaml
from heisd_ros.kinematics.metric import MetricBounds
from heisd_ros.vla.token_model import TokenModel

MOST_BASES = 8
"""Files that build on one another, at most."""


def config_folder(kind: str) -> Path:
    """A folder of ``config/``: in the checkout, or in ``share/`` of the installation's prefix.

    Args:
        kind: its name, for instance ``modes``.

    Raises:
        ModeError: it is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for parent in package.parents:
        for folder in (parent / "config" / kind, parent / "share/heisd_ros/config" / kind):
            if any(folder.glob("*.yaml")):
                return folder
    raise ModeError(f"no config/{kind} beside or above {package}; install the package again")


def mode_folder() -> Path:
    """Where the modes lie."""
    return config_folder("modes")


def mode_names() -> list[str]:
    """The modes that come with the package."""
    return sorted(path.stem for path in mode_folder().glob("*.yaml"))


def load_mode(name: str) -> ModeSettings:
    """Reads a mode.

    Args:
        name: one of `mode_names`, or the path of a YAML file of one's own. A file may name another
            mode as its ``base``, and then says only in what it differs.

    Raises:
        ModeError: there is no such mode, or the file does not describe one.
    """
    path = _path_of(name)
    try:
        return ModeSettings.from_dict(_values(path))
    except ModeError as error:
        raise ModeError(naming(path, error)) from error


def _path_of(name: str) -> Path:
    own = name.endswith((".yaml", ".yml"))
    if own or name in mode_names():
        return expanded(name) if own else mode_folder() / f"{name}.yaml"
    accepted = ", ".join(mode_names())
    raise ModeError(f"unknown mode {shown(name)}; accepted: {accepted}, or a path to a YAML file")


def _values(path: Path, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a file says, over what the mode says that it names as its ``base``.

    Args:
        path: of the file.
        above: files whose base it is, one through the other.
    """
    place = os.path.realpath(path)
    if place in above:
        raise ModeError(f"{path.name} is, through others, its own base")
    if len(above) == MOST_BASES:
        raise ModeError(f"{path.name} is the base of a base, and so on; accepted: {MOST_BASES}")
    values = read_yaml(path, ModeError) or {}
    if not isinstance(values, dict):
        raise ModeError(f"a mode must be a mapping, got {shown(values)}")
    base = values.pop("base", None)
    if base is None:
        return values
    merged = _values(_path_of(str(base)), (*above, place))
    for key, value in values.items():
        below = merged.get(key)
        nested = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = below | value if nested else value
    return merged


def load_decoder(
    vla: TokenModel,
    mode: ModeSettings,
    model_folder: Path,
    *,
    database: str = "",
    drafter: str = "",
    seed: int = 0,
    extend: Extend | None = None,
    keep_frames: bool = False,
) -> tuple[Decoder, MetricBounds | None]:
    """Loads what a mode needs beside the model, and composes its decoder.

    Args:
        vla: the model.
        mode: the mode.
        model_folder: the checkpoint's folder.
        database: as in `Assembly`.
        drafter: as in `Assembly`.
        seed: as in `build_decoder`.
        extend: as in `Assembly.decoder`.
        keep_frames: as in `build_decoder`.

    Returns:
        The decoder, and the bounds of the metric that it wants in `Observation.motion` (None: it
        looks at no metric).

    Raises:
        DatabaseError, CalibrationError, DrafterError: a part is missing or does not fit the model.
    """
    assembly = Assembly(model_folder, database, drafter)
    decoder = assembly.decoder(vla, mode, seed=seed, extend=extend, keep_frames=keep_frames)
    return decoder, assembly.bounds(mode)
