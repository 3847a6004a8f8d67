"""Parameters of the VLA node for the gripper: meaning of the action, and commands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heisd_ros.kinematics.joint_states import FingerTravel
from heisd_ros.robot.declare import ROS_NAME, Parameters, parameter


@dataclass(frozen=True)
class GripperParameters(Parameters):
    """Conversion of the action's gripper number to commands, by topic and by action."""

    open_action: float = parameter(
        -1.0,
        "The action's gripper number for open (LIBERO -1; OpenVLA on BridgeData 1).",
        low=-10.0,
        high=10.0,
        own=True,
    )
    closed_action: float = parameter(
        1.0,
        "The action's gripper number for closed (LIBERO 1; OpenVLA on BridgeData 0).",
        low=-10.0,
        high=10.0,
        own=True,
    )
    open_position: float = parameter(
        0.08, "Commanded opening (m) for open.", low=0.0, high=1.0, own=True
    )
    closed_position: float = parameter(
        0.0, "Commanded opening (m) for closed.", low=0.0, high=1.0, own=True
    )
    hysteresis: float = parameter(
        0.1,
        "How far past half way (share of the full travel) the action must go to switch.",
        low=0.0,
        high=0.5,
        live=True,
    )
    resend_sec: float = parameter(
        1.0,
        "Interval (s) at which an unchanged gripper command is sent again on the topic, and a goal "
        "that failed to the action; 0: on change only.",
        low=0.0,
        high=60.0,
        live=True,
    )
    action: str = parameter(
        "",
        "What moves the gripper besides the topic: an action of control_msgs, which has to be "
        "installed, or a sensor_msgs/JointState on ~/output/gripper_joint; empty: nothing.",
        choices=("", "gripper_command", "parallel_gripper_command", "joint_state"),
    )
    action_name: str = parameter(
        "gripper_controller/gripper_cmd",
        "Name of the action server where gripper.action is an action.",
    )
    joint: str = parameter(
        "",
        "Joint that parallel_gripper_command and joint_state name; empty: the first finger joint.",
    )
    goal_open: float = parameter(
        0.0,
        "Position that the driver behind gripper.action takes for gripper.open_position: half the "
        "width (m), or an angle (rad). Equal to gripper.goal_closed: the opening itself, m.",
        low=-10.0,
        high=10.0,
    )
    goal_closed: float = parameter(
        0.0, "Position that it takes for gripper.closed_position.", low=-10.0, high=10.0
    )
    joint_open: float = parameter(
        0.0,
        "Position (rad) of robot.gripper_joints at gripper.open_position, where they are angles. "
        "Equal to gripper.joint_closed: they are distances from closed, m.",
        low=-10.0,
        high=10.0,
    )
    joint_closed: float = parameter(
        0.0, "Their position (rad) at gripper.closed_position.", low=-10.0, high=10.0
    )
    attempts: int = parameter(
        3,
        "How often, at most, a goal is sent that the action server refuses or aborts.",
        low=1,
        high=100,
    )
    max_effort: float = parameter(
        0.0,
        "Largest effort (N) given with gripper.action; 0: the driver's own.",
        low=0.0,
        high=1000.0,
    )

    def finger_travel(self) -> FingerTravel | None:
        """Returns the conversion of the finger joints' angle to the opening; None for distances."""
        if self.joint_open == self.joint_closed:
            return None
        return FingerTravel(
            self.joint_closed, self.joint_open, self.closed_position, self.open_position
        )

    def _problems(self) -> Iterator[tuple[str, str]]:
        if self.open_action == self.closed_action:
            yield "open_action", "a number other than 'gripper.closed_action'"
        if self.action.endswith("_command") and not self.action_name:
            yield "action_name", "the name of an action server, as 'gripper.action' is set"
        if self.action_name and not ROS_NAME.fullmatch(self.action_name):
            yield "action_name", "the name of an action server, such as gripper/gripper_cmd"
