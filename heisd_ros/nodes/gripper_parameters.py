"""Parameters of the VLA node for the gripper: what the model means, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass

from heisd_ros.nodes.declare import parameter


@dataclass(frozen=True)
class GripperParameters:
    """From the action's gripper number to commands, by topic and by action."""

    gripper_open_action: float = parameter(
        "gripper.open_action",
        -1.0,
        "The action's gripper number for open (LIBERO -1; OpenVLA on BridgeData 1).",
        low=-10.0,
        high=10.0,
        own=True,
    )
    gripper_closed_action: float = parameter(
        "gripper.closed_action",
        1.0,
        "The action's gripper number for closed (LIBERO 1; OpenVLA on BridgeData 0).",
        low=-10.0,
        high=10.0,
        own=True,
    )
    gripper_open_position: float = parameter(
        "gripper.open_position",
        0.08,
        "Commanded opening (m) for open.",
        low=0.0,
        high=1.0,
        own=True,
    )
    gripper_closed_position: float = parameter(
        "gripper.closed_position",
        0.0,
        "Commanded opening (m) for closed.",
        low=0.0,
        high=1.0,
        own=True,
    )
    gripper_hysteresis: float = parameter(
        "gripper.hysteresis",
        0.1,
        "How far past half way (share of the full travel) the action must go to switch.",
        low=0.0,
        high=0.5,
        live=True,
    )
    gripper_resend_sec: float = parameter(
        "gripper.resend_sec",
        1.0,
        "Interval (s) at which an unchanged gripper command is sent again on the topic; 0: on "
        "change only, as the action always is.",
        low=0.0,
        high=60.0,
        live=True,
    )
    gripper_action: str = parameter(
        "gripper.action",
        "",
        "Action that moves the gripper besides the topic; needs control_msgs; empty: none.",
        choices=("", "gripper_command", "parallel_gripper_command"),
    )
    gripper_action_name: str = parameter(
        "gripper.action_name",
        "gripper_controller/gripper_cmd",
        "Name of the action server where gripper.action is set.",
    )
    gripper_max_effort: float = parameter(
        "gripper.max_effort",
        0.0,
        "Largest effort (N) given with the action; 0: the driver's own.",
        low=0.0,
        high=1000.0,
    )
