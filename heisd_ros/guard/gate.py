"""Passes commands on, or stops the arm and stays stopped until it is reset. Imports no ROS.

The guard waits until it knows the arm and a command comes that starts from rest. From then on it
passes commands unchanged. A command that it does not accept, or none in time while the arm is
commanded to move, trips it: it takes over from the last command that it passed, ramps that down
within the limits, and passes nothing until it is reset. Where nothing moves, missing inputs only
make it wait again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from heisd_ros.control.following_check import MOVING, Following
from heisd_ros.control.ingest import ObservationBuffer
from heisd_ros.control.inputs import NANOSECONDS, IngestLimits
from heisd_ros.errors import CommandError
from heisd_ros.guard.commands import Command, CommandReader
from heisd_ros.guard.halt import Halt
from heisd_ros.guard.judge import Judge, Passed, moves, turned
from heisd_ros.guard.trips import Trip, TripReason
from heisd_ros.kinematics.joint_states import ArmState, JointStateReader
from heisd_ros.kinematics.pose import Pose
from heisd_ros.robot.guard_parameters import GuardNodeParameters

_OF_MOTION = frozenset({TripReason.NOT_FOLLOWING, TripReason.FROZEN_JOINT_STATES})
"""Faults that end with the motion."""
_STILL = 1e-6
"""Change of a command, m or rad or per second, that is none."""
_JITTER_TICKS = 2.0
"""Ticks by which a command may come early."""
_FAST = 1.01
"""Share of the rate at which commands may come, since clocks differ."""
_NOTHING = Trip(TripReason.NO_COMMANDS, "nothing received yet")


class State(Enum):
    """What the guard does with commands."""

    WAITING = "waiting"
    PASSING = "passing"
    TRIPPED = "tripped"


@dataclass(frozen=True, eq=False)
class Stop:
    """A command of the guard itself; either a twist or a target pose.

    Attributes:
        twist: (6,), in the units and along the axes of the commands.
        target: Pose of the tip in the base frame.
    """

    twist: np.ndarray | None = None
    target: Pose | None = None


class Gate:
    """Decides on every command, and makes those that stop the arm. Times `now` are steady, ns.

    Args:
        settings: Limits, timeouts and tolerances.

    Attributes:
        joints: Joint states of the arm; the caller adds them.
        trip: Why it has tripped; None: it has not.
        waiting: Why it waits, if it does.
        counts: Commands `passed` and not passed, these by reason, and trips as `trip REASON`.
    """

    def __init__(self, settings: GuardNodeParameters) -> None:
        self.settings, inputs = settings, settings.input
        self.joints = ObservationBuffer(
            (),
            IngestLimits(
                image_timeout_sec=inputs.joint_state_timeout_sec,
                joint_state_timeout_sec=inputs.joint_state_timeout_sec,
                frozen_motion_rad=0.0,
                sync_tolerance_sec=0.0,
                max_stamp_age_sec=inputs.max_stamp_age_sec,
                recovery_sec=inputs.recovery_sec,
                joint_margin_rad=inputs.joint_margin_rad,
                frozen_joint_states=inputs.frozen_joint_states,
            ),
            check_image=lambda message: None,
        )
        self.trip: Trip | None = None
        self.waiting = _NOTHING
        self.counts: Counter[str] = Counter(passed=0)
        self.reader = CommandReader(settings)
        self.tick_sec = 1.0 / settings.command.rate_hz
        fingers = settings.gripper
        self._openings = sorted((fingers.closed_position, fingers.open_position))
        self._timeout = settings.guard.command_timeout_sec * NANOSECONDS
        self._halt = Halt(settings, self.tick_sec)
        self._along_tip = settings.command_frame != settings.robot.base_frame
        self._judge = Judge(settings)
        self._turn = np.eye(3)  # from the axes of twists to those of the base, last measured
        self._passed: Passed | None = None
        # Ticks by which commands may still come sooner than one a tick, as after a delay.
        self._most_credit = settings.guard.command_timeout_sec / self.tick_sec + _JITTER_TICKS
        self._credit = self._most_credit
        self._newest: Command | None = None
        self._heard: int | None = None  # when any command came, good or bad, steady ns
        self._unsettled = False  # whether that one is bad or moves the arm
        self._following = Following(settings, self.tick_sec)

    @property
    def state(self) -> State:
        """What it does with commands now."""
        if self.trip is not None:
            return State.TRIPPED
        return State.WAITING if self._passed is None else State.PASSING

    @property
    def at_rest(self) -> bool:
        """Whether the newest command on the way to the arm stands still."""
        return self._halt.at_rest

    def set_robot(self, reader: JointStateReader) -> None:
        """Sets the arm, while nothing is passed."""
        self.joints.set_robot(reader)
        self._judge.bounds.begin()

    def take(self, message: Any, now: int, clock: int) -> bool:
        """Takes a command.

        Args:
            message: TwistStamped or PoseStamped, by `command.interface`.
            now: Steady time, ns.
            clock: Time on the clock that stamps are compared with, ns.

        Returns:
            Whether it is to be passed on, unchanged.
        """
        self._heard = now
        try:
            command = self.reader.read(message)
        except CommandError as error:
            self._unsettled = True
            self._refuse(Trip(TripReason.BAD_COMMAND, str(error)), now)
            return False
        self._unsettled = moves(command, self._newest)
        self._newest = command
        if self.trip is not None:
            self.counts["blocked"] += 1
            return False
        if self._lapsed(now):
            self.check(now, clock)
            return False
        fault = self.fault(now, clock)
        if fault is not None:
            self._lose(fault, now)
            return False
        if self._passed is None and self._unsettled:
            words = "commands move the arm from the first; accepted: those of a node that holds it"
            self._refuse(Trip(TripReason.NOT_FROM_REST, words), now)
            return False
        arm = self.joints.arm(now)
        assert arm is not None, "there would be a fault"
        if self._along_tip:
            self._turn = arm.tip().rotation
        readings = self._judge.readings(command, self._passed, self._turn, now)
        reading = readings[0]
        stop = self._halt.path(reading.twist, reading.rate)
        faults = self._judge.objections(command, reading, self._passed, arm, stop, clock)
        trip = next(faults, None) or self._too_often(now, self._judge.takes(command, reading))
        if trip is not None:
            self._refuse(trip, now)
            return False
        self._halt.follow(reading.twist, reading.rate)
        self._account(reading.twist, arm, now)
        owed = self._judge.owed(command, readings, self._passed, now)
        self._passed = Passed(command, readings, now, owed)
        self.counts["passed"] += 1
        return True

    def grip(self, opening: float, now: int, problem: str = "") -> bool:
        """Takes an opening of the gripper, which moves only while commands of the arm are passed.

        Args:
            opening: The opening, m.
            now: Steady time, ns.
            problem: What is wrong with its message or topic; empty if nothing is.

        Returns:
            Whether it is to be passed on.
        """
        if self.state is not State.PASSING:
            self.counts["gripper blocked"] += 1
            return False
        closed, opened = self._openings
        if not closed - _STILL <= opening <= opened + _STILL:
            problem = problem or f"opening is {opening:g} m; accepted: {closed:g} to {opened:g}"
        if problem:
            self._refuse(Trip(TripReason.BAD_GRIPPER, problem), now)
            return False
        self.counts["gripper passed"] += 1
        return True

    def check(self, now: int, clock: int, rival: Trip | None = None) -> None:
        """Checks what may go wrong without a command; to be called at every tick.

        Args:
            now: Steady time, ns.
            clock: As in `take`.
            rival: Others that publish commands, if any.
        """
        if self.trip is not None:
            return
        fault = self.fault(now, clock)
        if rival is not None:
            self._refuse(rival, now)
        elif fault is not None:
            self._lose(fault, now)
        elif self._passed is not None and self._lapsed(now):
            silent = (now - self._passed.at) / NANOSECONDS
            limit = self._timeout / NANOSECONDS
            words = f"none for {silent:.3f} s; accepted: up to {limit:g} s"
            self._lose(Trip(TripReason.NO_COMMANDS, words), now)
        elif self._passed is None and self._heard is not None and self._quiet(now):
            age = (now - self._heard) / NANOSECONDS
            self.waiting = Trip(TripReason.NO_COMMANDS, f"none for {age:.0f} s")

    def stop(self, trip: Trip, now: int) -> None:
        """Trips; an arm that is commanded to move is ramped down from the last command passed.

        An emergency stop replaces the reason of an earlier trip.
        """
        if self.trip is not None:
            if trip.reason is TripReason.ESTOP:
                self.trip = trip
            return
        self.counts[f"trip {trip.reason}"] += 1
        passed, self.trip, self._passed = self._passed, trip, None
        if passed is not None:  # else somebody else may have moved the arm since
            self._halt.begin(passed.command.target, passed.at, now)

    def stopping(self, now: int) -> Stop | None:
        """Returns the guard's own command at this tick; None if it has none to send."""
        if not self._halt.active:
            return None
        arm = self.joints.arm(now)
        twist = self._halt.advance(now)
        self._account(twist, arm, now)
        target = self._halt.target
        if target is None:
            return Stop(twist=turned(self._turn.T, twist) / self.reader.scales)
        if self.at_rest and arm is not None and self._judge.bounds.left(target, arm.tip()):
            return None  # moved by somebody else, whom the target would pull back
        return Stop(target=target)

    def reset(self, now: int, clock: int) -> str:
        """Ends a trip, so that a command from rest is passed again.

        Args:
            now: Steady time, ns.
            clock: As in `take`.

        Returns:
            Why that is refused; empty if it was done.
        """
        if self.trip is None:
            return ""
        if not self.at_rest:
            return "the arm is still being stopped"
        self.joints.forget_repeats()
        fault = self.fault(now, clock)
        if fault is not None and fault.reason not in _OF_MOTION:
            return str(fault)
        if self._unsettled and not self._quiet(now):
            return "commands still move the arm; accepted: none, or those of a node that holds it"
        self.trip, self.waiting = None, _NOTHING
        self._judge.bounds.begin()
        self._halt = Halt(self.settings, self.tick_sec)
        self._following = Following(self.settings, self.tick_sec)
        return ""

    def fault(self, now: int, clock: int) -> Trip | None:
        """Returns what is wrong with clock or joint states, or how the arm follows; None: nothing.

        Args:
            now: Steady time, ns.
            clock: As in `take`.
        """
        if clock <= 0:
            return Trip(TripReason.NO_CLOCK, "the guard's clock stands at 0")
        return Trip.of(self.joints.problem(now) or self._following.problem())

    def _too_often(self, now: int, ticks: float) -> Trip | None:
        """Counts the ticks that commands take; returns a trip if they are more than have passed.

        The first of a motion begins the count.
        """
        if self._passed is None:
            self._credit = self._most_credit
            return None
        elapsed = (now - self._passed.at) / NANOSECONDS / self.tick_sec
        self._credit = min(self._credit + _FAST * elapsed, self._most_credit) - ticks
        if self._credit >= 0.0:
            return None
        words = f"commands come faster, or lead further, than one in {self.tick_sec:g} s may"
        return Trip(TripReason.TOO_FAST, words)

    def _account(self, twist: np.ndarray, arm: ArmState | None, now: int) -> None:
        """Compares what was commanded until now with the measured motion, as the node does."""
        self._following.seen(arm, now, self.joints.arm_age_sec(now))
        self._following.sent(twist, now)
        self.joints.moving = not self.settings.dry_run and bool((np.abs(twist) > MOVING).any())

    def _refuse(self, trip: Trip, now: int) -> None:
        """Does not pass a command; trips if the one before was passed."""
        self.counts[trip.reason] += 1
        if self._passed is not None:
            self.stop(trip, now)
        elif self.trip is None:
            self.waiting = trip

    def _lose(self, fault: Trip, now: int) -> None:
        """Trips if the arm is commanded to move, or did not follow; waits otherwise."""
        passed = self._passed
        if passed is not None and (passed.moves or fault.reason in _OF_MOTION):
            self.stop(fault, now)
        elif self.trip is None:
            self._halt = Halt(self.settings, self.tick_sec)
            self._passed, self.waiting = None, fault

    def _lapsed(self, now: int) -> bool:
        return self._passed is not None and now - self._passed.at > self._timeout

    def _quiet(self, now: int) -> bool:
        return self._heard is None or now - self._heard > self._timeout
