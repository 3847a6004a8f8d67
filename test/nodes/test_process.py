"""The nodes as processes: a signal stops the arm first, and the exit code says how it went."""

from __future__ import annotations

import signal

import pytest
from support.process import launch
from support.recorder import numbers
from support.ros import TIMEOUT_SEC, Bench
from support.tiny_vla import INSTRUCTIONS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sends_the_stop_command_last(world, checkpoint, number):
    bench = world.add(Bench)
    process = launch(
        world,
        "heisd_ros.nodes.vla_node",
        autostart="true",
        model__path=checkpoint,
        instruction=INSTRUCTIONS[0],
    )
    try:
        world.spin_until(lambda: len(bench.steps()) >= 3, "steps", bench.publish)
        moving = len(bench.twists)
        process.send_signal(number)
        world.spin_until(lambda: process.poll() is not None, "the end", bench.publish)
    finally:
        process.kill()
    world.spin_for(0.2)
    assert process.returncode == 0, process.stderr.read()
    assert len(bench.twists) > moving and numbers(bench.twists[-1]) == [0.0] * 6


@pytest.mark.parametrize(
    ("module", "parameters", "message"),
    [
        ("vla_node", {"autostart": "true", "model__path": "/nowhere"}, "/nowhere"),
        ("sim_arm_node", {"suite": "libero_nothing"}, "libero_nothing"),
        ("sim_arm_node", {"image_size": "1"}, "image_size"),
    ],
)
def test_what_cannot_start_says_so_and_ends(world, module, parameters, message):
    process = launch(world, f"heisd_ros.nodes.{module}", **parameters)
    _, errors = process.communicate(timeout=TIMEOUT_SEC)
    assert process.returncode == 1 and message in errors
