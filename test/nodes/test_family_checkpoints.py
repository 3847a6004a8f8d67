"""The VLA node with checkpoints of the families whose answers have any length, over real DDS."""

from __future__ import annotations

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from support.ros import Bench
from support.tree import ROOT

from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.types import Observation
from heisd_ros.families.checkpoint import load_checkpoint
from heisd_ros.nodes.vla_node import VlaNode

DATA = ROOT / "test" / "data"
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


def settings_of(family, instruction):
    return {
        "model.path": str(DATA / f"{family}_reference"),
        "model.unnorm_key": "bridge_orig",
        "model.threads": 1,
        "decoding.mode": "last_command",
        "instruction": instruction,
        "command.max_action_age_sec": 30.0,
    }


def started(world, family, instruction):
    bench = world.add(Bench, views=("image",))
    node = world.add(VlaNode, parameters=settings_of(family, instruction))
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


def test_a_state_that_the_node_was_not_told_of_is_refused_at_configure(world, capfd):
    settings = {**settings_of("pi0fast", "lift"), "model.unnorm_key": ""}
    node = world.add(VlaNode, parameters=settings)
    assert node.trigger_configure() == FAILURE
    said = capfd.readouterr().err
    assert "'model.state' is 'tool_down', 7 numbers; the model" in said and "accepted: pose" in said
    assert "Traceback" not in said
