"""The named reasons for which the guard passes nothing on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from heisd_ros.control.holds import Hold


class TripReason(str, Enum):
    """Every reason of the guard; those that the VLA node has too have the same names."""

    __str__ = str.__str__

    NO_ROBOT_DESCRIPTION = "no_robot_description"
    NO_JOINT_STATES = "no_joint_states"
    BAD_JOINT_STATES = "bad_joint_states"
    STALE_JOINT_STATES = "stale_joint_states"
    FROZEN_JOINT_STATES = "frozen_joint_states"
    BAD_STAMPS = "bad_stamps"
    NOT_FOLLOWING = "not_following"
    NO_CLOCK = "no_clock"
    RIVAL_COMMANDS = "rival_commands"
    CONTROL_ERROR = "control_error"
    ESTOP = "estop"
    NO_COMMANDS = "no_commands"
    NOT_FROM_REST = "not_from_rest"
    BAD_COMMAND = "bad_command"
    BAD_GRIPPER = "bad_gripper"
    TOO_FAST = "too_fast"
    JUMP = "jump"
    JERK = "jerk"
    WORKSPACE = "workspace"
    LEAD = "lead"
    JOINT_LIMIT = "joint_limit"
    JOINT_VELOCITY = "joint_velocity"
    COLLISION = "collision"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True)
class Trip:
    """One reason to pass nothing on, with the offending value in words."""

    reason: TripReason
    detail: str

    @classmethod
    def of(cls, hold: Hold | None) -> Trip | None:
        """Returns a hold of the VLA node's own checks as a trip; None for None."""
        return None if hold is None else cls(TripReason(hold.reason.value), hold.detail)

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail}"
