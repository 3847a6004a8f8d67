"""The opening of a gripper, from finger joints in metres and from an angle."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.joint_states import FingerTravel, JointStateReader
from heisd_ros.kinematics.robots import PANDA_BASE, PANDA_JOINTS, PANDA_TIP, panda_urdf

ARM = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS, PANDA_BASE)


def opening(positions, travel=None):
    reader = JointStateReader(ARM, list(positions), travel=travel)
    names = [*PANDA_JOINTS, *positions]
    message = SimpleNamespace(
        name=names, position=[0.0] * len(PANDA_JOINTS) + list(positions.values()), velocity=[]
    )
    return reader.read(message).gripper_opening


def test_distances_add_up_whatever_their_sign():
    assert opening({"left": 0.03, "right": -0.02}) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("travel", "position", "expected"),
    [
        (FingerTravel(0.7929, 0.0, 0.0, 0.085), 0.0, 0.085),  # Robotiq: 0 is open
        (FingerTravel(0.7929, 0.0, 0.0, 0.085), 0.7929, 0.0),
        (FingerTravel(0.85, 0.0, 0.0, 0.085), 0.425, 0.0425),  # xArm, half way
        (FingerTravel(0.0, 1.7, 0.01, 0.085), 1.7, 0.085),  # SO-101: 0 is closed
    ],
)
def test_an_angle_tells_the_opening(travel, position, expected):
    assert opening({"knuckle": position}, travel) == pytest.approx(expected)


def test_knuckles_that_mirror_each_other_tell_it_once():
    travel = FingerTravel(0.8, 0.0, 0.0, 0.085)
    assert opening({"left": 0.4, "right": 0.4}, travel) == pytest.approx(0.0425)
