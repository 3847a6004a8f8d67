"""Parameters of the VLA node: every one declared here, once."""

from __future__ import annotations

from dataclasses import dataclass

from heisd_ros.kinematics.robots import (
    PANDA_BASE,
    PANDA_FINGER_JOINTS,
    PANDA_JOINTS,
    PANDA_TIP,
)
from heisd_ros.nodes.declare import parameter, validate


@dataclass(frozen=True)
class VlaNodeParameters:
    """Settings of `vla_node`, validated when the node is configured.

    All but `instruction` take effect at the next configure transition.

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
        "model.path", "", "Folder of the checkpoint; empty: the model shipped with the package."
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
    model_statistics: str = parameter(
        "model.statistics",
        "",
        "Name of the action statistics of the checkpoint; empty: its only ones.",
    )
    model_threads: int = parameter(
        "model.threads", 0, "CPU threads of the model; 0: PyTorch's choice.", low=0, high=256
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
    )
    compressed: bool = parameter(
        "input.compressed",
        False,
        "Subscribe to sensor_msgs/CompressedImage instead of sensor_msgs/Image.",
    )
    image_timeout_sec: float = parameter(
        "input.image_timeout_sec",
        0.5,
        "Age (s, steady clock) from which a camera is stale and the arm is stopped.",
        low=0.02,
        high=60.0,
    )
    joint_state_timeout_sec: float = parameter(
        "input.joint_state_timeout_sec",
        0.5,
        "Age (s, steady clock) from which the joint states are stale and the arm is stopped.",
        low=0.02,
        high=60.0,
    )
    frozen_motion_rad: float = parameter(
        "input.frozen_motion_rad",
        0.2,
        "A camera whose pixels stay identical while a joint moves by more than this (rad) is "
        "frozen, and the arm is stopped; 0: not checked.",
        low=0.0,
        high=6.3,
    )
    sync_tolerance_sec: float = parameter(
        "sync.tolerance_sec",
        0.03,
        "Largest difference (s) of the header stamps within one observation set; less than the "
        "period of the cameras, or pictures of two moments may be paired.",
        low=0.0,
        high=1.0,
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
        "robot.tip_frame", PANDA_TIP, "Link of the URDF that is the end effector."
    )
    robot_base_frame: str = parameter(
        "robot.base_frame",
        PANDA_BASE,
        "Link of the URDF in which the end effector's pose is given to the model.",
    )
    robot_joint_names: tuple[str, ...] = parameter(
        "robot.joint_names", PANDA_JOINTS, "Joints of the arm, base to tip."
    )
    robot_gripper_joints: tuple[str, ...] = parameter(
        "robot.gripper_joints",
        PANDA_FINGER_JOINTS,
        "Finger joints (m); the sum of their distances from 0 is the opening of the gripper.",
    )
    frame_id: str = parameter(
        "command.frame_id", PANDA_BASE, "Frame in which the twist is given (REP 105)."
    )
    rate_hz: float = parameter(
        "command.rate_hz",
        0.0,
        "Control steps per second: twist = delta of a step times this; 0: the model's own rate.",
        low=0.0,
        high=1000.0,
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
    max_linear_speed: float = parameter(
        "command.max_linear_speed",
        2.0,
        "Limit of the commanded speed, m/s; a faster twist is scaled down whole.",
        low=0.001,
        high=10.0,
    )
    max_angular_speed: float = parameter(
        "command.max_angular_speed",
        20.0,
        "Limit of the commanded angular speed, rad/s; a faster twist is scaled down whole.",
        low=0.001,
        high=100.0,
    )
    stamp: str = parameter(
        "command.stamp",
        "now",
        "Stamp of the twist: the time it is published, as controllers want it, or that of the "
        "observation that it answers, as the lock-step simulation wants it.",
        choices=("now", "observation"),
    )
    republish_hz: float = parameter(
        "command.republish_hz",
        0.0,
        "Rate (Hz) at which the newest twist is sent again while its action is younger than "
        "command.max_age_sec, for controllers with a short timeout; 0: sent once.",
        low=0.0,
        high=500.0,
    )
    max_age_sec: float = parameter(
        "command.max_age_sec",
        1.0,
        "Age (s, steady clock) of the newest action from which the arm is stopped.",
        low=0.02,
        high=60.0,
    )
    gripper_open_action: float = parameter(
        "gripper.open_action",
        -1.0,
        "The action's gripper number for open (LIBERO -1; OpenVLA on BridgeData 1).",
        low=-10.0,
        high=10.0,
    )
    gripper_closed_action: float = parameter(
        "gripper.closed_action",
        1.0,
        "The action's gripper number for closed (LIBERO 1; OpenVLA on BridgeData 0).",
        low=-10.0,
        high=10.0,
    )
    gripper_open_position: float = parameter(
        "gripper.open_position", 0.08, "Commanded opening (m) for open.", low=0.0, high=1.0
    )
    gripper_closed_position: float = parameter(
        "gripper.closed_position", 0.0, "Commanded opening (m) for closed.", low=0.0, high=1.0
    )
    gripper_hysteresis: float = parameter(
        "gripper.hysteresis",
        0.1,
        "How far past half way (share of the full travel) the action must go to switch.",
        low=0.0,
        high=0.5,
    )
    gripper_resend_sec: float = parameter(
        "gripper.resend_sec",
        1.0,
        "Interval (s) at which an unchanged gripper command is sent again; 0: on change only.",
        low=0.0,
        high=60.0,
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
        if self.robot_source == "file" and not self.robot_urdf:
            raise ValueError(
                "parameter 'robot.urdf' is ''; accepted: the path of a URDF file, as "
                "'robot.source' is 'file'"
            )
        if self.gripper_open_action == self.gripper_closed_action:
            raise ValueError(
                f"parameter 'gripper.open_action' is {self.gripper_open_action!r}; accepted: "
                "a number other than 'gripper.closed_action'"
            )
        if not self.robot_joint_names or "" in self.robot_joint_names:
            raise ValueError(
                f"parameter 'robot.joint_names' is {list(self.robot_joint_names)!r}; accepted: "
                "the names of the arm's joints"
            )
