"""Online growth in the VLA node: opened from parameters, fed by steps, shown in diagnostics."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from heisd_ros.decoding.calibration import Calibration
from heisd_ros.decoding.types import StepResult
from heisd_ros.files.bounded import expanded
from heisd_ros.fleet.collection_layout import Layout
from heisd_ros.fleet.episode_recorder import Verified
from heisd_ros.fleet.milvus import MilvusStore, check_installed
from heisd_ros.fleet.online_growth import GrowthStatus, OnlineGrowth, frozen_by_calibration
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.growing import GrowingStore
from heisd_ros.robot.parameters import VlaNodeParameters

if TYPE_CHECKING:
    from heisd_ros.control.policy import Policy

TOKEN = "HEISD_FLEET_TOKEN"
"""Environment variable with the token: a parameter could be read by anyone in the ROS graph."""


def wanted(parameters: VlaNodeParameters) -> bool:
    """Whether steps are recorded or shared."""
    return parameters.growth.mode != "off" or bool(parameters.fleet.uri)


def open_growth(
    parameters: VlaNodeParameters, database: Database, calibration: Calibration | None, k: int
) -> OnlineGrowth:
    """Opens the growth that the parameters configure.

    Args:
        parameters: The node's settings.
        database: The database that the decoder would search.
        calibration: The calibration that skipping uses, if any.
        k: Number of entries that a search returns.

    Raises:
        GrowthError: The database may not grow while a calibration is in force, or the journal
            cannot be used.
        FleetError: The client library is not installed.
    """
    frozen = ""
    if calibration is not None:
        frozen = frozen_by_calibration(database, calibration.created, parameters.decoding.mode)
    records = parameters.growth.mode != "off"
    uri, collection = parameters.fleet.uri, parameters.fleet.collection
    connect = None
    if uri:
        check_installed()  # now, and not while the arm moves
        layout, token = Layout.of(database.manifest), os.environ.get(TOKEN, "")

        def connect() -> MilvusStore:
            return MilvusStore(uri, layout, collection, token)

    return OnlineGrowth(
        GrowingStore(database, frozen, least=k),
        expanded(parameters.growth.folder) if records else None,
        append=parameters.growth.mode == "append",
        receiver=f"{uri} {collection}",
        connect=connect,
    )


def note(growth: OnlineGrowth, instruction: str, result: StepResult) -> None:
    """Passes on a step that was commanded to the arm."""
    frame = result.frame
    verified = None if frame is None else Verified(frame.key, frame.tokens)
    growth.note(instruction, result.action, verified)


def note_person(
    policy: Policy, instruction: str, action: np.ndarray, seen: StepResult | None
) -> None:
    """Passes on a step that a person took: the person's action, for what the policy saw.

    Args:
        policy: Its growth takes the step, and it encodes the action.
        instruction: What it is told to do.
        action: (7,), what the person did, in the model's units.
        seen: What it would have done at that moment; None: it is not known.
    """
    if policy.growth is None:
        return
    verified = None
    if seen is not None and seen.frame is not None and policy.encode is not None:
        verified = Verified(seen.frame.key, policy.encode(action))
    policy.growth.note(instruction, action, verified)


def state(status: GrowthStatus, now: float) -> tuple[bool, str]:
    """Returns whether growth works, and a description of its state.

    Args:
        status: Status of the growth.
        now: Steady time, s.
    """
    link = status.link
    if status.problem:
        return False, status.problem
    if link is None:
        return True, "recording"
    if link.state == "away":
        waiting = f"{link.waiting} episodes wait in the journal"
        return False, f"away for {now - link.since:.0f} s: {link.problem}; {waiting}"
    return (False, link.problem) if link.problem else (True, link.state)


def values(status: GrowthStatus) -> dict[str, object]:
    """Returns the values that diagnostics show, by name."""
    shown: dict[str, object] = {"episodes": status.episodes, "entries_added": status.added}
    if status.link is not None:
        shown |= {
            "fleet.state": status.link.state,
            "fleet.sent": status.link.sent,
            "fleet.waiting": status.link.waiting,
            "fleet.entries_fetched": status.link.fetched,
        }
    return shown
