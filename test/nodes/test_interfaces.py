"""The ways to command an arm, without ROS running."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from scipy.spatial.transform import Rotation
from support.tree import ROOT

from heisd_ros.kinematics.pose import Pose
from heisd_ros.nodes import interfaces
from heisd_ros.nodes.interfaces import (
    DeltaInterface,
    JointInterface,
    Outgoing,
    PoseInterface,
    TwistInterface,
)
from heisd_ros.robot.declare import with_values
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.topic_parameters import INTERFACES, TopicParameters

TICK = 0.02
DEFAULTS = VlaNodeParameters()
STAMP = Time(sec=7)
HOME = Pose([0.4, 0.1, 0.5], Rotation.from_euler("xyz", [3.0, 0.1, 0.4]).as_matrix())


class Record(list):
    """A topic that keeps what is sent."""

    publish = list.append

    def close(self, timeout_sec):
        return True


@pytest.fixture
def sent(monkeypatch):
    record = Record()
    monkeypatch.setattr(interfaces, "command_publisher", lambda *arguments: record)
    return record


def command(twist=(0,) * 6, measured=HOME, action=None, held=False, at_rest=False):
    return Outgoing(np.array(twist, float), measured, action, held, at_rest, STAMP)


def moved(pose, x):
    return Pose(np.add(pose.position, (x, 0, 0)), pose.rotation)


def place(message):
    p = message.pose.position
    return [p.x, p.y, p.z]


def test_a_twist_is_in_si_units_or_in_shares_of_the_scales_of_servo(sent):
    TwistInterface(None, DEFAULTS).send(command([0.1, 0, 0, 0, 0, 0.4]))
    shares = {
        "command.units": "unitless",
        "command.max_linear_speed": 0.4,
        "command.max_angular_speed": 0.8,
        "command.unitless_linear": 0.4,
        "command.unitless_angular": 0.8,
    }
    unitless = with_values(DEFAULTS, shares)
    TwistInterface(None, unitless).send(command([0.1, 0, 0, 0, 0, 0.4]))
    assert [(m.twist.linear.x, m.twist.angular.z) for m in sent] == [(0.1, 0.4), (0.25, 0.5)]
    assert sent[0].header.frame_id == "panda_link0" and sent[0].header.stamp == STAMP


def test_a_twist_along_the_tip_is_turned_there_and_a_halt_keeps_its_axes(sent):
    along_tip = with_values(DEFAULTS, {"command.frame_id": "panda_hand_tcp"})
    interface = TwistInterface(None, along_tip)
    twist = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    interface.send(command(twist))
    interface.send(command(twist, measured=None, held=True))
    for message in sent:
        linear = message.twist.linear
        expected = HOME.rotation.T @ twist[:3]
        np.testing.assert_allclose([linear.x, linear.y, linear.z], expected)


def test_a_pose_starts_where_the_arm_is_and_moves_with_the_twist(sent):
    interface = PoseInterface(None, DEFAULTS, TICK)
    interface.send(command([0.1, 0, 0, 0, 0, 0.5]))
    interface.send(command([0.1, 0, 0, 0, 0, 0.5]))
    np.testing.assert_allclose(place(sent[0]), moved(HOME, 0.002).position)
    np.testing.assert_allclose(place(sent[1]), moved(HOME, 0.004).position)
    q = sent[1].pose.orientation
    turned = Rotation.from_quat([q.x, q.y, q.z, q.w]) * Rotation.from_matrix(HOME.rotation).inv()
    np.testing.assert_allclose(turned.as_rotvec(), [0, 0, 0.02], atol=1e-9)


def test_a_target_is_kept_through_holds_whatever_is_measured(sent):
    """An arm that sags below its target is not told to sag further."""
    interface = PoseInterface(None, DEFAULTS, TICK)
    for _ in range(5):
        interface.send(command([0.5, 0, 0, 0, 0, 0]))
    interface.send(command([0.1, 0, 0, 0, 0, 0], held=True))  # while stopping
    for x in (0.04, 0.03):
        interface.send(command(measured=moved(HOME, x), held=True, at_rest=True))
    interface.send(command([0.1, 0, 0, 0, 0, 0], measured=moved(HOME, 0.03)))
    expected = [*(0.01 * np.arange(1, 6)), *[0.052] * 3, 0.054]
    np.testing.assert_allclose(np.array([place(m) for m in sent])[:, 0], 0.4 + np.array(expected))
    lead = interface.lead(moved(HOME, 0.03))
    np.testing.assert_allclose(lead.offset, [0.024, 0, 0, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(interface.position(HOME), moved(HOME, 0.054).position)


def test_a_target_moves_by_the_motion_that_is_given(sent):
    interface = PoseInterface(None, DEFAULTS, TICK)
    interface.send(replace(command([0.1] * 6), motion=np.array([0, 0.003, 0, 0, 0, 0])))
    np.testing.assert_allclose(place(sent[0]), HOME.position + np.array([0, 0.003, 0]))


@pytest.mark.parametrize("axis", "xyz")
def test_the_quaternion_of_a_target_stays_on_one_side(sent, axis):
    interface = PoseInterface(None, DEFAULTS, TICK)
    for i in range(400):
        around = Rotation.from_euler(axis, i * 0.02) * Rotation.from_matrix(HOME.rotation)
        turning = np.zeros(6)
        turning["xyz".index(axis) + 3] = 1.0
        interface.send(command(turning, Pose(HOME.position, around.as_matrix())))
    q = np.array([[getattr(m.pose.orientation, name) for name in "xyzw"] for m in sent])
    assert (np.sum(q[1:] * q[:-1], axis=1) > 0.99).all()


def test_nothing_is_sent_before_it_is_known_where_the_arm_is(sent):
    interface = PoseInterface(None, DEFAULTS, TICK)
    interface.send(command(measured=None, held=True, at_rest=True))
    assert not sent
    interface.send(command(held=True, at_rest=True))
    np.testing.assert_allclose(place(sent[0]), HOME.position)
    interface.send(command(measured=None, held=True, at_rest=True))
    np.testing.assert_allclose(place(sent[1]), HOME.position)


def test_an_action_is_sent_once_as_it_is_and_a_stop_in_words(sent):
    interface = DeltaInterface(None, DEFAULTS, 0.05)
    action = np.arange(7.0)
    interface.send(command([9.0] * 6, action=action))
    interface.send(command([9.0] * 6))
    interface.send(command(held=True))
    assert len(sent) == 2
    assert sent[0].action.tolist() == action.tolist() and not sent[0].stop
    assert sent[0].rotation == "rotation_vector" and sent[0].duration == 0.05
    assert sent[1].stop and not len(sent[1].action)


def test_actions_that_come_faster_than_their_step_do_not_add_up(sent):
    """At 60 Hz every third one of 20 Hz is sent, and none of 20 Hz with jitter is left out."""
    for elapsed, share in (([1 / 60] * 600, 1 / 3), ([0.05, 0.03, 0.07] * 60, 1.0)):
        del sent[:]
        interface = DeltaInterface(None, DEFAULTS, 0.05)
        answers = [
            interface.send(replace(command(action=np.ones(7)), elapsed_sec=seconds))
            for seconds in elapsed
        ]
        assert len(sent) == pytest.approx(share * len(elapsed), abs=1)
        assert [not words for words in answers].count(True) == len(sent)
    interface.send(replace(command(held=True), elapsed_sec=0.0))
    assert sent[-1].stop


def joints_of(interface, message):
    given = {"command.interface": interface, "command.joint_message": message}
    return JointInterface(None, with_values(DEFAULTS, given), TICK)


def test_joints_are_sent_in_the_order_of_their_names(sent):
    velocities, target = np.arange(7.0), np.arange(7.0) / 10
    order = replace(command(), joints=velocities, target=target)
    for interface in ("joint_velocity", "joint_position"):
        for message in ("array", "trajectory"):
            joints_of(interface, message).send(order)
    speeds, first, places, second = sent
    assert list(speeds.data) == velocities.tolist() and list(places.data) == target.tolist()
    assert first.joint_names == second.joint_names == list(DEFAULTS.robot.joint_names)
    for trajectory, numbers in (
        (first, ("velocities", velocities)),
        (second, ("positions", target)),
    ):
        (point,) = trajectory.points
        assert list(getattr(point, numbers[0])) == numbers[1].tolist()
        # joint_trajectory_controller refuses a last point with both, and begins at once.
        assert len(point.positions) + len(point.velocities) == 7
        assert (trajectory.header.stamp, point.time_from_start.nanosec) == (Time(), 20_000_000)


def test_no_positions_are_sent_before_the_arms_are_known(sent):
    still = replace(command(measured=None, held=True, at_rest=True), joints=np.zeros(7))
    joints_of("joint_position", "array").send(still)
    assert not sent
    joints_of("joint_velocity", "array").send(still)
    assert list(sent[0].data) == [0.0] * 7


@pytest.mark.parametrize("name", INTERFACES)
def test_an_interface_is_listed_in_four_files(name, monkeypatch):
    """Its kind and its topic in `topic_parameters`, its class, the launch file and the policy."""
    topics = []
    monkeypatch.setattr(
        interfaces, "command_publisher", lambda node, kind, topic, dry: topics.append(topic)
    )
    settings = with_values(DEFAULTS, {"command.interface": name})
    interfaces.make_interface(None, settings, TICK, TICK)
    assert topics == [f"~/output/{name}"]
    usual = getattr(TopicParameters(), name, None)  # the launch files leave a delta where it is
    policy = (ROOT / "config" / "sros2" / "policy.xml").read_text(encoding="utf-8")
    assert f"<topic>{usual or topics[0]}</topic>" in policy
    launch = (ROOT / "launch" / "real_arm.launch.py").read_text(encoding="utf-8")
    assert (f'"{name}": ("{topics[0]}", "{usual}")' in launch) == (usual is not None)
