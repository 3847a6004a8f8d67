"""The part of the VLA node that exists between configure and cleanup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from typing import cast

import numpy as np

from heisd_ros.control.commands import CommandMapper
from heisd_ros.control.core_wait import CoreWait
from heisd_ros.control.inference import (
    PolicyRunner,
    has_chunk,
    joint_state,
    robosuite_state,
    tip_state,
)
from heisd_ros.control.ingest import ObservationBuffer
from heisd_ros.control.inputs import IngestLimits, image_inputs
from heisd_ros.control.motion_feed import MotionFeed, load_bounds
from heisd_ros.control.policy import Policy, PolicyLoader, state_sizes
from heisd_ros.control.worker import InferenceWorker
from heisd_ros.data import images
from heisd_ros.decoding.chunks import ChunkedDecoder
from heisd_ros.decoding.types import Decoder, Observation
from heisd_ros.errors import DatabaseError, HeisdError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.chain import Description
from heisd_ros.kinematics.joint_states import ArmState, JointStateReader
from heisd_ros.kinematics.motion import MetricKind
from heisd_ros.kinematics.pose import END_EFFECTOR
from heisd_ros.robot.command_parameters import JOINT_INTERFACES
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.robot_arm import make_reader, urdf_text
from heisd_ros.vla.device_memory import device_memory_errors


@dataclass
class Session:
    """A loaded policy with its inputs, its inference thread and its command mapping.

    Attributes:
        parameters: The validated settings.
        policy: The decoder and its model.
        buffer: Newest inputs.
        worker: The inference thread.
        mapper: Converts actions to commands.
        motion: The kinematic metric.
        plain_ms: Time of one step of plain decoding with this model, measured at configure.
        summary: One line for the log.
        kinematics: The arm; None until a robot description has come.
        urdf: The robot description in use; empty before the first.
        refused_robot: Why the newest description was refused; empty if it was accepted.
        cores: How long this process's threads wait for a core.
        in_steps: Executes chunks where time advances with commands; None: the control loop does.
    """

    parameters: VlaNodeParameters
    policy: Policy
    buffer: ObservationBuffer
    worker: InferenceWorker
    mapper: CommandMapper
    motion: MotionFeed
    plain_ms: float
    summary: str
    kinematics: ArmKinematics | None = None
    urdf: str = ""
    refused_robot: str = ""
    cores: CoreWait = field(default_factory=CoreWait)
    in_steps: ChunkedDecoder | None = None

    def set_robot(self, urdf: str) -> None:
        """Sets the robot description.

        Raises:
            UrdfError, JointStateError: It lacks the arm that the parameters describe.
            DatabaseError: It describes a different robot from the database's.
        """
        reader = make_reader(self.parameters, urdf)
        check_robot(self.policy, urdf)
        self.buffer.set_robot(reader)
        self.kinematics = reader.kinematics
        self.urdf, self.refused_robot = urdf, ""

    def offer_robot(self, urdf: str, active: bool) -> str:
        """Sets the robot description if that is allowed now.

        Args:
            urdf: The text; the one in use has no effect.
            active: Whether the arm may move: then a different description is refused, since it
                takes long to read and describes another arm.

        Returns:
            Why it is refused; empty if it is accepted.
        """
        if urdf == self.urdf:
            return ""
        if active and self.urdf:
            return "it is another one while the node is active; deactivate it first"
        try:
            self.set_robot(urdf)
        except HeisdError as error:
            return str(error)
        return ""

    def refuse_robot(self, problem: str) -> None:
        """Records a description that is refused; the previous one stays in use."""
        self.refused_robot = problem
        self.buffer.refuse_robot(problem)

    def set_parameters(self, parameters: VlaNodeParameters) -> None:
        """Updates the live parameters."""
        self.parameters = parameters
        self.buffer.limits = ingest_limits(parameters)


def open_session(
    parameters: VlaNodeParameters, load: PolicyLoader, on_done: Callable[[], None]
) -> Session:
    """Loads and warms up the model, and makes the session around it. Takes seconds.

    Args:
        parameters: The validated settings.
        load: Loads the policy.
        on_done: Called in the inference thread when a result waits.

    Raises:
        HeisdError: The checkpoint or the robot description cannot be used, or the device has not
            enough memory for the model or for a step of it.
        ValueError: A parameter does not fit what was loaded.
    """
    urdf = "" if parameters.robot.source == "topic" else urdf_text(parameters)
    reader = make_reader(parameters, urdf) if urdf else None
    with device_memory_errors(parameters.model.device, "the model"):
        policy = load(parameters)
        try:
            check_fingers(policy, parameters)
            if urdf:
                check_robot(policy, urdf)
            return _wire(parameters, policy, reader, on_done)
        except BaseException:
            policy.close()
            raise


def check_fingers(policy: Policy, parameters: VlaNodeParameters) -> None:
    """Checks that a model whose input includes the gripper's opening can get it.

    Raises:
        ValueError: No finger joint is named, so the arm would always be held.
    """
    if policy.proprio_size and not any(parameters.robot.gripper_joints):
        raise ValueError(
            f"parameter 'robot.gripper_joints' is {list(parameters.robot.gripper_joints)}; "
            f"accepted: the finger joints, as the model {policy.name} takes the gripper's "
            "opening (with 'gripper.joint_open' and 'gripper.joint_closed' where they are angles), "
            "or a 'model.path' of a model that does not"
        )


def check_views(policy: Policy) -> None:
    """Checks that every view of the model has a topic of its own.

    Raises:
        ValueError: Two have the same, and one picture would be taken for both.
    """
    topics = image_inputs(policy.views)
    if len(set(topics)) < len(topics):
        raise ValueError(
            f"the views {list(policy.views)} of the model {policy.name} have the topics {topics}; "
            "accepted: names of views that differ in letters or digits"
        )


def check_actions(policy: Policy, parameters: VlaNodeParameters) -> None:
    """Checks that the command interface takes the model's actions, and the model its state.

    Raises:
        ValueError: One does not fit the other, or the parameters ask for more actions than an
            answer has.
    """
    space, joints = policy.action_space, list(parameters.robot.joint_names)
    if space != END_EFFECTOR and not parameters.command.of_joints:
        raise ValueError(
            f"parameter 'command.interface' is {parameters.command.interface!r}; accepted: "
            f"{' or '.join(map(repr, JOINT_INTERFACES))}, as the actions of the model "
            f"{policy.name} are of the space {space!r}"
        )
    if space != END_EFFECTOR and policy.action_size != len(joints) + 1:
        size = policy.action_size
        raise ValueError(
            f"parameter 'robot.joint_names' is {joints}; accepted: {size - 1} joints, as an action "
            f"of the model {policy.name} has {size} numbers, the last one for the gripper"
        )
    sizes = state_sizes(parameters)
    state, taken = parameters.model.state, policy.proprio_size
    if taken not in (0, sizes[state]):
        fitting = [repr(other) for other, size in sizes.items() if size == taken]
        raise ValueError(
            f"parameter 'model.state' is {state!r}, which is {sizes[state]} numbers; accepted: "
            f"{' or '.join(fitting) or 'none'}, as the model {policy.name} takes {taken}"
        )
    if 0 < policy.horizon < policy.least_actions:
        chunk = parameters.chunk
        name = "execute" if chunk.execute > policy.horizon else "blend"
        raise ValueError(
            f"parameter 'chunk.{name}' is {getattr(chunk, name)}; accepted: up to "
            f"{policy.horizon}, the actions in an answer of the model {policy.name}"
        )


def check_chunk(policy: Policy, parameters: VlaNodeParameters) -> None:
    """Checks that commands are frequent enough for a chunk, and that its last action is not stale.

    Raises:
        ValueError: A parameter does not fit; nothing is checked for a server that does not say how
            many actions it answers with.
    """
    length, command = parameters.chunk.execute or policy.horizon, parameters.command
    if length <= 1 or command.stamp == "observation":
        return
    rate_hz = parameters.model.control_rate_hz or policy.rate_hz
    if 0.0 < command.rate_hz < rate_hz:
        raise ValueError(
            f"parameter 'command.rate_hz' is {command.rate_hz:g}; accepted: 0, or at least "
            f"{rate_hz:g}, since each action of a chunk is for one control step of the model"
        )
    if length / rate_hz > command.max_action_age_sec:
        raise ValueError(
            f"parameter 'command.max_action_age_sec' is {command.max_action_age_sec:g}; accepted: "
            f"more than {length / rate_hz:g}, the time that the {length} actions of a chunk take, "
            "or a smaller 'chunk.execute'"
        )


def check_robot(policy: Policy, urdf: str) -> None:
    """Checks that the robot is the one whose motions the policy retrieves.

    Raises:
        DatabaseError: It is a different one.
    """
    name = Description(urdf).name
    if policy.robot and name != policy.robot:
        raise DatabaseError(
            f"the database holds demonstrations of the robot {policy.robot!r}, but the robot "
            f"description is of {name!r}; build one from its own demonstrations with "
            "`heisd db build`, or accepted: a 'decoding.mode' that does not retrieve"
        )


def _wire(
    parameters: VlaNodeParameters,
    policy: Policy,
    reader: JointStateReader | None,
    on_done: Callable[[], None],
) -> Session:
    check_chunk(policy, parameters)
    raw, in_steps = policy, None
    if parameters.command.stamp == "observation":
        in_steps = ChunkedDecoder(policy.decoder, *astuple(parameters.chunk))
        policy = replace(policy, decoder=in_steps)
    intake = open_intake(parameters, policy)
    if reader is not None:
        intake.buffer.set_robot(reader)
    warm_up_ms = warm_up(policy, raw.decoder)
    plain_ms = warm_up(policy, policy.plain) if policy.plain else warm_up_ms
    worker = InferenceWorker(intake.runner, intake.buffer.take, on_done, has_chunk)
    return Session(
        parameters=parameters,
        policy=policy,
        buffer=intake.buffer,
        worker=worker,
        mapper=CommandMapper(parameters, intake.rate_hz, policy.action_space),
        motion=intake.motion,
        plain_ms=plain_ms,
        summary=(
            f"mode {policy.mode or parameters.decoding.mode}, model {policy.name} with views "
            f"{', '.join(policy.views)}, {intake.rate_hz:g} control steps a second, warm step "
            f"{warm_up_ms:.0f} ms, metric bounds {intake.bounds_source}"
        ),
        kinematics=reader.kinematics if reader is not None else None,
        in_steps=in_steps,
    )


@dataclass(frozen=True)
class Intake:
    """The path from messages to results, without threads; the node and a replay share it.

    Attributes:
        buffer: Collects messages into observation sets.
        motion: The kinematic metric of the buffer's joint states.
        runner: Maps observation sets to results.
        rate_hz: Control steps a second.
        bounds_source: Description of where the metric's bounds came from.
    """

    buffer: ObservationBuffer
    motion: MotionFeed
    runner: PolicyRunner
    rate_hz: float
    bounds_source: str


def open_intake(parameters: VlaNodeParameters, policy: Policy) -> Intake:
    """Connects the inputs of a policy; the buffer still needs its robot description.

    Raises:
        ValueError: The metric's bounds do not fit, two views have one topic, or the model takes or
            gives other numbers than the parameters say.
    """
    check_actions(policy, parameters)
    check_views(policy)
    if policy.bounds is not None:
        bounds, bounds_source = policy.bounds, "of the decoding mode"
    else:
        kind = cast(MetricKind, parameters.metric.kind)
        bounds, bounds_source = load_bounds(kind, parameters.metric.bounds, policy.folder)
    compressed = parameters.input.compressed
    rate_hz = parameters.model.control_rate_hz or policy.rate_hz
    motion = MotionFeed(bounds, rate_hz)
    buffer = ObservationBuffer(
        policy.views,
        ingest_limits(parameters),
        images.check_compressed if compressed else images.check_raw,
        measure=motion.add,
    )
    to_rgb = images.compressed_to_rgb if compressed else images.raw_to_rgb
    states: dict[str, Callable[[ArmState], np.ndarray]] = {
        END_EFFECTOR: tip_state,
        "pose": robosuite_state,
        "joints": partial(joint_state, gripper=parameters.gripper),
    }
    state = states[parameters.model.state]
    return Intake(buffer, motion, PolicyRunner(policy, to_rgb, state), rate_hz, bounds_source)


def ingest_limits(parameters: VlaNodeParameters) -> IngestLimits:
    """Returns the limits of the inputs that the parameters set."""
    inputs, in_steps = parameters.input, parameters.command.stamp == "observation"
    return IngestLimits(
        image_timeout_sec=inputs.image_timeout_sec,
        joint_state_timeout_sec=inputs.joint_state_timeout_sec,
        frozen_motion_rad=inputs.frozen_motion_rad,
        sync_tolerance_sec=parameters.sync.tolerance_sec,
        frozen_images=inputs.frozen_images,
        frozen_joint_states=inputs.frozen_joint_states,
        # In lock-step the scene's time is not the clock's.
        max_stamp_age_sec=0.0 if in_steps else inputs.max_stamp_age_sec,
        recovery_sec=inputs.recovery_sec,
        joint_margin_rad=inputs.joint_margin_rad,
    )


def warm_up(policy: Policy, decoder: Decoder) -> float:
    """Runs a decoder on blank observations, so that the first real step is not the slow one.

    Returns:
        Mean time of a step after the first, ms.
    """
    side = policy.image_size
    blank = Observation(
        images=tuple(np.zeros((side, side, 3), np.uint8) for _ in policy.views),
        instruction=policy.instructions[0] if policy.instructions else "warm up",
        proprio=np.zeros(policy.proprio_size, np.float32) if policy.proprio_size else None,
    )
    times = [decoder.infer(blank).timings_ms["total"] for _ in range(3)]
    decoder.reset()
    return float(np.mean(times[1:]))
