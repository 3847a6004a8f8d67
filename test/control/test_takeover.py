"""Who has the arm, and when what a person asks may move it."""

from __future__ import annotations

import re
from types import SimpleNamespace as Record

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.robots import robot_files

from heisd_ros.control.inputs import NANOSECONDS
from heisd_ros.control.joystick import Joystick
from heisd_ros.control.takeover import Takeover
from heisd_ros.robot.declare import from_values, with_values
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.robot.robot_file import read_cell_file
from heisd_ros.robot.teleop_parameters import (
    RELEASE_SEC,
    TeleopParameters,
    fastest_release,
    release_sec,
)
from heisd_ros.safety.ramp import Ramp

GIVEN = {"teleop.joy_topic": "joy", "teleop.twist_topic": "twist", "input.recovery_sec": 0.0}
CLOCK = 10**18


def takeover(**more):
    return Takeover(from_values(VlaNodeParameters, {**GIVEN, **more}))


def header(stamp, frame=""):
    return Record(
        stamp=Record(sec=stamp // NANOSECONDS, nanosec=stamp % NANOSECONDS), frame_id=frame
    )


def joy(now, held=(), axes=(0.0,) * 8, age=0.0):
    stamp = CLOCK + now - int(age * NANOSECONDS)
    buttons = [int(i in held) for i in range(8)]
    return Record(header=header(stamp), axes=list(axes), buttons=buttons)


def twist(now, x, frame="panda_link0"):
    part = Record(x=x, y=0.0, z=0.0)
    zero = Record(x=0.0, y=0.0, z=0.0)
    return Record(header=header(CLOCK + now, frame), twist=Record(linear=part, angular=zero))


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["press", "let go", "bad", "bad press", "late press", "twist", "zero", ""]),
        st.sampled_from([0.01, 0.05, 0.15, 0.3]),
    ),
    max_size=40,
)


@given(EVENTS)
def test_nothing_moves_that_was_not_seen_released_since_the_last_interruption(events):
    person, now = takeover(), NANOSECONDS
    seen_released, last, heard_at = False, "", 0  # of the joystick
    twist_at, twist_was = None, 0.0
    for event, seconds in events:
        now += int(seconds * NANOSECONDS)
        silent = now - heard_at > 0.2 * NANOSECONDS
        if silent:
            seen_released = False
        if event in ("press", "let go"):
            person.on_joy(joy(now, {4} if event == "press" else ()), now, CLOCK + now)
            seen_released, last, heard_at = seen_released or event == "let go", event, now
        elif event.startswith("bad"):
            axes = [float("nan")] * 8
            person.on_joy(joy(now, {4} if "press" in event else (), axes), now, CLOCK + now)
            seen_released, last = False, event
        elif event == "late press":
            person.on_joy(joy(now, {4}, age=0.5), now, CLOCK + now)
            seen_released, last = False, event
        elif event in ("twist", "zero"):
            twist_at, twist_was = now, 0.05 if event == "twist" else 0.0
            person.on_twist(twist(now, twist_was), now, CLOCK + now)
        wish = person.wish(now)
        pressed = last == "press" and now - heard_at <= 0.2 * NANOSECONDS
        by_twist = twist_at is not None and now - twist_at <= 0.2 * NANOSECONDS and twist_was > 0.0
        if wish is not None:
            assert person.taken
            assert (pressed and seen_released and not by_twist) or (by_twist and not pressed)
        if pressed or by_twist:
            assert person.taken


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["press", "let go", "bad"]),
            st.floats(-0.3, 0.3),  # of the stamp from the clock
            st.sampled_from([0.0, -5.0, -0.15, 0.1, 60.0]),  # of the clock, which is set
            st.sampled_from([0.005, 0.05, 0.3]),
        ),
        max_size=30,
    ),
    st.sampled_from(["hold", "policy"]),
)
def test_after_a_release_nothing_moves_whatever_stamps_and_clocks_say(events, on_release):
    person, now, clock = takeover(**{"teleop.on_release": on_release}), NANOSECONDS, CLOCK
    for event, age, jump, seconds in events:
        now += int(seconds * NANOSECONDS)
        clock += int((seconds + jump) * NANOSECONDS)
        axes = [float("nan")] * 8 if event == "bad" else [0.0, 1.0] + [0.0] * 6
        message = joy(0, () if event == "let go" else {4}, axes)
        message.header = header(clock - int(age * NANOSECONDS))
        person.on_joy(message, now, clock)
        if event != "let go":
            assert person.taken or person.joy.stamp > clock - int(age * NANOSECONDS)
        if event != "press":
            assert person.wish(now) is None
        assert person.wish(now + int(0.21 * NANOSECONDS)) is None, "of one message no longer"


def test_a_press_without_a_release_before_it_moves_nothing():
    person = takeover()
    person.on_joy(joy(1, {4}), 1, CLOCK + 1)
    assert person.taken and person.wish(1) is None
    assert "joy has to be released first" in person.problem(1).detail
    person.on_joy(joy(2), 2, CLOCK + 2)
    person.on_joy(joy(3, {4}, [0.0, 1.0, *[0.0] * 6]), 3, CLOCK + 3)
    np.testing.assert_allclose(person.wish(3).twist, [0.05, 0, 0, 0, 0, 0])


def test_an_overtaken_press_does_not_undo_a_release():
    person = takeover()
    for now, held in ((10, ()), (20, {4}), (40, ()), (30, {4})):
        person.on_joy(joy(now, held), now, CLOCK + now)
    assert person.wish(50) is None


@pytest.mark.parametrize("ahead_ms", [1, 100, 190])
def test_a_release_counts_after_a_stamp_of_the_future_or_a_clock_that_was_set_back(ahead_ms):
    person, ms = takeover(**{"teleop.on_release": "policy"}), NANOSECONDS // 1000
    person.on_joy(joy(0), 0, CLOCK)
    person.on_joy(joy(10 * ms, {4}, age=-ahead_ms / 1e3), 10 * ms, CLOCK + 10 * ms)
    assert person.wish(11 * ms) is not None
    now = (10 + ahead_ms // 2) * ms
    person.on_joy(joy(now), now, CLOCK + now)
    assert person.wish(now) is None and person.taken, "it stops, and gives nothing back"


def test_two_devices_at_once_move_nothing_until_the_joystick_was_released():
    person, ms = takeover(), NANOSECONDS // 1000
    push = [0.0, 1.0, *[0.0] * 6]
    person.on_joy(joy(0), 0, CLOCK)
    person.on_joy(joy(10 * ms, {4}, push), 10 * ms, CLOCK + 10 * ms)
    assert person.wish(10 * ms) is not None
    person.on_twist(twist(20 * ms, 0.05), 20 * ms, CLOCK + 20 * ms)
    assert person.problem(20 * ms).detail.startswith("joy and twist command at once")
    for now in range(60 * ms, 400 * ms, 40 * ms):  # the twists are silent, the deadman is held
        person.on_joy(joy(now, {4}, push), now, CLOCK + now)
        assert person.wish(now) is None
    assert "joy has to be released first" in person.problem(now).detail


@pytest.mark.parametrize("jump_sec", [-3600, -5, 5, 3600])
def test_a_clock_that_is_set_takes_the_arm_from_nobody_for_long(jump_sec):
    person, ms, clock = takeover(), NANOSECONDS // 1000, CLOCK
    for now, held in ((0, ()), (10, {4}), (20, {4}), (500, ()), (510, {4})):
        if now == 20:
            clock += jump_sec * NANOSECONDS
        message = joy(0, held, [0.0, 1.0, *[0.0] * 6])
        message.header = header(clock + now * ms)
        person.on_joy(message, now * ms, clock + now * ms)
        assert (person.wish(now * ms) is not None) == (held == {4}), now


def test_of_two_joysticks_the_released_one_gives_nothing_back():
    person = takeover(**{"teleop.on_release": "policy"})
    person._rivals = lambda: "joy is published by two nodes"
    for now, held in ((1, ()), (2, {4}), (3, ()), (4, {7})):
        person.on_joy(joy(now, held), now, CLOCK + now)
    assert person.taken and person.problem(5).reason == "rival_teleop"


def test_buttons_that_report_different_outcomes_at_once_say_nothing():
    told = []
    settings = {"teleop.success_button": 5, "teleop.failure_button": 6}
    person = takeover(**settings)
    person._on_outcome = told.append
    for now, held in enumerate(((), {5, 6}, (), {5}, {5}, {5, 6}), 1):
        person.on_joy(joy(now, held), now, CLOCK + now)
    assert told == ["success", "failure"]  # the last one was pressed alone, while one was held
    person._rivals = lambda: "joy is published by two nodes"
    for now, held in enumerate((set(), {5}, (), {5}), 10):  # one says pressed, the other not
        person.on_joy(joy(now, held), now, CLOCK + now)
    assert len(told) == 2


def test_a_joystick_whose_rate_is_known_counts_as_released_after_three_periods():
    person, ms = takeover(**{"teleop.joy_rate_hz": 200.0}), NANOSECONDS // 1000
    person.on_joy(joy(0), 0, CLOCK)
    person.on_joy(joy(10 * ms, {4}), 10 * ms, CLOCK + 10 * ms)
    assert person.wish(25 * ms) is not None and person.wish(26 * ms) is None
    assert person.problem(26 * ms).reason == "stale_teleop"


def test_a_message_counts_from_its_stamp_on():
    person, ms = takeover(), NANOSECONDS // 1000
    person.on_joy(joy(0), 0, CLOCK)
    person.on_joy(joy(10 * ms, {4}), 150 * ms, CLOCK + 150 * ms)
    assert person.wish(200 * ms) is not None and person.wish(211 * ms) is None
    assert "nothing for 0.29 s; accepted: up to 0.2 s" in person.problem(300 * ms).detail


def test_the_policy_has_the_arm_back_only_from_somebody_who_has_let_go():
    person = takeover(**{"teleop.on_release": "policy"})
    person.on_joy(joy(1), 1, CLOCK + 1)
    person.on_joy(joy(2, {4}), 2, CLOCK + 2)
    assert "joy still commands the arm" in person.give_back("service", 2) and person.taken
    assert person.wish(2) is not None
    silent = NANOSECONDS
    assert person.problem(silent).reason == "stale_teleop" and person.taken
    person.on_joy(joy(silent), silent, CLOCK + silent)
    assert person.taken  # that release came after silence
    for now, held in ((silent + 1, {4}), (silent + 2, ())):
        person.on_joy(joy(now, held), now, CLOCK + now)
        person.problem(now)
    assert not person.taken and person.count == 1


def test_axes_are_mapped_with_sign_dead_zone_and_speed():
    stick = Joystick(TeleopParameters(axes=("-0", "", "", "", "", "+1"), deadzone=0.5))
    read = lambda *axes: stick.read(joy(0, axes=axes)).twist.tolist()  # noqa: E731
    assert read(0.4, -0.4) == [0.0] * 6
    np.testing.assert_allclose(read(1.2, 0.75), [-0.05, 0, 0, 0, 0, 0.075])
    diagonal = Joystick(TeleopParameters()).read(joy(0, axes=(1.0, 1.0, 0, 0, 1.0, 0, 0, 0)))
    assert np.linalg.norm(diagonal.twist[:3]) == pytest.approx(0.05)


def test_both_buttons_of_the_gripper_say_nothing():
    stick = Joystick(TeleopParameters())
    openness = [stick.read(joy(0, held)).openness for held in ((1,), (0,), (0, 1), ())]
    assert openness == [1.0, 0.0, None, None]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"teleop.joy_topic": "my joy"}, "'teleop.joy_topic' is 'my joy'; accepted: the name of"),
        ({"teleop.twist_topic": "joy"}, "accepted: another topic than 'teleop.joy_topic'"),
        ({"teleop.axes": ("+1",)}, "'teleop.axes' is ['+1']; accepted: six texts"),
        ({"teleop.axes": ("1",) * 6}, "six texts like '+1' or '-0'"),
        ({"teleop.open_button": 4}, "'teleop.open_button' is 4; accepted: another button than"),
        ({"command.translation_scale": 0.0}, "more than 0, as 'teleop' lets a person take over"),
        (
            {
                "command.rate_hz": 50.0,
                "command.max_linear_speed": 0.1,
                "command.max_linear_acceleration": 0.2,
            },
            "'teleop.max_linear_speed' is 0.05; accepted: up to 0.024, so that the arm stands",
        ),
        (
            {
                "command.rate_hz": 50.0,
                "command.max_linear_speed": 0.1,
                "command.max_linear_acceleration": 1.0,
                "teleop.joy_rate_hz": 50.0,
                "teleop.max_linear_speed": 0.1,
            },
            "accepted: up to 0.06, so that the arm stands 0.15 s after the joystick is unplugged",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        from_values(VlaNodeParameters, {**GIVEN, **values})


@pytest.mark.parametrize("name", sorted({*robot_files()} - {"generic"}))
def test_a_joystick_with_default_speeds_may_be_named_in_every_robots_file(name):
    cell = with_values(read_cell_file(robot_files()[name]), {"teleop.joy_topic": "joy"})
    assert cell.teleop.enabled


@given(
    st.floats(0.01, 0.3),
    st.floats(0.5, 10.0),
    st.floats(10.0, 1000.0),
    st.sampled_from([25, 50, 100]),
    st.sampled_from([0.0, 0.015, 0.03]),
)
def test_an_accepted_speed_stands_in_time_whenever_the_release_comes(
    speed, most, jerk, rate, silence
):
    tick = 1.0 / rate
    accepted = fastest_release(speed, most, jerk, tick, silence)
    if accepted < 1e-4:
        return
    ramp, wanted = Ramp(tick, most, jerk), np.array([accepted, 0.0, 0.0])
    for _ in range(40):
        plan = ramp.plan(wanted)
        ramp.take(plan)
        # From the release to the next tick, and then until the plan's end.
        assert silence + (len(ramp.reserve) + 1) * tick <= RELEASE_SEC + 2.0 * tick
    assert release_sec(accepted, most, jerk) <= RELEASE_SEC
