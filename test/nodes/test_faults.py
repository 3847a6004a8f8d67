"""Faults over real DDS: each is named, the arm stands in time, and goes on when it is over.

The arm moves, within limits as of a real one (`support/cell.py`), whenever a fault begins. Two
records are checked after every test: no command was ever out of the limits (fixture `world`), and
the tip never left the workspace. The time to a stand counts from the moment at which the watchdog's
limit is over; it is kept with the test's result.
"""

from __future__ import annotations

import math
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.lifecycle import TransitionCallbackReturn
from std_msgs.msg import String
from support.cell import ARM_TIMEOUT_SEC, LIMITS, ZERO, Cell
from support.fake_scene import REST
from support.mischief import Hang, Mischief
from support.process import launch
from support.ros import image, joint_state
from support.tiny_vla import INSTRUCTIONS

from heisd_ros.nodes.policy import load_policy
from heisd_ros.nodes.vla_node import VlaNode

SUCCESS = TransitionCallbackReturn.SUCCESS
LIMIT_SEC, REPEATS, PERIOD_SEC = 0.3, 10, 0.02
"""Every watchdog's limit here, pictures or joint states that make one frozen, and their period."""
STOP_WITHIN_SEC = 0.15
OUTSIDE_M = LIMITS["command.max_linear_speed"] * LIMIT_SEC
"""How far the arm may be out of the box: what it moves until joint states count as stale."""
SETTINGS = {
    **LIMITS,
    "model.threads": 1,
    "instruction": INSTRUCTIONS[0],
    "input.image_timeout_sec": LIMIT_SEC,
    "input.joint_state_timeout_sec": LIMIT_SEC,
    "input.frozen_images": REPEATS,
    "input.frozen_joint_states": REPEATS,
    "command.max_action_age_sec": LIMIT_SEC,
}


class Drive:
    """A cell whose arm an active node moves, and the decoder that moves it."""

    def __init__(self, world, checkpoint, record, parameters=None):
        self._world, self._record = world, record
        self.cell = world.add(Cell)
        settings = {"model.path": str(checkpoint), **SETTINGS, **(parameters or {})}
        self.node = world.add(VlaNode, self._load, parameters=settings)
        assert self.node.trigger_configure() == self.node.trigger_activate() == SUCCESS
        self.until(lambda: len(self.cell.steps()) >= 5 and self.cell.moves(), "motion")

    def _load(self, settings):
        policy = load_policy(settings)
        self.decoder = Mischief(policy.decoder)
        return replace(policy, decoder=self.decoder)

    def until(self, condition, what):
        self._world.spin_until(condition, what, self.cell.publish)

    def wait(self, seconds):
        self._world.spin_for(seconds, self.cell.publish)

    def stands(self, reason, since, limit_sec=0.0):
        """The arm stands in time; telemetry and diagnostics name the fault."""
        cell = self.cell
        self.until(lambda: cell.telemetry[-1].reason.startswith(reason), reason)
        self.until(lambda: cell.standstill(since) is not None, "a stop")
        taken = cell.standstill(since).received - since - limit_sec
        self._record("stop_sec", round(taken, 3))
        assert taken <= STOP_WITHIN_SEC, f"stood {taken:.3f} s after the limit"
        self.until(lambda: cell.named(reason), "the diagnostic")
        assert cell.heard[-1].twist == ZERO and not cell.moves()

    def goes_on(self):
        """The arm is moved again."""
        done = len(self.cell.steps())
        self.until(lambda: len(self.cell.steps()) > done + 2 and self.cell.moves(), "recovery")


@pytest.fixture
def drive(world, checkpoint, record_property):
    drive = Drive(world, checkpoint, record_property)
    yield drive
    tips = np.array(drive.cell.tips)
    for i, axis in enumerate("xyz"):
        assert tips[:, i].min() >= LIMITS[f"workspace.{axis}_min"] - OUTSIDE_M, axis
        assert tips[:, i].max() <= LIMITS[f"workspace.{axis}_max"] + OUTSIDE_M, axis


def nan_finger(stamp):
    return joint_state(fingers=(math.nan, 0.02), stamp=stamp)


def nan_positions(stamp):
    return joint_state([math.nan, *REST[1:]], stamp=stamp)


def nan_pixels(stamp):
    message = image(encoding="32FC1", channels=4, stamp=stamp)
    message.data = np.full(len(message.data) // 4, np.nan, np.float32).tobytes()
    return message


FROZEN_SEC = REPEATS * PERIOD_SEC
FAULTS = {
    "camera_dies": ("image", lambda stamp: None, "stale_image", LIMIT_SEC),
    "camera_freezes": ("image", lambda s: image(7, stamp=s), "frozen_image", FROZEN_SEC),
    "picture_is_empty": ("image_wrist", lambda s: image(size=0, stamp=s), "bad_image", 0.0),
    "picture_of_nan": ("image", nan_pixels, "bad_image", 0.0),
    "joints_die": ("joints", lambda stamp: None, "stale_joint_states", LIMIT_SEC),
    "joints_freeze": ("joints", lambda s: joint_state(stamp=s), "frozen_joint_states", FROZEN_SEC),
    "nan_positions": ("joints", nan_positions, "bad_joint_states", 0.0),
    "nan_finger": ("joints", nan_finger, "bad_joint_states", 0.0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_input(drive, fault):
    where, bad, reason, limit_sec = FAULTS[fault]
    cell = drive.cell
    good = cell.joints_of if where == "joints" else cell.image_of[where]

    def send(function):
        if where == "joints":
            cell.joints_of = function
        else:
            cell.image_of[where] = function

    send(bad)
    # The last good message may be as old as the time between two.
    drive.stands(reason, time.monotonic() + PERIOD_SEC, limit_sec)
    send(good)
    drive.goes_on()


def test_velocities_of_nan_are_no_reason_to_stop(drive):
    cell = drive.cell
    cell.joints_of = lambda stamp: joint_state(cell._q, [math.nan] * 7, stamp=stamp)
    held = len(cell.holds())
    drive.goes_on()
    drive.until(lambda: cell.named("velocities"), "the diagnostic")
    assert len(cell.holds()) == held


def spoil(result):
    result.action[2] = math.nan


def fail(*_):
    raise RuntimeError("out of memory")


@pytest.mark.parametrize("what", ["raises", "nan"])
def test_a_model_that_fails(drive, what):
    if what == "raises":
        drive.decoder.before = fail
    else:
        drive.decoder.after = spoil
    drive.stands("model_error", time.monotonic() + PERIOD_SEC)
    drive.decoder.before, drive.decoder.after = lambda: None, lambda result: None
    drive.goes_on()


def test_a_model_that_hangs_and_its_late_action(drive):
    cell, hang = drive.cell, Hang(5.0)
    drive.decoder.before = hang
    drive.until(hang.begun.is_set, "the hang")
    drive.stands("action_too_old", time.monotonic(), LIMIT_SEC)
    at = len(cell.heard)
    drive.wait(5.0)  # longer than the hang: the late action came
    assert all(heard.twist == ZERO for heard in cell.heard[at:])
    drive.decoder.before = lambda: None
    drive.goes_on()


def test_a_model_over_its_budget(world, checkpoint, record_property):
    long = {"command.max_action_age_sec": 30.0, "model.budget_sec": LIMIT_SEC}
    drive, hang = Drive(world, checkpoint, record_property, long), Hang(5.0)
    drive.decoder.before = hang
    drive.until(hang.begun.is_set, "the hang")
    drive.stands("over_budget", time.monotonic(), LIMIT_SEC)
    drive.decoder.before = lambda: None
    hang.release()
    drive.goes_on()


def test_deactivation_while_the_model_hangs(drive, record_property):
    cell, hang = drive.cell, Hang(5.0)
    drive.decoder.before = hang
    drive.until(hang.begun.is_set, "the hang")
    since = time.monotonic()
    assert drive.node.trigger_deactivate() == SUCCESS
    drive.wait(0.3)
    # Cell and node share a thread: when the stop was sent counts, not when it was received.
    record_property("stop_sec", round(cell.standstill(since).sent - since, 3))
    assert cell.standstill(since).sent - since <= STOP_WITHIN_SEC
    sent = len(cell.heard)
    hang.release()
    drive.wait(0.3)
    assert len(cell.heard) == sent and cell.heard[-1].twist == ZERO


def test_a_flood_of_inputs_neither_starves_the_watchdog_nor_queues_up(world, drive):
    cell = drive.cell
    one = cell.publish

    def flood():
        for _ in range(10):  # every 20 ms: 500 Hz
            one()

    done = len(cell.steps())
    cell.publish = flood
    drive.wait(1.0)
    assert len(cell.steps()) > done and cell.steps()[-1].ages.joint_states < LIMIT_SEC
    good, cell.joints_of = cell.joints_of, lambda stamp: None
    drive.stands("stale_joint_states", time.monotonic(), LIMIT_SEC)
    cell.joints_of = good
    drive.goes_on()


def test_pictures_of_another_size(drive):
    cell = drive.cell
    held = len(cell.holds())
    cell.image_of["image"] = lambda s: image(next(cell.shade) % 200, size=48, stamp=s)
    drive.goes_on()
    assert len(cell.holds()) == held


def test_an_instruction_that_changes_mid_step_voids_the_step(drive):
    cell, hang = drive.cell, Hang(3.0)
    drive.decoder.before = hang
    drive.until(hang.begun.is_set, "an inference")
    drive.decoder.before = lambda: None
    drive.wait(0.3)  # the telemetry of the step before may still be on its way
    done = len(cell.steps())
    cell.instruction.publish(String(data=INSTRUCTIONS[1]))
    drive.wait(0.3)
    hang.release()
    drive.until(lambda: len(cell.steps()) > done + 1, "steps")
    assert {step.instruction for step in cell.steps()[done:]} == {INSTRUCTIONS[1]}


def test_a_clock_that_jumps_back(drive):
    cell = drive.cell

    def set_back(make):
        return lambda stamp: make(Time(sec=stamp.sec - 100, nanosec=stamp.nanosec))

    cell.joints_of = set_back(cell.joints_of)
    cell.image_of = {view: set_back(make) for view, make in cell.image_of.items()}
    began = cell.steps()[-1].header.stamp.sec
    drive.until(lambda: cell.steps()[-1].header.stamp.sec < began, "a step after the jump")
    drive.goes_on()
    assert drive.node._session.buffer.counts["clock_jumps"] >= 1


def test_a_second_node_on_the_command_topic_stops_both(world, drive, checkpoint):
    topics = ["input/image", "input/image_wrist", "input/joint_states", "output/twist"]
    remap = [f"/other/{topic}:=/vla_node/{topic}" for topic in topics]
    options = [part for rule in ("__node:=other", *remap) for part in ("-r", rule)]
    settings = {"model.path": str(checkpoint), **SETTINGS}
    other = world.add(VlaNode, parameters=settings, cli_args=["--ros-args", *options])
    assert other.trigger_configure() == SUCCESS
    drive.goes_on()
    assert other.trigger_activate() == SUCCESS
    drive.stands("rival_commands", time.monotonic())
    assert "/other" in drive.cell.telemetry[-1].reason
    assert other._control.holds.current.reason == "rival_commands"
    assert other.trigger_deactivate() == SUCCESS
    drive.goes_on()


def inferring(cell):
    """Whether steps were made, but none for so long that an inference must be a slow one."""
    stamps = [step.header.stamp for step in cell.steps()]
    now = cell.get_clock().now().nanoseconds
    return len(stamps) >= 3 and now - stamps[-1].sec * 10**9 - stamps[-1].nanosec > 0.5e9


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_ends_mid_inference_leaves_the_arm_to_stand(
    world, checkpoint, number, record_property
):
    cell = world.add(Cell)
    settings = {
        "model__path": checkpoint,
        **{name.replace(".", "__"): value for name, value in SETTINGS.items()},
        "command__max_action_age_sec": 30.0,
    }
    process = launch(world, "support.slow_vla_node", autostart="true", **settings)
    try:
        world.spin_until(lambda: inferring(cell) and cell.moves(), "the slow one", cell.publish)
        process.send_signal(number)
        since = time.monotonic()
        world.spin_until(lambda: process.poll() is not None, "the end", cell.publish)
    finally:
        process.kill()
    world.spin_for(0.3, cell.publish)
    assert not cell.moves()
    if number == signal.SIGKILL:
        # Nobody is left to send a stop: the arm's own timeout has to act.
        assert cell.heard[-1].twist != ZERO
        assert cell.heard[-1].received - since <= STOP_WITHIN_SEC - ARM_TIMEOUT_SEC
    else:
        assert process.returncode == 0, process.stderr.read()
        assert cell.heard[-1].twist == ZERO
        record_property("stop_sec", round(cell.standstill(since).sent - since, 3))
        assert cell.standstill(since).sent - since <= STOP_WITHIN_SEC
