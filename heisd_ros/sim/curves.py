"""Tasks with slow motion along an arc, as LIBERO has none: stir, wipe, pour.

All three stand in one scene of LIBERO's assets: a bowl and a plate on a table. LIBERO's predicates
judge the present state and know no path, so success is judged here: each control step says where
on its arc the motion is, and a step counts if it is near the arc and slow. A task is solved once
most of the arc has been passed like that. This module needs no simulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from heisd_ros.errors import SceneError

if TYPE_CHECKING:
    from heisd_ros.sim.scene import LiberoScene

SUITE = "heisd_curves"
BDDL = Path(__file__).parent / "bddl" / f"{SUITE}.bddl"
N_INIT_STATES = 50
BOWL, PLATE = "akita_black_bowl_1", "plate_1"
MAX_SPEED = 0.15
"""Speed along the arc, m/s, above which a step does not count."""
SECTORS = 12
"""Parts into which an arc is divided."""
ENOUGH = 11
"""Parts of an arc that have to be passed."""
_OVER_PLATE, _ABOVE_PLATE = 0.10, 0.06
"""Distance sideways from the plate up to which a bowl is over it, and least height over it, m."""


@dataclass(frozen=True)
class Arc:
    """An arc about an object, or about the rim of what is poured from.

    Angles are about the vertical, from the x axis to the y axis; of pouring, that of the tilt.

    Attributes:
        radius: Metres.
        middle: Angle of the middle of the arc, rad.
        half: Half the angle of the arc, rad; pi is a full circle.
        laps: How often the arc has to be passed.
        height: Height over the object's position that the grip site has on the arc, m.
        tolerance: Distance from the arc, sideways and in height, that is near, m.
    """

    radius: float
    middle: float
    half: float
    laps: int = 1
    height: float = 0.0
    tolerance: float = 0.0

    def offset(self, angle: float) -> float:
        """Returns an angle relative to the middle of the arc, in [-pi, pi)."""
        return float((angle - self.middle + np.pi) % (2 * np.pi) - np.pi)


@dataclass(frozen=True)
class Curve:
    """One task of the suite.

    Attributes:
        verb: What is done.
        instruction: The sentence for it.
        item: The object that is moved, or moved about.
        target: The object that it is done to.
        arc: The motion.
    """

    verb: Literal["stir", "wipe", "pour"]
    instruction: str
    item: str
    target: str
    arc: Arc

    @property
    def name(self) -> str:
        """The task's name, for files."""
        return self.instruction.replace(" ", "_")

    def offset(self, scene: LiberoScene) -> float | None:
        """Where on the arc the scene is, rad from its middle; None if it is not near the arc."""
        if self.verb == "pour":
            bowl, plate = scene.body(self.item), scene.body(self.target).position
            away = bowl.centre - plate
            over = np.linalg.norm(away[:2]) < _OVER_PLATE and away[2] > _ABOVE_PLATE
            return self.arc.offset(tilt(bowl.rotation)) if over else None
        return offset_on(self.arc, scene.grip_pose().position - scene.body(self.target).position)


def offset_on(arc: Arc, away: np.ndarray) -> float | None:
    """Returns the angle from the middle of an arc, rad, of a point near it; None if it is not near.

    Args:
        arc: The arc.
        away: (3,) from the arc's object to the point, m.
    """
    aside = abs(float(np.linalg.norm(away[:2])) - arc.radius)
    if aside > arc.tolerance or abs(away[2] - arc.height) > arc.tolerance:
        return None
    return arc.offset(float(np.arctan2(away[1], away[0])))


def tilt(rotation: np.ndarray) -> float:
    """Returns the angle between the vertical and the z axis of a body, rad; rotation is (3, 3)."""
    return float(np.arccos(np.clip(rotation[2, 2], -1.0, 1.0)))


class Progress:
    """How much of an arc has been passed slowly since the episode began.

    Args:
        arc: The arc.
        rate_hz: Control steps a second.
    """

    def __init__(self, arc: Arc, rate_hz: float) -> None:
        self._arc, self._rate_hz = arc, rate_hz
        self._before: float | None = None
        self._passed: set[int] = set()
        self._laps = 0

    @property
    def done(self) -> bool:
        """Whether the arc has been passed as often as asked; it stays so."""
        return self._laps >= self._arc.laps

    def note(self, offset: float | None) -> None:
        """Takes the place of the next control step: rad from the middle of the arc, None if away.

        A step counts for the part of the arc that it ends in, if it began near the arc too and was
        slow.
        """
        arc, before, self._before = self._arc, self._before, offset
        if offset is None or before is None or abs(offset) >= arc.half:
            return
        turn = (offset - before + np.pi) % (2 * np.pi) - np.pi
        if abs(turn) * arc.radius * self._rate_hz > MAX_SPEED:
            return
        self._passed.add(int((offset + arc.half) / (2 * arc.half) * SECTORS))
        if len(self._passed) >= ENOUGH:
            self._laps += 1
            self._passed.clear()


CURVES = (
    Curve(
        "stir",
        "stir slowly in the black bowl",
        BOWL,
        BOWL,
        Arc(radius=0.025, middle=0.0, half=np.pi, laps=2, height=0.05, tolerance=0.015),
    ),
    Curve(
        "wipe",
        "wipe the table slowly in an arc around the plate",
        PLATE,
        PLATE,
        Arc(radius=0.12, middle=np.pi, half=np.radians(80), height=0.025, tolerance=0.03),
    ),
    Curve(
        "pour",
        "pour slowly from the black bowl onto the plate",
        BOWL,
        PLATE,
        # About the far rim of the bowl, as far from the fingers as the bowl is wide.
        Arc(radius=0.10, middle=np.radians(40), half=np.radians(25)),
    ),
)
"""The tasks of the suite."""


def curve(task_index: int) -> Curve:
    """Returns a task of the suite.

    Raises:
        SceneError: There is no such task.
    """
    if not 0 <= task_index < len(CURVES):
        raise SceneError(
            f"task_index {task_index} is outside {SUITE}; accepted: 0 to {len(CURVES) - 1}"
        )
    return CURVES[task_index]
