"""The VLA node with a checkpoint of OpenVLA's own layout, over real DDS."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rclpy.lifecycle import TransitionCallbackReturn
from support.ros import Bench
from support.tree import ROOT

from heisd_ros.control.policy import load_policy
from heisd_ros.decoding.autoregressive import AutoregressiveDecoder
from heisd_ros.decoding.types import Observation
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.nodes.vla_node import VlaNode

REFERENCE = ROOT / "test" / "data" / "openvla_reference"
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
INSTRUCTION = "put the spoon on the towel"
SETTINGS = {
    "model.path": str(REFERENCE),
    "model.unnorm_key": "bridge_orig",
    "instruction": INSTRUCTION,
}


def test_it_acts_as_the_model_does(world):
    """One view, no proprioception, any instruction: all as the checkpoint says."""
    bench = world.add(Bench, views=("image",))
    world.vla_node(REFERENCE, SETTINGS)
    bench.shade = iter(lambda: 77, None)  # always the same picture
    world.spin_until(lambda: len(bench.steps()) >= 2, "steps", bench.publish)
    vla = load_checkpoint(REFERENCE, statistics_key="bridge_orig")
    image = np.full((32, 32, 3), 77, np.uint8)
    expected = AutoregressiveDecoder(vla).infer(Observation((image,), INSTRUCTION))
    step = bench.steps()[-1]
    assert tuple(step.tokens) == expected.tokens and step.instruction == INSTRUCTION
    np.testing.assert_allclose(step.action, expected.action, rtol=1e-12)


def test_a_protocol_names_the_view_and_turns_the_gripper(world):
    bench = world.add(Bench, views=("image",))
    settings = {**SETTINGS, "model.protocol": "openvla_libero"}
    world.vla_node(REFERENCE, settings)
    world.spin_until(bench.steps, "a step", bench.publish)
    assert bench.steps()[0].action[6] in (-1.0, 1.0)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("model.unnorm_key", "", "no statistics key was chosen; the checkpoint has ['bridge_orig'"),
        ("model.unnorm_key", "fractal", "no statistics 'fractal'; the checkpoint has"),
        ("model.device", "cuda:7", "parameter 'model.device' is 'cuda:7'; accepted here: ['cpu'"),
        ("model.protocol", "warp", "unknown protocol 'warp'; accepted: heisd, openvla_libero"),
    ],
)
def test_what_does_not_fit_fails_configure_in_one_line(world, capfd, setting, value, message):
    node = world.add(VlaNode, parameters={**SETTINGS, setting: value})
    assert node.trigger_configure() == FAILURE
    said = capfd.readouterr().err
    assert message in said and "Traceback" not in said


@pytest.mark.parametrize("when", ["loading", "warming up"])
def test_a_device_without_room_fails_configure_and_may_be_tried_again(world, capfd, when):
    full = True

    def load(parameters):
        if full and when == "loading":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 14.00 GiB")
        policy = load_policy(parameters)
        if full:

            def overflow(observation):
                raise torch.OutOfMemoryError("CUDA out of memory")

            policy.decoder.infer = overflow
        return policy

    node = world.add(VlaNode, load, parameters=SETTINGS)
    assert node.trigger_configure() == FAILURE
    said = capfd.readouterr().err
    assert "cpu has no memory left for the model: free some, take another" in said
    assert "Traceback" not in said
    full = False
    assert node.trigger_configure() == SUCCESS
