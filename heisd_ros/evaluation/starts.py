"""Starts of episodes: an initial state of a task as it is, or with the arm moved a little.

A draw is a number, the `variation`, which decides how the arm is moved before the first step. Those
of calibrations and those of evaluations come from two ranges that share no number, so whatever the
seeds are, no evaluation runs a start that a calibration has seen. The objects stand as the initial
state has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from heisd_ros.sim.scene import OPEN_GRIPPER, LiberoScene

CALIBRATION_STATES = range(32, 40)
"""Initial states to calibrate with: not in the database (0 to 29), not those on which a mode's
settings are tried out (30, 31), not evaluated on (40 to 49)."""
CALIBRATION_DRAWS = range(1, 2**30)
EVALUATION_DRAWS = range(2**30, 2**31)
_START_STEPS = 10


@dataclass(frozen=True)
class Start:
    """Start of an episode, the same for every setting and mode.

    Attributes:
        task_index: Task of the suite.
        init_state: Initial state of the task.
        variation: 0: that state as it is; else the arm is moved a little first, and the number
            decides how.
    """

    task_index: int
    init_state: int
    variation: int = 0


def calibration_starts(tasks: Sequence[int], count: int, seed: int) -> list[Start]:
    """Starts drawn at random: a task, a state for calibration, and a motion of the arm; each once.

    Args:
        tasks: Tasks of the suite.
        count: Number of starts; a longer list extends a shorter one.
        seed: Seed of the draw.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[Start, None] = {}
    while len(drawn) < count:
        task, state = rng.choice(list(tasks)), rng.choice(CALIBRATION_STATES)
        start = Start(int(task), int(state), _drawn(rng, CALIBRATION_DRAWS))
        drawn.setdefault(start)
    return list(drawn)


def evaluation_starts(
    tasks: Sequence[int], states: Sequence[int], count: int, seed: int
) -> list[Start]:
    """Starts for an evaluation, state by state over the tasks; each once.

    Args:
        tasks: Tasks of the suite.
        states: Initial states of each task, taken in turn.
        count: Starts of each task; a longer list extends a shorter one.
        seed: Seed of the arm's motions; 0: none, each state as it is, at most once.
    """
    if not seed:
        return [Start(task, state) for state in states[:count] for task in tasks]
    draws = {task: np.random.default_rng([seed, task]) for task in tasks}
    return [
        Start(task, states[number % len(states)], _drawn(draws[task], EVALUATION_DRAWS))
        for number in range(count)
        for task in tasks
    ]


def _drawn(rng: np.random.Generator, draws: range) -> int:
    return int(rng.integers(draws.start, draws.stop))


def begin_at(scene: LiberoScene, start: Start) -> LiberoScene:
    """Returns the scene such that a reset to the start's initial state gives the start."""
    return scene if start.variation == 0 else cast(LiberoScene, MovedStart(scene, start))


class MovedStart:
    """A scene whose episodes begin after a small motion of the arm, mostly sideways."""

    def __init__(self, scene: LiberoScene, start: Start) -> None:
        self._scene, self._start = scene, start

    def reset(self, init_state: int) -> None:
        """Resets the scene and moves the arm."""
        self._scene.reset(init_state)
        rng = np.random.default_rng([self._start.task_index, init_state, self._start.variation])
        # As in demonstrations: at most half a unit of action, for some steps.
        drift = rng.uniform(-0.5, 0.5, size=6) * np.array([1, 1, 0.5, 0.1, 0.1, 0.1])
        for _ in range(rng.integers(1, _START_STEPS + 1)):
            self._scene.step(np.append(drift, OPEN_GRIPPER))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scene, name)
