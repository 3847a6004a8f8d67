"""Closed-loop episodes of a decoder in a simulated scene, without ROS between them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heisd_ros.decoding.chunks import ChunkedDecoder, ChunkUse
from heisd_ros.decoding.types import Decoder, Observation, Settled, StepResult
from heisd_ros.errors import ProtocolError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.metric import FusedMetric, MetricSample
from heisd_ros.kinematics.proprio import STATE_SIZES, pose_vector, proprio_vector
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.sim.protocol import MAX_STEPS, Protocol
from heisd_ros.sim.scene import CAMERAS, CONTROL_RATE_HZ, OPEN_GRIPPER, LiberoScene
from heisd_ros.vla.token_model import ObservationSpec

REST_STEPS = 40
"""Control steps for which the arm has been at rest when an episode begins: 2 s."""
CAMERA_OF_VIEW = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}
"""Cameras of the scene by the names of the views that models are trained with."""


@dataclass(frozen=True)
class SceneInputs:
    """The inputs that a model takes from a scene.

    Attributes:
        cameras: Names of the scene's cameras in the order of the model's views; None: all.
        proprio: Whether it takes proprioception.
        state: What that is, a name in `STATE_SIZES`.
    """

    cameras: tuple[str, ...] | None = None
    proprio: bool = True
    state: str = "end_effector"

    @classmethod
    def of(cls, spec: ObservationSpec) -> SceneInputs:
        """Returns the inputs of a model.

        Raises:
            ProtocolError: The scene lacks a view or the state of the model.
        """
        size = spec.proprio_size
        states = [name for name, numbers in STATE_SIZES.items() if size in (0, numbers)]
        if not states:
            raise ProtocolError(
                f"the model takes a state of {size} numbers; the scene gives "
                f"{' or '.join(map(str, STATE_SIZES.values()))}"
            )
        return cls(_cameras(spec.views), size > 0, states[0])


ALL_INPUTS = SceneInputs()
WHOLE_CHUNKS = ChunkUse()


@dataclass(frozen=True)
class StepRecord:
    """One control step of an episode.

    Attributes:
        result: What the decoder decided.
        motion: The kinematic metric of the step; None if none was measured.
        metric_ms: Time that measuring the metric took, ms.
        settled: Deferred verification while the arm moved; None if there was none.
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
        records: One record per control step.
    """

    suite: str
    task_index: int
    init_state: int
    success: bool
    records: list[StepRecord]

    @property
    def steps(self) -> int:
        """Number of control steps taken."""
        return len(self.records)

    @property
    def step_ms(self) -> list[float]:
        """Time of each step, ms: from images to action, rendering excluded."""
        return [record.ms for record in self.records]


def make_scene(suite: str, task_index: int, protocol: Protocol) -> LiberoScene:
    """Creates a scene as a protocol defines it.

    Raises:
        SceneError: Unknown suite or task.
        ProtocolError: The scene lacks a view of the protocol.
    """
    return LiberoScene(
        suite,
        task_index,
        protocol.image_size,
        cameras=_cameras(protocol.data.views) or CAMERAS,
        reduced_rendering=protocol.reduced_rendering,
        settle_steps=protocol.wait_steps,
    )


def _cameras(views: tuple[str, ...]) -> tuple[str, ...]:
    unknown = sorted(set(views) - set(CAMERA_OF_VIEW))
    if unknown:
        raise ProtocolError(
            f"the model's views {unknown} are none of the scene's {sorted(CAMERA_OF_VIEW)}: "
            "name them in the protocol (data.views)"
        )
    return tuple(CAMERA_OF_VIEW[view] for view in views)


def observe(
    scene: LiberoScene, motion: MetricSample | None = None, inputs: SceneInputs = ALL_INPUTS
) -> Observation:
    """Returns the decoder's observation of a scene, as the node makes it from topics."""
    images = scene.images()
    pack = pose_vector if inputs.state == "pose" else proprio_vector
    proprio = pack(scene.tip_pose(), scene.gripper_opening()) if inputs.proprio else None
    return Observation(
        images=tuple(images[camera] for camera in inputs.cameras or images),
        instruction=scene.instruction,
        proprio=proprio,
        motion=motion,
    )


def run_episode(
    scene: LiberoScene,
    decoder: Decoder,
    init_state: int,
    metric: FusedMetric | None = None,
    on_step: Callable[[Observation, StepResult], None] = lambda observation, result: None,
    max_steps: int | None = None,
    inputs: SceneInputs = ALL_INPUTS,
    chunk: ChunkUse = WHOLE_CHUNKS,
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
        inputs: The inputs of the decoder's model.
        chunk: How much of its chunks is executed.

    Raises:
        SceneError: No such initial state.
    """
    decoder = ChunkedDecoder(decoder, *chunk)
    scene.reset(init_state)
    decoder.reset()
    if metric is not None:
        metric.reset()
        # The arm was at rest before, as live joint states would have shown.
        for step in range(-REST_STEPS, 0):
            _measure(metric, _joint_state(scene), step / CONTROL_RATE_HZ)
    records: list[StepRecord] = []
    gripper = OPEN_GRIPPER
    for step in range(MAX_STEPS[scene.suite] if max_steps is None else max_steps):
        motion, metric_ms = None, 0.0
        if metric is not None:
            joint_state = _joint_state(scene)
            start = time.perf_counter()
            motion = _measure(metric, joint_state, step / CONTROL_RATE_HZ)
            metric_ms = 1e3 * (time.perf_counter() - start)
        observation = observe(scene, motion, inputs)
        result = decoder.infer(observation)
        on_step(observation, result)
        tip, joints = scene.tip_pose().position, scene.joint_positions()
        gripper = float(result.action[-1]) if np.isfinite(result.action[-1]) else gripper
        scene.step(executable(result.action, gripper))
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


def executable(action: NDArray[np.float64], gripper: float) -> NDArray[np.float64]:
    """Returns what a scene executes: the action, or a hold if one of its tokens was no action.

    Args:
        action: (7,), NaN where a token was no action.
        gripper: the newest command of the gripper.
    """
    return action if np.isfinite(action).all() else np.append(np.zeros(6), gripper)


def _joint_state(scene: LiberoScene) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns joint positions (rad) and velocities (rad/s), (7,) each, as a driver does."""
    return scene.joint_positions(), scene.joint_velocities()


def _measure(
    metric: FusedMetric,
    joint_state: tuple[NDArray[np.float64], NDArray[np.float64]],
    stamp_sec: float,
) -> MetricSample:
    """Computes the metric from live joint states, as the node does."""
    return metric.update(*_panda().tip_motion(*joint_state), stamp_sec)


@functools.cache
def _panda() -> ArmKinematics:
    return ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)
