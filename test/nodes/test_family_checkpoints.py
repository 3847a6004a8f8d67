"""The VLA node with checkpoints of the families whose answers have any length, over real DDS."""

from __future__ import annotations

import time

import numpy as np
import pytest
from heisd_ros.action import Execute
from rclpy.action import ActionClient
from rclpy.lifecycle import TransitionCallbackReturn
from support.ros import Bench
from support.tree import ROOT

from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.types import Observation
from heisd_ros.families.checkpoint import load_checkpoint
from heisd_ros.nodes.vla_node import VlaNode

DATA = ROOT / "test" / "data"
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


def settings_of(family, instruction, mode="last_command"):
    return {
        "model.path": str(DATA / f"{family}_reference"),
        "model.unnorm_key": "bridge_orig",
        "model.threads": 1,
        "decoding.mode": mode,
        "instruction": instruction,
        "command.max_action_age_sec": 30.0,
    }


def started(world, family, instruction, **settings):
    bench = world.add(Bench, views=("image",))
    node = world.add(VlaNode, parameters=settings_of(family, instruction, **settings))
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    bench.shade = iter(lambda: 77, None)  # always the same picture
    return bench


def test_a_reasoning_model_acts_and_drafts_its_last_answer(world):
    bench = started(world, "ecot", "Close the Drawer")
    world.spin_until(lambda: len(bench.steps()) >= 2, "steps", bench.publish)
    model = load_checkpoint(DATA / "ecot_reference")
    image = np.full((32, 32, 3), 77, np.uint8)
    expected = AutoregressiveDecoder(model).infer(Observation((image,), "Close the Drawer"))
    step = bench.steps()[-1]
    assert tuple(step.tokens) == expected.tokens
    np.testing.assert_allclose(step.action, expected.action, rtol=1e-12)
    assert step.source == "last_command" and step.passes == 1


@pytest.mark.parametrize(
    ("family", "instruction"), [("ecot", "put the spoon on the towel"), ("nora", "lift the pot")]
)
def test_an_answer_that_stands_for_no_action_holds_the_arm(world, family, instruction):
    bench = started(world, family, instruction)
    world.spin_until(lambda: "no_action" in bench.holds(), "no_action", bench.publish)


def test_the_reasoning_is_in_telemetry_and_feedback(world):
    bench = started(world, "ecot", "")
    client = ActionClient(bench, Execute, "/vla_node/execute")
    world.spin_until(client.server_is_ready, "the server", bench.publish)
    feedback = []
    goal = Execute.Goal(instruction="Close the Drawer")
    client.send_goal_async(goal, lambda message: feedback.append(message.feedback))
    world.spin_until(lambda: len(bench.steps()) >= 2, "steps", bench.publish)
    step = bench.steps()[-1]
    world.spin_until(lambda: feedback and feedback[-1].source != "hold", "feedback", bench.publish)
    said = step.reasoning
    assert " PLAN: " in said and " MOVE: " in said and said.isprintable()
    assert said.endswith("ACTION:") and len(said) <= 2000
    assert feedback[-1].reasoning == said
    assert all(not hold.reasoning for hold in bench.telemetry if hold.hold)
    client.destroy()


def test_a_reasoning_is_kept_by_the_counter(world):
    bench = started(world, "ecot", "Close the Drawer", mode="freeze")
    world.spin_until(lambda: len(bench.steps()) >= 6, "steps", bench.publish)
    sources = [step.source for step in bench.steps()[:6]]
    assert sources == ["tags", *["kept"] * 4, "last_command"]
    assert len({tuple(step.tokens) for step in bench.steps()}) == 1  # the picture is the same


def test_after_a_hold_all_of_the_reasoning_is_decoded(world):
    bench = started(world, "ecot", "Close the Drawer", mode="freeze")
    world.spin_until(lambda: len(bench.steps()) >= 2, "steps", bench.publish)
    world.nodes[-1]._control.arm.hold(Hold(HoldReason.OVER_BUDGET, "a test"), time.monotonic_ns())
    told = lambda: any("the arm was held" in step.reason for step in bench.steps())  # noqa: E731
    world.spin_until(told, "a step that thinks", bench.publish)


def test_a_model_that_does_not_reason_refuses_to_keep_it(world, capfd):
    settings = {**settings_of("nora", "lift"), "decoding.mode": "heisd_reason"}
    node = world.add(VlaNode, parameters=settings)
    assert node.trigger_configure() == FAILURE
    said = capfd.readouterr().err
    assert "parameter 'decoding.mode' is 'heisd_reason': reasoning.keep is 'motion'" in said
    assert "hold no reasoning" in said and "Traceback" not in said


def test_a_state_that_the_node_was_not_told_of_is_refused_at_configure(world, capfd):
    settings = {**settings_of("pi0fast", "lift"), "model.unnorm_key": ""}
    node = world.add(VlaNode, parameters=settings)
    assert node.trigger_configure() == FAILURE
    said = capfd.readouterr().err
    assert "'model.state' is 'end_effector', which is 7 numbers; accepted: 'pose'" in said
    assert "Traceback" not in said
