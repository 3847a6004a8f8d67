"""The lifecycle of the VLA node: every transition, again and again, and two nodes in a process."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

import pytest
from lifecycle_msgs.srv import GetState
from rclpy.lifecycle import TransitionCallbackReturn
from rosgraph_msgs.msg import Clock
from support.recorder import numbers
from support.ros import Bench
from support.tiny_vla import INSTRUCTIONS

from heisd_ros.control.policy import load_policy
from heisd_ros.nodes import actuation
from heisd_ros.nodes.vla_node import VlaNode

SUCCESS, ERROR = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.ERROR
CYCLES, WARM = 12, 5
MAX_GROWTH_BYTES = 8 * 2**20
PAGE_BYTES = 4096


def add_node(world, checkpoint, load=load_policy, parameters=None, **kwargs):
    settings = {
        "model.path": str(checkpoint),
        "instruction": INSTRUCTIONS[0],
        "model.threads": 1,
        **(parameters or {}),
    }
    return world.add(VlaNode, load, parameters=settings, **kwargs)


def state(world):
    return world.call(GetState, "/vla_node/get_state").current_state.label


def parts(node):
    """Counts of all that a leak could leave behind."""
    return {
        "publishers": len(list(node.publishers)),
        "subscriptions": len(list(node.subscriptions)),
        "timers": len(list(node.timers)),
        "services": len(list(node.services)),
        "guards": len(list(node.guards)),
        "waitables": len(list(node.waitables)),
        "threads": threading.active_count(),
    }


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def test_cycles_leave_nothing_behind(world, checkpoint):
    decoders = []

    def load(parameters):
        policy = load_policy(parameters)
        decoders.append(weakref.ref(policy.decoder))
        return policy

    bench = world.add(Bench)
    node = add_node(world, checkpoint, load)
    memory, seen = [], []
    for _ in range(CYCLES):
        done = len(bench.steps())
        assert node.trigger_configure() == SUCCESS
        assert node.trigger_activate() == SUCCESS
        world.spin_until(lambda done=done: len(bench.steps()) > done + 1, "steps", bench.publish)
        assert node.trigger_deactivate() == SUCCESS
        assert node.trigger_cleanup() == SUCCESS
        for _ in range(5):  # for two turns an executor holds on to destroyed timers
            world.executor.spin_once(timeout_sec=0.0)
        seen.append(parts(node))
        memory.append(resident_bytes())
    assert all(each == seen[0] for each in seen), seen
    gc.collect()
    assert not [decoder for decoder in decoders if decoder() is not None]
    assert not [thread for thread in threading.enumerate() if thread.name == "inference"]
    # The first cycles fill caches of PyTorch and of the allocator.
    assert memory[-1] - memory[WARM] < MAX_GROWTH_BYTES, [m // 2**10 for m in memory]


@pytest.mark.parametrize("steps", [(), ("configure",), ("configure", "activate")])
def test_shutdown_from_every_state(world, checkpoint, steps):
    bench = world.add(Bench)
    node = add_node(world, checkpoint)
    before = parts(node)
    for step in steps:
        assert getattr(node, f"trigger_{step}")() == SUCCESS
    if "activate" in steps:
        world.spin_until(lambda: len(bench.steps()) >= 2, "steps", bench.publish)
    assert node.trigger_shutdown() == SUCCESS
    assert state(world) == "finalized" and parts(node) == before
    world.spin_for(0.2, bench.publish)
    assert not bench.twists or numbers(bench.twists[-1]) == [0.0] * 6


def test_an_unexpected_error_ends_unconfigured_and_can_be_mended(world, checkpoint, capfd):
    broken = [True]

    def load(parameters):
        if broken:
            raise RuntimeError("the disk is on fire")
        return load_policy(parameters)

    world.add(Bench)
    node = add_node(world, checkpoint, load)
    before = parts(node)
    assert node.trigger_configure() == ERROR
    assert "the disk is on fire" in capfd.readouterr().err
    assert state(world) == "unconfigured" and parts(node) == before
    broken.clear()
    assert node.trigger_configure() == SUCCESS


def test_an_error_at_activation_frees_the_model_and_commands_nothing(world, checkpoint):
    bench = world.add(Bench)
    node = add_node(world, checkpoint)
    before = parts(node)
    assert node.trigger_configure() == SUCCESS
    node._session.motion.reset = None  # not to be called
    assert node.trigger_activate() == ERROR
    assert state(world) == "unconfigured" and node._session is None
    world.spin_for(0.3, bench.publish)
    assert not bench.twists
    assert parts(node)["threads"] == before["threads"]


def test_a_failed_activation_leaves_no_publisher_behind(world, checkpoint, monkeypatch):
    def broken(*_):
        raise RuntimeError("no such servo")

    bench, node = world.add(Bench), add_node(world, checkpoint)
    assert node.trigger_configure() == SUCCESS
    with monkeypatch.context() as patched:
        patched.setattr(actuation, "ServoSetup", broken)
        assert node.trigger_activate() == ERROR
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    world.spin_until(lambda: len(bench.steps()) >= 2, "steps", bench.publish)
    assert node.count_publishers("/vla_node/output/twist") == 1


def test_two_arms_in_one_process_do_not_hear_each_other(world, checkpoint):
    arms = {}
    for name in ("left", "right"):
        bench = world.add(Bench, prefix=f"/{name}", namespace=name)
        node = add_node(world, checkpoint, namespace=name)
        assert node.trigger_configure() == node.trigger_activate() == SUCCESS
        arms[name] = bench
    left, right = arms["left"], arms["right"]
    world.spin_until(lambda: len(left.steps()) >= 3, "steps of the left arm", left.publish)
    assert not right.steps() and set(right.holds()) == {"no_image"}
    assert all(numbers(twist) == [0.0] * 6 for twist in right.twists)
    done = len(left.steps())
    world.spin_until(lambda: len(right.steps()) >= 3, "steps of the right arm", right.publish)
    assert len(left.steps()) <= done + 2  # what was under way, and what waited for joint states


def test_without_a_clock_the_arm_is_held_and_the_watchdog_runs_all_the_same(world, checkpoint):
    bench = world.add(Bench)
    node = add_node(world, checkpoint, parameters={"use_sim_time": True})
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    world.spin_until(lambda: len(bench.holds()) >= 10, "holds", bench.publish)
    assert node.get_clock().now().nanoseconds == 0
    assert set(bench.holds()) == {"no_clock"}
    assert all(numbers(twist) == [0.0] * 6 for twist in bench.twists)


def test_a_clock_that_jumps_back_starts_afresh(world, checkpoint):
    sim_time = {"use_sim_time": True}
    bench = world.add(Bench, parameters=sim_time)
    # Else the stamps of another time, which come before the clock does, hold the arm for a moment.
    settings = {**sim_time, "input.max_stamp_age_sec": 0.0}
    node = add_node(world, checkpoint, parameters=settings)
    clock = bench.create_publisher(Clock, "/clock", 1)
    now_ms = [100_000]

    def tick():
        now_ms[0] += 50
        message = Clock()
        message.clock.sec, message.clock.nanosec = now_ms[0] // 1000, now_ms[0] % 1000 * 10**6
        clock.publish(message)
        bench.publish()

    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    world.spin_until(lambda: len(bench.steps()) >= 3, "steps", tick)
    world.spin_for(0.1)  # until all of before is read: between the new, it would be a jump again
    now_ms[0] = 10_000
    stamps = lambda: [step.header.stamp.sec for step in bench.steps()]  # noqa: E731
    world.spin_until(lambda: stamps()[-1] < 50, "steps after the jump", tick)
    assert node._session.buffer.counts["clock_jumps"] == 1
    assert all(10 <= twist.header.stamp.sec < 200 for twist in bench.twists[-3:])
