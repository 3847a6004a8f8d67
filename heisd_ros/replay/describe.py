"""Describes what a replay was run with, by contents instead of paths."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heisd_ros.control.policy import model_folder
from heisd_ros.data.bag_files import layout_of
from heisd_ros.decoding.assembly import Assembly
from heisd_ros.evaluation.setup import describe_parts, named_modes
from heisd_ros.robot.declare import values_of
from heisd_ros.robot.parameters import VlaNodeParameters

_BLOCK = 1 << 20
_ELSEWHERE = frozenset(
    {"model.path", "decoding.mode", "decoding.database", "decoding.drafter", "decoding.seed"}
    | {"robot.urdf", "metric.bounds", "input.compressed", "model.budget_sec"}
)
"""Parameters left out: paths, what is described otherwise, and what a replay does not use."""


def describe(bag: Path, parameters: VlaNodeParameters, modes: Sequence[str]) -> dict[str, Any]:
    """Describes what is run.

    Returns:
        bag (digest), seed, model (fingerprint), database, drafter, calibration, modes (settings and
        boundary of each), and parameters, those of the node that differ from the default.

    Raises:
        BagError: The bag does not exist.
        HeisdError: The model, a mode or one of its parts is missing or cannot be used.
    """
    decoding, named = parameters.decoding, named_modes(modes)
    assembly = Assembly(
        model_folder(parameters),
        decoding.database,
        decoding.drafter,
        bounds=parameters.metric.bounds,
    )
    for mode in named.values():
        assembly.check(mode)
    facts = {"seed": decoding.seed, **describe_parts(assembly, named)}
    given, plain = values_of(parameters), values_of(VlaNodeParameters())
    changed = {
        name: given[name] for name in plain if name not in _ELSEWHERE and given[name] != plain[name]
    }
    kept = ("seed", "model", "database", "drafter", "calibration", "modes")
    facts = {name: facts[name] for name in kept}
    return {"bag": bag_digest(bag), **facts, "parameters": changed}


def bag_digest(path: Path) -> str:
    """Returns the SHA-256 of a bag's storage files; other files beside them may change.

    Raises:
        BagError: There are none.
    """
    digest = hashlib.sha256()
    for file in layout_of(path).files:
        with file.open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
