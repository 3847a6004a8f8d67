"""Parameters of the simulated arm, each declared once, here."""

from __future__ import annotations

from dataclasses import dataclass

from heisd_ros.kinematics.robots import PANDA_BASE
from heisd_ros.robot.declare import Parameters, parameter, validate


@dataclass(frozen=True)
class SimArmParameters(Parameters):
    """Settings of `sim_arm_node`.

    `suite`, `task_index` and `init_state` may be set at any time for the next episode.

    Raises:
        ValueError: A value is not accepted; the message names the parameter.
    """

    suite: str = parameter("libero_spatial", "LIBERO suite of the next episode.")
    task_index: int = parameter(
        0, "Task of the suite, from 0, of the next episode.", low=0, high=1000
    )
    init_state: int = parameter(
        40,
        "Initial state of the task, from 0, of the next episode; 40 to 49 are held out from "
        "training.",
        low=0,
        high=1000,
    )
    image_size: int = parameter(
        128, "Height and width of the camera images, pixels.", low=16, high=2048, read_only=True
    )
    lockstep: bool = parameter(
        False,
        "Advance by one step when a command arrives that answers the newest observation, and "
        "never without; false: 20 steps a second in real time.",
        read_only=True,
    )
    lockstep_timeout_sec: float = parameter(
        0.25,
        "Least time (s) without a command after which the observation is published again; twice as "
        "long as the last command took, up to 5 s.",
        low=0.01,
        high=60.0,
        read_only=True,
    )
    command_timeout_sec: float = parameter(
        0.25,
        "Age (s, steady clock) of the newest twist from which the arm holds still, in real time.",
        low=0.01,
        high=60.0,
        read_only=True,
    )
    frame_id: str = parameter(
        PANDA_BASE, "Frame of the twists; one in another frame is refused.", read_only=True
    )
    gripper_open_position: float = parameter(
        0.08,
        "Opening (m) of the open gripper; a command above half of it opens, else it closes.",
        low=0.001,
        high=1.0,
        read_only=True,
    )

    def __post_init__(self) -> None:
        validate(self)
