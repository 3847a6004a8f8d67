"""Inputs that cannot be, over real DDS: the arm is held by name, and stays in its box meanwhile."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from support.cell import LIMITS, Cell
from support.drive import SETTINGS, SUCCESS, drives
from support.fake_scene import REST
from support.ros import joint_state

from heisd_ros.nodes.vla_node import VlaNode

WALL, SLACK_M = LIMITS["workspace.x_max"], 0.005
TO_THE_WALL, AWAY = [1.0, 0, 0, 0, 0, 0, -1.0], [-0.2, 0, 0, 0, 0, 0, -1.0]


@pytest.fixture
def start(world, checkpoint, record_property):
    """Starts a cell whose arm is moved, with further parameters of the node."""
    yield from drives(world, checkpoint, record_property)


def send_to_the_wall(drive):
    """From now on the model says: straight ahead, at the limit of the speed."""

    drive.decoder.after = lambda result: result.action.__setitem__(slice(7), TO_THE_WALL)


def send_back(drive):
    """And from now on: away from the wall."""
    drive.decoder.after = lambda result: result.action.__setitem__(slice(7), AWAY)


def furthest(cell):
    return max(tip[0] for tip in cell.tips)


def frozen(cell, held, noise):
    """Joint states in which some joints do not change any more but for noise."""
    was, ticks = cell._q.copy(), itertools.count()

    def make(stamp):
        q = np.where(held, was + noise * (next(ticks) % 2), cell._q)
        return joint_state(q, None, stamp=stamp)

    return make


@pytest.mark.parametrize(
    ("held", "noise"),
    [([True] * 7, 0.0), ([True] * 7, 1e-6), ([True] * 6 + [False], 1e-6), (np.eye(7)[3] > 0, 0.0)],
    ids=["all", "all_but_for_noise", "six_of_seven", "the_elbow"],
)
def test_encoders_that_freeze_do_not_let_the_arm_out(start, held, noise):
    drive = start()
    cell, good = drive.cell, drive.cell.joints_of
    cell.joints_of = frozen(cell, held, noise)
    send_to_the_wall(drive)
    drive.until(lambda: cell.telemetry[-1].reason.startswith("frozen_joint_states"), "the hold")
    drive.until(lambda: not cell.moves(), "a stand")
    assert furthest(cell) <= WALL + SLACK_M
    cell.joints_of = good
    send_back(drive)
    drive.goes_on()


def test_an_arm_that_is_not_seen_to_follow_is_held_by_name(start):
    drive = start({"input.follow_distance_m": 0.04, "input.follow_sec": 0.3})
    cell = drive.cell
    cell.joints_of = frozen(cell, [True] * 7, 3e-4)  # too much noise for joints that stand still
    send_to_the_wall(drive)
    drive.until(lambda: cell.telemetry[-1].reason.startswith("not_following"), "the hold")
    assert "m along x" in cell.telemetry[-1].reason and furthest(cell) <= WALL + SLACK_M


def test_a_second_source_of_joint_states_is_named(world, start):
    drive = start()
    other = world.add(Node, "joint_state_publisher")
    publisher = other.create_publisher(JointState, "/vla_node/input/joint_states", 1)
    publish = drive.cell.publish

    def both():
        publish()
        publisher.publish(joint_state(REST * 0.0 + 0.05, stamp=other.get_clock().now().to_msg()))

    drive.cell.publish = both
    cell = drive.cell
    drive.until(lambda: cell.telemetry[-1].reason.startswith("bad_joint_states"), "the hold")
    drive.until(lambda: "/joint_state_publisher" in cell.telemetry[-1].reason, "its name")
    assert "/bench" in cell.telemetry[-1].reason
    at = len(cell.heard)
    drive.until(lambda: not cell.moves(), "a stand")
    drive.wait(1.0)
    assert not cell.moves() and len(cell.heard) > at  # no good message between sets it going
    cell.publish = publish
    drive.goes_on()


def test_a_gripper_may_have_a_publisher_of_its_own(world, start):
    drive = start()
    cell = drive.cell

    def arm_alone(stamp):
        message = joint_state(cell._q, cell._dq, stamp=stamp)
        for name in ("name", "position", "velocity"):
            setattr(message, name, getattr(message, name)[: len(REST)])
        return message

    cell.joints_of = arm_alone
    other = world.add(Node, "gripper")
    publisher = other.create_publisher(JointState, "/vla_node/input/joint_states", 1)
    publish = cell.publish

    def both():
        publish()
        message = joint_state(stamp=other.get_clock().now().to_msg())
        for name in ("name", "position", "velocity"):
            setattr(message, name, getattr(message, name)[len(REST) :])
        publisher.publish(message)

    cell.publish = both
    drive.goes_on()
    held = len(cell.holds())
    drive.wait(1.0)
    assert len(cell.holds()) == held


def test_without_a_clock_nothing_is_commanded(world, checkpoint):
    cell = world.add(Cell)
    settings = {"model.path": str(checkpoint), **SETTINGS, "use_sim_time": True}
    node = world.add(VlaNode, parameters={**settings, "input.max_stamp_age_sec": 0.0})
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    world.spin_until(lambda: len(cell.holds()) > 5, "holds", cell.publish)
    assert set(cell.holds()) == {"no_clock"} and not cell.moves()
    assert "/clock" in cell.telemetry[-1].reason
    clock = cell.create_publisher(Clock, "/clock", 1)

    def tick():
        message = Clock()
        message.clock.sec = int(time.monotonic())
        clock.publish(message)
        cell.publish()

    world.spin_until(cell.steps, "a step", tick)
