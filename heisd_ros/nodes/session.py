"""All that exists of the VLA node between configure and cleanup, wired together once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from heisd_ros.decoding.types import Observation
from heisd_ros.errors import UrdfError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.motion import MetricKind
from heisd_ros.kinematics.robots import panda_urdf
from heisd_ros.nodes import images
from heisd_ros.nodes.commands import CommandMapper
from heisd_ros.nodes.ingest import ObservationBuffer
from heisd_ros.nodes.inputs import IngestLimits
from heisd_ros.nodes.joints import JointStateReader
from heisd_ros.nodes.motion_feed import MotionFeed, load_bounds
from heisd_ros.nodes.parameters import VlaNodeParameters
from heisd_ros.nodes.policy import Policy, PolicyLoader
from heisd_ros.nodes.worker import InferenceWorker


@dataclass
class Session:
    """A loaded policy with its inputs, its thread and its way to commands.

    Attributes:
        parameters: The validated settings.
        policy: What runs.
        buffer: Newest inputs.
        worker: The inference thread.
        mapper: Actions to commands.
        motion: The kinematic metric.
        summary: One line for the log.
    """

    parameters: VlaNodeParameters
    policy: Policy
    buffer: ObservationBuffer
    worker: InferenceWorker
    mapper: CommandMapper
    motion: MotionFeed
    summary: str

    def set_robot(self, urdf: str) -> None:
        """Takes the robot's description.

        Raises:
            UrdfError, JointStateError: It does not hold the arm that the parameters describe.
        """
        self.buffer.set_robot(make_reader(self.parameters, urdf))


def make_reader(parameters: VlaNodeParameters, urdf: str) -> JointStateReader:
    """The arm of a URDF text, as the parameters describe it.

    Raises:
        UrdfError, JointStateError: A frame or joint is not in it.
    """
    kinematics = ArmKinematics(
        urdf,
        parameters.robot_tip_frame,
        parameters.robot_joint_names,
        parameters.robot_base_frame,
    )
    return JointStateReader(kinematics, parameters.robot_gripper_joints)


def open_session(
    parameters: VlaNodeParameters, load: PolicyLoader, on_done: Callable[[], None]
) -> Session:
    """Loads and warms up the model and makes what feeds on it. Takes seconds.

    Args:
        parameters: The validated settings.
        load: Loads the policy.
        on_done: Called in the inference thread when a result waits.

    Raises:
        HeisdError: The checkpoint or the robot description cannot be used.
        ValueError: A parameter does not fit what was loaded.
    """
    reader = None
    if parameters.robot_source != "topic":
        reader = make_reader(parameters, _urdf_text(parameters))
    policy = load(parameters)
    if policy.bounds is not None:
        bounds, bounds_source = policy.bounds, "of the database"
    else:
        kind = cast(MetricKind, parameters.metric_kind)
        bounds, bounds_source = load_bounds(kind, parameters.metric_bounds, policy.folder)
    warm_up_ms = warm_up(policy)

    limits = IngestLimits(
        image_timeout_sec=parameters.image_timeout_sec,
        joint_state_timeout_sec=parameters.joint_state_timeout_sec,
        frozen_motion_rad=parameters.frozen_motion_rad,
        sync_tolerance_sec=parameters.sync_tolerance_sec,
    )
    compressed = parameters.compressed
    rate_hz = parameters.rate_hz or policy.rate_hz
    motion = MotionFeed(bounds, rate_hz)
    buffer = ObservationBuffer(
        policy.views,
        limits,
        images.check_compressed if compressed else images.check_raw,
        measure=motion.add,
    )
    if reader is not None:
        buffer.set_robot(reader)
    worker = InferenceWorker(
        policy,
        to_rgb=images.compressed_to_rgb if compressed else images.raw_to_rgb,
        take=buffer.take,
        on_done=on_done,
    )
    return Session(
        parameters=parameters,
        policy=policy,
        buffer=buffer,
        worker=worker,
        mapper=CommandMapper(parameters, rate_hz),
        motion=motion,
        summary=(
            f"mode {parameters.decoding_mode}, model {policy.folder} with views "
            f"{', '.join(policy.views)}, {rate_hz:g} control steps a second, warm step "
            f"{warm_up_ms:.0f} ms, metric bounds {bounds_source}"
        ),
    )


def warm_up(policy: Policy, steps: int = 2) -> float:
    """Runs the policy on blank observations, so that the first real step is not the slow one.

    Returns:
        Time of the last step, ms.
    """
    side = policy.image_size
    blank = Observation(
        images=tuple(np.zeros((side, side, 3), np.uint8) for _ in policy.views),
        instruction=policy.instructions[0] if policy.instructions else "warm up",
        proprio=np.zeros(policy.proprio_size, np.float32) if policy.proprio_size else None,
    )
    began = time.monotonic()
    for _ in range(steps):
        began = time.monotonic()
        policy.decoder.infer(blank)
    policy.decoder.reset()
    return (time.monotonic() - began) * 1e3


def _urdf_text(parameters: VlaNodeParameters) -> str:
    if parameters.robot_source == "panda":
        return panda_urdf()
    path = Path(parameters.robot_urdf).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UrdfError(f"parameter 'robot.urdf': {path}: {error}") from error
