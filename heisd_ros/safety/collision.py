"""Slows the arm down before its links touch each other or the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from heisd_ros.safety.creep import Creep
from heisd_ros.safety.walls import Walls

if TYPE_CHECKING:
    from heisd_ros.kinematics.geometry import ArmGeometry
    from heisd_ros.safety.posture import Posture

NO_TABLE = -10.0
"""Table height that stands for no table, m."""
_MOST_WALLS = 48
"""Number of nearest solids and lowest points that bound a twist, so that a tick stays short."""
MARGIN_M = 5e-4
"""The arm brakes this much earlier, since predicted distances are not exact. Twists are bent by the
same amount earlier still, so that an arm that slides along an obstacle is not braked."""
_ROUND_OFF = 1e-6
_WAY_OUT_M = 1e-4
"""A pair that is nearer than its stop already may seem to come this much nearer: predictions are
not exact, and if several links are too near, each would keep the arm from leaving the others."""


@dataclass(frozen=True)
class CollisionGuard:
    """Slows a twist down before links touch each other or the table.

    Links that are within `stop_m` of each other in the middle of the joints' ranges touch by design
    and are not checked. Links that are never `slow_m` apart are stopped, but not slowed before, as
    they would be slow everywhere.

    Attributes:
        slow_m: Distance below which approaching links are slowed, m; 0: nothing is checked.
        stop_m: Distance at which they are stopped, m.
        table_z: Height of the table in the base frame, m; `NO_TABLE`: there is none.

    Raises:
        ValueError: Thresholds are in the wrong order.
    """

    slow_m: float = 0.0
    stop_m: float = 0.0
    table_z: float = NO_TABLE

    def __post_init__(self) -> None:
        if self.slow_m > 0.0 and not 0.0 <= self.stop_m < self.slow_m:
            raise ValueError(f"stop_m {self.stop_m}; accepted: 0 to slow_m {self.slow_m}")

    def watched(self, geometry: ArmGeometry) -> np.ndarray:
        """Returns a mask (n,) of the distances that are checked."""
        far = self._furthest(geometry) > self.stop_m
        far &= geometry.first > self.stop_m
        if self.table_z <= NO_TABLE:
            far[geometry.pairs :] = False
        return far

    def gaps(self, geometry: ArmGeometry) -> list[str]:
        """Describes the parts of an arm that should be checked but are not."""
        gaps = [f"solids of {link}, which other joints move" for link in geometry.left_out]
        if self.table_z > NO_TABLE and not self.watched(geometry)[geometry.pairs :].any():
            gaps.append(f"the table at {self.table_z:g} m, which no link comes above")
        return gaps

    def touching(self, geometry: ArmGeometry) -> list[str]:
        """Lists pairs of links that are not checked, such as 'panda_link5 and panda_link7'."""
        unseen = np.flatnonzero(~self.watched(geometry)[: geometry.pairs]).tolist()
        return list(dict.fromkeys(map(geometry.words, unseen)))

    def walls(self, twist: np.ndarray, posture: Posture, settle_sec: float) -> tuple[Walls, str]:
        """Computes how fast near obstacles may be approached.

        Args:
            twist: (k,), wanted, m/s and rad/s in the base frame, or the velocities of the joints.
            posture: Posture of the arm.
            settle_sec: Time until a change of the twist is complete, s, positive.

        Returns:
            The walls, and in words what bounds the twist; empty if nothing does.
        """
        geometry = posture.kinematics.geometry
        if self.slow_m == 0.0 or geometry is None:
            return Walls.none(len(twist)), ""
        distances = self._distances(posture, geometry)
        turns = np.abs(posture.inverse @ twist) * settle_sec
        stop = min(self.stop_m + 2.0 * MARGIN_M, self.slow_m)
        near = distances < max(self.slow_m, stop + geometry.most_change(turns))
        chosen = [
            indices[np.argsort(distances[indices])][:_MOST_WALLS]
            for indices in np.split(
                np.flatnonzero(near), [np.count_nonzero(near[: geometry.pairs])]
            )
        ]
        which = np.concatenate(chosen)
        rows = -geometry.slopes(posture.positions, which) @ posture.inverse
        # A round link that turns about its own axis comes no lower: only its lowest point is slowed
        # down, and the others are kept above their stops, or above the lowest point.
        least = geometry.least(distances)
        slowed = (distances <= least) & (self._furthest(geometry) > self.slow_m)
        span = np.where(slowed[which], self.slow_m - stop, 0.0)
        room = (distances - np.minimum(stop, least))[which]
        walls = Walls.at(rows, twist, room, span, settle_sec)
        worst = walls.worst(twist)
        if worst is None:
            return walls, ""
        return walls, (
            f"{geometry.words(which[worst])} are {distances[which[worst]]:.3f} m apart: "
            f"approach at {rows[worst] @ twist:.3g} m/s limited to {walls.allowed[worst]:.3g}"
        )

    def judge(self, posture: Posture, braking: np.ndarray) -> Callable[[np.ndarray], bool]:
        """Makes a check whether a motion keeps the distances, or those that braking would leave.

        Distances are checked halfway and at the end of the motion.

        Args:
            posture: Posture of the arm.
            braking: (m, k), displacements when braking from here to a stop, m and rad.

        Returns:
            A function of the displacements, (t, k), of a motion to a stop.
        """
        geometry = posture.kinematics.geometry
        if self.slow_m == 0.0 or geometry is None:
            return lambda motion: True
        stop, floor = self.stop_m + MARGIN_M, self._floor(geometry)
        now = self._distances(posture, geometry)

        def least(motion: np.ndarray) -> np.ndarray:
            """(n,), m, the least distances on the way; infinite where no stop is near."""
            turns = np.abs(motion @ posture.inverse.T).max(axis=0)
            near = np.flatnonzero(now - 2.0 * geometry.most_change(turns) < stop)
            if not len(near):
                return np.full(len(now), np.inf)
            ways = (
                geometry.distances(posture.ahead(motion[i]), near) for i in (len(motion) // 2, -1)
            )
            return np.minimum(*ways) - floor

        @cache
        def accepted() -> np.ndarray:
            lows: np.ndarray = np.minimum(stop, geometry.least(least(braking)))
            return lows - np.where(now < self.stop_m, _WAY_OUT_M, _ROUND_OFF)

        def holds(motion: np.ndarray) -> bool:
            there = least(motion)
            return bool((there >= stop).all() or (there >= accepted()).all())

        return holds

    def encroached(self, posture: Posture, motion: np.ndarray, slack_m: float, creep: Creep) -> str:
        """Describes what a motion leads too near, and nearer than it is; empty if nothing.

        Args:
            posture: Posture of the arm.
            motion: (6,), displacement of the tip, m and rad.
            slack_m: How much nearer than `stop_m` is accepted, m.
            creep: Judges what all motions of an arm come to.
        """
        geometry = posture.kinematics.geometry
        if self.slow_m == 0.0 or geometry is None:
            return ""
        now, stop = self._distances(posture, geometry), self.stop_m - slack_m
        turns = np.abs(posture.inverse @ motion)
        near = np.flatnonzero(now - 2.0 * geometry.most_change(turns) < stop)
        if not len(near):
            return ""
        there = geometry.distances(posture.ahead(motion), near) - self._floor(geometry)
        there = geometry.least(there)
        short = creep.excess(stop - geometry.least(now), stop - there)
        worst = int(near[np.argmax(short[near])])
        if short[worst] <= 0.0:
            return ""
        return f"{geometry.words(worst)} to {there[worst]:.3f} m; accepted: {stop:.3g}"

    def _floor(self, geometry: ArmGeometry) -> np.ndarray:
        """(n,), m, the zero of each distance: the table's height for points."""
        return np.where(np.arange(len(geometry.first)) < geometry.pairs, 0.0, self.table_z)

    def _furthest(self, geometry: ArmGeometry) -> np.ndarray:
        furthest: np.ndarray = geometry.furthest - self._floor(geometry)
        return furthest

    def _distances(self, posture: Posture, geometry: ArmGeometry) -> np.ndarray:
        """(n,), m, the distances that are checked; infinite for the rest."""
        distances = posture.distances - self._floor(geometry)
        return np.where(self.watched(geometry), distances, np.inf)
