"""The posture of an arm, and how its motion turns the joints.

A motion is given in coordinates: those of the tip's twist, or the joints themselves. A posture maps
them to the joints, so that limits of joints and distances are computed once for both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from heisd_ros.safety.walls import METRES_A_RADIAN

if TYPE_CHECKING:
    from heisd_ros.kinematics.arm import ArmKinematics

_DAMPING = 0.02
"""Damping of the Jacobian's inverse, so that joint velocities stay finite at a singularity."""
_LEAST_GAIN = 0.005
"""Singular value of the Jacobian below which computed joint speeds no longer grow."""


@dataclass(frozen=True, eq=False)
class Posture:
    """The joint positions of an arm, and what follows from them for motion of the tip.

    Attributes:
        kinematics: The arm.
        positions: (n,), rad, in its joint order.
    """

    kinematics: ArmKinematics
    positions: np.ndarray

    def at(self, positions: np.ndarray) -> Posture:
        """Returns the same arm at other joint positions, (n,), rad."""
        return replace(self, positions=positions)

    @cached_property
    def jacobian(self) -> np.ndarray:
        """(6, n), maps joint velocities to the twist of the tip, in the base frame."""
        return self.kinematics.jacobian(self.positions)

    @cached_property
    def weights(self) -> np.ndarray:
        """(k,), weight of each coordinate in the search for the nearest motion."""
        return np.repeat([1.0, METRES_A_RADIAN], 3)

    @cached_property
    def inverse(self) -> np.ndarray:
        """(n, k), maps a motion to joint velocities, damped."""
        square = self.jacobian @ self.jacobian.T + _DAMPING**2 * np.eye(6)
        inverse: np.ndarray = np.linalg.solve(square, self.jacobian).T
        return inverse

    @cached_property
    def sharp_inverse(self) -> np.ndarray:
        """(n, k), maps a motion to joint velocities, damped only below `_LEAST_GAIN`."""
        left, values, right = np.linalg.svd(self.jacobian, full_matrices=False)
        inverse: np.ndarray = (right.T / np.maximum(values, _LEAST_GAIN)) @ left.T
        return inverse

    def turns(self, way: np.ndarray) -> np.ndarray:
        """Maps displacements to those of the joints, over a whole displacement; (k, n).

        It is the mean of both ends (Heun's method): near a singularity joints turn ever faster.

        Args:
            way: (k,), displacement, m and rad.
        """
        there = self.at(self.positions + self.inverse @ way).inverse
        turns: np.ndarray = (self.inverse + there).T / 2.0
        return turns

    def ahead(self, way: np.ndarray) -> np.ndarray:
        """Returns joint positions (n,), rad, after a displacement (k,), m and rad."""
        ahead: np.ndarray = self.positions + way @ self.turns(way)
        return ahead

    @cached_property
    def distances(self) -> np.ndarray:
        """(n,), m, distances between links and to the base plane; the geometry must be known."""
        assert self.kinematics.geometry is not None
        return self.kinematics.geometry.distances(self.positions)


class JointPosture(Posture):
    """The same for motion of the joints themselves, which any posture allows exactly."""

    def moved(self, motion: np.ndarray) -> JointPosture:
        """Returns the posture after a motion, (n,), rad."""
        return replace(self, positions=self.positions + motion)

    @cached_property
    def weights(self) -> np.ndarray:
        """(n,), all joints count alike."""
        return np.ones(len(self.positions))

    @cached_property
    def inverse(self) -> np.ndarray:
        """(n, n), the identity."""
        return np.eye(len(self.positions))

    @cached_property
    def sharp_inverse(self) -> np.ndarray:
        """(n, n), the identity."""
        return self.inverse

    def turns(self, way: np.ndarray) -> np.ndarray:
        """Returns the identity, (n, n)."""
        return self.inverse
