"""The shipped robots' grippers against servers that do upstream's arithmetic (docs/real_arm.md)."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from action_msgs.msg import GoalStatus
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState
from support.robots import robot_files

from heisd_ros.nodes import gripper
from heisd_ros.nodes.gripper import GripperOutput
from heisd_ros.robot.declare import with_values
from heisd_ros.robot.robot_file import read_robot_file

SUCCEEDED, ABORTED = GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_ABORTED
CANCELED = GoalStatus.STATUS_CANCELED


class GripperCommand:
    """As control_msgs/action/GripperCommand."""

    class Goal:
        def __init__(self):
            self.command = SimpleNamespace(position=None, max_effort=None)


def done(value):
    future = Future()
    future.set_result(value)
    return future


class Server:
    """Answers every goal at once.

    Attributes:
        width: Opening to which the last goal that was carried out led, m.
        goals: How many came.
        blocked: Width at which an object stops the fingers, m.
    """

    def __init__(self):
        self.width, self.goals, self.blocked, self.accepts = None, 0, 0.0, True
        self.closed = False

    def server_is_ready(self):
        return True

    def destroy(self):
        self.closed = True

    def send_goal_async(self, goal):
        self.goals += 1
        status, stalled = self.carry_out(goal.command) if self.accepts else (None, False)
        answer = SimpleNamespace(status=status, result=SimpleNamespace(stalled=stalled))
        handle = SimpleNamespace(accepted=self.accepts, get_result_async=lambda: done(answer))
        return done(handle)

    def carry_out(self, command):
        raise NotImplementedError


class Franka(Server):
    """franka_gripper: twice the position is the width; beyond what homing found it aborts."""

    max_width, epsilon = 0.0796, 0.005

    def carry_out(self, command):
        wanted = 2 * command.position
        if wanted > self.max_width or wanted < 0.0:
            return ABORTED, False
        self.width = max(wanted, self.blocked)
        assert command.max_effort > 0.0  # it grasps with this force
        return (SUCCEEDED if self.width - wanted <= self.epsilon else ABORTED), False


class Angle(Server):
    """A joint's angle, 0 open: the controller of ros2_robotiq_gripper, the driver of xarm_ros2."""

    def __init__(self, closed, stroke):
        super().__init__()
        self.angle_closed, self.stroke = closed, stroke

    def carry_out(self, command):
        assert 0.0 <= command.position <= self.angle_closed + 1e-9
        wanted = (1.0 - command.position / self.angle_closed) * self.stroke
        self.width = max(wanted, self.blocked)
        held = self.width > wanted + 1e-3
        return (ABORTED if held else SUCCEEDED), held


@pytest.fixture
def gripper_of(monkeypatch, world):
    """A robot's gripper as its file says, told by what is not a dry run."""
    module = ModuleType("control_msgs.action")
    module.GripperCommand = GripperCommand
    monkeypatch.setitem(sys.modules, "control_msgs", ModuleType("control_msgs"))
    monkeypatch.setitem(sys.modules, "control_msgs.action", module)
    named = []

    def make(robot, server, **changes):
        monkeypatch.setattr(
            gripper, "ActionClient", lambda node, kind, name: named.append(name) or server
        )
        settings = read_robot_file(robot_files()[robot])
        settings = with_values(settings, {"dry_run": False, **changes})
        return GripperOutput(world.add(Node, "fingers"), settings), settings

    make.named = named
    return make


@pytest.mark.parametrize(
    ("robot", "server", "name"),
    [
        ("fr3", Franka(), "franka_gripper/gripper_action"),
        ("fer", Franka(), "franka_gripper/gripper_action"),
        ("panda", Franka(), "franka_gripper/gripper_action"),
        ("ur5e", Angle(0.7929, 0.085), "robotiq_gripper_controller/gripper_cmd"),
        ("xarm7", Angle(0.85, 0.085), "xarm/xarm_gripper/gripper_action"),
        ("xarm6", Angle(0.85, 0.085), "xarm/xarm_gripper/gripper_action"),
    ],
)
def test_open_opens_and_closed_closes(gripper_of, robot, server, name):
    output, settings = gripper_of(robot, server)
    assert gripper_of.named == [name]
    output.send(settings.gripper.open_position)
    assert server.width == pytest.approx(settings.gripper.open_position, abs=0.003)
    output.send(settings.gripper.closed_position)
    assert server.width == pytest.approx(0.0, abs=1e-9)
    assert not output.failure and server.goals == 2


def test_the_full_width_would_be_aborted(gripper_of):
    server = Franka()
    output, settings = gripper_of("fr3", server, **{"gripper.goal_open": 0.04})
    output.send(settings.gripper.open_position)
    assert server.width is None and "0.04 aborted" in output.failure


def test_a_goal_that_fails_is_sent_again_within_limits_and_said(gripper_of, capfd):
    server = Franka()
    server.blocked = 0.04
    output, _ = gripper_of("fr3", server)
    for _ in range(10):  # as the node says it again, while nothing else is wanted
        output.send(0.0)
    assert server.goals == output.failures == 3
    said = capfd.readouterr().err
    assert said.count("aborted") == 3 and "sent again, 1 left" in said and "not sent again" in said
    output.send(0.08)
    assert server.goals == 4 and not output.failure
    output.send(0.0)
    assert server.goals == 5 and output.failure


def test_a_refused_goal_counts_as_a_failure(gripper_of):
    server = Franka()
    server.accepts = False
    output, _ = gripper_of("fr3", server)
    output.send(0.08)
    assert "refused" in output.failure
    server.accepts = True
    output.send(0.08)
    assert not output.failure and server.width == pytest.approx(0.078)


def test_fingers_that_an_object_stops_hold_it(gripper_of):
    server = Angle(0.7929, 0.085)
    server.blocked = 0.03
    output, _ = gripper_of("ur5e", server)
    output.send(0.0)
    output.send(0.0)
    assert server.width == 0.03 and server.goals == 1 and not output.failure


def test_what_became_of_an_older_goal_does_not_matter(gripper_of):
    server, answers = Franka(), []
    server.send_goal_async = lambda goal: answers.append(Future()) or answers[-1]
    output, _ = gripper_of("fr3", server)
    output.send(0.08)
    output.send(0.0)
    refused = SimpleNamespace(accepted=False)
    answers[0].set_result(refused)
    assert not output.failure
    output.close()
    answers[1].set_result(refused)
    assert not output.failure and server.closed


def test_a_piper_is_told_by_the_position_of_a_joint(gripper_of, world):
    heard = []
    world.add(Node, "driver").create_subscription(
        JointState, "/fingers/output/gripper_joint", heard.append, 10
    )
    output, settings = gripper_of("piper", None)
    world.spin_until(lambda: heard, "a command", lambda: output.send(0.05))
    assert settings.gripper.action == "joint_state" and not gripper_of.named
    # agx_arm_ros moves the joints that a message names, and no other.
    assert list(heard[0].name) == ["gripper"]
    assert (heard[0].position[0], heard[0].effort[0]) == (0.05, 1.0)
