"""Faults over real DDS: each is named, the arm stands in time, and moves on when it is over.

The arm moves, within limits as of a real one (`support/cell.py`), whenever a fault begins. Only the
watchdog that a test is about is quick, so that a machine that is slow for a moment trips no other.
Two records are checked after every test: no command was ever out of the limits (fixture `world`),
and the tip never left the workspace. The time to a stop counts from the moment at which the
watchdog's limit is over; it is kept with the test's result, and with it for how long meanwhile the
machine gave this process no CPU (`support/stalls.py`), which is no fault of the node.
"""

from __future__ import annotations

import math
import signal
import time
from itertools import pairwise

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from std_msgs.msg import String
from support.cell import ARM_TIMEOUT_SEC, ZERO, Cell
from support.drive import PATIENCE_SEC, SETTINGS, STOP_WITHIN_SEC, SUCCESS, drives
from support.fake_scene import REST
from support.mischief import Hang
from support.process import launch
from support.ros import DO_NOT_FOLLOW, image, joint_state
from support.stalls import MOST_STALLS_SEC, Stalls
from support.tiny_vla import INSTRUCTIONS

from heisd_ros.nodes.vla_node import VlaNode

LIMIT_SEC, REPEATS = 0.3, 10
"""The limit of the watchdog that a test is about, and repeats that make an input frozen."""
FLOOD_HZ, FLOOD_SEC = 500.0, 0.005
SETS_A_STEP = 3
"""Sets of inputs in the time of a step in the flood, however fast the machine is."""


@pytest.fixture
def start(world, checkpoint, record_property):
    """Starts a cell whose arm is moved, with further parameters of the node."""
    yield from drives(world, checkpoint, record_property)


class Bad:
    """Spoils the messages of a fault, and knows when it did.

    Args:
        spoil: Takes the stamp and the good message of that time.
        counts: Whether the next message counts.
    """

    def __init__(self, spoil, good, counts=lambda: True):
        self._spoil, self._good, self._counts = spoil, good, counts
        self.times = []  # steady times of the messages that count

    def __call__(self, stamp):
        if self._counts():
            self.times.append(time.monotonic())
        return self._spoil(stamp, self._good(stamp))


def nan_finger(stamp, message):
    message.position[-2] = math.nan
    return message


def no_fingers(stamp, message):
    for name in ("name", "position", "velocity"):
        setattr(message, name, getattr(message, name)[: len(REST)])
    return message


def nan_positions(stamp, message):
    message.position[0] = math.nan
    return message


def in_degrees(stamp, message):
    message.position = [*map(math.degrees, message.position[:7]), *message.position[7:]]
    return message


def without_stamp(stamp, message):
    message.header.stamp = Time()
    return message


class Freeze:
    """Repeats the positions of the first message, which are those of the arm at that time."""

    def __init__(self):
        self._positions = None

    def __call__(self, stamp, message):
        self._positions = self._positions or message.position
        message.position = self._positions
        return message


def nan_pixels(stamp, message):
    message = image(encoding="32FC1", channels=4, stamp=stamp)
    message.data = np.full(len(message.data) // 4, np.nan, np.float32).tobytes()
    return message


def back(stamp, seconds):
    return Time(sec=stamp.sec - seconds, nanosec=stamp.nanosec)


def nothing(stamp, message):
    return None


def still(stamp, message):
    return image(7, stamp=stamp)


def empty(stamp, message):
    return image(size=0, stamp=stamp)


def of_another_time(stamp, message):
    message.header.stamp = back(stamp, 3)
    return message


IMAGES, JOINTS = (
    {"input.image_timeout_sec": LIMIT_SEC},
    {"input.joint_state_timeout_sec": LIMIT_SEC},
)
FROZEN_IMAGES = {"input.frozen_images": REPEATS}
FROZEN_JOINTS = {"input.frozen_joint_states": REPEATS, "input.frozen_joint_sec": 0.0}
FINGERS = {"input.gripper_timeout_sec": LIMIT_SEC}
# What is bad, how; the hold; the quick watchdog; and after which bad message and what time from it
# its limit is over. The last good message may be as old as the time between two. Every fault is put
# into the message of that moment: positions that the arm is not at would be a second one.
FAULTS = {
    "camera_dies": ("image", nothing, "stale_image", IMAGES, 0, LIMIT_SEC),
    "camera_freezes": ("image", still, "frozen_image", FROZEN_IMAGES, REPEATS, 0),
    "picture_is_empty": ("image_wrist", empty, "bad_image", {}, 0, 0),
    "picture_of_nan": ("image", nan_pixels, "bad_image", {}, 0, 0),
    "joints_in_degrees": ("joints", in_degrees, "bad_joint_states", {}, 0, 0),
    "stamps_of_another_time": ("image", of_another_time, "bad_stamps", {}, 0, 0),
    "joints_without_stamp": ("joints", without_stamp, "bad_stamps", {}, 0, 0),
    "joints_die": ("joints", nothing, "stale_joint_states", JOINTS, 0, LIMIT_SEC),
    "joints_freeze": ("joints", Freeze, "frozen_joint_states", FROZEN_JOINTS, REPEATS, 0),
    "nan_positions": ("joints", nan_positions, "bad_joint_states", {}, 0, 0),
    "nan_finger": ("joints", nan_finger, "bad_joint_states", {}, 0, 0),
    "gripper_dies": ("joints", no_fingers, "bad_joint_states", FINGERS, 0, LIMIT_SEC),
}


def break_input(drive, fault):
    """Puts a fault in; returns what takes it out again.

    What is frozen is found while the arm is commanded to move, so only those messages count.
    """
    where, spoil, reason, _, count, seconds = FAULTS[fault]
    cell, buffer = drive.cell, drive.node._session.buffer
    counts = (lambda: buffer.moving) if count else (lambda: True)
    spoil = spoil() if isinstance(spoil, type) else spoil
    if where == "joints":
        good = cell.joints_of
        cell.joints_of = bad = Bad(spoil, good, counts)
        mend = lambda: setattr(cell, "joints_of", good)  # noqa: E731
    else:
        good = cell.image_of[where]
        cell.image_of[where] = bad = Bad(spoil, good, counts)
        mend = lambda: cell.image_of.update({where: good})  # noqa: E731
    drive.stands(reason, time.monotonic(), lambda: bad.times[count] + seconds)
    return mend


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_input(start, fault):
    drive = start(FAULTS[fault][3])
    break_input(drive, fault)()
    drive.goes_on()


@pytest.mark.parametrize("interface", ["pose", "delta"])
def test_a_dead_camera_stops_an_arm_that_is_driven_in_another_way(start, interface):
    # The model's own actions move no arm of this cell.
    stands = DO_NOT_FOLLOW if interface == "delta" else {}
    drive = start({"command.interface": interface, **stands, **FAULTS["camera_dies"][3]})
    assert not drive.cell.twists
    break_input(drive, "camera_dies")()
    drive.goes_on()
    assert drive.node.trigger_deactivate() == SUCCESS
    drive.wait(0.3)
    assert drive.cell.heard[-1].twist == ZERO and not drive.cell.moves()


def test_velocities_of_nan_are_no_reason_to_stop(start):
    drive = start()
    cell = drive.cell
    cell.joints_of = lambda stamp: joint_state(cell._q, [math.nan] * 7, stamp=stamp)
    held = len(cell.holds())
    drive.goes_on()
    drive.until(lambda: cell.named("velocities"), "the diagnostic")
    assert len(cell.holds()) == held


def spoil(result):
    result.action[2] = math.nan


def cut(result):
    # Frozen, as every result is; a decoder that is wrong would give it so from the start.
    object.__setattr__(result, "action", result.action[:6])


class Failure:
    """A model that runs out of memory."""

    def __init__(self):
        self.times = []

    def __call__(self, *_):
        self.times.append(time.monotonic())
        raise RuntimeError("out of memory")


class Spoiler(Failure):
    """A model whose action is none."""

    def __init__(self, spoil):
        super().__init__()
        self._spoil = spoil

    def __call__(self, result):
        self.times.append(time.monotonic())
        self._spoil(result)


@pytest.mark.parametrize(
    ("where", "fault", "words"),
    [
        ("before", Failure(), "RuntimeError: out of memory"),
        ("after", Spoiler(spoil), "accepted: 7 finite numbers"),
        ("after", Spoiler(cut), "accepted: 7 finite numbers"),
    ],
    ids=["raises", "nan", "six_numbers"],
)
def test_a_model_that_fails(start, where, fault, words):
    drive, since = start(), time.monotonic()
    good = getattr(drive.decoder, where)
    setattr(drive.decoder, where, fault)
    drive.stands("model_error", since, lambda: fault.times[0])
    assert words in drive.cell.telemetry[-1].reason
    setattr(drive.decoder, where, good)
    drive.goes_on()


def hang(drive):
    """Lets the next inference hang until it is released, and waits until it does."""
    hang = Hang(PATIENCE_SEC)
    drive.decoder.before = hang
    drive.until(hang.begun.is_set, "the hang")
    return hang


def test_a_model_that_hangs_and_its_late_action(start):
    drive = start({"command.max_action_age_sec": LIMIT_SEC})
    cell, since = drive.cell, time.monotonic()
    hung, next_one = hang(drive), Hang(PATIENCE_SEC)
    # The newest action may have been acted on just before the hang began.
    drive.stands("action_too_old", since, lambda: time_of(cell.steps()[-1], cell) + LIMIT_SEC)
    at = len(cell.heard)
    drive.decoder.before = next_one
    hung.release()
    drive.until(next_one.begun.is_set, "the late action")
    drive.wait(0.5)
    assert all(heard.twist == ZERO for heard in cell.heard[at:])
    drive.decoder.before = lambda: None
    next_one.release()
    drive.goes_on()


def time_of(step, cell):
    """Steady time at which a step was acted on: when its observation was sent, and what it took."""
    sent = step.header.stamp.sec + step.header.stamp.nanosec / 1e9 - cell._offset
    return sent + max(step.ages.images)


def test_a_model_over_its_budget(start):
    drive = start({"model.budget_sec": LIMIT_SEC})
    since = time.monotonic()
    hung = hang(drive)
    began = time.monotonic()
    drive.stands("over_budget", since, lambda: began + LIMIT_SEC)
    drive.decoder.before = lambda: None
    hung.release()
    drive.goes_on()


def test_deactivation_while_the_model_hangs(start):
    drive = start()
    cell, hung, since = drive.cell, hang(drive), time.monotonic()
    assert drive.node.trigger_deactivate() == SUCCESS
    drive.wait(0.3)
    # Cell and node share a thread: when the stop was sent counts, not when it was received.
    drive.in_time(cell.standstill(since).sent, since, since)
    sent = len(cell.heard)
    hung.release()
    drive.wait(0.3)
    assert len(cell.heard) == sent and cell.heard[-1].twist == ZERO
    drive.until(lambda: cell.value("state") == "inactive", "the diagnostic")


def test_a_flood_of_inputs_neither_starves_the_watchdog_nor_queues_up(start, record_property):
    drive = start(JOINTS)
    counts = drive.node._session.buffer.counts

    def slow():
        seen, end = counts["complete"], time.monotonic() + 1.0
        while counts["complete"] < seen + SETS_A_STEP and time.monotonic() < end:
            time.sleep(0.01)

    drive.decoder.before = slow
    cell, one, began, sent = drive.cell, drive.cell.publish, time.monotonic(), 0

    def flood():
        nonlocal sent
        now = time.monotonic()
        due = int((now - began) * FLOOD_HZ) - sent
        # Cell and node share a thread, which the flood must not take for itself on a slow machine.
        while due > 0 and time.monotonic() - now < FLOOD_SEC:
            one()
            sent, due = sent + 1, due - 1

    cell.publish = flood
    drive.wait(1.0)
    record_property("flood_hz", round(sent / (time.monotonic() - began)))
    done = len(cell.steps())
    # Were inputs queued up, two of three would still wait: their age would grow with the flood's.
    drive.until(
        lambda: (
            len(cell.steps()) > done
            and cell.steps()[-1].ages.joint_states < (time.monotonic() - began) / 2.0
        ),
        "a step on fresh inputs",
    )
    drive.until(lambda: int(cell.value("sets.superseded") or 0) > 0, "the diagnostic")
    break_input(drive, "joints_die")()
    drive.goes_on()


def test_pictures_of_another_size(start):
    drive = start()
    cell, held = drive.cell, len(drive.cell.holds())
    cell.image_of["image"] = lambda s: image(next(cell.shade) % 200, size=48, stamp=s)
    drive.goes_on()
    assert len(cell.holds()) == held


def test_an_instruction_that_changes_mid_step_voids_the_step(start):
    drive = start()
    cell, hung = drive.cell, hang(drive)
    drive.decoder.before = lambda: None
    worker = drive.node._session.worker
    drive.until(lambda: worker._done is None, "the step before")
    done = drive.node._control.step
    cell.instruction.publish(String(data=INSTRUCTIONS[1]))
    drive.until(lambda: drive.node._instruction == INSTRUCTIONS[1], "the instruction")
    hung.release()
    drive.until(lambda: cell.steps()[-1].step > done + 1, "steps")
    later = [step for step in cell.steps() if step.step > done]
    assert {step.instruction for step in later} == {INSTRUCTIONS[1]}


def test_a_clock_that_jumps_back(start):
    drive = start({"input.max_stamp_age_sec": 0.0})
    cell = drive.cell

    def set_back(make):
        return lambda stamp: make(back(stamp, 100))

    cell.joints_of = set_back(cell.joints_of)
    cell.image_of = {view: set_back(make) for view, make in cell.image_of.items()}
    began = cell.steps()[-1].header.stamp.sec
    drive.until(lambda: cell.steps()[-1].header.stamp.sec < began, "a step after the jump")
    drive.goes_on()
    drive.until(lambda: int(cell.value("sets.clock_jumps") or 0) > 0, "the diagnostic")


def test_a_second_node_on_the_command_topic_stops_both(world, start, checkpoint):
    drive = start()
    topics = ["input/image", "input/image_wrist", "input/joint_states", "output/twist"]
    remap = [f"/other/{topic}:=/vla_node/{topic}" for topic in topics]
    options = [part for rule in ("__node:=other", *remap) for part in ("-r", rule)]
    settings = {"model.path": str(checkpoint), **SETTINGS}
    other = world.add(VlaNode, parameters=settings, cli_args=["--ros-args", *options])
    assert other.trigger_configure() == SUCCESS
    drive.goes_on()
    since = time.monotonic()
    assert other.trigger_activate() == SUCCESS
    # Discovery has to find the other one first.
    seen = []
    topic = "/vla_node/output/twist"
    drive.until(lambda: drive.node.count_publishers(topic) > 1, "the other's publisher")
    seen.append(time.monotonic())
    drive.stands("rival_commands", since, lambda: seen[0])
    assert "/other" in drive.cell.telemetry[-1].reason
    assert other._control.arm.holds.current.reason == "rival_commands"
    assert other.trigger_deactivate() == SUCCESS
    drive.goes_on()


def inferring(cell):
    """Whether steps were made, but none for so long that an inference must be a slow one."""
    stamps = [step.header.stamp for step in cell.steps()]
    now = cell.get_clock().now().nanoseconds
    return len(stamps) >= 3 and now - stamps[-1].sec * 10**9 - stamps[-1].nanosec > 0.5e9


def watching(cell, process):
    """Stalls of this process and of another, and a publishing that notes both."""
    here, there = Stalls(), Stalls(process.pid)

    def publish():
        here.note()
        there.note()
        cell.publish()

    return here, there, publish


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_ends_mid_inference_leaves_the_arm_to_stand(
    world, checkpoint, number, record_property
):
    cell = world.add(Cell)
    settings = {
        "model__path": checkpoint,
        **{name.replace(".", "__"): value for name, value in SETTINGS.items()},
        "command__max_action_age_sec": 30.0,
        "command__max_linear_speed": 0.02,  # so that it is long on its way to a wall
    }
    process = launch(world, "support.slow_vla_node", autostart="true", **settings)
    here, there, publish = watching(cell, process)
    try:
        world.spin_until(lambda: inferring(cell) and cell.moves(), "the slow one", publish)
        process.send_signal(number)
        since = time.monotonic()
        world.spin_until(lambda: process.poll() is not None, "the end", publish)
    finally:
        process.kill()
    world.spin_for(0.3, publish)
    here.note()
    assert not cell.moves()
    if number == signal.SIGKILL:
        # Nobody is left to send a stop: the arm's own timeout has to act.
        stood, stalls = cell.heard[-1].received + ARM_TIMEOUT_SEC, here
        assert cell.heard[-1].twist != ZERO
    else:
        assert process.returncode == 0, process.stderr.read()
        assert cell.heard[-1].twist == ZERO
        stood, stalls = cell.standstill(since).sent, there
    stalled = stalls.within(since, stood)
    record_property("stop_sec", round(stood - since, 3))
    record_property("stalled_sec", round(stalled, 3))
    assert stood - since - min(stalled, MOST_STALLS_SEC) <= STOP_WITHIN_SEC


def test_a_model_in_pure_python_makes_no_command_late(world, record_property):
    """It wants Python's lock all the time, which a command has to take many times."""
    cell = world.add(Cell, views=("image",))
    patient = {"input.image_timeout_sec": 10.0, "input.joint_state_timeout_sec": 10.0}
    settings = {**SETTINGS, **patient, "command.max_action_age_sec": 10.0, "instruction": "go"}
    given = {name.replace(".", "__"): value for name, value in settings.items()}
    process = launch(world, "support.greedy_vla_node", autostart="true", **given)
    here, there, publish = watching(cell, process)
    try:
        world.spin_until(lambda: len(cell.steps()) > 2 and cell.moves(), "motion", publish)
        done = len(cell.heard)
        world.spin_until(lambda: len(cell.heard) > done + 150, "commands", publish)
    finally:
        process.kill()
    sent = [heard.sent for heard in cell.heard[done:]]
    late = sorted(
        after - before - here.within(before, after) - there.within(before, after)
        for before, after in pairwise(sent)
    )
    record_property("latest_sec", [round(seconds, 3) for seconds in late[-5:]])
    assert late[-5] < 0.04
