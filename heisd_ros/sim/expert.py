"""A scripted expert for LIBERO's pick-and-place tasks, reading object poses from the simulator.

Its action is a function of what a camera and the joint states show: gripper opening, contact of the
fingers, and where the tip stands relative to object and target. It keeps no timer and no phase
counter: labels that depend on hidden state teach a policy to stand still.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from heisd_ros.errors import SceneError
from heisd_ros.sim.scene import (
    CLOSE_GRIPPER,
    METRES_PER_UNIT,
    OPEN_GRIPPER,
    RADIANS_PER_UNIT,
    Body,
    LiberoScene,
)

_GAIN = 0.75
"""Action units per unit of (error / metres per unit): 1 cm of error asks for 0.15 units.

Twice as much saves an eighth of the steps, but a policy that sees where things stand to half a
centimetre then jumps by 20 of its 256 bins from one step to the next: no draft can foresee that.
"""
_ROTATION_GAIN = 1.5
CLEARANCE = 0.09
"""Height over the grasp or the target kept while far from it sideways, m."""
_FUNNEL = (0.008, 0.06)
"""Sideways distance, m, at which the approach is fully down, and fully at clearance height."""
_TURN_FUNNEL = (0.1, 0.5)
"""The same for the hand's angle to its target, rad: it comes down turned."""
_GRASP_TOLERANCE = (0.008, 0.012)
"""Distance sideways of, and height over, the grasp point, m, within which the fingers close."""
_RELEASE_TOLERANCE = (0.015, 0.012)
"""The same around the place point, within which the fingers open."""
_TOUCHDOWN = 0.04
"""Height over the place point, m, under which an object that touches what it is put on is down."""
_PRESS = 0.006
"""The expert aims this far below its goals, m, so that it arrives in finite time."""
_CLOSING = 0.072
"""Finger opening, m, under which the fingers are on their way to close."""
_NOTHING = 0.002
"""Finger opening, m, under which the fingers have closed on nothing."""
_AT_REST = 0.01
"""Finger speed, m/s, under which the fingers have stopped."""
_NEARER = 0.05
"""How far from the middle of a surface, towards the arm, objects are put, m: lowering a tall one in
the middle of the cabinet takes more than the arm's full stretch."""
_LOST = 0.04
"""Distance of the hand from the grasp point, m, from which on it does not hold the object."""


@dataclass(frozen=True)
class Grasp:
    """One way to take an object: where the tip goes relative to the object, and the hand's yaw.

    Attributes:
        offset: (3,) metres from the centre of the object's bounding box, base axes.
        yaw: Rotation of the hand about the vertical from its rest pose, rad.
    """

    offset: np.ndarray
    yaw: float


Phase = Literal["approach", "grasp", "carry", "release", "withdraw", "reach", "follow", "tilt"]


@dataclass(frozen=True)
class Intent:
    """What the expert does next.

    Attributes:
        phase: Part of the task.
        error: (3,) straight way still to go in it, m, base axes.
    """

    phase: Phase
    error: np.ndarray


@dataclass(frozen=True)
class PickPlaceTask:
    """What to take and where to put it, from the task's goal predicate.

    Attributes:
        item: Name of the object to take.
        target: Name of the object, fixture or region to put it on or in.
        from_above: True if it is let go above the target and falls in: into a basket, or a bowl, in
            which open fingers would jam.
    """

    item: str
    target: str
    from_above: bool

    @classmethod
    def from_scene(cls, scene: LiberoScene) -> PickPlaceTask:
        """Reads the goal of a scene.

        Raises:
            SceneError: The goal is not a single `on` or `in`, so it is not pick-and-place.
        """
        if len(scene.goal) != 1 or scene.goal[0][0] not in ("on", "in"):
            raise SceneError(
                f"task {scene.task_name!r} has the goal {scene.goal}; the scripted expert does "
                "pick-and-place only: one 'on' or 'in'"
            )
        predicate, item, target = scene.goal[0]
        return cls(item=item, target=target, from_above=predicate == "in" or "bowl" in target)


def grasp_candidates(scene: LiberoScene, item: str) -> list[Grasp]:
    """Ways to take an object, the preferred one first.

    A bowl is wider than the hand and is taken by its rim, at the two points where the fingers
    straddle it without turning the hand, then at turned ones. Anything else is taken across its
    narrower horizontal side.
    """
    body = scene.body(item)
    if "bowl" in item:
        rim = body.half_extents[0] - 0.004
        depth = body.half_extents[2] - 0.014
        return [
            Grasp(
                offset=np.array([-rim * np.sin(yaw), rim * np.cos(yaw), depth]) * [s, s, 1], yaw=yaw
            )
            for yaw in (0.0, np.pi / 4, -np.pi / 4, np.pi / 2)
            for s in (1.0, -1.0)
        ]
    spans = np.abs(body.rotation) @ np.diag(body.half_extents)
    height = spans.sum(axis=1)[2]
    depth = max(height - 0.035, -height + 0.012)
    yaws = _narrow_side_yaws(body)
    return [Grasp(offset=np.array([0.0, 0.0, depth]), yaw=yaw) for yaw in yaws]


def _narrow_side_yaws(body: Body) -> list[float]:
    """Hand yaws, in (-pi/2, pi/2], that close the fingers across the body's horizontal sides."""
    sides = []
    for axis, half in zip(body.rotation.T, body.half_extents, strict=True):
        if abs(axis[2]) < 0.7:
            # At yaw 0 the fingers close along the base frame's y axis.
            yaw = np.arctan2(-axis[0], axis[1])
            sides.append((half, (yaw + np.pi / 2) % np.pi - np.pi / 2))
    return [yaw for _, yaw in sorted(sides)]


class PickPlaceExpert:
    """Takes one object and puts it down, from wherever the arm is.

    Args:
        scene: The scene, already reset.
        grasp: How to take the object; it follows the object if that moves.
        task: What to take where; None: what the scene's goal says.
        corrects: Whether an object counts as placed only where the scene's goal is reached. Else
            one that lies a little beside it does, where a policy may have left it.
    """

    plan = "reach, grasp, carry, let go"

    def __init__(
        self,
        scene: LiberoScene,
        grasp: Grasp,
        task: PickPlaceTask | None = None,
        corrects: bool = False,
    ) -> None:
        self.scene, self._corrects = scene, corrects
        self.task = task or PickPlaceTask.from_scene(scene)
        self.grasp = grasp
        # Carried at the greater height of where it comes from and where it goes: out of a drawer,
        # off a cabinet, over a rim.
        height = float(scene.body(self.task.item).centre[2])
        self.carry_height = max(0.0, height - self.place_point()[2]) + CLEARANCE
        self.rotation = pointing_down(grasp.yaw)

    def grasp_point(self) -> np.ndarray:
        """(3,) where the tip has to go to take the object, m, base frame."""
        return self.scene.body(self.task.item).centre + self.grasp.offset

    def place_point(self) -> np.ndarray:
        """(3,) where the centre of the object has to go, m, base frame."""
        item = self.scene.body(self.task.item)
        half_height = (np.abs(item.rotation) @ item.half_extents)[2]
        if self.task.from_above:
            basket = self.scene.body(_owner(self.scene, self.task.target))
            rim = basket.centre[2] + (np.abs(basket.rotation) @ basket.half_extents)[2]
            return np.array([*basket.centre[:2], rim + half_height * 0.3])
        if self.task.target in self.scene.object_positions():
            # A plate: the object comes to rest a little over its centre.
            support = self.scene.body(self.task.target).position.copy()
            return np.array([*support[:2], support[2] + half_height])
        site = self.scene.region_position(self.task.target)
        owner = self.scene.body(_owner(self.scene, self.task.target))
        if "cook" in self.task.target:
            return np.array([*site[:2], site[2] + half_height])
        nearer = site[:2] * (1.0 - _NEARER / np.linalg.norm(site[:2]))
        return np.array([*nearer, owner.centre[2] + owner.half_extents[2] + half_height])

    def held(self) -> bool:
        """Whether the object is in the hand.

        Contact of both fingers flickers on a thin rim, so fingers that have come to rest around
        something at the grasp point count as well.
        """
        if self.scene.grasped(self.task.item):
            return True
        opening = self.scene.gripper_opening()
        at_rest = np.abs(self.scene.gripper_velocities()).max() < _AT_REST
        return bool(at_rest and _NOTHING < opening < _CLOSING and not self.lost())

    def lost(self) -> bool:
        """Whether the hand is away from where it would hold the object."""
        away = self.grasp_point() - self.scene.grip_pose().position
        return bool(np.linalg.norm(away) > _LOST)

    def placed(self) -> bool:
        """Whether the object lies free at its target."""
        error = self.scene.body(self.task.item).centre - self.place_point()
        below = error[2] < (0.0 if self.task.from_above else 0.02)
        near = np.linalg.norm(error[:2]) < (0.08 if self.task.from_above else 0.035)
        there = near and (below or self.down()) and not self.held()
        return bool(there and (not self._corrects or self.scene.success()))

    def down(self) -> bool:
        """Whether the object stands on something at about the height of the place point.

        Where that is exactly, a bounding box does not tell: on the ring of a burner.
        """
        if self.task.from_above:
            return False
        height = (self.scene.body(self.task.item).centre - self.place_point())[2]
        return bool(height < _TOUCHDOWN and self.scene.supported(self.task.item))

    def finished(self) -> bool:
        """Whether the object is placed and the hand has withdrawn upwards."""
        tip = self.scene.grip_pose().position
        return self.placed() and tip[2] > self.place_point()[2] + CLEARANCE

    def intent(self, held: bool | None = None) -> Intent:
        """What is to be done in the present state.

        Args:
            held: Whether the object is in the hand, where that is known better; None: `held`.
        """
        if self.placed():
            return Intent("withdraw", np.array([0.0, 0.0, CLEARANCE]))
        if self.held() if held is None else held:
            return self.deliver()
        error = self.grasp_point() - self.scene.grip_pose().position
        closing = self.scene.gripper_opening() < _CLOSING
        # Hysteresis: fingers that have begun to close continue.
        there = _within(error, _GRASP_TOLERANCE, 2.5 if closing else 1.0)
        return Intent("grasp" if there else "approach", error)

    def deliver(self) -> Intent:
        """What is to be done while the object is held."""
        error = self.place_point() - self.scene.body(self.task.item).centre
        over = np.linalg.norm(error[:2]) < _RELEASE_TOLERANCE[0]
        there = _within(error, _RELEASE_TOLERANCE) or (over and self.down())
        return Intent("release" if there else "carry", error)

    def action(self, held: bool | None = None) -> np.ndarray:
        """The expert's (7,) action for the present state, LIBERO's units, clipped to [-1, 1].

        Args:
            held: As in `intent`.
        """
        turn = turn_to(self.rotation, self.scene)
        intent = self.intent(held)
        motion = intent.error
        if intent.phase == "carry":
            motion = through_funnel(motion, self.carry_height)
        elif intent.phase == "approach":
            motion = through_funnel(motion, CLEARANCE, float(np.linalg.norm(turn)))
        return towards(motion, turn, close=intent.phase in ("grasp", "carry"))


def pointing_down(yaw: float = 0.0) -> np.ndarray:
    """(3, 3) rotation of a hand that points down, turned from its rest pose by a yaw, rad."""
    down = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    return np.asarray(Rotation.from_euler("z", yaw).as_matrix() @ down)


def turn_to(rotation: np.ndarray, scene: LiberoScene) -> np.ndarray:
    """(3,) rotation vector, rad, from the hand's present rotation to another one (3, 3)."""
    return np.asarray(Rotation.from_matrix(rotation @ scene.grip_pose().rotation.T).as_rotvec())


def towards(motion: np.ndarray, turn: np.ndarray, *, close: bool) -> np.ndarray:
    """Returns the (7,) action that makes for a motion, in LIBERO's units, clipped to [-1, 1].

    Args:
        motion: (3,) way still to go, m.
        turn: (3,) rotation vector still to go, rad.
        close: Whether the fingers close.
    """
    action = np.concatenate(
        [
            _GAIN * motion / METRES_PER_UNIT,
            _ROTATION_GAIN * turn / RADIANS_PER_UNIT,
            [CLOSE_GRIPPER if close else OPEN_GRIPPER],
        ]
    )
    return np.clip(action, -1.0, 1.0)


def carried_along(turn: np.ndarray, arm: np.ndarray) -> np.ndarray:
    """(3,) motion, m, that lets `towards` make a turn about a point away from the hand.

    Args:
        turn: (3,) rotation vector, rad.
        arm: (3,) from that point to the hand, m.
    """
    return np.asarray(_ROTATION_GAIN / _GAIN * np.cross(turn, arm))


def _within(error: np.ndarray, tolerance: tuple[float, float], reach: float = 1.0) -> bool:
    """Whether a (3,) error is within a sideways distance of the goal and not too high over it."""
    sideways, above = tolerance
    return bool(np.linalg.norm(error[:2]) < reach * sideways and error[2] > -reach * above)


def through_funnel(error: np.ndarray, clearance: float, turn: float = 0.0) -> np.ndarray:
    """Shapes a straight error into a path over the goal and down: (3,) motion still to go, m."""
    sideways = float(np.linalg.norm(error[:2]))
    share = max(_ramp(sideways, _FUNNEL), _ramp(turn, _TURN_FUNNEL))
    vertical = error[2] + clearance * share - _PRESS
    # Too low to travel: rise first, and move sideways only as far as the height allows.
    allowed = float(np.clip(1.0 - (vertical - 0.01) / 0.03, 0.0, 1.0))
    return np.array([*(error[:2] * allowed), vertical])


def _ramp(value: float, limits: tuple[float, float]) -> float:
    """0 below the lower limit, 1 above the upper one, linear between them."""
    low, high = limits
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _owner(scene: LiberoScene, region: str) -> str:
    """Name of the object or fixture that a named region belongs to."""
    for name in scene.object_positions():
        if region.startswith(name):
            return name
    raise SceneError(f"region {region!r} belongs to no object of task {scene.task_name!r}")
