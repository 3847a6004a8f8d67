"""Closed-loop episodes of a decoder in a simulated scene, without ROS between them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heisd_ros.decoding.types import Decoder, Observation, Settled, StepResult
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.metric import FusedMetric, MetricSample
from heisd_ros.kinematics.proprio import proprio_vector
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.sim.scene import CONTROL_RATE_HZ, LiberoScene

MAX_STEPS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
"""Control steps after which an episode has failed, as OpenVLA evaluates LIBERO."""
REST_STEPS = 40
"""Control steps that the arm has stood when an episode begins, as the metric sees it: 2 s."""


@dataclass(frozen=True)
class StepRecord:
    """One control step of an episode.

    Attributes:
        result: What the decoder decided.
        motion: The kinematic metric that it saw; None where none was measured.
        metric_ms: Time that measuring the metric took, ms.
        settled: What the decoder verified while the arm moved; None where nothing was.
        tip: (3,) position of the tip when the step was decided, m, base frame.
        joints: (7,) joint positions at that instant, rad.
    """

    result: StepResult
    motion: MetricSample | None
    metric_ms: float
    settled: Settled | None
    tip: NDArray[np.float64]
    joints: NDArray[np.float64]

    @property
    def ms(self) -> float:
        """From images to action, ms: the decoding step and the metric that it needed."""
        return self.result.timings_ms["total"] + self.metric_ms


@dataclass(frozen=True)
class EpisodeResult:
    """Outcome of one episode.

    Attributes:
        suite: LIBERO suite.
        task_index: Task of the suite.
        init_state: Initial state it started from.
        success: Whether LIBERO's goal held at some step.
        records: What happened, a control step each.
    """

    suite: str
    task_index: int
    init_state: int
    success: bool
    records: list[StepRecord]

    @property
    def steps(self) -> int:
        """Control steps taken."""
        return len(self.records)

    @property
    def step_ms(self) -> list[float]:
        """Time of each step, ms: from images to action, rendering excluded."""
        return [record.ms for record in self.records]


def observe(scene: LiberoScene, motion: MetricSample | None = None) -> Observation:
    """What the decoder sees of a scene, the same that the node makes from the robot's topics."""
    return Observation(
        images=tuple(scene.images().values()),
        instruction=scene.instruction,
        proprio=proprio_vector(scene.tip_pose(), scene.gripper_opening()),
        motion=motion,
    )


def run_episode(
    scene: LiberoScene,
    decoder: Decoder,
    init_state: int,
    metric: FusedMetric | None = None,
    on_step: Callable[[Observation, StepResult], None] = lambda observation, result: None,
    max_steps: int | None = None,
) -> EpisodeResult:
    """Runs one episode to success or to its limit.

    Args:
        scene: The scene; it is reset.
        decoder: Decides the actions; it is reset, and told at the end how the episode went.
        init_state: Initial state of the task.
        metric: Measures the motion for a decoder that needs it, whose steps are then charged for
            it; it is reset. None: the decoder sees no motion.
        on_step: Called with each observation and what was decided on it, before it is executed.
        max_steps: Control steps after which the episode has failed; None: the suite's.

    Raises:
        SceneError: No such initial state.
    """
    scene.reset(init_state)
    decoder.reset()
    if metric is not None:
        metric.reset()
        # The arm has stood where it begins, and live joint states have told so.
        for step in range(-REST_STEPS, 0):
            _motion(scene, metric, step / CONTROL_RATE_HZ)
    records: list[StepRecord] = []
    for step in range(MAX_STEPS[scene.suite] if max_steps is None else max_steps):
        start = time.perf_counter()
        motion = None if metric is None else _motion(scene, metric, step / CONTROL_RATE_HZ)
        metric_ms = 0.0 if metric is None else 1e3 * (time.perf_counter() - start)
        observation = observe(scene, motion)
        result = decoder.infer(observation)
        on_step(observation, result)
        tip, joints = scene.tip_pose().position, scene.joint_positions()
        scene.step(result.action)
        # A real arm moves meanwhile; this one waits, which changes nothing that it does.
        records.append(StepRecord(result, motion, metric_ms, decoder.settle(), tip, joints))
        if scene.success():
            break
    success = scene.success()
    decoder.reset(success)
    return EpisodeResult(
        suite=scene.suite,
        task_index=scene.task_index,
        init_state=init_state,
        success=success,
        records=records,
    )


def _motion(scene: LiberoScene, metric: FusedMetric, stamp_sec: float) -> MetricSample:
    """The metric now, from live joint states, as the node computes it."""
    arm = _panda()
    joints, velocities = scene.joint_positions(), scene.joint_velocities()
    return metric.update(arm.forward(joints).position, arm.twist(joints, velocities)[:3], stamp_sec)


@functools.cache
def _panda() -> ArmKinematics:
    return ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
