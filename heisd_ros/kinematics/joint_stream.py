"""Checks that joint positions, and steps between two messages, are possible for an arm."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heisd_ros.errors import JointStateError
from heisd_ros.kinematics.arm import ArmKinematics

FASTEST = 10.0
"""Speed, rad/s or m/s, of a joint whose description gives no limit."""
STEP_SHARE, STEP_SLACK = 2.0, 0.05
"""A step may be this many times what the speed limit allows, plus this much (rad or m): stamps
jitter, and drivers let an arm be slightly faster."""
SPEED_SHARE = 3.0
"""A reported speed of more than this many times its limit is in another unit."""
MOST_TURNS = 1000.0
"""Position, rad, that is absurd even for a joint without limits."""


class PlausibleJoints:
    """Checks each joint state of a stream against its limits and the previous joint state.

    A message is compared with the last one that had positions within the limits, whether or not its
    step was plausible: with two sources that contradict each other every message is a jump.

    Args:
        kinematics: The arm.
        limits: Joint name to (lower, upper), rad; wider ones replace the description's.
    """

    def __init__(
        self, kinematics: ArmKinematics, limits: Mapping[str, tuple[float, float]]
    ) -> None:
        self._names, self._way = kinematics.joint_names, kinematics.way
        self._lower, self._upper = (np.array(ends) for ends in kinematics.position_limits)
        for index, name in enumerate(self._names):
            if name in limits:
                lower, upper = limits[name]
                self._lower[index] = min(self._lower[index], lower)
                self._upper[index] = max(self._upper[index], upper)
        speeds = kinematics.velocity_limits
        self._speeds = np.where(np.isfinite(speeds), speeds, FASTEST)
        self._last: tuple[np.ndarray, float, float] | None = None

    def check(self, positions: np.ndarray, margin: float, stamp: float, received: float) -> None:
        """Checks the positions of one message.

        The step may take the longer of the times between the two stamps and between the two
        arrivals: late messages come in a burst, or out of order, and stamps may be coarse.

        Args:
            positions: (n,), finite, rad or m.
            margin: How far beyond a limit a position may be, rad or m.
            stamp: Header stamp, s.
            received: Steady time of arrival, s.

        Raises:
            JointStateError: A position is outside its limits, or was not reached from the last one;
                the message names joint, value and limit.
        """
        self._check_limits(positions, margin)
        last, self._last = self._last, (positions, stamp, received)
        if last is None:
            return
        before, stamp_before, received_before = last
        seconds = max(abs(stamp - stamp_before), received - received_before)
        step = np.abs(self._way(before, positions))
        excess = step - (STEP_SHARE * self._speeds * seconds + STEP_SLACK)
        worst = int(np.argmax(excess))
        if excess[worst] > 0.0:
            raise JointStateError(
                f"{self._names[worst]} jumped from {before[worst]:.3f} to {positions[worst]:.3f} "
                f"in {seconds:.3f} s; accepted: {self._speeds[worst]:g} per second, the limit of "
                "its speed; do several nodes publish its position, or is it in degrees?"
            )

    def usable(self, velocities: np.ndarray | None) -> bool:
        """Whether velocities (rad/s or m/s) may be those of the arm."""
        return velocities is not None and bool(
            (np.abs(velocities) <= SPEED_SHARE * self._speeds).all()
        )

    def _check_limits(self, positions: np.ndarray, margin: float) -> None:
        lower = np.maximum(self._lower - margin, -MOST_TURNS)
        upper = np.minimum(self._upper + margin, MOST_TURNS)
        excess = np.maximum(lower - positions, positions - upper)
        worst = int(np.argmax(excess))
        if excess[worst] <= 0.0:
            return
        radians = np.radians(positions)
        outside = bool(np.abs(positions).max() > 2.0 * np.pi) and (excess > 0.0).sum() > 1
        degrees = outside and bool(((radians >= lower) & (radians <= upper)).all())
        raise JointStateError(
            f"position of {self._names[worst]} is {positions[worst]:.4g}"
            + (", which looks like degrees" if degrees else "")
            + f"; accepted: {lower[worst]:.3f} to {upper[worst]:.3f} rad, its limits and a margin"
        )
