"""Parameters of the VLA node, each declared once, here or in the module of its group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heisd_ros.kinematics.pose import END_EFFECTOR
from heisd_ros.kinematics.robots import (
    PANDA_BASE,
    PANDA_FINGER_JOINTS,
    PANDA_JOINTS,
    PANDA_TIP,
)
from heisd_ros.robot.chunk_parameters import ChunkParameters
from heisd_ros.robot.command_parameters import JOINT_INTERFACES, CommandParameters
from heisd_ros.robot.declare import (
    ROS_NAME,
    Parameters,
    at_most_if_any,
    group,
    parameter,
    validate,
)
from heisd_ros.robot.flat_names import FlatNames
from heisd_ros.robot.gripper_parameters import GripperParameters
from heisd_ros.robot.growth_parameters import FleetParameters, GrowthParameters
from heisd_ros.robot.input_parameters import InputParameters, SyncParameters
from heisd_ros.robot.instruction import instruction_problem
from heisd_ros.robot.limit_parameters import (
    CollisionParameters,
    JointParameters,
    SingularityParameters,
    WorkspaceParameters,
)
from heisd_ros.robot.teleop_parameters import RELEASE_SEC, TeleopParameters, fastest_release


@dataclass(frozen=True)
class ModelParameters(Parameters):
    """The model, its device and its timing."""

    path: str = parameter(
        "",
        "Folder of the checkpoint, or ws://HOST:PORT of `heisd serve` or an openpi server "
        "(docs/serving.md); empty: the model shipped with the package.",
    )
    device: str = parameter("cpu", "Device that runs the model: cpu, cuda or cuda:N.")
    dtype: str = parameter(
        "float32",
        "Number format of the model's weights.",
        choices=("float32", "bfloat16", "float16"),
    )
    unnorm_key: str = parameter(
        "",
        "Name of the action statistics of the checkpoint; empty: its only ones, where "
        "dataset_statistics.json is there the only ones in it.",
    )
    protocol: str = parameter(
        "",
        "What the training data went through (views, pictures, gripper numbers): a name in "
        "config/protocols or a YAML file like those; empty: nothing.",
    )
    threads: int = parameter(
        0,
        "CPU threads of the model; 0: 1 for weights of less than 256 MiB, whose steps other work "
        "would slow most with more, else one less than cores, for transport and drivers.",
        low=0,
        high=256,
    )
    action_space: str = parameter(
        "",
        "What the model's actions are before the gripper's number: a step of the end effector, or "
        "velocities or positions of robot.joint_names; empty: what the model says, where it says "
        "nothing a step of the end effector.",
        choices=("", END_EFFECTOR, *JOINT_INTERFACES),
    )
    state: str = parameter(
        END_EFFECTOR,
        "What a model that takes a state gets, lengths in m, in robot.base_frame. end_effector: 7 "
        "numbers, tip position, rotation vector from the tool pointing down, opening; pose: 8, tip "
        "position, rotation vector, both fingers, as robosuite has them; joints: positions of "
        "robot.joint_names (rad) and the gripper in the numbers of gripper.open_action and "
        "gripper.closed_action (DROID).",
        choices=(END_EFFECTOR, "pose", "joints"),
    )
    control_rate_hz: float = parameter(
        0.0,
        "Control steps per second: twist = delta of a step times this; 0: the model's own rate.",
        low=0.0,
        high=1000.0,
    )
    budget_sec: float = parameter(
        0.0,
        "Time (s) that an inference may take; the result of a slower one is not acted on and the "
        "arm is held; 0: no budget.",
        low=0.0,
        high=60.0,
        looseness=at_most_if_any,
    )


@dataclass(frozen=True)
class DecodingParameters(Parameters):
    """Decoding of the model's tokens."""

    mode: str = parameter(
        "ar",
        "Decoding mode: a name in config/modes (ar, heisd, ...), also with _compiled behind it, or "
        "the path of a YAML file like those.",
    )
    database: str = parameter(
        "",
        "Folder of the retrieval database for modes that retrieve; empty: 'database' in the "
        "checkpoint's folder.",
    )
    drafter: str = parameter(
        "",
        "Folder of the drafter for modes that draft; empty: 'drafter' in the checkpoint's folder.",
    )
    seed: int = parameter(
        0,
        "Seed of random skips and of the choice of skips that are verified all the same.",
        low=0,
        high=999_999,
    )


@dataclass(frozen=True)
class RobotParameters(Parameters):
    """The arm; names left empty are filled in for the built-in one."""

    source: str = parameter(
        "panda",
        "Where the robot's URDF comes from: the built-in Franka Panda, the file robot.urdf, or "
        "the topic robot_description.",
        choices=("panda", "file", "topic"),
    )
    urdf: str = parameter("", "Path of the URDF file where robot.source is 'file'.")
    tip_frame: str = parameter(
        "",
        "Link of the URDF that is the end effector; may be empty for the built-in Panda only.",
        own=True,
    )
    base_frame: str = parameter(
        "",
        "Link of the URDF in which the end effector's pose is given to the model; may be empty for "
        "the built-in Panda only.",
        own=True,
    )
    joint_names: tuple[str, ...] = parameter(
        ("",), "Joints of the arm, base to tip; may be empty for the built-in Panda only.", own=True
    )
    gripper_joints: tuple[str, ...] = parameter(
        ("",),
        "Finger joints. The sum of their distances (m) from 0 is the opening of the gripper, or "
        "their angle tells it: gripper.joint_open. Empty: the built-in Panda's own, or none.",
        own=True,
    )

    def __post_init__(self) -> None:
        if self.source != "panda":
            return
        for name, value in (
            ("tip_frame", PANDA_TIP),
            ("base_frame", PANDA_BASE),
            ("joint_names", PANDA_JOINTS),
            ("gripper_joints", PANDA_FINGER_JOINTS),
        ):
            if getattr(self, name) in ("", ("",)):
                object.__setattr__(self, name, value)

    def _problems(self) -> Iterator[tuple[str, str]]:
        if self.source == "file" and not self.urdf:
            yield "urdf", "the path of a URDF file, as 'robot.source' is 'file'"
        for name, frame in (("tip_frame", self.tip_frame), ("base_frame", self.base_frame)):
            if not frame:
                yield name, "a link of the URDF"
        if not self.joint_names or "" in self.joint_names:
            yield "joint_names", "the names of the arm's joints"


@dataclass(frozen=True)
class ServoParameters(Parameters):
    """The node of MoveIt Servo that takes the commands, if any."""

    node: str = parameter(
        "",
        "Name of a MoveIt Servo node, which is made ready at activation as servo.setup says; needs "
        "moveit_msgs; empty: none.",
    )
    setup: str = parameter(
        "switch",
        "How servo.node is made ready: by its services switch_command_type and pause_servo (Jazzy "
        "and newer), or by start_servo (Humble; twists only, and moveit_msgs is not needed).",
        choices=("switch", "start"),
    )

    def _problems(self) -> Iterator[tuple[str, str]]:
        if self.node and not ROS_NAME.fullmatch(self.node.rstrip("/")):
            yield "node", "the name of a node, such as servo_node"


@dataclass(frozen=True)
class MetricParameters(Parameters):
    """The kinematic metric in telemetry."""

    kind: str = parameter(
        "paper",
        "Kind of the kinematic metric in telemetry; a decoding mode with a boundary brings its "
        "own, with bounds from its database or, where it uses none, from metric.bounds.",
        choices=("paper", "legacy", "speed"),
    )
    bounds: str = parameter(
        "",
        "JSON file with the metric's settings and bounds for metric.kind; empty: "
        "metric_bounds.json beside the checkpoint, or built-in ones where there is none.",
    )


@dataclass(frozen=True)
class ExecutorParameters(Parameters):
    """Scheduling of the thread that sends commands."""

    realtime_priority: int = parameter(
        0,
        "Priority of the thread that sends commands under SCHED_FIFO; needs the right to it "
        "(rtprio in limits.conf); where it is missing, a warning says so. 0: the usual scheduling.",
        low=0,
        high=99,
        read_only=True,
    )


@dataclass(frozen=True)
class VlaNodeParameters(FlatNames):
    """Settings of `vla_node`, validated when the node is configured.

    Those marked live take effect at once, all others at the next configure transition.

    Raises:
        ValueError: A value is not accepted; the message names the parameter.
    """

    autostart: bool = parameter(
        False,
        "Configure and activate at start; the process ends with exit code 1 where that fails.",
        read_only=True,
    )
    model: ModelParameters = group(ModelParameters)
    decoding: DecodingParameters = group(DecodingParameters)
    instruction: str = parameter(
        "",
        "What the arm is told to do; may be set while active. The newest of this and the topic "
        "~/input/instruction counts.",
        live=True,
    )
    robot: RobotParameters = group(RobotParameters)
    dry_run: bool = parameter(
        False,
        "Everything runs and telemetry says what would be sent, but no command topic is made.",
        own=True,
    )
    command: CommandParameters = group(CommandParameters)
    chunk: ChunkParameters = group(ChunkParameters)
    workspace: WorkspaceParameters = group(WorkspaceParameters)
    joints: JointParameters = group(JointParameters)
    singularity: SingularityParameters = group(SingularityParameters)
    collision: CollisionParameters = group(CollisionParameters)
    gripper: GripperParameters = group(GripperParameters)
    teleop: TeleopParameters = group(TeleopParameters)
    input: InputParameters = group(InputParameters)
    sync: SyncParameters = group(SyncParameters)
    growth: GrowthParameters = group(GrowthParameters)
    fleet: FleetParameters = group(FleetParameters)
    servo: ServoParameters = group(ServoParameters)
    metric: MetricParameters = group(MetricParameters)
    executor: ExecutorParameters = group(ExecutorParameters)
    watchdog_hz: float = parameter(
        20.0,
        "Rate (Hz, steady clock) at which ages are checked and a stop command is repeated.",
        low=1.0,
        high=1000.0,
    )

    def __post_init__(self) -> None:
        validate(self)
        problem = instruction_problem(self.instruction)
        if problem:
            raise ValueError(f"parameter 'instruction': {problem}")

    @property
    def command_frame(self) -> str:
        """Frame of the command: `command.frame_id`, or the base frame if that is empty."""
        return self.command.frame_id or self.robot.base_frame

    def _problems(self) -> Iterator[tuple[str, str]]:
        interface, robot = self.command.interface, self.robot
        if self.servo.node and interface not in ("twist", "pose"):
            accepted = f"'', as 'command.interface' is {interface!r}, which Servo does not take"
            yield "servo.node", accepted
        if self.model.action_space in JOINT_INTERFACES and not self.command.of_joints:
            accepted = " or ".join(map(repr, JOINT_INTERFACES))
            space = f"as 'model.action_space' is {self.model.action_space!r}"
            yield "command.interface", f"{accepted}, {space}"
        if self.command.of_joints and self.joints.max_acceleration and not self.command.rate_hz:
            yield "command.rate_hz", "a rate (Hz), as 'joints.max_acceleration' is set"
        if self.servo.node and self.servo.setup == "start" and interface != "twist":
            yield "servo.setup", "'switch', as only twists are taken by a Servo that is started"
        named = self.gripper.joint or any(robot.gripper_joints)
        if self.gripper.action == "joint_state" and not named:
            yield "gripper.joint", "the name of a joint, as 'gripper.action' is 'joint_state'"
        frames = [robot.base_frame] if interface == "pose" else [robot.base_frame, robot.tip_frame]
        if self.command_frame not in frames:
            yield "command.frame_id", " or ".join(map(repr, frames))
        lead = self.command.max_lead_m
        near, stop = self.collision.slow_m, self.collision.stop_m
        if near > 0.0 and interface == "pose" and stop <= lead:
            more = f"more than 'command.max_lead_m', {lead:g} m"
            yield "collision.stop_m", f"{more}, as 'command.interface' is 'pose'"
        if self.teleop.enabled:
            yield from self._slow_releases()
            for name in ("translation_scale", "rotation_scale"):
                if getattr(self.command, name) == 0.0:
                    yield f"command.{name}", "more than 0, as 'teleop' lets a person take over"

    def _slow_releases(self) -> Iterator[tuple[str, str]]:
        """Yields the speeds of a person from which a released deadman does not stop in time."""
        command, teleop = self.command, self.teleop
        tick = 1.0 / command.rate_hz if command.rate_hz > 0.0 else 0.0
        for part, speed, acceleration, jerk in (
            (
                "linear",
                min(teleop.max_linear_speed, command.max_linear_speed),
                command.max_linear_acceleration,
                command.max_linear_jerk,
            ),
            (
                "angular",
                min(teleop.max_angular_speed, command.max_angular_speed),
                command.max_angular_acceleration,
                command.max_angular_jerk,
            ),
        ):
            silence = teleop.promised_sec
            most = fastest_release(speed, acceleration, jerk, tick, silence)
            if most < speed:
                event = "deadman is released"
                if silence > 0.0:
                    event = "joystick is unplugged ('teleop.joy_rate_hz')"
                yield (
                    f"teleop.max_{part}_speed",
                    f"up to {most:.3g}, so that the arm stands {RELEASE_SEC:g} s after the "
                    f"{event}, or higher limits of acceleration and jerk",
                )
