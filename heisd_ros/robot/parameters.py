"""Parameters of the VLA node: every one declared once, here or in the module of its group."""

from __future__ import annotations

from dataclasses import dataclass

from heisd_ros.kinematics.robots import (
    PANDA_BASE,
    PANDA_FINGER_JOINTS,
    PANDA_JOINTS,
    PANDA_TIP,
)
from heisd_ros.robot.declare import at_most, at_most_if_any, parameter, validate
from heisd_ros.robot.gripper_parameters import GripperParameters
from heisd_ros.robot.growth_parameters import GrowthParameters
from heisd_ros.robot.input_parameters import InputParameters
from heisd_ros.robot.instruction import instruction_problem
from heisd_ros.robot.limit_parameters import LimitParameters
from heisd_ros.robot.relations import relations
from heisd_ros.robot.timing_parameters import TimingParameters
from heisd_ros.safety.joints import parse_limits


@dataclass(frozen=True)
class VlaNodeParameters(
    InputParameters, LimitParameters, GripperParameters, GrowthParameters, TimingParameters
):
    """Settings of `vla_node`, validated when the node is configured.

    Those marked live take effect at once, all others at the next configure transition.

    Raises:
        ValueError: A value is not accepted; the message names the parameter.
    """

    autostart: bool = parameter(
        "autostart",
        False,
        "Configure and activate at start; the process ends with exit code 1 where that fails.",
        read_only=True,
    )
    model_path: str = parameter(
        "model.path",
        "",
        "Folder of the checkpoint, or ws://HOST:PORT of `heisd serve` or an openpi server "
        "(docs/serving.md); empty: the model shipped with the package.",
    )
    model_device: str = parameter(
        "model.device", "cpu", "Device that runs the model: cpu, cuda or cuda:N."
    )
    model_dtype: str = parameter(
        "model.dtype",
        "float32",
        "Number format of the model's weights.",
        choices=("float32", "bfloat16", "float16"),
    )
    model_unnorm_key: str = parameter(
        "model.unnorm_key",
        "",
        "Name of the action statistics of the checkpoint; empty: its only ones, where "
        "dataset_statistics.json is there the only ones in it.",
    )
    model_protocol: str = parameter(
        "model.protocol",
        "",
        "What the training data went through (views, pictures, gripper numbers): a name in "
        "config/protocols or a YAML file like those; empty: nothing.",
    )
    model_threads: int = parameter(
        "model.threads",
        0,
        "CPU threads of the model; 0: one less than cores, for transport and drivers.",
        low=0,
        high=256,
    )
    control_rate_hz: float = parameter(
        "model.control_rate_hz",
        0.0,
        "Control steps per second: twist = delta of a step times this; 0: the model's own rate.",
        low=0.0,
        high=1000.0,
    )
    budget_sec: float = parameter(
        "model.budget_sec",
        0.0,
        "Time (s) that an inference may take; the result of a slower one is not acted on and the "
        "arm is held; 0: no budget.",
        low=0.0,
        high=60.0,
        live=True,
        looseness=at_most_if_any,
    )
    decoding_mode: str = parameter(
        "decoding.mode",
        "ar",
        "Decoding mode: a name in config/modes (ar, heisd, ...) or the path of a YAML file like "
        "those.",
    )
    decoding_database: str = parameter(
        "decoding.database",
        "",
        "Folder of the retrieval database for modes that retrieve; empty: 'database' in the "
        "checkpoint's folder.",
    )
    decoding_drafter: str = parameter(
        "decoding.drafter",
        "",
        "Folder of the drafter for modes that draft; empty: 'drafter' in the checkpoint's folder.",
    )
    decoding_seed: int = parameter(
        "decoding.seed",
        0,
        "Seed of random skips and of the choice of skips that are verified all the same.",
        low=0,
        high=999_999,
    )
    instruction: str = parameter(
        "instruction",
        "",
        "What the arm is told to do; may be set while active. The newest of this and the topic "
        "~/input/instruction counts.",
        live=True,
    )
    robot_source: str = parameter(
        "robot.source",
        "panda",
        "Where the robot's URDF comes from: the built-in Franka Panda, the file robot.urdf, or "
        "the topic robot_description.",
        choices=("panda", "file", "topic"),
    )
    robot_urdf: str = parameter(
        "robot.urdf", "", "Path of the URDF file where robot.source is 'file'."
    )
    robot_tip_frame: str = parameter(
        "robot.tip_frame",
        "",
        "Link of the URDF that is the end effector; may be empty for the built-in Panda only.",
        own=True,
    )
    robot_base_frame: str = parameter(
        "robot.base_frame",
        "",
        "Link of the URDF in which the end effector's pose is given to the model; may be empty for "
        "the built-in Panda only.",
        own=True,
    )
    robot_joint_names: tuple[str, ...] = parameter(
        "robot.joint_names",
        ("",),
        "Joints of the arm, base to tip; may be empty for the built-in Panda only.",
        own=True,
    )
    robot_gripper_joints: tuple[str, ...] = parameter(
        "robot.gripper_joints",
        ("",),
        "Finger joints (m); the sum of their distances from 0 is the opening of the gripper. "
        "Empty: the built-in Panda's own, or none.",
        own=True,
    )
    dry_run: bool = parameter(
        "dry_run",
        False,
        "Everything runs and telemetry says what would be sent, but no command topic is made.",
        own=True,
    )
    interface: str = parameter(
        "command.interface",
        "twist",
        "What is sent to the arm: a twist (MoveIt Servo), a target pose (Cartesian controllers), "
        "or the action as the model gave it, to which no limit of this node applies.",
        choices=("twist", "pose", "delta"),
        own=True,
    )
    frame_id: str = parameter(
        "command.frame_id",
        "",
        "Frame of the command (REP 105): robot.base_frame, or robot.tip_frame for twists along the "
        "axes of the end effector; empty: robot.base_frame.",
        own=True,
    )
    targets_in_root: bool = parameter(
        "command.targets_in_root",
        False,
        "The controller takes target poses in the root of the robot description, whatever frame "
        "they name (crisp_controllers): a robot.base_frame that lies elsewhere is refused.",
    )
    translation_scale: float = parameter(
        "command.translation_scale",
        0.05,
        "Metres in a control step for one unit of the action's translation.",
        low=0.0,
        high=10.0,
    )
    rotation_scale: float = parameter(
        "command.rotation_scale",
        0.5,
        "Radians in a control step for one unit of the action's rotation.",
        low=0.0,
        high=10.0,
    )
    rotation_convention: str = parameter(
        "command.rotation_convention",
        "rotation_vector",
        "What the action's three rotation numbers are: a rotation vector (LIBERO), or roll, pitch "
        "and yaw about the fixed axes x, y, z (OpenVLA on BridgeData).",
        choices=("rotation_vector", "roll_pitch_yaw"),
    )
    max_lead_m: float = parameter(
        "command.max_lead_m",
        0.05,
        "How far (m) a target pose may be ahead of the measured one; one that is further away is "
        "led back within the limits.",
        low=0.001,
        high=1.0,
    )
    max_lead_rad: float = parameter(
        "command.max_lead_rad",
        0.3,
        "How far (rad) a target pose may be turned ahead of the measured one, likewise.",
        low=0.001,
        high=3.0,
    )
    units: str = parameter(
        "command.units",
        "si",
        "Units of the twist: m/s and rad/s, or unitless shares of command.unitless_linear and "
        "command.unitless_angular, as MoveIt Servo may be set to take.",
        choices=("si", "unitless"),
    )
    unitless_linear: float = parameter(
        "command.unitless_linear",
        0.4,
        "Speed (m/s) that a unitless 1 stands for: Servo's scale.linear.",
        low=0.001,
        high=10.0,
    )
    unitless_angular: float = parameter(
        "command.unitless_angular",
        0.8,
        "Angular speed (rad/s) that a unitless 1 stands for: Servo's scale.rotational.",
        low=0.001,
        high=100.0,
    )
    stamp: str = parameter(
        "command.stamp",
        "now",
        "Stamp of the command: the time it is published, as controllers want it, or that of the "
        "observation that it answers, as the lock-step simulation wants it. Then a halt is not "
        "ramped.",
        choices=("now", "observation"),
    )
    rate_hz: float = parameter(
        "command.rate_hz",
        0.0,
        "Rate (Hz) of the command, which approaches the newest action within the limits while that "
        "is younger than command.max_action_age_sec; 0: sent once for each action.",
        low=0.0,
        high=500.0,
    )
    max_action_age_sec: float = parameter(
        "command.max_action_age_sec",
        1.0,
        "Age (s, steady clock) of the newest action from which the arm is stopped.",
        low=0.02,
        high=30.0,
        live=True,
        looseness=at_most,
    )
    servo_node: str = parameter(
        "servo.node",
        "",
        "Name of a MoveIt Servo node, whose command type is switched and which is unpaused at "
        "activation; needs moveit_msgs; empty: none.",
    )
    metric_kind: str = parameter(
        "metric.kind",
        "paper",
        "Kind of the kinematic metric in telemetry; a decoding mode with a boundary brings its "
        "own, with bounds from its database.",
        choices=("paper", "legacy", "speed"),
    )
    metric_bounds: str = parameter(
        "metric.bounds",
        "",
        "JSON file with the metric's settings and bounds for metric.kind; empty: "
        "metric_bounds.json beside the checkpoint, or built-in ones where there is none.",
    )
    watchdog_hz: float = parameter(
        "watchdog_hz",
        20.0,
        "Rate (Hz, steady clock) at which ages are checked and a stop command is repeated.",
        low=1.0,
        high=1000.0,
    )

    def __post_init__(self) -> None:
        validate(self)
        if self.robot_source == "panda":
            self._describe_panda()
        if not self.frame_id:
            object.__setattr__(self, "frame_id", self.robot_base_frame)
        problem = instruction_problem(self.instruction)
        if problem:
            raise ValueError(f"parameter 'instruction': {problem}")
        try:
            parse_limits(self.joint_limits)
        except ValueError as error:
            raise ValueError(f"parameter 'joints.limits' is {error}") from error
        for name, value, wrong, accepted in relations(self):
            if wrong:
                raise ValueError(f"parameter '{name}' is {value!r}; accepted: {accepted}")

    def _describe_panda(self) -> None:
        """Fills in what was left empty with the names of the built-in arm."""
        for name, value in (
            ("robot_tip_frame", PANDA_TIP),
            ("robot_base_frame", PANDA_BASE),
            ("robot_joint_names", PANDA_JOINTS),
            ("robot_gripper_joints", PANDA_FINGER_JOINTS),
        ):
            if getattr(self, name) in ("", ("",)):
                object.__setattr__(self, name, value)
