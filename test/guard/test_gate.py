"""What passes, what trips and how the arm stops, in simulated time and against plain arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from support.collisions import READY as FOLDED
from support.collisions import Capsules, capsule_urdf
from support.guarded import (
    ACCELERATION,
    HIGH,
    JERK,
    MARGIN_M,
    READY,
    SETTINGS,
    SPEED,
    TICK_SEC,
    TURN,
    TURN_ACCELERATION,
    TURN_JERK,
    Driver,
    Simulated,
    command_message,
    joint_message,
    leap,
    moved,
    nan,
    other_frame,
    shifted,
    tip,
)

from heisd_ros.guard.gate import Gate, State
from heisd_ros.guard.trips import Trip, TripReason
from heisd_ros.kinematics.robots import panda_urdf
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.guard_parameters import GuardNodeParameters
from heisd_ros.robot.robot_arm import make_reader
from heisd_ros.robot.safety_limits import safety_limits
from heisd_ros.safety.creep import CREEP
from heisd_ros.safety.joints import Posture
from heisd_ros.safety.lead import Lead
from heisd_ros.safety.limits import SafetyFilter

KINDS = ["twist", "pose"]
AWAY = np.array([0.07, 0.03, -0.02, 0.0, 0.0, 0.2])


def gate_of(kind, given=None, urdf=None):
    values = {**SETTINGS, "command.interface": kind, "input.follow_distance_m": 0.1}
    settings = from_values(GuardNodeParameters, {**values, **(given or {})})
    gate = Gate(settings)
    gate.set_robot(make_reader(settings, urdf or panda_urdf()))
    return gate


def moving(kind, given=None):
    """A line whose commands are passed, and move the arm."""
    line = Simulated(gate_of(kind, given), kind)
    line.run(3)
    line.driver.goal = AWAY
    line.run(12)
    assert line.gate.state is State.PASSING and not line.arm.stands()
    return line


def squashed(message):
    if hasattr(message, "pose"):
        message.pose.orientation.x *= 0.5
    else:
        message.twist.linear.x = float("inf")
    return message


def absurd(message):
    if hasattr(message, "pose"):
        message.pose.position.x = -1e308
    else:
        message.twist.linear.x = 1.7e308
    return message


BENT = [
    (nan, "bad_command"),
    (absurd, "bad_command"),
    (squashed, "bad_command"),
    (other_frame, "bad_command: frame is 'camera'; accepted: 'panda_link0'"),
    (leap, "jump"),
    (lambda message: shifted(message, -0.3), "bad_stamps: stamp is 0.300 s old"),
    (lambda message: shifted(message, 0.3), "bad_stamps: stamp is -0.300 s old"),
    (lambda message: None, "no_commands"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("bend", "reason"), BENT)
def test_a_bad_command_or_none_stops_the_arm_within_the_limits_and_latches(kind, bend, reason):
    line = moving(kind)
    line.bend = bend
    assert line.run(10, lambda: line.tripped())
    assert line.tripped().startswith(reason)
    assert line.run(25, line.arm.stands)
    line.bend, passed = (lambda message: message), len(line.passed)
    line.run(20)
    assert line.arm.stands() and len(line.passed) == passed
    assert "commands still move" in line.gate.reset(line.now, line.now)
    line.driver.rest_at(line.arm.q)
    line.run(2)
    assert line.gate.reset(line.now, line.now) == ""
    line.run(2)
    line.driver.goal = -AWAY
    line.run(20)
    assert line.gate.state is State.PASSING and not line.arm.stands()
    line.arm.check()


@pytest.mark.parametrize("kind", KINDS)
def test_too_fast_a_motion_and_one_out_of_the_box_trip(kind):
    line = moving(kind)
    line.driver.goal = np.array([0.2, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert line.run(20, lambda: line.tripped()) and line.tripped().startswith("too_fast: linear")
    line = moving(kind)
    line.driver.goal = np.array([0.09, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert line.run(300, lambda: line.tripped())
    assert line.tripped().startswith("workspace: leads to x = 0.7")
    line.run(20)
    assert line.arm.tips[-1][0] > HIGH[0] - 0.02, "the box was used"
    line.arm.check()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("joints_of", "reason"),
    [
        (lambda good: lambda q, stamp: None, "stale_joint_states"),
        (lambda good: lambda q, stamp: good(np.degrees(q), stamp), "bad_joint_states"),
        (lambda good: lambda q, stamp: good(np.full(7, np.nan), stamp), "bad_joint_states"),
        (lambda good: lambda q, stamp: good(READY, stamp), ("frozen_joint_states", "lead: target")),
        (lambda good: lambda q, stamp: shifted(good(q, stamp), -2.0), "bad_stamps"),
    ],
)
def test_joint_states_that_die_or_lie_stop_the_arm(kind, joints_of, reason):
    line = moving(kind)
    line.driver.goal = np.append(np.zeros(5), 0.3)
    good = line.joints_of
    line.joints_of = joints_of(good)
    assert line.run(90, lambda: line.tripped()) and line.tripped().startswith(reason)
    line.run(25)
    heard = len(line.arm.heard)
    line.run(3)
    assert line.arm.stands() or len(line.arm.heard) == heard
    if isinstance(reason, str):
        line.driver.rest_at(line.arm.q)
        line.run(2)
        assert line.gate.reset(line.now, line.now).startswith(reason)


def test_nothing_passes_before_joint_states_and_a_command_from_rest():
    line = Simulated(gate_of("twist"), "twist")
    good, line.joints_of = line.joints_of, lambda q, stamp: None
    line.run(5)
    assert str(line.gate.waiting).startswith("no_joint_states") and not line.passed
    line.joints_of = good
    line.driver.goal = AWAY
    line.driver.runs_at(AWAY)
    line.run(10)
    assert str(line.gate.waiting).startswith("not_from_rest") and not line.passed
    line.driver.rest_at(line.arm.q)
    line.run(2)
    assert line.gate.state is State.PASSING and line.passed


def test_the_first_target_has_to_be_where_the_arm_is():
    line = Simulated(gate_of("pose"), "pose")
    place, turn = tip(READY)
    line.driver.target = place + np.array([0.0, 0.0, 0.015]), turn
    line.run(5)
    assert "deactivate and activate" in str(line.gate.waiting) and not line.passed


@pytest.mark.parametrize("kind", KINDS)
def test_a_silent_node_at_rest_is_waited_for_and_commands_nothing(kind):
    line = moving(kind)
    line.driver.goal = np.zeros(6)
    line.run(20)
    line.bend = lambda message: None
    line.run(20)
    assert line.gate.state is State.WAITING and "no_commands" in str(line.gate.waiting)
    heard = len(line.arm.heard)
    line.joints_of = lambda q, stamp: None
    line.run(20)
    assert line.gate.state is State.WAITING and len(line.arm.heard) == heard


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [2, -2])
def test_a_clock_that_jumps_for_commands_on_the_way_stops_the_arm(kind, seconds):
    """The command was stamped before the jump, and comes after it."""
    line = moving(kind)
    line.clock_offset = seconds * 10**9
    line.bend = lambda message: shifted(message, -seconds)
    assert line.run(1, lambda: line.tripped()) and line.tripped().startswith("bad_stamps")
    assert line.run(25, line.arm.stands)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_that_is_set_back_between_commands_stops_the_arm(kind):
    line = moving(kind)
    line.clock_offset = -(10**9)
    assert line.run(1, lambda: line.tripped()) and line.tripped().startswith("bad_stamps")


@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_that_is_set_forward_makes_no_room_for_a_jump(kind):
    line = moving(kind)
    line.clock_offset = 10**9
    line.run(1)
    assert line.gate.state is State.PASSING
    line.clock_offset = 2 * 10**9
    line.driver.runs_at(-line.driver.velocity)
    assert line.run(1, lambda: line.tripped()) and line.tripped().startswith("jump")


def test_a_guard_that_stood_still_itself_does_not_pass_what_comes_then():
    line = moving("twist")
    line.now += 10**9
    line.run(1)
    assert line.tripped().startswith("no_commands")
    assert not np.any(line.arm.heard[-1][2]), "the arm has stopped by itself: no ramp"


def test_a_target_that_stands_since_its_node_went_silent_is_not_moved_on():
    line = moving("pose")
    line.bend = lambda message: None
    last = line.arm.heard[-1][2][0]
    line.run(20)
    assert line.tripped().startswith("no_commands") and np.abs(line.driver.velocity).max() > 0.0
    assert np.abs(line.arm.heard[-1][2][0] - last).max() < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_waits_for_the_stop_and_an_emergency_stop_is_the_reason_that_stays(kind):
    line = moving(kind)
    line.gate.stop(Trip(TripReason.CONTROL_ERROR, "of the test"), line.now)
    assert line.gate.reset(line.now, line.now) == "the arm is still being stopped"
    for reason in (TripReason.ESTOP, TripReason.CONTROL_ERROR):
        line.gate.stop(Trip(reason, "pressed"), line.now)
        assert line.tripped() == "estop: pressed"
    assert line.run(25, line.arm.stands)


def test_a_target_that_the_arm_was_moved_away_from_is_not_repeated():
    line = moving("pose")
    line.bend = nan
    line.run(30)
    heard = len(line.arm.heard)
    line.run(3)
    assert len(line.arm.heard) == heard + 3
    line.arm.advance = lambda now, seconds: None  # another controller moves it
    for _ in range(10):
        line.arm.q = line.arm.q + np.append(np.zeros(6), 0.03)
        line.run(1)
    heard = len(line.arm.heard)
    line.run(3)
    assert len(line.arm.heard) == heard


def test_an_arm_beyond_a_limit_may_come_back():
    q = np.array([0.0, 0.7, 0.0, -1.4, 0.0, 2.1, 0.785])
    assert tip(q)[0][0] > HIGH[0]
    gate = gate_of("twist")
    line = Simulated(gate, "twist", q)
    line.run(3)
    line.driver.goal = np.array([-0.08, 0.0, 0.0, 0.0, 0.0, 0.0])
    line.run(30)
    assert gate.state is State.PASSING
    line.driver.goal = np.array([0.08, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert line.run(60, lambda: line.tripped()) and line.tripped().startswith("workspace")


@pytest.mark.parametrize("speed", [0.001, 0.0048])
def test_an_arm_is_not_led_out_of_the_box_step_by_step(speed):
    """Each command leads no further beyond the wall than rounding might."""
    gate = gate_of("twist")
    line = Simulated(gate, "twist")
    line.run(3)
    line.driver.goal = np.array([0.09, 0.0, 0.0, 0.0, 0.0, 0.0])
    inside = HIGH[0] - 0.004
    assert line.run(2000, lambda: tip(line.arm.q)[0][0] > inside) and not line.tripped()
    line.driver.goal = np.array([speed, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert line.run(round(0.03 / speed / TICK_SEC), lambda: line.tripped())
    assert line.tripped().startswith("workspace")
    assert tip(line.arm.q)[0][0] < HIGH[0] + MARGIN_M + CREEP + 0.001


def test_a_target_does_not_run_away_from_a_blocked_arm_step_by_step():
    chance = np.random.default_rng(0)
    given = {"input.follow_distance_m": 0.0, "command.max_lead_m": 0.02}
    gate = gate_of("pose", given)
    line = Simulated(gate, "pose")
    line.run(3)
    blocked = line.arm.q.copy()
    line.arm.advance = lambda now, seconds: setattr(
        line.arm, "q", blocked + 3e-4 * chance.standard_normal(7)
    )
    line.driver.goal = np.array([0.03, 0.0, 0.0, 0.0, 0.0, 0.0])
    line.run(20)
    line.driver.goal = np.array([0.004, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert line.run(800, lambda: line.tripped()) and line.tripped().startswith("lead")
    lead = np.linalg.norm(line.driver.target[0] - tip(blocked)[0])
    assert lead < 0.02 + MARGIN_M + CREEP + 0.002


@pytest.mark.parametrize("kind", KINDS)
def test_commands_that_come_too_often_trip(kind):
    """Each is within the limits of a tick, and they are five times as many."""
    line = moving(kind)
    for _ in range(10):
        line.now += int(TICK_SEC / 5 * 1e9)
        message = command_message(kind, line.driver.next(), line.stamp())
        line.gate.joints.add_joint_state(joint_message(line.arm.q, line.stamp()), line.now)
        line.gate.take(message, line.now, line.now)
    assert line.tripped().startswith(
        "too_fast: commands come faster, or lead further, than one in 0.02 s may"
    )


@pytest.mark.parametrize("together", [1, 4])
def test_made_up_stamps_make_no_faster_motion(together):
    """Each command is within the limits by the time since the last stamp, at least a tick."""
    line, gap = Simulated(gate_of("pose"), "pose"), 4
    line.run(3)
    line.driver.goal = np.array([0.0, 0.95 * SPEED, 0.0, 0.0, 0.0, 0.0])
    line.run(30)
    begun, first, passed = line.now, line.driver.target[0], line.driver.target[0]
    for beat in range(20 * gap):
        line.now += int(TICK_SEC * 1e9)
        line.arm.advance(line.now / 1e9, TICK_SEC)
        line.gate.joints.add_joint_state(joint_message(line.arm.q, line.stamp()), line.now)
        for nth in range(0 if (beat + 1) % gap else together):
            for _ in range(1 if nth else gap):
                values = line.driver.next()
            message = command_message("pose", values, line.stamp())
            if line.gate.take(message, line.now, line.now):
                line.arm.hear(message, line.now / 1e9)
                passed = values[0]
    assert line.tripped().startswith("too_fast: commands come faster") == (together > 1)
    ahead = line.gate.settings.guard.command_timeout_sec + 2 * TICK_SEC
    seconds = (line.now - begun) / 1e9 + ahead
    assert np.linalg.norm(passed - first) <= 1.1 * SPEED * seconds


@pytest.mark.parametrize("kind", KINDS)
def test_a_commander_whose_clock_is_fast_passes_for_hours(kind):
    """Clocks differ by up to 0.01%, here by 1%, so that half an hour passes in 18 seconds."""
    line = Simulated(gate_of(kind), kind)
    line.run(3)
    for _ in range(900):
        line.now -= round(0.0099 * TICK_SEC * 1e9)
        line.run(1)
    assert not line.tripped()


def test_a_delay_lets_commands_come_together():
    line = moving("twist")
    late = []
    line.bend = late.append
    line.run(3)
    for message in late:
        line.gate.take(message, line.now, line.now)
    line.bend = lambda message: message
    line.run(20)
    assert not line.tripped()


def test_an_arm_whose_joint_states_repeat_while_it_is_moved_trips():
    given = {"input.frozen_joint_states": 10, "input.frozen_joint_sec": 0.0}
    line = moving("twist", given | {"input.follow_distance_m": 0.0})
    still = line.arm.q.copy()
    line.joints_of = lambda q, stamp: joint_message(still, stamp)
    assert line.run(40, lambda: line.tripped())
    assert line.tripped().startswith("frozen_joint_states")
    line.driver.rest_at(line.arm.q)
    line.arm.q = still
    line.run(20)
    assert not line.gate.reset(line.now, line.now)
    line.run(5)
    assert line.gate.state is State.PASSING
    line.joints_of = joint_message
    line.driver.goal = AWAY
    line.run(20)
    assert not line.tripped() and not line.arm.stands()


@pytest.mark.parametrize("seed", range(6))
def test_a_target_that_stands_beside_an_arm_that_was_turned_away_trips_nothing(seed):
    """It is sent again and again, and differs by rounding."""
    chance = np.random.default_rng(seed)
    gate = gate_of("pose", {"input.follow_distance_m": 0.0})
    line = Simulated(gate, "pose")
    line.arm.advance = lambda now, seconds: None
    line.run(3)
    line.arm.q = line.arm.q + 0.25 * np.append(np.zeros(6), 1.0) + 1e-3 * chance.normal(size=7)
    line.run(150)
    assert not line.tripped()


def test_an_arm_is_not_led_out_in_portions_with_pauses_between():
    gate = gate_of("twist")
    line = Simulated(gate, "twist")
    line.run(3)
    line.driver.goal = np.array([0.09, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert line.run(2000, lambda: tip(line.arm.q)[0][0] > HIGH[0] - 0.004)
    for _ in range(60):
        line.driver.goal = np.array([0.002, 0.0, 0.0, 0.0, 0.0, 0.0])
        line.run(18)
        line.driver.goal = np.zeros(6)
        line.run(10)
        line.bend = lambda message: None
        line.run(7)
        line.bend = lambda message: message
        line.run(4)
        if line.tripped():
            break
    assert line.tripped().startswith("workspace")
    assert tip(line.arm.q)[0][0] < HIGH[0] + MARGIN_M + CREEP + 0.002


DOWN = np.array([0.0, 0.0, -0.09, 0.0, 0.0, 0.0])
TURNING = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.45])


@pytest.mark.parametrize(
    ("goal", "table_z", "reason"),
    [
        (DOWN, 0.35, "collision: leads panda_rightfinger and the table"),
        (DOWN, 0.0, "collision: leads panda_link5 and panda_link7"),
        (TURNING, 0.0, "joint_limit: leads panda_joint7"),
    ],
)
def test_links_stay_off_each_other_and_the_table_and_joints_off_limits(goal, table_z, reason):
    """The commander knows no limits; distances are measured in another way (see `Capsules`)."""
    given = {
        "robot.tip_frame": "panda_hand",
        "collision.slow_m": 0.08,
        "collision.stop_m": 0.04,
        "collision.table_z": table_z,
        "joints.slow_rad": 0.2,
        "joints.stop_rad": 0.06,
        **{f"workspace.{axis}_min": -2.0 for axis in "xyz"},
        **{f"workspace.{axis}_max": 2.0 for axis in "xyz"},
    }
    line = Simulated(gate_of("twist", given, capsule_urdf()), "twist", FOLDED)
    line.run(3)
    line.driver.goal = goal
    assert line.run(500, lambda: line.tripped()) and line.tripped().startswith(reason)
    line.run(20)
    between, heights = Capsules().measure(line.arm.q, [("panda_link5", "panda_link7")])
    # Fingers, which are no capsules, reach 0.04 m beyond the hand's.
    gaps = {"finger": heights["panda_hand"] - table_z - 0.04, "link5": between, "joint7": 0.03}
    assert 0.02 < next(gap for name, gap in gaps.items() if name in reason) < 0.05
    assert abs(line.arm.q[6]) < 2.8973


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_whatever_the_nodes_own_filter_sends_is_passed(kind, seed):
    """Commands are lost and come late, and the node sees joint states that are older."""
    line = Simulated(gate_of(kind, {"input.follow_distance_m": 0.0}), kind)
    settings, random = line.gate.settings, np.random.default_rng(seed)
    filter_ = SafetyFilter(safety_limits(settings), TICK_SEC, 0.05, 0.1)
    arm = make_reader(settings, panda_urdf()).kinematics
    seen, target, wanted, ticks = [READY] * 3, arm.forward(READY), np.zeros(6), 0

    class Filtered(Driver):
        def next(self):
            nonlocal target, wanted, ticks
            ticks += 1
            seen.append(line.arm.q)
            if ticks % 15 == 5:
                wanted = np.concatenate([random.normal(size=3) * 0.15, random.normal(size=3) * 0.6])
            q = seen[-1 - random.integers(0, 3)]
            measured = arm.forward(q)
            most = settings.command.max_lead_m, settings.command.max_lead_rad
            lead = Lead.between(measured, target, most) if kind == "pose" else None
            place = target.position if kind == "pose" else measured.position
            limited = filter_.step(wanted, place, Posture(arm, q), lead, TICK_SEC)
            target = target.moved(limited.motion)
            return limited.twist if kind == "twist" else (target.position, target.rotation)

    line.driver = Filtered(kind, READY)
    line.bend = lambda message: None if random.random() < 0.03 else message
    line.run(150)
    assert line.tripped() == "" and len(line.passed) > 130
    assert np.ptp(line.arm.tips, axis=0).max() > 0.05, "it moved"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("goal", [np.eye(6)[1] * SPEED, np.eye(6)[5] * TURN])
@pytest.mark.parametrize("lost", [(2,), (3,), (1, 2), (3, 4)])
def test_commands_lost_on_the_way_to_the_limit_of_speed_trip_nothing(kind, goal, lost):
    line = Simulated(gate_of(kind, {"input.follow_distance_m": 0.0}), kind)
    limits = replace(safety_limits(line.gate.settings), workspace=None, joints=None)
    filter_ = SafetyFilter(limits, TICK_SEC, TICK_SEC)

    class Filtered(Driver):
        def next(self):
            limited = filter_.step(self.goal, None, None)
            place, turn = self.target
            spin = Rotation.from_rotvec(limited.motion[3:]).as_matrix()
            self.target = place + limited.motion[:3], spin @ turn
            return limited.twist if kind == "twist" else self.target

    line.driver = Filtered(kind, READY)
    line.run(3)
    line.driver.goal = goal
    for tick in range(20):
        line.bend = (lambda message: None) if tick in lost else (lambda message: message)
        line.run(1)
    assert line.tripped() == ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("late", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("at", [1, 3, 10])
def test_a_command_lost_after_a_late_one_trips_nothing(kind, late, at):
    """The stamps of its neighbours are nearer to each other than two ticks."""
    line = Simulated(gate_of(kind, {"input.follow_distance_m": 0.0}), kind)
    line.run(3)
    line.driver.goal = np.array([0.0, 0.099, 0.0, 0.0, 0.0, 0.49])
    line.run(at)
    delay = int(late * TICK_SEC * 1e9)
    line.now += delay
    line.run(1)
    line.now -= delay
    line.bend = lambda message: None
    line.run(1)
    line.bend = lambda message: message
    line.run(10)
    assert line.tripped() == ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("gap", "lost"), [(1.0, 0), (1.0, 1), (1.09, 0), (1.51, 0), (1.51, 1)])
@pytest.mark.parametrize("steps", [5, 30])
def test_a_stop_after_commands_whose_ticks_are_uncertain_is_within_the_limits(
    kind, gap, lost, steps
):
    """Slow commanders, and a loss at rest: what moved may have taken one tick or two."""
    line = Simulated(gate_of(kind, {"input.follow_distance_m": 0.0}), kind)

    def run(ticks):
        for _ in range(ticks):
            line.now += int((gap - 1.0) * TICK_SEC * 1e9)
            line.run(1)

    run(5)
    line.bend = lambda message: None
    run(lost)
    line.bend = lambda message: message
    line.driver.goal = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.98 * TURN])
    run(steps)
    line.run(1)
    assert line.tripped() == "" and line.driver.velocity[5] > 0.1
    sent = len(line.arm.heard)
    line.gate.stop(Trip(TripReason.ESTOP, "of the test"), line.now)
    line.run(60, line.arm.stands)
    values = [values for _, _, values in line.arm.heard[sent - 1 :]]
    if kind == "pose":
        turns = Rotation.from_matrix([turn for _, turn in values])
        speeds = (turns[1:] * turns[:-1].inv()).magnitude() / TICK_SEC
    else:
        speeds = np.array([np.linalg.norm(twist[3:]) for twist in values[1:]])
    speeds = np.append(np.linalg.norm(line.driver.velocity[3:]), speeds)
    assert speeds.max() <= TURN * 1.1 and speeds[-1] == 0.0
    changes = np.diff(speeds) / TICK_SEC
    assert np.abs(changes).max() <= TURN_ACCELERATION * 1.1


def test_a_stop_after_late_commands_that_brake_does_not_turn_the_arm_back():
    """At 100 Hz one tick alone may fit the jerk, which is twice the acceleration of both."""
    gate = gate_of("twist", {"command.rate_hz": 100.0, "input.follow_distance_m": 0.0})
    now, q, speed, sent = 10**12, READY.copy(), 0.0, []

    def beat():
        nonlocal now, q
        now += 10**7
        stamp = Time(sec=now // 10**9, nanosec=now % 10**9)
        q = moved(q, np.append(np.zeros(5), speed), 0.01)
        gate.joints.add_joint_state(joint_message(q, stamp), now, now)
        return stamp

    rises = [0] * 20 + [1, 2, 3, 4, 5, 5, 5, 5, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5]
    for gap, change in [(1, each) for each in rises] + [(2, -6.1), (2, -7.2), (2, -8.3)]:
        stamp = [beat() for _ in range(gap)][-1]
        twist = np.append(np.zeros(5), speed + change * 0.01)
        assert gate.take(command_message("twist", twist, stamp), now, now), gate.trip
        speed = twist[5]
    gate.stop(Trip(TripReason.ESTOP, "of the test"), now)
    while not gate.at_rest:
        beat()
        sent.append(gate.stopping(now).twist[5])
        speed = sent[-1]
    assert min(sent) >= -0.01
    assert np.abs(np.diff(sent)).max() <= TURN_ACCELERATION * 0.01 * 1.1


@pytest.mark.parametrize("lost", [0, 1, 3])
@pytest.mark.parametrize("at", range(11, 16))
def test_a_target_after_lost_ones_is_still_within_the_box(lost, at):
    """It has come all the way of the lost ones at once."""
    fast = {"command.max_linear_speed": 0.3, "command.max_lead_m": 0.1, "workspace.y_max": 0.06}
    hard = {"command.max_linear_acceleration": 3.0, "command.max_linear_jerk": 120.0}
    line = Simulated(gate_of("pose", {"input.follow_distance_m": 0.0, **fast, **hard}), "pose")
    line.run(3)
    line.driver.goal = np.array([0.0, 0.29, 0.0, 0.0, 0.0, 0.0])
    line.driver.acceleration = 3.0
    line.run(at)
    line.bend = lambda message: None
    line.run(lost)
    line.bend = lambda message: message
    line.run(30, lambda: line.tripped() and line.arm.stands())
    assert line.tripped().startswith("workspace")
    assert max(place[1] for _, _, (place, _) in line.arm.heard) <= 0.06 + MARGIN_M


PIECES = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 5), st.sampled_from([-1.3, -0.9, 0.0, 0.9, 1.3])),
    max_size=8,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(PIECES)
def test_commands_pass_up_to_the_limits_and_no_further(kind, pieces):
    """A commander of any jerk, judged by differences of what it sent."""
    line = Simulated(gate_of(kind), kind)
    rate, sent = np.zeros(6), [np.zeros(6)]
    jerks = np.repeat([JERK, TURN_JERK], 3)
    most = {1: (JERK, TURN_JERK), 0: (ACCELERATION, TURN_ACCELERATION)}
    line.run(3)
    for ticks, axis, share in pieces:
        for _ in range(ticks):
            rate = rate + share * jerks * TICK_SEC * np.eye(6)[axis]
            sent.append(sent[-1] + rate * TICK_SEC)
            line.driver.goal = sent[-1]
            line.driver.runs_at(sent[-1])
            line.run(1)
            if line.tripped():
                break
        if line.tripped():
            break
    ended = line.tripped()
    line.run(20)
    line.arm.check()
    if line.tripped() != ended:
        sent += [sent[-1]] * 2  # what tripped is that the velocity stayed as it was
    padded = np.vstack([np.zeros((2, 6)), sent])
    lengths = lambda rows: np.linalg.norm(rows.reshape(len(rows), 2, 3), axis=2)  # noqa: E731
    shares = [
        lengths(padded) / (SPEED, TURN),
        lengths(np.diff(padded, axis=0)) / TICK_SEC / most[0],
        lengths(np.diff(padded, n=2, axis=0)) / TICK_SEC**2 / most[1],
    ]
    # What the limits of place say is the concern of other tests.
    if line.tripped().split(":")[0] in ("", "too_fast", "jump", "jerk"):
        worst = max(share.max() for share in shares)
        if line.tripped().startswith("too_fast: leads to "):
            size = np.repeat(np.linalg.norm(rate.reshape(2, 3), axis=1), 3)
            faded = sent[-1] + rate * size / (2.0 * jerks)  # as quickly as the jerk allows
            worst = (lengths(faded[None]) / (SPEED, TURN)).max()
        assert worst <= 1.12 if not line.tripped() else worst > 1.0, (line.tripped(), worst)


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_that_shakes_within_the_acceleration_trips_by_its_jerk(kind):
    line = moving(kind)
    line.run(20)
    shake = 0.6 * ACCELERATION * TICK_SEC
    for sign in (1.0, -1.0, 1.0):
        line.driver.runs_at(line.driver.goal + np.append(sign * shake / 2.0, np.zeros(5)))
        line.run(1)
    assert line.tripped().startswith("jerk: linear jerk ")
    assert line.run(25, line.arm.stands)


@pytest.mark.parametrize("opening", [float("nan"), float("inf"), -0.01, 0.081, 8.0])
def test_an_opening_that_is_none_trips_and_nothing_passes_before_or_after(opening):
    gate = gate_of("twist")
    assert not gate.grip(0.04, 1) and not gate.grip(opening, 1) and gate.trip is None
    line = moving("twist")
    assert all(line.gate.grip(good, line.now) for good in (0.0, 0.04, 0.08))
    assert not line.gate.grip(opening, line.now)
    assert line.tripped().startswith(f"bad_gripper: opening is {opening:g} m; accepted: 0 to 0.08")
    assert not line.gate.grip(0.04, line.now)


def test_twists_along_the_tip_in_other_units_are_read_and_stopped_as_such():
    units = {"command.units": "unitless", "command.unitless_linear": 0.2}
    given = {"command.frame_id": "panda_hand_tcp", "command.unitless_angular": 0.5, **units}
    gate = gate_of("twist", given)
    gate.joints.add_joint_state(joint_message(READY, Time(sec=1000)), 10**12, 10**12)
    down = np.array([0.0, 0.0, 0.25, 0.0, 0.0, 0.0])  # 0.05 m/s along the tip, which points down
    passed = []
    for tick, share in enumerate([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]):
        now = 10**12 + int(tick * TICK_SEC * 1e9)
        stamp = Time(sec=1000, nanosec=now - 10**12)
        message = command_message("twist", share * down, stamp, "panda_hand_tcp")
        passed.append(gate.take(message, now, now))
    assert all(passed)
    expected = tip(READY)[1] @ [0.0, 0.0, 0.05]
    assert gate._passed.readings[0].twist[:3] == pytest.approx(expected, abs=1e-6)
    gate.stop(Trip(TripReason.ESTOP, "now"), now)
    stops = [gate.stopping(now + int(n * TICK_SEC * 1e9)).twist for n in range(1, 12)]
    assert stops[0][2] > 0.1 and stops[-1] == pytest.approx(np.zeros(6))
    assert np.abs(np.delete(stops, 2, axis=1)).max() < 1e-9
    assert np.diff([stop[2] for stop in stops]).max() <= 1e-9
