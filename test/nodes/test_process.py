"""The nodes as processes: a signal stops the arm first, and the exit code says how it went."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from heisd_ros.action import Execute
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.action import ActionClient
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


@pytest.mark.parametrize("how", [signal.SIGINT, "shutdown"])
def test_the_client_of_a_goal_learns_that_the_process_ends(world, checkpoint, how):
    bench = world.add(Bench)
    process = launch(world, "heisd_ros.nodes.vla_node", autostart="true", model__path=checkpoint)
    client = ActionClient(bench, Execute, "/vla_node/execute")
    try:
        world.spin_until(client.server_is_ready, "the server", bench.publish)
        world.spin_until(lambda: bench.telemetry, "an active node", bench.publish)
        sent = client.send_goal_async(Execute.Goal(instruction=INSTRUCTIONS[0]))
        world.spin_until(sent.done, "an answer", bench.publish)
        result = sent.result().get_result_async()
        world.spin_until(lambda: bench.steps(), "steps", bench.publish)
        if how == "shutdown":
            kind = Transition(id=Transition.TRANSITION_ACTIVE_SHUTDOWN)
            world.call(ChangeState, "/vla_node/change_state", ChangeState.Request(transition=kind))
        else:
            process.send_signal(how)
        world.spin_until(result.done, "the result")
        world.spin_until(lambda: process.poll() is not None, "the end")
    finally:
        process.kill()
        client.destroy()
    assert result.result().result.outcome == "deactivated"
    assert process.returncode == 0, process.stderr.read()


@pytest.mark.parametrize(
    ("module", "parameters", "message"),
    [
        ("vla_node", {"autostart": "true", "model__path": "/nowhere"}, "/nowhere"),
        ("sim.sim_arm_node", {"suite": "libero_nothing"}, "libero_nothing"),
        ("sim.sim_arm_node", {"image_size": "1"}, "image_size"),
    ],
)
def test_what_cannot_start_says_so_and_ends(world, module, parameters, message):
    process = launch(world, f"heisd_ros.nodes.{module}", **parameters)
    _, errors = process.communicate(timeout=TIMEOUT_SEC)
    assert process.returncode == 1 and message in errors


@pytest.mark.parametrize("autostart", ["true", "false"])
def test_the_transition_shutdown_ends_the_process(world, checkpoint, autostart):
    bench = world.add(Bench)
    process = launch(world, "heisd_ros.nodes.vla_node", autostart=autostart, model__path=checkpoint)
    try:
        kind = Transition.TRANSITION_ACTIVE_SHUTDOWN
        if autostart == "false":
            kind = Transition.TRANSITION_UNCONFIGURED_SHUTDOWN
        else:
            world.spin_until(lambda: bench.telemetry, "an active node", bench.publish)
        request = ChangeState.Request(transition=Transition(id=kind))
        assert world.call(ChangeState, "/vla_node/change_state", request).success
        world.spin_until(lambda: process.poll() is not None, "the end")
    finally:
        process.kill()
    assert process.returncode == 0, process.stderr.read()


def test_the_end_costs_no_time_of_the_interpreter():
    """Who is done does not wait for what others still do, as torn down modules would."""
    code = (
        "import atexit, time\n"
        "from heisd_ros.nodes.process import leave\n"
        "atexit.register(time.sleep, 60)\n"
        "print('said', end='')\n"
        "leave(3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (3, "said")
