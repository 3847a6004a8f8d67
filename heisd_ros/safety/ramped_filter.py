"""What all filters between policy and robot share: ramps, the timing of commands, and halts.

Time is counted in ticks of the command's clock: one for each command, and more if a command is
late.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np

from heisd_ros.safety.ramp import Ramp

ON_TIME = 0.02
"""Share of a tick by which a command may be early and still count as on time."""
_LATE = 3
"""Number of consecutive late commands from which they count for the ticks that passed: a single
late command is jitter, and following it would make the motion rough."""
_MOST = 100
"""Greatest number of ticks that a command counts for."""
POSE_UNKNOWN = "the pose of the arm is unknown: not moved"
NOT_FINITE = "is not finite: not moved"


@dataclass(frozen=True)
class PartLimits:
    """Limits of the linear part (m) or of the angular part (rad) of a twist; infinite: none.

    Attributes:
        step: Motion of one control step, m or rad.
        speed: m/s or rad/s.
        acceleration: m/s^2 or rad/s^2.
        jerk: m/s^3 or rad/s^3; needs a limit of the acceleration.
        deceleration: Of a halt, m/s^2 or rad/s^2; at least the acceleration is used.

    Raises:
        ValueError: A limit is not positive.
    """

    step: float = math.inf
    speed: float = math.inf
    acceleration: float = math.inf
    jerk: float = math.inf
    deceleration: float = 0.0

    def __post_init__(self) -> None:
        for name in ("step", "speed", "acceleration", "jerk"):
            value = getattr(self, name)
            if not value > 0.0:
                raise ValueError(f"limit of {name} is {value}; accepted: positive")


class Limits(Protocol):
    """Limits of a filter: of its ramps, and the longest time of a halt, s."""

    @property
    def parts(self) -> tuple[PartLimits, ...]: ...  # noqa: D102

    @property
    def halt_sec(self) -> float: ...  # noqa: D102


L = TypeVar("L", bound=Limits)


@dataclass(frozen=True)
class Limited:
    """A command within the limits.

    Attributes:
        velocity: (k,), a twist in the base frame, m/s and rad/s, or the velocities of the joints.
        notes: What was cut, by kind, each in words with its numbers.
        motion: (k,), displacement since the previous command, m and rad.
    """

    velocity: np.ndarray
    notes: dict[str, str]
    motion: np.ndarray

    def __str__(self) -> str:
        return "; ".join(self.notes.values())

    @property
    def twist(self) -> np.ndarray:
        """(6,), the velocity that a filter of twists gives."""
        return self.velocity

    def over(self, motion: np.ndarray) -> Limited:
        """Returns the same command with another displacement since the previous one."""
        return replace(self, motion=motion)


class RampedFilter(Generic[L]):
    """Ramps of a motion, in parts. It starts from rest.

    Args:
        limits: The limits.
        sizes: Number of coordinates of each part.
        tick_sec: Time from one command to the next, s.
        timeout_sec: Time without a command after which the arm has stopped by itself, s; the next
            command then starts from rest.

    Attributes:
        counts: Ticks in which something was cut, by kind.
    """

    names: ClassVar[Sequence[tuple[str, str]]] = (("linear", "m/s^2"), ("angular", "rad/s^2"))
    """Name of each part, and the unit of its acceleration."""

    def __init__(
        self, limits: L, sizes: Sequence[int], tick_sec: float, timeout_sec: float
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._tick, self._timeout = tick_sec, timeout_sec
        self._ramps = [
            Ramp(tick_sec, part.acceleration, part.jerk, size)
            for part, size in zip(limits.parts, sizes, strict=True)
        ]
        ends = np.cumsum([0, *sizes]).tolist()
        self._slices = [slice(*pair) for pair in itertools.pairwise(ends)]
        self._size = ends[-1]
        self._limits = limits
        self._late = 0  # consecutive commands that were more than a tick late
        self._halting: list[tuple[float, float] | None] | None = None  # of each part

    @property
    def limits(self) -> L:
        """The limits in force; they may be replaced while the arm moves, without a jump."""
        return self._limits

    @limits.setter
    def limits(self, limits: L) -> None:
        for ramp, part in zip(self._ramps, limits.parts, strict=True):
            ramp.set_limits(part.acceleration, part.jerk)
        self._limits = limits

    @property
    def at_rest(self) -> bool:
        """Whether the commanded velocity is zero and stays so."""
        return all(ramp.at_rest for ramp in self._ramps)

    def rest(self) -> np.ndarray:
        """Stops at once, without a ramp; returns the zero velocity."""
        for ramp in self._ramps:
            ramp.rest()
        return np.zeros(self._size)

    def halt(self, elapsed_sec: float | None = None) -> Limited:
        """Returns the next command of a smooth halt; it needs no pose.

        Args:
            elapsed_sec: Time since the previous command, s; None: one tick.
        """
        ticks, share = self._ticks(elapsed_sec)
        if self._halting is None:
            self._halting = [
                ramp.stop_limits(part.deceleration, self._limits.halt_sec)
                for ramp, part in zip(self._ramps, self._limits.parts, strict=True)
            ]
        motion = np.zeros(self._size)
        for _ in range(ticks):
            plans = [ramp.stop(hard) for ramp, hard in zip(self._ramps, self._halting, strict=True)]
            limited = self._taken(np.zeros(self._size), plans, {})
            motion += limited.motion
        return limited.over(motion * share)

    def _ticks(self, elapsed_sec: float | None) -> tuple[int, float]:
        """Returns the ticks that a command counts for, and the share of them that has passed."""
        if elapsed_sec is None:
            return 1, 1.0
        if not 0.0 <= elapsed_sec <= max(self._timeout, 2.0 * self._tick):
            self.rest()
            self._late = 0
            return 1, 1.0
        passed = min(math.floor(elapsed_sec / self._tick + ON_TIME), _MOST)
        self._late = self._late + 1 if passed > 1 else 0
        ticks = passed if self._late >= _LATE else 1
        if not all(math.isinf(part.acceleration) for part in self._limits.parts):
            return ticks, 1.0  # a clock's tick is never early, only its reading
        return ticks, min(1.0, elapsed_sec / (ticks * self._tick))

    def _path(self, plan: np.ndarray) -> np.ndarray:
        """Returns the displacements (n, k), m and rad, of a plan's velocities, tick by tick."""
        return np.cumsum(plan * self._tick, axis=0)

    def _taken(
        self, wanted: np.ndarray, plans: Sequence[np.ndarray], notes: dict[str, str]
    ) -> Limited:
        """Advances one tick with the plans of all parts."""
        pairs = zip(self._ramps, plans, strict=True)
        velocity = np.concatenate([ramp.take(plan) for ramp, plan in pairs])
        parts = zip(self._slices, self.names, self._limits.parts, strict=True)
        for part, (name, unit), limits in parts:
            limit = limits.acceleration
            if limit < math.inf and not np.array_equal(velocity[part], wanted[part]):
                words = f"{name} acceleration limited to {limit:g} {unit}"
                before = notes.get("acceleration")
                notes["acceleration"] = f"{before}; {words}" if before else words
        self.counts.update(notes.keys())
        return Limited(velocity, notes, velocity * self._tick)
