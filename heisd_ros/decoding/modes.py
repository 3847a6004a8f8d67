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

COMPILED = "_compiled"
"""Behind the name of a mode: the same mode with compiled passes (`ModeSettings.engine`)."""
MOST_BASES = 8
"""Greatest number of files that build on one another through ``base``."""


def config_folder(kind: str) -> Path:
    """Finds a folder of ``config/`` in the checkout, or in ``share/`` of the installation's prefix.

    Args:
        kind: the folder's name, for instance ``modes``.

    Raises:
        ModeError: the folder is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for parent in package.parents:
        for folder in (parent / "config" / kind, parent / "share/heisd_ros/config" / kind):
            if any(folder.glob("*.yaml")):
                return folder
    raise ModeError(f"no config/{kind} beside or above {package}; install the package again")


def mode_folder() -> Path:
    """Returns the folder of the mode files that come with the package."""
    return config_folder("modes")


def mode_names() -> list[str]:
    """Returns the names of the modes that come with the package, sorted."""
    return sorted(path.stem for path in mode_folder().glob("*.yaml"))


def load_mode(name: str) -> ModeSettings:
    """Reads a mode.

    Args:
        name: one of `mode_names`, also with `COMPILED` behind it, or the path of a YAML file. A
            file may name another mode as its ``base``, and then holds only what differs from it.

    Raises:
        ModeError: there is no such mode, or the file does not describe one.
    """
    path = _path_of(name)
    try:
        return ModeSettings.from_dict(_values(path) | _engine_of(name))
    except ModeError as error:
        raise ModeError(naming(path, error)) from error


def _path_of(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        return expanded(name)
    if (plain := name.removesuffix(COMPILED)) in mode_names():
        return mode_folder() / f"{plain}.yaml"
    raise ModeError(
        f"unknown mode {shown(name)}; accepted: {', '.join(mode_names())}, each also with "
        f"{COMPILED!r} behind it, or a path to a YAML file"
    )


def _engine_of(name: str) -> dict[str, str]:
    return {"engine": "compiled"} if name.endswith(COMPILED) else {}


def _values(path: Path, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns the values of a file, merged over those of the mode that it names as its ``base``.

    Args:
        path: path of the file.
        above: files that have it as their base, directly or indirectly.
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
    merged = _values(_path_of(str(base)), (*above, place)) | _engine_of(str(base))
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
    """Loads what a mode needs besides the model, and builds its decoder.

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
        The decoder, and the bounds of the metric that it reads from `Observation.motion` (None: it
        reads none).

    Raises:
        DatabaseError, CalibrationError, DrafterError: a part is missing or does not fit the model.
    """
    assembly = Assembly(model_folder, database, drafter)
    decoder = assembly.decoder(vla, mode, seed=seed, extend=extend, keep_frames=keep_frames)
    return decoder, assembly.bounds(mode)
