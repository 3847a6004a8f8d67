"""Slowing down before links of the arm touch each other, or the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from heisd_ros.safety.walls import Walls

if TYPE_CHECKING:
    from heisd_ros.kinematics.geometry import ArmGeometry
    from heisd_ros.safety.joints import Posture

NO_TABLE = -10.0
"""Height of a table that is none, m."""
_MOST_WALLS = 48
"""So many of the nearest solids and of the lowest points bound a twist: a tick is to be short."""
_MARGIN_M = 5e-4
"""By so much earlier is braked, as what is reckoned ahead is not exact; twists are bent earlier by
as much again, so that an arm that slides along something is not braked."""
_ROUND_OFF = 1e-6
_WAY_OUT_M = 1e-4
"""What is nearer than its stop already may seem to come so much nearer: what is reckoned ahead is
not exact, and of several links that are too near each would keep the arm from leaving another."""


@dataclass(frozen=True)
class CollisionGuard:
    """Slows a twist down before links touch each other or the table.

    Links that are within `stop_m` of each other in the middle of the joints' ranges are made so
    that they touch, and are not looked at. Those that never come `slow_m` apart are stopped, but
    not slowed before, as they would be slow everywhere.

    Attributes:
        slow_m: Distance from which links that come nearer are slowed; 0: nothing is looked at.
        stop_m: Distance at which they are stopped.
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
        """(n,), which of the distances are looked at."""
        far = self._furthest(geometry) > self.stop_m
        far &= geometry.first > self.stop_m
        if self.table_z <= NO_TABLE:
            far[geometry.pairs :] = False
        return far

    def gaps(self, geometry: ArmGeometry) -> list[str]:
        """What of an arm it should look at and does not, in words."""
        gaps = [f"solids of {link}, which other joints move" for link in geometry.left_out]
        if self.table_z > NO_TABLE and not self.watched(geometry)[geometry.pairs :].any():
            gaps.append(f"the table at {self.table_z:g} m, which no link comes above")
        return gaps

    def touching(self, geometry: ArmGeometry) -> list[str]:
        """Pairs of links that are not looked at, such as 'panda_link5 and panda_link7'."""
        unseen = np.flatnonzero(~self.watched(geometry)[: geometry.pairs]).tolist()
        return list(dict.fromkeys(map(geometry.words, unseen)))

    def walls(self, twist: np.ndarray, posture: Posture, settle_sec: float) -> tuple[Walls, str]:
        """How fast what is near may come nearer.

        Args:
            twist: (6,), wanted, m/s and rad/s in the base frame.
            posture: Where the arm is.
            settle_sec: Time until a change of the twist is done, s, positive.

        Returns:
            The walls, and in words what bounds the twist; empty where nothing does.
        """
        geometry = posture.kinematics.geometry
        if self.slow_m == 0.0 or geometry is None:
            return Walls(np.zeros((0, 6)), np.zeros(0)), ""
        distances = self._distances(posture, geometry)
        turns = np.abs(posture.inverse @ twist) * settle_sec
        stop = min(self.stop_m + 2.0 * _MARGIN_M, self.slow_m)
        near = distances < max(self.slow_m, stop + geometry.most_change(turns))
        chosen = [
            indices[np.argsort(distances[indices])][:_MOST_WALLS]
            for indices in np.split(
                np.flatnonzero(near), [np.count_nonzero(near[: geometry.pairs])]
            )
        ]
        which = np.concatenate(chosen)
        rows = -geometry.slopes(posture.positions, which) @ posture.inverse
        # A round link that turns about its own axis comes no lower: of its points only the lowest
        # is slowed down, and the others are kept from their stops, or from where that one is.
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
        """Tells whether a motion keeps the distances, or what braking leaves of them.

        Looked at half-way and where the arm would stand.

        Args:
            posture: Where the arm is.
            braking: (m, 6), displacements of the tip when braking from here until a stand, m and
                rad.

        Returns:
            Takes the displacements, (n, 6), of a motion until a stand.
        """
        geometry = posture.kinematics.geometry
        if self.slow_m == 0.0 or geometry is None:
            return lambda motion: True
        stop, floor = self.stop_m + _MARGIN_M, self._floor(geometry)
        now = self._distances(posture, geometry)

        def least(motion: np.ndarray) -> np.ndarray:
            """(n,), m, the least distances on the way; infinite for what stays off its stop."""
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

    def _floor(self, geometry: ArmGeometry) -> np.ndarray:
        """(n,), m, from which distances count: points from the table's height on."""
        return np.where(np.arange(len(geometry.first)) < geometry.pairs, 0.0, self.table_z)

    def _furthest(self, geometry: ArmGeometry) -> np.ndarray:
        furthest: np.ndarray = geometry.furthest - self._floor(geometry)
        return furthest

    def _distances(self, posture: Posture, geometry: ArmGeometry) -> np.ndarray:
        """Of what is looked at; infinite for the rest."""
        distances = posture.distances - self._floor(geometry)
        return np.where(self.watched(geometry), distances, np.inf)
