"""Closed-loop episodes of a decoder in a simulated scene, without ROS between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from heisd_ros.decoding.types import Decoder, Observation
from heisd_ros.kinematics.proprio import proprio_vector
from heisd_ros.sim.scene import LiberoScene

MAX_STEPS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
"""Control steps after which an episode has failed, as OpenVLA evaluates LIBERO."""


@dataclass(frozen=True)
class EpisodeResult:
    """Outcome of one episode.

    Attributes:
        suite: LIBERO suite.
        task_index: Task of the suite.
        init_state: Initial state it started from.
        success: Whether LIBERO's goal held at some step.
        steps: Control steps taken.
        step_ms: Decoding time of each step, ms: from images to action, rendering excluded.
    """

    suite: str
    task_index: int
    init_state: int
    success: bool
    steps: int
    step_ms: list[float]


def observe(scene: LiberoScene) -> Observation:
    """What the decoder sees of a scene, the same that the node makes from the robot's topics."""
    return Observation(
        images=tuple(scene.images().values()),
        instruction=scene.instruction,
        proprio=proprio_vector(scene.tip_pose(), scene.gripper_opening()),
    )


def run_episode(
    scene: LiberoScene,
    decoder: Decoder,
    init_state: int,
    on_step: Callable[[Observation, np.ndarray], None] = lambda observation, action: None,
) -> EpisodeResult:
    """Runs one episode to success or to the suite's limit.

    Args:
        scene: The scene; it is reset.
        decoder: Decides the actions; it is reset.
        init_state: Initial state of the task.
        on_step: Called with each observation and the action taken on it.

    Raises:
        SceneError: No such initial state.
    """
    scene.reset(init_state)
    decoder.reset()
    times: list[float] = []
    for _ in range(MAX_STEPS[scene.suite]):
        observation = observe(scene)
        result = decoder.infer(observation)
        times.append(result.timings_ms["total"])
        on_step(observation, result.action)
        scene.step(result.action)
        if scene.success():
            break
    return EpisodeResult(
        suite=scene.suite,
        task_index=scene.task_index,
        init_state=init_state,
        success=scene.success(),
        steps=len(times),
        step_ms=times,
    )
