"""What a reasoning model is to say in a state of a scene, from the simulator and the expert.

The layout is ECoT's (Zawalski et al., 2024), kept short: task, plan, what is seen with its boxes,
subtask and why, move and why, and where the gripper is and will be in the picture.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heisd_ros.sim.curve_expert import Expert
from heisd_ros.sim.expert import Intent, Phase
from heisd_ros.sim.scene import CLOSE_GRIPPER, LiberoScene

FRAME = 256
"""Side of the picture that positions are given in, pixels, whatever the size of the pictures is."""
GRID = 4
"""Pixels to which positions are rounded, so that each number is one word of a small vocabulary."""
VIEW = "agentview"
AHEAD = 10
"""Control steps from the present gripper position to the later one."""
_MOVED = 0.1
"""Action units from which on a direction is named."""
_NAMES = {
    "akita_black_bowl": "bowl",
    "cookies": "cookie box",
    "glazed_rim_porcelain_ramekin": "ramekin",
    "wooden_cabinet": "cabinet",
    "flat_stove": "stove",
}
"""LIBERO's names as the instructions have them."""
_WHERE = (("ahead", "behind"), ("left", "right"), ("above", "below"))
_MOVES = (("ahead", "back"), ("left", "right"), ("up", "down"))
_TURNS = ("turn left", "turn right")


@dataclass(frozen=True)
class Reasoner:
    """Describes states of one episode.

    Attributes:
        scene: The scene.
        expert: What the expert would do in it.
    """

    scene: LiberoScene
    expert: Expert

    def gripper(self) -> tuple[int, int]:
        """Column and row of the grip site in the frame."""
        point = self.scene.camera(VIEW).project(self.scene.grip_pose().position[None], FRAME)[0]
        across, down = _snapped(np.clip(point, 0, FRAME))
        return across, down

    def objects(self) -> dict[str, tuple[int, ...]]:
        """Boxes in the frame by name, the object to take first and its target second.

        Others with the same name as the object to take are called by it with `other`.
        """
        task, names = self.expert.task, list(self.scene.object_positions())
        first = [name for name in dict.fromkeys((task.item, task.target)) if name in names]
        camera, boxes, called = self.scene.camera(VIEW), {}, set[str]()
        for name in [*first, *sorted(set(names) - {*first})]:
            word = f"other {spoken(name)}" if spoken(name) in called else spoken(name)
            called.add(word)
            box = camera.box(self.scene.surface(name), FRAME)
            if box is not None:
                boxes[word] = _snapped(box)
        return boxes

    def text(self, intent: Intent, action: np.ndarray, grippers: Sequence[tuple[int, int]]) -> str:
        """Composes the reasoning of the present state.

        Args:
            intent: The expert's, in this state.
            action: (7,) the expert's action.
            grippers: Positions of the gripper in the frame, now and later.
        """
        item, target = spoken(self.expert.task.item), spoken(self.expert.task.target)
        why, subtask = (part.format(item=item, target=target) for part in _PHASES[intent.phase])
        sought = item if intent.phase in ("approach", "grasp", "withdraw") else target
        seen = ", ".join(f"{name} {list(box)}" for name, box in self.objects().items())
        where = "the task is done" if intent.phase == "withdraw" else place(sought, intent.error)
        points = [number for point in grippers for number in point]
        return (
            f"TASK: {self.scene.instruction} PLAN: {self.expert.plan} "
            f"VISIBLE OBJECTS: {seen} SUBTASK REASONING: {why} SUBTASK: {subtask} "
            f"MOVE REASONING: {where} MOVE: {move(action)} GRIPPER POSITION: {points}"
        )


_PHASES: dict[Phase, tuple[str, str]] = {
    "approach": ("the hand is empty", "reach the {item}"),
    "grasp": ("the hand is at the {item}", "grasp the {item}"),
    "carry": ("the hand holds the {item}", "carry the {item} to the {target}"),
    "release": ("the {item} is over the {target}", "let go of the {item}"),
    "withdraw": ("the {item} is on the {target}", "withdraw"),
    "reach": ("the hand is off the arc", "reach the {target}"),
    "follow": ("the hand is on the arc", "follow the arc"),
    "tilt": ("the {item} is over the {target}", "tilt the {item}"),
}
"""Why a subtask is due, and what it is."""


def spoken(name: str) -> str:
    """LIBERO's name of an object as it is said: `akita_black_bowl_1` is a bowl."""
    bare = re.sub(r"_\d+(_.*)?$", "", name)
    return _NAMES.get(bare, bare.replace("_", " "))


def place(name: str, error: np.ndarray) -> str:
    """Says where something is from the hand, or from what it holds, in whole centimetres.

    Args:
        name: What it is.
        error: (3,) the way there, m, base axes: ahead, left, up.
    """
    parts = [
        f"{abs(distance)}cm {words[int(distance < 0)]}"
        for distance, words in zip(np.rint(error * 100).astype(int), _WHERE, strict=True)
        if distance
    ]
    return f"the {name} is {', '.join(parts) or 'here'}"


def move(action: np.ndarray) -> str:
    """Says what an action does: (7,) in LIBERO's units."""
    numbers = zip([*action[:3], action[5]], [*_MOVES, _TURNS], strict=True)
    words = [names[int(value < 0)] for value, names in numbers if abs(value) >= _MOVED]
    gripper = "close" if action[6] == CLOSE_GRIPPER else "open"
    return f"{' '.join(words) or 'stay'}, {gripper} gripper"


def _snapped(pixels: np.ndarray) -> tuple[int, ...]:
    """Pixels of the frame, rounded down to the grid."""
    return tuple(int(n) for n in np.minimum(pixels // GRID * GRID, FRAME - GRID))
