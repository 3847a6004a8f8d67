"""Judges a command by the limits, by the arm, and by the command that was passed before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from heisd_ros.control.inputs import NANOSECONDS
from heisd_ros.guard.bounds import Bounds, target_twists
from heisd_ros.guard.commands import Command
from heisd_ros.guard.trips import Trip, TripReason
from heisd_ros.kinematics.joint_states import ArmState
from heisd_ros.robot.guard_parameters import GuardNodeParameters
from heisd_ros.safety.joints import Posture
from heisd_ros.safety.lead import Lead

_STILL = 1e-6
"""Change of a command, m or rad or per second, that is none."""
_JITTER_TICKS = 2.0
"""Ticks by which stamps may be further apart than arrivals; more is a clock that was set."""
_KEPT, _MOST_OWED = 0.8, 0.95
"""Share of `Passed.owed` that is carried over to the next command, so that a timer whose phase has
shifted counts as on time again after a few commands; and its greatest value, ticks."""


@dataclass(frozen=True, eq=False)
class Reading:
    """A velocity that a command may stand for.

    Attributes:
        twist: (6,), m/s and rad/s in the base frame.
        ticks: Ticks since the command before, if it is that one.
        rates: (k, 6), accelerations that it may have come by, m/s^2 and rad/s^2.
        lags: (k,), ticks of each of these that count for its distance from the next one.
        means: (m, 6), accelerations over all ticks, from what the command before may stand for.
        faults: Why it does not follow from the command before.
    """

    twist: np.ndarray
    ticks: int
    rates: np.ndarray = field(default_factory=lambda: np.zeros((1, 6)))
    lags: np.ndarray = field(default_factory=lambda: np.ones(1))
    means: np.ndarray = field(default_factory=lambda: np.zeros((1, 6)))
    faults: tuple[Trip, ...] = ()

    @property
    def rate(self) -> np.ndarray:
        """(6,), the least of `means` in each part; zero with faults."""
        parts = (self.means[:, :3], self.means[:, 3:])
        return np.concatenate([part[np.linalg.norm(part, axis=1).argmin()] for part in parts])


@dataclass(frozen=True, eq=False)
class Passed:
    """A command that was passed on.

    Attributes:
        command: The command.
        readings: What it may stand for, the most likely first.
        at: Steady time, ns.
        owed: Ticks by which its stamp may be late: more may have happened until the next command
            than the time between their stamps says.
    """

    command: Command
    readings: list[Reading]
    at: int
    owed: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether it moves the arm."""
        return bool(self.readings[0].twist.any())


class Judge:
    """Judges commands one by one; it remembers none.

    Args:
        settings: Limits, timeouts and tolerances.

    Attributes:
        bounds: The limits.
    """

    def __init__(self, settings: GuardNodeParameters) -> None:
        self.bounds = Bounds(settings)
        self._tick = 1.0 / settings.command.rate_hz
        self._stamp_age = settings.guard.max_stamp_age_sec

    def readings(
        self, command: Command, passed: Passed | None, rotation: np.ndarray, now: int
    ) -> list[Reading]:
        """Returns what a command may stand for; the likeliest if nothing follows from the last one.

        It may have taken a tick more than the stamps say if the last one `owed` it.

        Args:
            command: The command.
            passed: The last one that was passed; None: it is the first.
            rotation: (3, 3), from the axes of twists to those of the base.
            now: Steady time, ns.
        """
        since = self._since(command, passed, now) if passed else 1.0
        ticks, most = max(1, round(since)), round(since + (passed.owed if passed else 0.0))
        found = self._read(command, passed, rotation, ticks)
        if most > ticks and found[0].faults:
            # A command may have been lost beside one that was late.
            later = self._read(command, passed, rotation, most)
            return found if later[0].faults else later
        return found

    def owed(
        self, command: Command, readings: list[Reading], passed: Passed | None, now: int
    ) -> float:
        """Returns `Passed.owed` of a command that is passed.

        Args:
            command: The command.
            readings: What it may stand for.
            passed: The last one that was passed; None: it is the first.
            now: Steady time, ns.
        """
        if passed is None:
            return 0.0
        since, ticks = self._since(command, passed, now), min(each.ticks for each in readings)
        if command.twist is not None and ticks <= max(1, round(since)):
            before = passed.readings[0].twist  # what one tick explains, took one
            ticks = ticks if any(self.bounds.change(readings[0].twist, before, 1.0)) else 1
        return min(max(_KEPT * passed.owed + since - ticks, 0.0), _MOST_OWED)

    def _read(
        self, command: Command, passed: Passed | None, rotation: np.ndarray, ticks: int
    ) -> list[Reading]:
        """Returns `readings` by the ticks since the last command."""
        if command.twist is not None:
            reading = Reading(turned(rotation, command.twist), ticks)
            return [self._judged(reading, passed) if passed else reading]
        if command.target is None or passed is None or passed.command.target is None:
            return [Reading(np.zeros(6), ticks)]
        before, likely = passed.command.target, passed.readings[0].twist
        twists = target_twists(command.target, before, ticks, self._tick)
        found = [self._judged(Reading(twist, n), passed) for n, twist in enumerate(twists, 1)]
        found.sort(key=lambda each: float(np.linalg.norm(each.twist - likely)))
        return [each for each in found if not each.faults] or found[:1]

    def takes(self, command: Command, reading: Reading) -> float:
        """Returns the ticks that a command takes at least.

        A target after lost ones takes more than one, and so does one whose stamp is made up.

        Args:
            command: The command.
            reading: What it stands for.
        """
        if command.target is None:
            return 1.0
        return max(1.0, reading.ticks * self.bounds.share(reading.twist))

    def objections(
        self,
        command: Command,
        reading: Reading,
        passed: Passed | None,
        arm: ArmState,
        stop: np.ndarray,
        clock: int,
    ) -> Iterator[Trip]:
        """Yields what is wrong with a command, the most basic fault first.

        Args:
            command: The command.
            reading: What it stands for.
            passed: The last command that was passed; None: it is the first.
            arm: The measured arm.
            stop: (n, 6), displacements, m and rad, of a stop after the command.
            clock: Time on the clock that stamps are compared with, ns.
        """
        bounds, twist, target = self.bounds, reading.twist, command.target
        age = (clock - command.stamp) / NANOSECONDS
        if abs(age) > self._stamp_age:
            words = f"stamp is {age:.3f} s old; accepted: up to {self._stamp_age:g} s either way"
            yield Trip(TripReason.BAD_STAMPS, words)
        measured = arm.tip()
        position = measured.position
        if passed is None:
            if target is not None:
                yield from bounds.start(target, measured)
        else:
            back = (passed.command.stamp - command.stamp) / NANOSECONDS
            if back > 0.0:
                yield Trip(TripReason.BAD_STAMPS, f"stamp is {back:.3f} s before the previous one")
            yield from reading.faults
            if target is not None and passed.command.target is not None:
                yield from bounds.lead(target, passed.command.target, measured)
                position = passed.command.target.position
        step = twist * self._tick
        path = np.vstack([step, step + stop])
        # A target has come all the way since the last one, a twist is in force only from now on.
        came = 0.0 if target is None else (reading.ticks - 1) * step
        yield from bounds.place(position, path + came)
        yield from bounds.posture(Posture(arm.kinematics, arm.positions), twist, path)

    def _since(self, command: Command, passed: Passed, now: int) -> float:
        """Returns the ticks since the previous command: by the stamps, as arrivals jitter."""
        stamps = (command.stamp - passed.command.stamp) / NANOSECONDS / self._tick
        arrivals = (now - passed.at) / NANOSECONDS / self._tick
        return float(min(stamps, arrivals + _JITTER_TICKS))

    def _judged(self, reading: Reading, passed: Passed) -> Reading:
        """Returns a reading with why it does not follow from any reading of the last command."""
        objections: list[Trip] = []
        rates, lags, means = [], [], []
        for before in passed.readings:
            if passed.command.twist is not None:  # of one moment, some of these ticks later
                spans = np.arange(1.0, reading.ticks + 1.0)
                lag = ahead = spans / 2.0
            else:  # a mean over its ticks, which counts in their middle
                spans = np.array([(reading.ticks + before.ticks) / 2.0])
                lag, ahead = spans * 2.0 / 3.0, np.array([reading.ticks / 3.0])
            found = (reading.twist - before.twist) / (spans[:, None] * self._tick)
            apart = np.add.outer(ahead, before.lags)
            good = self.bounds.smooth(found, before.rates, apart, reading.twist)
            why = list(self.bounds.change(reading.twist, before.twist, float(spans[-1])))
            if not why and not good.any():
                why = [self.bounds.jerk(found, before.rates, apart)]
            if not why:
                rates.append(found[good])
                lags.append(lag[good])
                means.append(found[-1])
            objections += why
        faults = list(self.bounds.speed(reading.twist))
        if not rates:
            return replace(reading, faults=(*faults, *objections[:1]))
        accepted = np.concatenate(rates)
        faults += self.bounds.faded(reading.twist, accepted)
        return replace(
            reading,
            rates=accepted,
            lags=np.concatenate(lags),
            means=np.array(means),
            faults=tuple(faults),
        )


def turned(rotation: np.ndarray, twist: np.ndarray) -> np.ndarray:
    """Returns a twist (6,) along other axes."""
    result: np.ndarray = (twist.reshape(2, 3) @ rotation.T).ravel()
    return result


def moves(command: Command, before: Command | None) -> bool:
    """Whether a command moves the arm; a first target may."""
    if command.twist is not None:
        return bool(np.abs(command.twist).max() > _STILL)
    if command.target is None or before is None or before.target is None:
        return True
    motion = Lead.between(before.target, command.target, (0.0, 0.0)).offset
    return bool(np.abs(motion).max() > _STILL)
