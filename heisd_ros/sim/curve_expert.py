"""Scripted experts for the tasks of `heisd_ros.sim.curves`, and the expert of any scene.

They approach fast and straight, as `PickPlaceExpert` does, and then follow their arc slowly. They
keep no memory either: where the hand is on the arc says where it goes next.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from heisd_ros.sim.curves import Arc, Curve, tilt
from heisd_ros.sim.expert import (
    CLEARANCE,
    Grasp,
    Intent,
    PickPlaceExpert,
    PickPlaceTask,
    carried_along,
    grasp_candidates,
    pointing_down,
    through_funnel,
    towards,
    turn_to,
)
from heisd_ros.sim.scene import LiberoScene

_AHEAD = 0.02
"""How far ahead on its arc the tip aims, m: it then moves at about 0.09 m/s."""
_RESTORE = 2.0
"""Weight of the way back to the arc, against the way ahead on it."""
_BEYOND = np.radians(10)
"""An arc is followed from so far before its beginning to so far beyond its end, rad."""
_LOW, _LEASH = 0.02, 0.04
"""Distance in height, and sideways, m, within which an arc is followed; from farther away its
beginning is sought."""
_TURN_AHEAD = 0.08
"""How far ahead the hand aims when it tilts, rad: it then turns at about 0.7 rad/s."""
_POUR_HEIGHT = 0.10
"""Height over the target at which the rim is that is poured over, m."""
_POUR_FROM, _TILTED = 0.02, 0.15
"""Distance of that rim from its place, m, and tilt, rad, from which on it is poured."""


class ArcExpert:
    """Moves the closed fingers along an arc about an object, from wherever the arm is.

    Args:
        scene: The scene, already reset.
        task: Its task: `stir` or `wipe`.
    """

    plan = "reach, follow the arc"

    def __init__(self, scene: LiberoScene, task: Curve) -> None:
        self.scene, self.task = scene, task

    def held(self) -> bool:
        """Whether an object is in the hand: there is none to take."""
        return False

    def lost(self) -> bool:
        """Whether the hand is away from an object that it held."""
        return False

    def placed(self) -> bool:
        """Whether the arc has been passed."""
        return self.scene.success()

    def finished(self) -> bool:
        """Whether the arc has been passed."""
        return self.scene.success()

    def _away(self) -> np.ndarray:
        centre = self.scene.body(self.task.target).position
        return np.asarray(self.scene.grip_pose().position - centre)

    def intent(self, held: bool | None = None) -> Intent:
        """What is to be done in the present state, whatever is held."""
        away = self._away()
        if follows(self.task.arc, away):
            return Intent("follow", nearest(self.task.arc, away) - away)
        return Intent("reach", beginning(self.task.arc, away) - away)

    def action(self, held: bool | None = None) -> np.ndarray:
        """The expert's (7,) action for the present state, LIBERO's units, clipped to [-1, 1]."""
        intent = self.intent()
        if intent.phase == "follow":
            away = self._away()
            angle = np.arctan2(away[1], away[0])
            tangent = np.array([-np.sin(angle), np.cos(angle), 0.0])
            motion = _AHEAD * tangent + _RESTORE * intent.error
        else:
            motion = through_funnel(intent.error, CLEARANCE)
        return towards(motion, turn_to(pointing_down(), self.scene), close=True)


def follows(arc: Arc, away: np.ndarray) -> bool:
    """Whether a point is where an arc is followed; (3,), m, from the arc's object."""
    error = nearest(arc, away) - away
    low = abs(error[2]) < _LOW and np.linalg.norm(error[:2]) < _LEASH
    return bool(low and abs(arc.offset(np.arctan2(away[1], away[0]))) <= arc.half + _BEYOND)


def nearest(arc: Arc, away: np.ndarray) -> np.ndarray:
    """Returns the point (3,) of an arc's circle nearest to a point, m, from the arc's object."""
    return _at(arc, float(np.arctan2(away[1], away[0])))


def beginning(arc: Arc, away: np.ndarray) -> np.ndarray:
    """Returns where to begin an arc (3,), m: a full circle at the nearest point."""
    return (
        nearest(arc, away) if arc.half >= np.pi else _at(arc, arc.middle - arc.half - _BEYOND / 2)
    )


def _at(arc: Arc, angle: float) -> np.ndarray:
    return np.array([arc.radius * np.cos(angle), arc.radius * np.sin(angle), arc.height])


class PourExpert(PickPlaceExpert):
    """Takes a bowl by its rim, carries the far rim over the target, and tilts the bowl about it.

    Args:
        scene: The scene, already reset.
        grasp: How to take the bowl.
        task: The task.
    """

    plan = "reach, grasp, carry, tilt"

    def __init__(self, scene: LiberoScene, grasp: Grasp, task: Curve) -> None:
        super().__init__(scene, grasp, PickPlaceTask(task.item, task.target, from_above=False))
        self.carry_height = 0.0
        half = scene.body(task.item).half_extents
        ahead = -grasp.offset[:2] / np.linalg.norm(grasp.offset[:2])
        self._lip = np.array([*(ahead * half[0]), half[2]])
        self._axis = np.array([-ahead[1], ahead[0], 0.0])
        self._end = task.arc.middle + task.arc.half + 2 * _BEYOND

    def place_point(self) -> np.ndarray:
        """(3,) where the rim that is poured over has to go, m, base frame."""
        return self.scene.body(self.task.target).position + np.array([0.0, 0.0, _POUR_HEIGHT])

    def grasp_point(self) -> np.ndarray:
        """(3,) where the tip has to be to hold the bowl, however that is tilted, m, base frame."""
        return self._of_bowl(self.grasp.offset)

    def _of_bowl(self, point: np.ndarray) -> np.ndarray:
        """Returns a point of the bowl, given from its centre as if it stood upright, m."""
        bowl = self.scene.body(self.task.item)
        up = bowl.rotation[:, 2]
        turned, _ = Rotation.align_vectors([up], [[0.0, 0.0, 1.0]])
        return np.asarray(bowl.centre + turned.apply(point))

    def placed(self) -> bool:
        """Whether the bowl has been tilted."""
        return self.scene.success()

    def finished(self) -> bool:
        """Whether the bowl has been tilted."""
        return self.scene.success()

    def deliver(self) -> Intent:
        """What is to be done while the bowl is held."""
        error = self.place_point() - self._of_bowl(self._lip)
        tilted = tilt(self.scene.body(self.task.item).rotation) > _TILTED
        there = tilted or np.linalg.norm(error) < _POUR_FROM
        return Intent("tilt" if there else "carry", error)

    def action(self, held: bool | None = None) -> np.ndarray:
        """The expert's (7,) action for the present state; see `PickPlaceExpert.action`."""
        intent = self.intent(held)
        if intent.phase != "tilt":
            return super().action(held)
        tilted = -float(turn_to(self.rotation, self.scene) @ self._axis)
        ahead = min(_TURN_AHEAD, self._end - tilted)
        goal = Rotation.from_rotvec((tilted + ahead) * self._axis).as_matrix() @ self.rotation
        arm = self.scene.grip_pose().position - self._of_bowl(self._lip)
        motion = carried_along(ahead * self._axis, arm) + intent.error
        return towards(motion, turn_to(goal, self.scene), close=True)


Expert = PickPlaceExpert | ArcExpert


def candidates(scene: LiberoScene) -> int:
    """Number of ways in which a scene's expert may do the task.

    Raises:
        SceneError: No scripted expert knows the task.
    """
    if scene.curve is None:
        return len(grasp_candidates(scene, PickPlaceTask.from_scene(scene).item))
    return len(grasp_candidates(scene, scene.curve.item)) if scene.curve.verb == "pour" else 1


def expert_of(scene: LiberoScene, candidate: int, corrects: bool = False) -> Expert:
    """Returns the expert for a scene's task, in one of its ways.

    Args:
        scene: The scene, already reset.
        candidate: Which of `candidates`.
        corrects: As in `PickPlaceExpert`.

    Raises:
        SceneError: No scripted expert knows the task.
    """
    if scene.curve is None:
        item = PickPlaceTask.from_scene(scene).item
        grasp = grasp_candidates(scene, item)[candidate]
        return PickPlaceExpert(scene, grasp, corrects=corrects)
    if scene.curve.verb == "pour":
        grasp = grasp_candidates(scene, scene.curve.item)[candidate]
        return PourExpert(scene, grasp, scene.curve)
    return ArcExpert(scene, scene.curve)
