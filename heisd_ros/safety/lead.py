"""Bounds how far a target, a pose or joint positions, may be ahead of the arm that follows it.

The lead bounds the force of a compliant controller. It acts as a wall around the measured pose:
motion of the target further out is slowed down before the wall and removed at it. A target beyond
it, after the arm was pushed or its joint states jumped, is led back, like any motion, within the
limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from heisd_ros.kinematics.pose import Pose
from heisd_ros.safety.workspace import approach_speed

LINEAR, ANGULAR = slice(0, 3), slice(3, 6)
_PARTS = ((LINEAR, "m"), (ANGULAR, "rad"))
_ROUND_OFF = 1e-9


@dataclass(frozen=True, eq=False)
class Lead:
    """A target ahead of the measured pose.

    Attributes:
        offset: (6,), from the measured pose to the target, m and rad (a rotation vector), in the
            base frame.
        most: Greatest lead, m and rad.
    """

    offset: np.ndarray
    most: tuple[float, float]

    @classmethod
    def between(cls, measured: Pose, target: Pose, most: tuple[float, float]) -> Lead:
        """Computes the lead of a target over a measured pose."""
        turned = (
            Rotation.from_matrix(target.rotation) * Rotation.from_matrix(measured.rotation).inv()
        )
        offset = np.concatenate([target.position - measured.position, turned.as_rotvec()])
        return cls(offset, most)

    def moved(self, motion: np.ndarray) -> Lead:
        """Returns the lead after a motion of the target, (6,), m and rad."""
        if not motion.any():
            return self
        return Lead(
            np.concatenate([self._after(part, motion[part]) for part, _ in _PARTS]), self.most
        )

    def shape(
        self, twist: np.ndarray, accelerations: Sequence[float], delays: Sequence[float]
    ) -> tuple[np.ndarray, str]:
        """Removes motion that leads too far ahead, and leads back a target that is too far.

        Args:
            twist: (6,), wanted of the target, m/s and rad/s in the base frame.
            accelerations: Limits of both parts, m/s^2 and rad/s^2.
            delays: Time until a change of each part is complete, s.

        Returns:
            The twist, and in words what was cut; empty if nothing was.
        """
        shaped, words = twist.copy(), []
        for i, (part, unit) in enumerate(_PARTS):
            distance = float(np.linalg.norm(self.offset[part]))
            if distance == 0.0:
                continue
            outward = self.offset[part] / distance
            room = self.most[i] - distance
            speed = approach_speed(abs(room), accelerations[i], delays[i])
            accepted = speed if room > 0.0 else -speed
            excess = float(twist[part] @ outward) - accepted
            if excess > 0.0:
                shaped[part] -= excess * outward
                words.append(f"target {distance:.3g} {unit} ahead, accepted: {self.most[i]:g}")
        return shaped, "; ".join(words)

    def holds(self, part: slice, motion: np.ndarray, braking: np.ndarray) -> bool:
        """Whether a motion stays within the lead, or goes no further than braking does.

        Args:
            part: The linear or the angular three of the six coordinates.
            motion: (n, 3), displacements of the target until it stops, m or rad.
            braking: (m, 3), those of braking from here.
        """
        most = self.most[0 if part == LINEAR else 1]
        reached = self._distances(part, braking).max()
        return bool(self._distances(part, motion).max() <= max(most, reached) + _ROUND_OFF)

    def _distances(self, part: slice, motion: np.ndarray) -> np.ndarray:
        return np.linalg.norm(self._after(part, motion), axis=-1)

    def _after(self, part: slice, motion: np.ndarray) -> np.ndarray:
        if part == LINEAR:
            return self.offset[part] + motion
        turns = Rotation.from_rotvec(motion) * Rotation.from_rotvec(self.offset[part])
        return turns.as_rotvec()


@dataclass(frozen=True, eq=False)
class JointLead:
    """Target joint positions ahead of the measured ones.

    Attributes:
        offset: (n,), from the measured to the target positions, rad.
        most: Greatest lead of each joint, rad.
    """

    offset: np.ndarray
    most: float

    def moved(self, motion: np.ndarray) -> JointLead:
        """Returns the lead after a motion of the target, (n,), rad."""
        return JointLead(self.offset + motion, self.most)

    def shape(
        self, velocities: np.ndarray, acceleration: float, delay_sec: float
    ) -> tuple[np.ndarray, str]:
        """Removes motion that leads too far ahead, and leads back a target that is too far.

        Args:
            velocities: (n,), wanted of the target, rad/s.
            acceleration: Limit of each joint, rad/s^2.
            delay_sec: Time until a change is complete, s.

        Returns:
            The velocities, and in words what was cut; empty if nothing was.
        """
        outward, room = np.sign(self.offset), self.most - np.abs(self.offset)
        speeds = [approach_speed(abs(each), acceleration, delay_sec) for each in room.tolist()]
        excess = velocities * outward - np.copysign(speeds, room)
        cut = (excess > 0.0) & (outward != 0.0)
        if not cut.any():
            return velocities, ""
        furthest = float(np.abs(self.offset).max())
        words = f"target {furthest:.3g} rad ahead, accepted: {self.most:g}"
        return velocities - np.where(cut, excess, 0.0) * outward, words

    def holds(self, motion: np.ndarray, braking: np.ndarray) -> bool:
        """Whether a motion stays within the lead, or goes no further than braking does.

        Args:
            motion: (t, n), displacements of the target until it stops, rad.
            braking: (t, n), those of braking from here.
        """
        reached = np.abs(self.offset + braking).max(axis=0)
        ahead = np.abs(self.offset + motion).max(axis=0)
        return bool((ahead <= np.maximum(self.most, reached) + _ROUND_OFF).all())
