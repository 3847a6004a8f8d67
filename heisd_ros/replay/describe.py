"""What a replay was run with, by contents and not by paths."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heisd_ros.control.policy import model_folder
from heisd_ros.data.bag_files import layout_of
from heisd_ros.evaluation.setup import Parts, Setup
from heisd_ros.robot.declare import parameters_of
from heisd_ros.robot.parameters import VlaNodeParameters

_BLOCK = 1 << 20
_ELSEWHERE = frozenset(
    {"model.path", "decoding.mode", "decoding.database", "decoding.drafter", "decoding.seed"}
    | {"robot.urdf", "metric.bounds", "input.compressed", "model.budget_sec"}
)
"""Paths, what is told under another name, and what a replay does not take."""


def describe(bag: Path, parameters: VlaNodeParameters, modes: Sequence[str]) -> dict[str, Any]:
    """What is run.

    Args:
        bag: The recording.
        parameters: Settings of the node.
        modes: The decoding modes.

    Returns:
        bag (digest), seed, model (fingerprint), database, drafter, calibration, modes (settings and
        boundary of each), and parameters, those of the node that are not as declared.

    Raises:
        BagError: The bag is not there.
        HeisdError: The model, a mode or one of its parts is missing or cannot be used.
    """
    folder = model_folder(parameters)
    setup = Setup(
        suite="",
        model=str(folder),
        modes=tuple(modes),
        database=parameters.decoding_database or str(folder / "database"),
        drafter=parameters.decoding_drafter or str(folder / "drafter"),
        seed=parameters.decoding_seed,
    )
    facts = Parts(setup).describe()
    plain = VlaNodeParameters()
    changed = {
        info.name: getattr(parameters, field.name)
        for field, info in parameters_of(VlaNodeParameters)
        if info.name not in _ELSEWHERE
        and getattr(parameters, field.name) != getattr(plain, field.name)
    }
    kept = ("seed", "model", "database", "drafter", "calibration", "modes")
    facts = {name: facts[name] for name in kept}
    return {"bag": bag_digest(bag), **facts, "parameters": changed}


def bag_digest(path: Path) -> str:
    """SHA-256 of a bag's storage files; what is beside them may change.

    Raises:
        BagError: There is none.
    """
    digest = hashlib.sha256()
    for file in layout_of(path).files:
        with file.open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
