"""Nothing that the node calls back can end it: all is guarded, and a fault holds the arm."""

from __future__ import annotations

import ast

import pytest
from heisd_ros.action import Execute
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool
from support.cell import LIMITS, ZERO, Cell
from support.tree import PACKAGE, python_files

from heisd_ros.nodes import guard
from heisd_ros.nodes.guard import GuardedNode
from heisd_ros.nodes.tools.bench_policy import load_free
from heisd_ros.nodes.vla_node import VlaNode

MADE_PAST_THE_GUARD = {"Subscription", "Service", "Timer", "GuardCondition"}


class Guarded(GuardedNode):
    """Keeps its faults."""

    def __init__(self, **kwargs):
        self.faults = []
        super().__init__("vla_node", **kwargs)

    def on_fault(self, where, error):
        self.faults.append((where, str(error)))


@pytest.fixture
def cell(world):
    """A cell whose arm an active node moves; the node is `cell.node`."""
    cell = world.add(Cell, views=("image",))
    settings = {**LIMITS, "instruction": "measure", "command.max_action_age_sec": 10.0}
    settings |= {"input.image_timeout_sec": 10.0, "input.joint_state_timeout_sec": 10.0}
    cell.node = world.add(VlaNode, load_free, parameters=settings)
    cell.node.trigger_configure()
    cell.node.trigger_activate()
    cell.until = lambda condition, what: world.spin_until(condition, what, cell.publish)
    cell.until(lambda: cell.heard and cell.heard[-1].twist != ZERO, "motion")
    return cell


def unguarded(node):
    """What calls back without a guard."""
    calling = [*node.subscriptions, *node.services, *node.timers, *node.guards]
    yield from (part for part in calling if not hasattr(part.callback, "guarded"))
    yield from (part for part in node.waitables if not hasattr(part.execute, "guarded"))
    sets = [*node._on_set_parameters_callbacks, *node._post_set_parameters_callbacks]
    yield from (each for each in sets if not hasattr(each, "guarded"))


def test_every_callback_of_the_node_is_guarded(cell):
    node = cell.node
    kinds = (node.subscriptions, node.services, node.timers, node.guards, node.waitables)
    assert all(list(kind) for kind in kinds), "there is something to guard of every kind"
    assert list(unguarded(node)) == []


def test_nobody_makes_what_calls_back_past_the_node():
    """It is made by methods of rclpy's node, which the guard overrides, and not by hand."""
    for path in (path for path in python_files() if PACKAGE / "nodes" in path.parents):
        parts = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        called = {getattr(p.func, "id", "") for p in parts if isinstance(p, ast.Call)}
        assert not called & MADE_PAST_THE_GUARD, path


@pytest.mark.parametrize("kind", ["subscriptions", "services", "timers", "guards"])
def test_whatever_a_callback_raises_holds_the_arm_by_name(world, cell, kind, monkeypatch):
    def fail(*_):
        raise OverflowError("timestamp out of range")

    node = cell.node
    part = {
        "subscriptions": lambda: next(p for p in node.subscriptions if "joint" in p.topic_name),
        "services": lambda: next(p for p in node.services if "report" in p.srv_name),
        "timers": lambda: node._control._timers[0],  # the watchdog; the last one sends the stop
        "guards": lambda: next(iter(node.guards)),
    }[kind]()
    answer = (guard._refusal,) if kind == "services" else ()
    part.callback = node.guarded("what fails", fail, *answer)
    if kind == "services":
        answer = world.call(SetBool, "/vla_node/report_episode")
        assert not answer.success and "timestamp out of range" in answer.message
    cell.until(lambda: "control_error" in cell.holds(), "a hold")
    reason = cell.telemetry[-1].reason
    assert reason.startswith("control_error: what fails: OverflowError: timestamp out of range")
    cell.until(lambda: cell.heard[-1].twist == ZERO and not cell.moves(), "a stand")
    cell.node.trigger_deactivate()
    assert cell.node._session is not None, "still configured"


def test_what_an_action_raises_is_a_fault_too(world, cell, monkeypatch):
    def fail(*_):
        raise RuntimeError("no such goal")

    client = ActionClient(cell, Execute, "/vla_node/execute")
    cell.until(client.server_is_ready, "the server")
    monkeypatch.setattr(cell.node._execute._server, "_goal_callback", fail)
    client.send_goal_async(Execute.Goal(instruction="go"))
    cell.until(lambda: "control_error" in cell.holds(), "a hold")
    assert "ActionServer: RuntimeError: no such goal" in cell.telemetry[-1].reason
    client.destroy()


def test_a_check_of_parameters_that_fails_refuses_them(world):
    node = world.add(Guarded)

    def fail(parameters):
        raise RuntimeError("no idea")

    node.declare_parameter("speed", 1.0)
    node.add_on_set_parameters_callback(fail)
    node.add_post_set_parameters_callback(fail)
    (result,) = node.set_parameters([Parameter("speed", value=2.0)])
    assert not result.successful and "no idea" in result.reason
    assert node.faults == [("check of parameters", "no idea")]
    assert node.get_parameter("speed").value == 1.0


def test_what_fails_outside_of_a_callback_leaves_the_node_hearing(world, monkeypatch):
    node, heard = world.add(Guarded), []
    subscription = node.create_subscription(JointState, "~/joints", heard.append, 1)
    publisher = world.add(Node, "says").create_publisher(JointState, "/vla_node/joints", 1)
    world.spin_until(publisher.get_subscription_count, "a match")
    take = world.executor._take_subscription

    def broken(entity):
        if entity is subscription:
            monkeypatch.undo()
            raise RuntimeError("cannot be taken")
        return take(entity)

    monkeypatch.setattr(world.executor, "_take_subscription", broken)
    while not heard:
        publisher.publish(JointState())
        guard.spin_once(node, world.executor, 0.05)
    assert node.faults == [("executor", "cannot be taken")]


def test_large_and_malformed_messages_are_refused_unread(world):
    node, heard, refused = world.add(Guarded), [], []
    node.create_bounded_subscription(
        JointState, "~/joints", heard.append, most_bytes=200, refuse=refused.append, qos_profile=9
    )
    publisher = world.add(Node, "says").create_publisher(JointState, "/vla_node/joints", 9)
    world.spin_until(publisher.get_subscription_count, "a match")
    publisher.publish(JointState(name=["joint"] * 100))
    publisher.publish(b"nonsense")
    publisher.publish(JointState(name=["joint"]))
    world.spin_until(lambda: heard, "the good one")
    assert heard[0].name == ["joint"]
    assert "accepted: up to 200" in refused[0] and "malformed" in refused[1]
    assert not node.faults


@pytest.mark.parametrize(
    ("kind", "name", "request_"),
    [
        (
            SetParameters,
            "set_parameters",
            SetParameters.Request(parameters=[ParameterMessage(value=ParameterValue(type=99))]),
        ),
        (GetParameters, "get_parameters", GetParameters.Request(names=["instruction"] * 10_000)),
        (ListParameters, "list_parameters", ListParameters.Request(prefixes=["model"] * 10_000)),
        (
            ChangeState,
            "change_state",
            ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)),
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_and_the_arm_goes_on(
    world, cell, kind, name, request_, capfd
):
    client, done = cell.create_client(kind, f"/vla_node/{name}"), len(cell.steps())
    held = cell.holds()
    cell.until(client.service_is_ready, "the service")
    answer = client.call_async(request_)
    cell.until(answer.done, "an answer")
    assert not getattr(answer.result(), "success", False)
    cell.until(lambda: len(cell.steps()) > done + 5, "more steps")
    assert cell.holds() == held
    assert "refused a request" in capfd.readouterr().err
