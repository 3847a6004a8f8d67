"""The named reasons for holding the arm, and how often each one occurred."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum


class HoldReason(str, Enum):
    """Every reason for which the VLA node stops the arm."""

    __str__ = str.__str__

    NO_ROBOT_DESCRIPTION = "no_robot_description"
    NO_IMAGE = "no_image"
    BAD_IMAGE = "bad_image"
    STALE_IMAGE = "stale_image"
    FROZEN_IMAGE = "frozen_image"
    NO_JOINT_STATES = "no_joint_states"
    BAD_JOINT_STATES = "bad_joint_states"
    STALE_JOINT_STATES = "stale_joint_states"
    FROZEN_JOINT_STATES = "frozen_joint_states"
    BAD_STAMPS = "bad_stamps"
    UNSYNCHRONISED = "unsynchronised"
    NOT_FOLLOWING = "not_following"
    NO_CLOCK = "no_clock"
    NO_INSTRUCTION = "no_instruction"
    UNKNOWN_INSTRUCTION = "unknown_instruction"
    MODEL_ERROR = "model_error"
    MODEL_AWAY = "model_away"
    NO_ACTION = "no_action"
    NO_CHUNK = "no_chunk"
    OVER_BUDGET = "over_budget"
    ACTION_TOO_OLD = "action_too_old"
    CONTROL_ERROR = "control_error"
    SERVO_NOT_READY = "servo_not_ready"
    RIVAL_COMMANDS = "rival_commands"
    TAKEOVER = "takeover"
    BAD_TELEOP = "bad_teleop"
    STALE_TELEOP = "stale_teleop"
    RIVAL_TELEOP = "rival_teleop"
    ESTOP = "estop"


FRESH_START = frozenset(HoldReason) - {
    HoldReason.MODEL_ERROR,
    HoldReason.MODEL_AWAY,
    HoldReason.NO_ACTION,
    HoldReason.NO_CHUNK,
    HoldReason.UNKNOWN_INSTRUCTION,
    HoldReason.OVER_BUDGET,
    HoldReason.ACTION_TOO_OLD,
    HoldReason.UNSYNCHRONISED,
    HoldReason.TAKEOVER,
    HoldReason.BAD_TELEOP,
    HoldReason.STALE_TELEOP,
    HoldReason.RIVAL_TELEOP,
}
"""Holds after which earlier observations are discarded. While a person has the arm the policy goes
on in the background; what it saw is discarded when it gets the arm back."""


@dataclass(frozen=True)
class Hold:
    """One reason to stop the arm, with the offending value in words."""

    reason: HoldReason
    detail: str

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail}"


class HoldTracker:
    """The hold in force, if any, and the count of holds by reason since it was made."""

    def __init__(self) -> None:
        self.current: Hold | None = None
        self.counts: Counter[HoldReason] = Counter()
        self._told: dict[HoldReason, int] = {}

    def due(self, now: int, period: int) -> bool:
        """Whether the hold in force is to be logged: by reason, as reasons may alternate.

        Args:
            now: Steady time, ns.
            period: Time after which the same reason is logged again, ns.
        """
        if self.current is None or now < self._told.get(self.current.reason, now):
            return False
        self._told[self.current.reason] = now + period
        return True

    def update(self, hold: Hold | None) -> bool:
        """Takes the hold in force now.

        Returns:
            Whether the reason changed, or the hold ended. A detail such as an age may change
            without counting as a change.
        """
        before = self.current.reason if self.current else None
        after = hold.reason if hold else None
        self.current = hold
        if after is not None and after != before:
            self.counts[after] += 1
        return before != after
