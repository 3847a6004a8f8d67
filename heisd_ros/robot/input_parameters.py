"""Parameters of the VLA node for its inputs and their plausibility."""

from __future__ import annotations

from dataclasses import dataclass

from heisd_ros.robot.declare import Parameters, at_least, at_most, at_most_if_any, parameter


@dataclass(frozen=True)
class InputParameters(Parameters):
    """Kinds, ages and plausibility of the inputs. Most may change live."""

    compressed: bool = parameter(
        False, "Subscribe to sensor_msgs/CompressedImage instead of sensor_msgs/Image."
    )
    image_timeout_sec: float = parameter(
        0.5,
        "Age (s, steady clock) from which a camera is stale and the arm is stopped.",
        low=0.02,
        high=30.0,
        looseness=at_most,
    )
    joint_state_timeout_sec: float = parameter(
        0.5,
        "Age (s, steady clock) from which the joint states are stale and the arm is stopped.",
        low=0.02,
        high=30.0,
        looseness=at_most,
    )
    gripper_timeout_sec: float = parameter(
        1.0,
        "Age (s, steady clock) from which a finger joint's position is not known any more, and a "
        "model that takes the gripper's opening stops the arm.",
        low=0.02,
        high=60.0,
    )
    frozen_motion_rad: float = parameter(
        0.2,
        "A camera whose pixels stay identical while a joint moves by more than this (rad) is "
        "frozen, and the arm is stopped; 0: not checked.",
        low=0.0,
        high=6.3,
        looseness=at_most_if_any,
    )
    frozen_images: int = parameter(
        0,
        "A camera whose pixels stay identical for this many pictures while the arm is commanded to "
        "move is frozen, and the arm is stopped; 0: not checked.",
        low=0,
        high=10_000,
        looseness=at_most_if_any,
    )
    frozen_joint_states: int = parameter(
        0,
        "Joint states whose positions stay identical for this many messages while the arm is "
        "commanded to move are frozen, and the arm is stopped; 0: not checked. "
        "input.frozen_joint_sec is the better check.",
        low=0,
        high=100_000,
        looseness=at_most_if_any,
    )
    frozen_joint_sec: float = parameter(
        1.0,
        "Time (s) for which a joint may stand still, within 0.0001 rad, once it was commanded to "
        "move by 0.03 rad, and the whole arm once a joint was by 0.01 rad; then the arm is "
        "stopped; 0: not checked.",
        low=0.0,
        high=60.0,
        looseness=at_most_if_any,
    )
    follow_distance_m: float = parameter(
        0.25,
        "How far (m, along an axis) twists may have led the arm while its measured tip does not go "
        "there for input.follow_sec; then the arm is stopped; 0: not checked.",
        low=0.0,
        high=10.0,
        looseness=at_most_if_any,
    )
    follow_sec: float = parameter(
        2.0,
        "Time (s) in which the measured tip has to go some way to where twists lead.",
        low=0.02,
        high=60.0,
        looseness=at_most,
    )
    joint_margin_rad: float = parameter(
        0.1,
        "How far (rad) beyond its limits, those of joints.limits or the URDF, a joint's position "
        "is believed; one further out stops the arm.",
        low=0.0,
        high=100.0,
        looseness=at_most,
    )
    max_stamp_age_sec: float = parameter(
        1.0,
        "How far (s) a header stamp may differ, at arrival, from the node's clock before the arm "
        "is stopped; 0, or command.stamp 'observation': not checked.",
        low=0.0,
        high=1000.0,
        looseness=at_most_if_any,
    )
    recovery_sec: float = parameter(
        0.5,
        "Time (s) without a bad message from which an input that had one is believed again.",
        low=0.0,
        high=60.0,
        looseness=at_least,
    )


@dataclass(frozen=True)
class SyncParameters(Parameters):
    """Which inputs belong together."""

    tolerance_sec: float = parameter(
        0.03,
        "Largest difference (s) of the header stamps within one observation set; less than the "
        "period of the cameras, or pictures of two moments may be paired.",
        low=0.0,
        high=1.0,
        looseness=at_most,
    )
