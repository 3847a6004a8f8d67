"""Packages that a wheel installation does not have, with stand-ins where they are asked for."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from rclpy.clock import Clock
from rclpy.task import Future
from std_srvs.srv import SetBool

from heisd_ros.errors import MissingPackageError
from heisd_ros.nodes import gripper, optional
from heisd_ros.nodes.gripper import GripperOutput
from heisd_ros.nodes.servo import ServoSetup
from heisd_ros.robot.declare import with_values
from heisd_ros.robot.parameters import VlaNodeParameters

DEFAULTS = VlaNodeParameters()


class GripperCommand:
    """As control_msgs/action/GripperCommand."""

    class Goal:
        def __init__(self):
            self.command = SimpleNamespace(position=None, max_effort=None)


class ParallelGripperCommand:
    """As control_msgs/action/ParallelGripperCommand."""

    class Goal:
        command = None


class ServoCommandType:
    """As moveit_msgs/srv/ServoCommandType."""

    class Request:
        JOINT_JOG, TWIST, POSE = 0, 1, 2
        command_type = 0


@pytest.fixture
def installed(monkeypatch):
    """Both packages, as far as they are used."""
    for package, room, kinds in (
        ("control_msgs", "action", [GripperCommand, ParallelGripperCommand]),
        ("moveit_msgs", "srv", [ServoCommandType]),
    ):
        module = ModuleType(f"{package}.{room}")
        for kind in kinds:
            setattr(module, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
        monkeypatch.setitem(sys.modules, module.__name__, module)


def needing(gripper_action, servo_node):
    return with_values(DEFAULTS, {"gripper.action": gripper_action, "servo.node": servo_node})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gripper_command", ""), "'gripper.action' is 'gripper_command', which needs Gripper"),
        (("parallel_gripper_command", ""), "ros-<distro>-control-msgs"),
        (("", "/servo_node"), "'servo.node' is '/servo_node', which needs ServoCommandType"),
    ],
)
def test_a_package_that_is_missing_is_named(monkeypatch, arguments, message):
    for package in ("control_msgs", "moveit_msgs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=message):
        optional.check(needing(*arguments))
    optional.check(needing("", ""))
    optional.check(with_values(needing("", "/servo_node"), {"servo.setup": "start"}))


def test_an_installed_package_too_old_for_the_action_is_named(installed, monkeypatch):
    monkeypatch.delattr(sys.modules["control_msgs.action"], "ParallelGripperCommand")
    optional.check(needing("gripper_command", "/servo_node"))
    with pytest.raises(MissingPackageError, match="needs ParallelGripperCommand"):
        optional.check(needing("parallel_gripper_command", ""))


class Node:
    """Makes clients that a test answers."""

    def get_clock(self):
        return Clock()

    def __init__(self):
        self.clients, self.warnings, self.voices = [], [], []

    def create_client(self, kind, name):
        client = SimpleNamespace(
            kind=kind, srv_name=name, ready=False, asked=[], answer=None, destroyed=False
        )
        client.service_is_ready = lambda: client.ready

        def call_async(request):
            client.asked.append(request)
            client.done = False
            return SimpleNamespace(done=lambda: client.done, result=lambda: client.answer)

        client.call_async = call_async
        self.clients.append(client)
        return client

    def get_publishers_info_by_topic(self, topic):
        assert topic == "/servo_node/status"
        return [SimpleNamespace(endpoint_gid=[voice]) for voice in self.voices]

    def destroy_client(self, client):
        client.destroyed = True

    def get_logger(self):
        return SimpleNamespace(warning=lambda text, **options: self.warnings.append(text))


@pytest.mark.parametrize(("interface", "command_type"), [("twist", 1), ("pose", 2)])
def test_servo_is_switched_then_unpaused_and_the_arm_held_until_then(
    installed, interface, command_type
):
    node = Node()
    asked = {"servo.node": "/servo_node/", "command.interface": interface}
    servo = ServoSetup(node, with_values(DEFAULTS, asked))
    switch, unpause = node.clients
    assert (switch.srv_name, unpause.srv_name) == (
        "/servo_node/switch_command_type",
        "/servo_node/pause_servo",
    )
    assert "switch_command_type" in str(servo.problem()) and not switch.asked
    switch.ready = unpause.ready = True
    node.voices = [1]
    assert servo.problem() and switch.asked[0].command_type == command_type
    assert servo.problem() and len(switch.asked) == 1  # asked once, and not waited for
    answer(switch, False)
    assert "refused" in str(servo.problem()) and len(switch.asked) == 2
    answer(switch, True)
    assert servo.problem() and unpause.asked == [SetBool.Request(data=False)]
    answer(unpause, True)
    assert servo.problem() is None
    servo.close()
    assert switch.destroyed and unpause.destroyed


def answer(client, success):
    client.done, client.answer = True, SimpleNamespace(success=success)


@pytest.mark.parametrize("killed", [True, False])
def test_a_servo_that_was_restarted_is_asked_again(installed, killed):
    node = Node()
    servo = ServoSetup(node, with_values(DEFAULTS, {"servo.node": "/servo_node"}))
    switch, unpause = node.clients
    switch.ready = unpause.ready = True
    node.voices = [1]
    for client in node.clients:
        servo.problem()
        answer(client, True)
    assert servo.problem() is None and servo.problem() is None
    if killed:  # DDS has not yet given up the old one
        node.voices = [1, 2]
    else:
        node.voices, switch.ready = [], False
        assert "switch_command_type" in str(servo.problem()) and len(switch.asked) == 1
        node.voices, switch.ready = [2], True
    assert servo.problem() and len(switch.asked) == 2
    for client in node.clients:
        answer(client, True)
        servo.problem()
    node.voices = [2]  # the old one is given up now: no reason to ask
    assert servo.problem() is None and len(switch.asked) == 2


def test_without_servo_or_in_a_dry_run_nobody_is_asked(installed):
    for changes in ({}, {"servo.node": "/servo_node", "dry_run": True}):
        node = Node()
        assert ServoSetup(node, with_values(DEFAULTS, changes)).problem() is None
        assert not node.clients


@pytest.fixture
def gripper_parts(installed, monkeypatch):
    """What was published, and a client whose goals are kept."""
    published, goals = [], []
    client = SimpleNamespace(ready=True, destroy=lambda: None)

    def send(goal):
        goals.append(goal)
        return Future()  # of a server that does not answer

    client.send_goal_async = send
    client.server_is_ready = lambda: client.ready
    topic = SimpleNamespace(publish=published.append, close=lambda timeout_sec: True)
    monkeypatch.setattr(gripper, "ActionClient", lambda node, kind, name: client)
    monkeypatch.setattr(gripper, "command_publisher", lambda *arguments: topic)
    return published, goals, client


def test_a_gripper_is_told_by_topic_always_and_by_action_where_asked_for(gripper_parts):
    published, goals, client = gripper_parts
    GripperOutput(Node(), DEFAULTS).send(0.08)
    assert [message.data for message in published] == [0.08] and not goals

    settings = with_values(
        DEFAULTS, {"gripper.action": "gripper_command", "gripper.max_effort": 20.0}
    )
    output = GripperOutput(Node(), settings)
    output.send(0.02)
    assert (goals[0].command.position, goals[0].command.max_effort) == (0.02, 20.0)
    assert published[-1].data == 0.02
    output.send(0.02)  # once more on the topic; a goal would start a new grasp
    assert len(published) == 3 and len(goals) == 1

    output = GripperOutput(
        Node(), with_values(settings, {"gripper.action": "parallel_gripper_command"})
    )
    output.send(0.03)
    goal = goals[1].command
    assert (list(goal.name), list(goal.position), list(goal.effort)) == (
        ["panda_finger_joint1"],
        [0.03],
        [20.0],
    )
    client.ready = False
    node = Node()
    output = GripperOutput(node, settings)
    output.send(0.04)
    assert len(goals) == 2 and "gripper_controller/gripper_cmd" in node.warnings[0]
    client.ready = True
    output.send(0.04)
    assert len(goals) == 3


class Goal:
    """The handle of a goal that a server took or not."""

    def __init__(self, accepted):
        self.accepted, self.cancelled = accepted, 0

    def cancel_goal_async(self):
        self.cancelled += 1

    def get_result_async(self):
        return Future()  # never


@pytest.mark.parametrize("answered_first", [True, False])
@pytest.mark.parametrize("accepted", [True, False])
def test_a_gripper_is_stopped_though_its_server_has_not_answered_yet(
    gripper_parts, answered_first, accepted
):
    _, goals, client = gripper_parts
    sent, goal = Future(), Goal(accepted)

    def send(request):
        goals.append(request)
        return sent

    client.send_goal_async = send
    output = GripperOutput(Node(), with_values(DEFAULTS, {"gripper.action": "gripper_command"}))
    output.cancel()  # nothing was sent
    output.send(0.02)
    steps = [lambda: sent.set_result(goal), output.cancel]
    for step in steps if answered_first else reversed(steps):
        step()
    output.cancel()
    assert goal.cancelled == int(accepted)
    output.send(0.02)
    assert len(goals) == 2, "after a stop the gripper is told again"
