"""Decoding modes: the files of ``config/modes`` and the decoders that they describe."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.boundary import Boundary
from heisd_ros.decoding.calibration import FILE, Calibration
from heisd_ros.decoding.hybrid import HybridDecoder
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.skip import SkipGate
from heisd_ros.decoding.types import Decoder
from heisd_ros.errors import ModeError
from heisd_ros.files.bounded import expanded, naming, shown
from heisd_ros.files.ros_yaml import read_yaml
from heisd_ros.kinematics.metric import MetricBounds
from heisd_ros.retrieval.database import Database, Store
from heisd_ros.vla.checkpoint import fingerprint
from heisd_ros.vla.drafter import Drafter, load_drafter
from heisd_ros.vla.vla import VLA

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
    vla: VLA,
    mode: ModeSettings,
    model_folder: Path,
    *,
    database: str = "",
    drafter: str = "",
    seed: int = 0,
    extend: Callable[[Database, Calibration | None], Store] | None = None,
    keep_frames: bool = False,
) -> tuple[Decoder, MetricBounds | None]:
    """Loads what a mode needs beside the model, and composes its decoder.

    Args:
        vla: the model.
        mode: the mode.
        model_folder: the checkpoint's folder.
        database: folder of the database; empty: ``database`` in the checkpoint's folder.
        drafter: folder of the drafter; empty: ``drafter`` there.
        seed: as in `build_decoder`.
        extend: makes of the database, and of the calibration that skipping goes by, what is
            searched; None: the database itself.
        keep_frames: as in `build_decoder`.

    Returns:
        The decoder, and the bounds of the metric that it wants in `Observation.motion` (None: it
        looks at no metric).

    Raises:
        DatabaseError, CalibrationError, DrafterError: a part is missing or does not fit the model.
    """
    if mode.propose == "none":
        return build_decoder(vla, mode), None
    identity = fingerprint(model_folder)
    opened, calibration, loaded, bounds = None, None, None, None
    store: Store | None = None
    if mode.retrieves:
        folder = database_folder(model_folder, database)
        opened = Database.open(folder, identity)
        opened.check_k(mode.retrieval.k)
        # A mode that has none refuses to skip, and says why; one of another database is an error.
        if uses_calibration(mode) and (folder / FILE).is_file():
            calibration = Calibration.load(folder, opened.manifest.database_id, identity)
        store = opened if extend is None else extend(opened, calibration)
    if mode.drafts:
        folder = expanded(drafter) if drafter else model_folder / "drafter"
        loaded = load_drafter(folder, identity, vla.config, vla.device, vla.dtype)
    if mode.propose == "hybrid" and opened is not None:
        bounds = opened.bounds(mode.boundary.metric)
    decoder = build_decoder(
        vla,
        mode,
        database=store,
        drafter=loaded,
        calibration=calibration,
        seed=seed,
        keep_frames=keep_frames,
    )
    return decoder, bounds


def database_folder(model_folder: Path, database: str = "") -> Path:
    """Where a model's database lies.

    Args:
        model_folder: the checkpoint's folder.
        database: somewhere else; empty: ``database`` in the checkpoint's folder.
    """
    return expanded(database) if database else model_folder / "database"


def uses_calibration(mode: ModeSettings) -> bool:
    """Whether what a mode skips depends on the calibration of its database."""
    random = mode.skip.policy == "random" and mode.skip.rate == 0.0
    return mode.skip.policy == "calibrated" or random


def build_decoder(
    vla: VLA,
    mode: ModeSettings,
    *,
    database: Store | None = None,
    drafter: Drafter | None = None,
    calibration: Calibration | None = None,
    seed: int = 0,
    actions_only: bool = False,
    allow_unknown: bool = False,
    keep_frames: bool = False,
) -> Decoder:
    """Composes the decoder of a mode.

    Args:
        vla: the model.
        mode: the mode.
        database: needed by modes that retrieve.
        drafter: needed by modes that draft.
        calibration: of the database; without one a calibrated mode does not skip, and says so.
        seed: of random skips and shadow verification.
        actions_only: as in `AutoregressiveDecoder`; for mode ``ar`` alone.
        allow_unknown: accept instructions that the model wasn't trained on.
        keep_frames: say with each verified step what may be kept of it.

    Raises:
        EngineError: the mode's engine cannot run here.
        ModeError: the mode needs a part that was not given, or its boundary cannot be left.
        CalibrationError: the mode skips by a calibration of other settings.
    """
    vla = vla.with_engine(mode.engine)
    if mode.propose == "none":
        return AutoregressiveDecoder(vla, actions_only=actions_only, allow_unknown=allow_unknown)
    if mode.retrieves and database is None:
        raise ModeError("the mode needs a database (`heisd db build` makes one); none was given")
    if mode.drafts and drafter is None:
        raise ModeError(
            "the mode needs a drafter (`heisd train drafter` makes one); none was given"
        )
    if calibration is not None and mode.skip.policy == "calibrated":
        calibration.check_mode(mode)
    boundary = None
    if mode.propose == "hybrid" and database is not None:
        bounds = database.bounds(mode.boundary.metric)
        boundary = Boundary(bounds.boundary, mode.boundary.hysteresis)
    return HybridDecoder(
        vla,
        mode,
        database=database,
        drafter=drafter,
        gate=SkipGate(mode.skip, calibration, seed),
        boundary=boundary,
        allow_unknown=allow_unknown,
        keep_frames=keep_frames,
    )
