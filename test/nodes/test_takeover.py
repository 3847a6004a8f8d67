"""A person takes the arm over and gives it back, over DDS, with every command checked."""

from __future__ import annotations

import math
import random
import time
from types import SimpleNamespace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from heisd_ros.msg import ArmStatus
from rclpy.node import Node
from sensor_msgs.msg import Joy
from std_srvs.srv import SetBool, Trigger
from support.cell_bags import layout
from support.fake_scene import REST
from support.operators import (
    CLOSE,
    DEADMAN,
    DONE,
    FORTH,
    OPEN,
    RETURN,
    SUCCESS,
    Operated,
    largest,
)
from support.ros import DO_NOT_FOLLOW, joint_state

from heisd_ros.control.holds import HoldReason
from heisd_ros.data.bag_source import BagSource
from heisd_ros.nodes.person import Person
from heisd_ros.nodes.tools.recorder_node import RecorderNode

RELEASED_SEC, SLACK_SEC = 0.15, 0.05
"""The goal, and what a busy machine may add."""
SILENCE_SEC = 0.2
BY_SILENCE = {"teleop.timeout_sec": SILENCE_SEC}
CHANCE = random.Random(4)


@pytest.fixture
def start(world):
    return lambda parameters=None, **given: Operated(world, parameters, **given)


def test_a_person_takes_the_arm_and_gives_it_back(start):
    arm, statuses = start(), []
    arm.cell.create_subscription(ArmStatus, "/vla_node/status", statuses.append, 10)
    arm.ready()
    arm.press()
    step = arm.cell.telemetry[-1]
    assert step.commander == "person" and step.source == "person" and len(step.action) == 7
    arm.until(lambda: not math.isnan(arm.cell.steps()[-1].disagreement), "the disagreement")
    arm.until(lambda: largest(arm.cell.heard[-1:]) > 0.049, "full speed")
    assert arm.cell.heard[-1].twist[0] > 0.049  # along x, and the policy's is along y
    assert 0.7 < arm.cell.steps()[-1].disagreement < 0.8
    sent = arm.release()
    assert arm.stands("takeover", sent) < RELEASED_SEC + SLACK_SEC
    assert arm.cell.telemetry[-1].commander == arm.cell.value("commander") == "person"
    assert (statuses[-1].code, statuses[-1].commander) == (ArmStatus.HELD, "person")
    assert not arm.moves()  # a release gives nothing back
    arm.held = {DEADMAN, CLOSE}
    arm.until(lambda: arm.cell.grippers and arm.cell.grippers[-1].data == 0.0, "closed fingers")
    arm.held = {DEADMAN, OPEN}
    arm.until(lambda: arm.cell.grippers[-1].data == 0.08, "open fingers")
    arm.held = {RETURN}
    arm.policy_moves()


@pytest.mark.parametrize(("interface", "times"), [("twist", 30), ("pose", 20)])
def test_hand_overs_at_random_moments_start_from_rest(start, interface, times, record_property):
    """The recorder checks every command: speed, acceleration, jerk of poses, and the box."""
    arm = start({"command.interface": interface, "teleop.on_release": "policy"})
    arm.ready()
    count = arm.node._control.person.takeover
    late = []
    for turn in range(times):
        arm.wait(CHANCE.uniform(0.0, 0.08))
        arm.axes = [0.0] * 8
        arm.axes[CHANCE.choice([0, 1, 4])] = CHANCE.choice([-1.0, 1.0])
        arm.held = {DEADMAN}
        arm.wait(CHANCE.uniform(0.0, 0.08))
        arm.until(lambda turn=turn: count.count == turn + 1, "the takeover")
        sent = arm.release()
        arm.until(lambda: not count.taken, "the return")
        # It may have stood already, so that the policy moves it with the next command.
        arm.until(lambda sent=sent: arm.zeros(sent) or arm.stood(sent), "a stand")
        if arm.zeros(sent):
            late.append(arm.late(sent))
    record_property("released_sec", sorted(late)[-3:])
    assert sorted(late)[len(late) // 2] < RELEASED_SEC
    arm.policy_moves()


def test_a_target_comes_back_to_an_arm_that_could_not_follow(start):
    """The arm stands whatever it is told, as one that is pressed against something."""
    arm = start({"command.interface": "pose", **DO_NOT_FOLLOW})
    arm.cell.joints_of = lambda stamp: joint_state(stamp=stamp)
    tip = arm.cell.kinematics.forward(REST).position
    lead = lambda: np.linalg.norm(arm.cell._target[0] - tip)  # noqa: E731
    arm.decoder.after = lambda result: result.action.__setitem__(slice(None), FORTH)
    arm.until(lambda: arm.cell._target is not None and lead() > 0.045, "a lead")
    for turn in range(2):
        assert arm.ask(True).success and arm.ask(False).success
        arm.until(lambda: not arm.node._control.person.changing_hands, "the hand-over")
        assert lead() < (0.016 if turn == 0 else 0.05)
        arm.policy_moves()


def test_a_recording_says_what_a_person_did_and_how_episodes_ended(world, start, tmp_path):
    arm = start()
    images, joints = "/vla_node/input/image", "/vla_node/input/joint_states"
    marks = "/vla_node/telemetry", "/vla_node/outcome"
    recorder = world.add(RecorderNode, tmp_path / "bag", [images, joints, *marks], {})
    arm.ready()
    arm.until(lambda: len(recorder.counts) == 3, "the recorder")
    arm.wait(0.3)
    arm.press()
    arm.wait(0.3)
    arm.held = {DEADMAN, DONE}  # by button, while the person has the arm
    arm.until(lambda: recorder.counts[marks[1]] == 1, "the report")
    arm.held = {RETURN}
    arm.policy_moves()
    arm.wait(0.2)
    assert world.call(Trigger, "/vla_node/discard_episode").success
    arm.wait(0.3)
    world.call(SetBool, "/vla_node/report_episode", SetBool.Request(data=False))
    arm.until(lambda: recorder.counts[marks[1]] == 3, "all reports")
    arm.wait(0.1)
    recorder.stop()
    found = BagSource(
        tmp_path / "bag",
        layout(
            images=(images,),
            joint_states=joints,
            telemetry_topic=marks[0],
            outcome_topic=marks[1],
            pause_sec=0.0,
            tolerance_sec=0.1,
        ),
    ).outline()
    corrected = [episode for episode in found if episode.person_steps]
    assert corrected and {episode.outcome for episode in corrected} == {"success"}
    assert {episode.outcome for episode in found} >= {"success", "failure"}


def altered(arm, **changes):
    """The joystick's message with other fields."""

    def message(stamp):
        made = arm.joy(stamp)
        for name, value in changes.items():
            setattr(made.header if name == "stamp" else made, name, value)
        return made

    return message


def with_buttons(*numbers):
    return {"buttons": [int(i in numbers) for i in range(12)]}


JOYSTICK_FAULTS = {
    "a NaN axis": ({"axes": [0.0, math.nan, *[0.0] * 6]}, "bad_teleop: joy: axes[1] is nan"),
    "an absurd axis": ({"axes": [0.0, 1e9, *[0.0] * 6]}, "bad_teleop: joy: axes[1] is 1e+09"),
    "too few axes": (
        {"axes": [0.0, 1.0]},
        "bad_teleop: joy: axes has 2 numbers; accepted: at least 8",
    ),
    "too few buttons": ({"buttons": [0] * 4 + [1]}, "bad_teleop: joy: buttons has 5 numbers"),
    "no buttons": ({"buttons": []}, "bad_teleop: joy: buttons has 0 numbers"),
    "an absurd button": (
        {"buttons": [0] * 4 + [-7] + [0] * 7},
        "bad_teleop: joy: buttons[4] is -7",
    ),
    "an old stamp": ({"stamp": Time(sec=1)}, "bad_teleop: joy: stamp is "),
    "no stamp": ({"stamp": Time()}, "bad_teleop: joy: messages are not stamped"),
    "a stamp of the future": ({"stamp": Time(sec=2**31 - 1)}, "bad_teleop: joy: stamp is "),
    "a flood": ({"axes": [0.0] * 100_000}, "bad_teleop: joy: message has "),
}


def test_a_fault_of_the_joystick_stops_the_arm_until_it_was_released(start):
    arm = start(BY_SILENCE)
    arm.ready()
    arm.press()
    for name, (changes, reason) in JOYSTICK_FAULTS.items():
        arm.joystick = altered(arm, **changes)
        arm.until(lambda reason=reason: arm.reason().startswith(reason), f"{name}: {reason}")
        arm.until(lambda: not arm.moves(), name)
        since = time.monotonic()
        arm.joystick = arm.joy  # good again, and pressed all the time
        arm.until(lambda: "has to be released first" in arm.reason(), name)
        assert largest(h for h in arm.cell.heard if h.sent > since) == 0.0, name
        arm.held = set()
        arm.ready()
        arm.press()
    arm.joystick = None  # unplugged in motion
    since = time.monotonic()
    arm.stands("stale_teleop: joy: nothing for", since)
    assert arm.late(since) < SILENCE_SEC + RELEASED_SEC + SLACK_SEC
    arm.joystick = arm.joy
    arm.until(lambda: "has to be released first" in arm.reason(), "the release")
    arm.held = {RETURN}
    arm.policy_moves()


def test_twists_of_a_teleoperation_node(start):
    arm, silent_until = start(BY_SILENCE), 0.0
    arm.joystick = None

    def twist(*linear, **more):
        def publish():
            arm.cell.publish()
            arm.twists.publish(arm.twist(linear or (0.0, 0.0, 0.04), **more))

        return publish

    def insisting(*linear, **more):
        """Twists, let go by silence where a stall of the machine has made that necessary."""
        publish = twist(*linear, **more)

        def insist():
            nonlocal silent_until
            lost = "has to be released first" in arm.reason() or ": stamp is" in arm.reason()
            if lost and time.monotonic() > silent_until + SILENCE_SEC:
                silent_until = time.monotonic() + 1.5 * SILENCE_SEC
            (publish if time.monotonic() > silent_until else arm.cell.publish)()

        return insist

    told = lambda reason: lambda: arm.reason().startswith(reason)  # noqa: E731
    first = "takeover: ~/input/teleop has to be released first"
    arm.until(told(first), first, twist())  # it may come from before the activation
    assert not arm.moves()
    arm.until(told("takeover: a person has the arm and has let go"), "zero", twist(0.0, 0.0, 0.0))
    arm.until(
        lambda: arm.source() == "person" and arm.cell.heard[-1].twist[2] > 0.03, "z", insisting()
    )
    tip = lambda: arm.cell.heard[-1].twist[2] < -0.03  # noqa: E731  # the tip's z is downwards
    arm.until(tip, "the tip's axes", insisting(0.0, 0.0, 0.04, frame="panda_hand_tcp"))
    arm.wait(0.1, twist(3.0, 0.0, 0.0))
    assert largest(arm.cell.heard) <= 0.1 and abs(arm.cell.heard[-1].twist[0]) <= 0.05 + 1e-9
    for bad, reason in (
        (twist(math.nan, 0.0, 0.0), "bad_teleop: ~/input/teleop: twist is [nan"),
        (twist(0.0, 0.0, 50.0), "bad_teleop: ~/input/teleop: twist is [0.0, 0.0, 50.0"),
        (twist(frame="camera"), "bad_teleop: ~/input/teleop: twist is in frame 'camera'"),
        (twist(frame=""), "bad_teleop: ~/input/teleop: twist is in frame ''"),
    ):
        arm.until(told(reason), reason, bad)
        arm.until(lambda: not arm.moves(), reason, bad)
        arm.wait(0.3, arm.cell.publish)  # silence is how twists are let go
        arm.until(lambda: arm.source() == "person" and arm.moves(), "motion", insisting())
    since = time.monotonic()
    arm.stands("stale_teleop: ~/input/teleop", since)
    assert arm.ask(False).success
    arm.policy_moves()


def test_two_teleoperators_hold_the_arm_by_name(world, start):
    arm = start()
    arm.ready()
    arm.press()
    both = lambda: (arm.publish(), arm.twists.publish(arm.twist((0.0, 0.0, 0.04))))  # noqa: E731
    told = "rival_teleop: joy and ~/input/teleop command at once"
    arm.until(lambda: arm.reason().startswith(told), told, both)
    arm.until(lambda: not arm.moves(), "a stand", both)
    arm.held = set()
    arm.wait(0.3)  # until the twists are silent
    arm.ready()
    arm.press()
    other = world.add(Node, "second_joystick")
    other.create_publisher(Joy, "/joy", 10)
    told = "rival_teleop: /joy is published by /bench, /second_joystick"
    arm.until(lambda: arm.reason().startswith(told), told)
    arm.until(lambda: not arm.moves(), "a stand")


def test_what_outranks_a_person_and_what_does_not(world, start):
    arm = start(activate=False)
    assert arm.ask(True).message == "the node is not active"
    arm.held, arm.axes[1] = {DEADMAN}, 1.0  # pressed at activation
    assert arm.node.trigger_activate() == SUCCESS
    arm.until(lambda: "joy has to be released first" in arm.reason(), "the release")
    assert not arm.moves()
    arm.held = set()
    arm.ready()
    assert not arm.ask(False).message
    arm.policy_moves()

    # A hold of the policy: that is when a person is needed.
    arm.decoder.before = lambda: 1 / 0
    arm.until(lambda: arm.reason().startswith("model_error"), "the policy's hold")
    arm.press()
    would = "the policy would hold: model_error"
    arm.until(lambda: arm.source() == "person" and would in arm.reason(), would)

    # The emergency stop and joint states that are missing: not even a person moves it.
    world.call(Trigger, "/vla_node/estop")
    since = time.monotonic()
    arm.stands("estop", since)
    world.call(Trigger, "/vla_node/reset_estop")
    arm.until(lambda: "joy has to be released first" in arm.reason(), "the release")
    arm.held = set()
    arm.ready()
    arm.press()
    arm.cell.joints_of = lambda stamp: joint_state([math.nan] * 7, stamp=stamp)
    arm.until(lambda: arm.reason().startswith("bad_joint_states"), "the hold")
    arm.until(lambda: not arm.moves(), "a stand")
    assert arm.cell.telemetry[-1].commander == "person"


def test_nothing_of_a_chunk_is_executed_after_a_hand_over(start):
    arm = start()

    def answers(result):
        arm.acts(result)
        object.__setattr__(result, "chunk", np.tile(result.action, (40, 1)))  # 2 s

    arm.decoder.after = answers
    arm.ready()
    arm.until(lambda: arm.cell.steps()[-1].chunk.index > 3, "the middle of a chunk")
    assert arm.ask(True).success
    arm.until(lambda: not arm.moves(), "a stand")
    done = len(arm.cell.steps())
    old = arm.cell.steps()[-1].chunk.number
    assert arm.ask(False).success
    arm.until(lambda: arm.cell.steps()[done:], "the policy")
    first = arm.cell.steps()[done]
    assert (first.commander, first.chunk.index) == ("policy", 0) and first.chunk.number > old


def test_a_deactivation_stops_the_person_and_forgets_who_had_the_arm(start):
    arm = start()
    arm.ready()
    arm.press()
    since = time.monotonic()
    assert arm.node.trigger_deactivate() == SUCCESS
    arm.until(lambda: arm.zeros(since), "a stand")
    arm.wait(0.2)
    assert not arm.moves() and arm.ask(False).message == "the node is not active"
    assert arm.node.trigger_activate() == SUCCESS  # with the deadman held all the time
    arm.until(lambda: "joy has to be released first" in arm.reason(), "the release")
    assert not arm.moves()
    arm.held = {RETURN}
    arm.policy_moves()
    assert arm.node.trigger_deactivate() == arm.node.trigger_cleanup() == SUCCESS


def test_the_call_that_gives_the_arm_to_the_policy_still_holds():
    """It may come with an answer to what was seen while the person moved the arm."""
    done = []
    session = SimpleNamespace(
        buffer=SimpleNamespace(discard=lambda: done.append("discard")),
        worker=SimpleNamespace(restart=lambda instruction: done.append(instruction)),
    )
    watch = SimpleNamespace(instruction="go", expect=done.append)
    person = SimpleNamespace(
        taken=False, commander="policy", _handed=False, _session=session,
        _driver=SimpleNamespace(anchored=False),
    )  # fmt: skip
    assert Person.hand_over(person, watch, 1).reason is HoldReason.TAKEOVER and not done
    person._driver.anchored = True
    assert Person.hand_over(person, watch, 2).reason is HoldReason.TAKEOVER
    assert done == ["discard", "go", 2]
    assert Person.hand_over(person, watch, 3) is None and len(done) == 3
    person.taken, person._handed = True, False
    assert Person.hand_over(person, watch, 4) is None  # a person acts on nothing that was seen
