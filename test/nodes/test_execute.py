"""The action server over real DDS: how a goal starts, what it tells, and each way it ends."""

from __future__ import annotations

import math

import pytest
from action_msgs.msg import GoalStatus
from heisd_ros.action import Execute
from rclpy.action import ActionClient
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from support.recorder import numbers
from support.ros import Bench
from support.tiny_vla import INSTRUCTIONS

from heisd_ros.nodes.vla_node import VlaNode

SUCCESS = TransitionCallbackReturn.SUCCESS
REPORT = "/vla_node/report_episode"


class Operator:
    """A client of `~/execute`, a cell, and the node between them."""

    def __init__(self, world, checkpoint, activate=True):
        self.world, self.bench = world, world.add(Bench)
        parameters = {"model.path": str(checkpoint), "model.threads": 1}
        self.node = world.add(VlaNode, parameters=parameters)
        assert self.node.trigger_configure() == SUCCESS
        if activate:
            assert self.node.trigger_activate() == SUCCESS
        self.client = ActionClient(self.bench, Execute, "/vla_node/execute")
        self.feedback = []

    def wait(self, condition, what):
        self.world.spin_until(condition, what, self.bench.publish)

    def of(self, future, what):
        self.wait(future.done, what)
        return future.result()

    def send(self, instruction=INSTRUCTIONS[0], timeout_sec=0.0):
        """Sends a goal and returns its handle."""
        self.wait(self.client.server_is_ready, "the server")
        goal = Execute.Goal(instruction=instruction, timeout_sec=timeout_sec)
        return self.of(
            self.client.send_goal_async(goal, lambda m: self.feedback.append(m.feedback)),
            "an answer to the goal",
        )

    def moving(self):
        """Sends a goal and waits until the arm moves for it."""
        handle = self.send()
        assert handle.accepted
        self.wait(lambda: len(self.feedback) >= 3, "feedback")
        return handle

    def result(self, handle):
        """Status and result of a goal, once it has ended."""
        answer = self.of(handle.get_result_async(), "the result")
        return answer.status, answer.result


@pytest.fixture
def operator(world, checkpoint):
    operator = Operator(world, checkpoint)
    yield operator
    operator.client.destroy()


def assert_held(operator):
    operator.wait(lambda: operator.bench.telemetry[-1].hold, "the hold")
    assert operator.bench.telemetry[-1].reason.startswith("no_instruction")
    operator.world.spin_for(0.1)
    assert numbers(operator.bench.twists[-1]) == [0.0] * 6


def test_a_goal_moves_the_arm_says_how_it_goes_and_cancel_stops_it(operator):
    assert operator.node._session.plain_ms > 0.0
    handle = operator.moving()
    operator.wait(lambda: not math.isnan(operator.feedback[-1].metric), "a full window")
    steps = [message for message in operator.feedback if message.source != "hold"]
    assert [message.step for message in steps] == list(range(1, len(steps) + 1))
    assert all(m.source == "autoregressive" and m.reason for m in steps)
    assert all(m.instruction == INSTRUCTIONS[0] and m.speedup > 0.0 for m in steps)
    holds = [message for message in operator.feedback if message.source == "hold"]
    assert all(math.isnan(message.speedup) for message in holds)
    answer = operator.of(handle.cancel_goal_async(), "an answer to the cancel")
    assert len(answer.goals_canceling) == 1
    status, result = operator.result(handle)
    assert (status, result.outcome) == (GoalStatus.STATUS_CANCELED, "cancelled")
    assert result.steps >= len(steps)
    assert_held(operator)
    told = len(operator.feedback)
    operator.world.spin_for(0.2, operator.bench.publish)
    assert len(operator.feedback) == told
    operator.moving()  # and the next goal is taken


def test_a_second_goal_is_rejected_and_the_first_goes_on(operator):
    handle = operator.moving()
    assert not operator.send(INSTRUCTIONS[1]).accepted
    done = len(operator.feedback)
    operator.wait(lambda: len(operator.feedback) > done, "more steps")
    assert operator.feedback[-1].instruction == INSTRUCTIONS[0]
    operator.of(handle.cancel_goal_async(), "the end")


@pytest.mark.parametrize(
    ("instruction", "timeout_sec"),
    [("", 0.0), ("  ", 0.0), ("a\nb", 0.0), ("x" * 10_000, 0.0), ("go", -1.0), ("go", math.nan)],
)
def test_a_goal_that_makes_no_sense_is_rejected(operator, instruction, timeout_sec):
    assert not operator.send(instruction, timeout_sec).accepted


def test_a_goal_is_rejected_unless_active_and_deactivation_ends_it(world, checkpoint):
    operator = Operator(world, checkpoint, activate=False)
    assert not operator.send().accepted
    assert operator.node.trigger_activate() == SUCCESS
    handle = operator.moving()
    assert operator.node.trigger_deactivate() == SUCCESS
    status, result = operator.result(handle)
    assert (status, result.outcome) == (GoalStatus.STATUS_ABORTED, "deactivated")
    assert operator.node.trigger_activate() == SUCCESS
    assert_held(operator)  # the old instruction does not come back with the node
    operator.client.destroy()


def test_a_goal_ends_at_its_timeout(operator):
    handle = operator.send(timeout_sec=0.3)
    status, result = operator.result(handle)
    assert (status, result.outcome) == (GoalStatus.STATUS_ABORTED, "timeout")
    assert_held(operator)


@pytest.mark.parametrize("way", ["topic", "parameter"])
def test_another_instruction_preempts_a_goal_and_is_acted_on(operator, way):
    handle = operator.moving()
    if way == "topic":
        operator.bench.instruction.publish(String(data=INSTRUCTIONS[1]))
    else:
        operator.node.set_parameters([Parameter("instruction", value=INSTRUCTIONS[1])])
    status, result = operator.result(handle)
    assert (status, result.outcome) == (GoalStatus.STATUS_ABORTED, "preempted")
    done = len(operator.bench.steps())
    operator.wait(lambda: len(operator.bench.steps()) > done + 1, "steps")
    assert operator.bench.steps()[-1].instruction == INSTRUCTIONS[1]


def test_an_instruction_that_the_model_does_not_know_ends_the_goal(operator):
    status, result = operator.result(operator.send("dance"))
    assert status == GoalStatus.STATUS_ABORTED
    assert result.outcome.startswith("held: unknown_instruction") and result.steps == 0


def test_a_hold_that_passes_is_told_and_does_not_end_the_goal(operator):
    operator.moving()
    good = operator.bench.image_of["image"]
    operator.bench.image_of["image"] = lambda stamp: None
    operator.wait(lambda: operator.feedback[-1].reason.startswith("stale_image"), "the hold")
    operator.bench.image_of["image"] = good
    step = operator.feedback[-1].step
    operator.wait(lambda: operator.feedback[-1].step > step, "the goal to go on")


def test_a_client_learns_how_episodes_ended_and_the_goal_goes_on(operator):
    world, handle = operator.world, operator.moving()
    assert {(message.episodes, message.episode) for message in operator.feedback} == {(0, "")}
    reports = [
        ("success", lambda: world.call(SetBool, REPORT, SetBool.Request(data=True))),
        ("failure", lambda: world.call(SetBool, REPORT, SetBool.Request(data=False))),
        ("discard", lambda: world.call(Trigger, "/vla_node/discard_episode")),
    ]
    for number, (name, report) in enumerate(reports, 1):
        assert report().success
        operator.wait(lambda n=number: operator.feedback[-1].episodes == n, name)
        assert operator.feedback[-1].episode == name
        step = operator.feedback[-1].step
        operator.wait(lambda s=step: operator.feedback[-1].step > s + 1, "the goal to go on")
        assert (operator.feedback[-1].episodes, operator.feedback[-1].episode) == (number, name)
    operator.of(handle.cancel_goal_async(), "the cancel")
    assert_held(operator)  # from here on no step
    assert world.call(Trigger, "/vla_node/discard_episode").success
    twice = world.call(SetBool, REPORT, SetBool.Request(data=True))
    assert not twice.success and "no control step since the last report" in twice.message
    _, result = operator.result(handle)
    assert (result.episodes, result.episode) == (3, "discard")
    operator.feedback.clear()
    operator.moving()  # another goal starts with none
    assert {message.episodes for message in operator.feedback} == {0}


def test_an_instruction_that_comes_with_the_end_of_a_goal_is_acted_on(operator):
    """Both may be ready in the same moment: the goal's end clears only its own instruction."""
    handle = operator.moving()
    operator.node._execute.end("cancelled")
    operator.node._set_instruction(INSTRUCTIONS[1])
    assert operator.result(handle)[1].outcome == "cancelled"
    done = len(operator.bench.steps())
    operator.wait(lambda: len(operator.bench.steps()) > done + 1, "steps")
    assert operator.bench.steps()[-1].instruction == INSTRUCTIONS[1]
