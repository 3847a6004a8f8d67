"""Commands of joints keep every limit, on random arms, by finite differences of what is sent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.collisions import READY, Capsules, capsule_arm
from support.random_arms import RandomArm

from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.safety.collision import CollisionGuard
from heisd_ros.safety.joint_filter import JointFilter, JointLimits
from heisd_ros.safety.joints import JointGuard
from heisd_ros.safety.lead import JointLead
from heisd_ros.safety.posture import JointPosture
from heisd_ros.safety.ramped_filter import PartLimits
from heisd_ros.safety.workspace import Workspace

TICK, STEP = 0.02, 0.05
ACCELERATION, JERK, SCALE = 4.0, 80.0, 0.5
STOP = 0.01
GUARD = JointGuard(slow_rad=0.2, stop_rad=STOP, velocity_scale=SCALE)
TIP_SPEED = 0.5
EVENTS = st.lists(
    st.sampled_from(["away", "back", "random", "halt", "nan", "huge", "blind"]),
    min_size=3,
    max_size=6,
)
SEEDS = st.integers(0, 10_000)


def limits(**changes):
    given = {"joints": PartLimits(acceleration=ACCELERATION, jerk=JERK), "guard": GUARD}
    return JointLimits(**{**given, **changes})


def drive(safety, kinematics, q, events, rng, ticks=12):
    """Commands an arm that does what it is told: its positions and velocities, (t, n) each."""
    positions, velocities = [q], [np.zeros(len(q))] * 2
    away = rng.normal(size=len(q)) * 3.0
    for event in events:
        wanted = {"back": -away, "nan": away * np.nan, "huge": away * 1e300}.get(event, away)
        if event == "random":
            wanted = rng.normal(size=len(q))
        for _ in range(ticks):
            posture = None if event == "blind" else JointPosture(kinematics, positions[-1])
            limited = safety.halt() if event == "halt" else safety.step(wanted, posture)
            positions.append(positions[-1] + limited.motion)
            velocities.append(limited.velocity)
    return np.array(positions), np.array(velocities)


def assert_smooth(velocities, arm):
    """Speed, acceleration and jerk of every joint, by differences."""
    assert np.isfinite(velocities).all()
    acceleration = np.diff(velocities, axis=0) / TICK
    jerk = np.diff(acceleration, axis=0) / TICK
    assert (np.abs(velocities) <= SCALE * arm.speeds * (1 + 1e-6)).all()
    assert np.abs(acceleration).max() <= ACCELERATION * (1 + 1e-6)
    assert np.abs(jerk).max() <= JERK * (1 + 1e-6)


def assert_within(positions, arm):
    """Inside the limits, or no further outside than at the start."""
    start = positions[0]
    assert (positions >= np.minimum(arm.lower + STOP, start) - 1e-6).all()
    assert (positions <= np.maximum(arm.upper - STOP, start) + 1e-6).all()


def tips(arm, positions):
    return np.array([arm.tip(q)[0] for q in positions])


@settings(max_examples=14, deadline=None)
@given(SEEDS, EVENTS)
def test_whatever_is_wanted_every_joint_keeps_its_limits(seed, events):
    rng = np.random.default_rng(seed)
    arm = RandomArm(rng)
    kinematics = ArmKinematics(arm.urdf, "tip")
    safety = JointFilter(limits(), len(arm.names), TICK, STEP)
    positions, velocities = drive(safety, kinematics, arm.anywhere(rng), events, rng)
    assert_smooth(velocities, arm)
    assert_within(positions, arm)


@settings(max_examples=8, deadline=None)
@given(SEEDS, EVENTS)
def test_the_tip_keeps_its_speed_and_its_box(seed, events):
    rng = np.random.default_rng(seed)
    arm = RandomArm(rng)
    kinematics = ArmKinematics(arm.urdf, "tip")
    q = arm.anywhere(rng)
    home = arm.tip(q)[0]
    box = Workspace(home - 0.05, home + 0.1)
    given = limits(linear=PartLimits(speed=TIP_SPEED), workspace=box)
    safety = JointFilter(given, len(arm.names), TICK, STEP)
    positions, velocities = drive(safety, kinematics, q, events, rng)
    assert_smooth(velocities, arm)
    assert_within(positions, arm)
    places = tips(arm, positions)
    speeds = np.linalg.norm(np.diff(places, axis=0), axis=1) / TICK
    assert speeds.max() <= TIP_SPEED * 1.02
    assert (places >= box.low - 1e-3).all() and (places <= box.high + 1e-3).all()


def arm_of_five(seed=3):
    arm = RandomArm(np.random.default_rng(seed), 5)
    return arm, ArmKinematics(arm.urdf, "tip")


def bounded_joint(arm):
    """A joint with limits."""
    return int(np.flatnonzero(np.isfinite(arm.upper))[0])


def towards(joint, speed, count=5):
    return np.eye(count)[joint] * speed


def follow(safety, kinematics, q, wanted, ticks):
    """Where an arm goes that is told the same all the time, (t, n)."""
    positions = [q]
    for _ in range(ticks):
        limited = safety.step(wanted, JointPosture(kinematics, positions[-1]))
        positions.append(positions[-1] + limited.motion)
    return np.array(positions)


def test_a_joint_comes_up_to_its_limit_and_the_others_go_past():
    arm, kinematics = arm_of_five()
    joint, other = bounded_joint(arm), 4
    safety = JointFilter(limits(), 5, TICK, STEP)
    q = arm.middle()
    wanted = towards(joint, 1.0) - towards(other, 0.1)
    positions = follow(safety, kinematics, q, wanted, 400)
    assert_within(positions, arm)
    assert positions[-1][joint] > arm.upper[joint] - STOP - 0.02
    assert safety.counts["joint_limit"] and positions[-1][other] < q[other] - 0.2
    back = follow(safety, kinematics, positions[-1], -wanted, 100)
    assert back[-1][joint] < positions[-1][joint] - 0.1


@pytest.mark.parametrize("beyond", [0.0, 0.15])
def test_from_outside_a_limit_the_only_way_is_back(beyond):
    arm, kinematics = arm_of_five()
    joint = bounded_joint(arm)
    q = arm.middle()
    q[joint] = arm.upper[joint] + beyond
    out = follow(JointFilter(limits(), 5, TICK, STEP), kinematics, q, towards(joint, 1.0), 50)
    assert (out[:, joint] <= q[joint] + 1e-9).all()
    back = follow(JointFilter(limits(), 5, TICK, STEP), kinematics, q, towards(joint, -1.0), 200)
    assert back[-1][joint] < arm.upper[joint] - 0.1 and (np.diff(back[:, joint]) <= 1e-12).all()


def test_too_fast_joints_are_slowed_down_together():
    arm, kinematics = arm_of_five()
    q = arm.middle()
    wanted = np.linspace(1.0, 2.0, 5) * 10.0
    safety = JointFilter(JointLimits(guard=GUARD), 5, TICK, STEP)
    limited = safety.step(wanted, JointPosture(kinematics, q))
    shares = limited.velocity / (SCALE * arm.speeds)
    assert shares.max() == pytest.approx(1.0)
    np.testing.assert_allclose(limited.velocity / limited.velocity[0], wanted / wanted[0])
    assert "rad/s, limit" in limited.notes["joint_velocity"]


@pytest.mark.parametrize("wanted", [np.full(5, np.nan), np.array([np.inf, 0, 0, 0, 0])])
def test_what_is_no_number_moves_no_joint(wanted):
    _, kinematics = arm_of_five()
    limited = JointFilter(limits(), 5, TICK, STEP).step(
        wanted, JointPosture(kinematics, np.zeros(5))
    )
    assert not limited.velocity.any() and "not finite" in limited.notes["not_finite"]


def test_nothing_moves_while_the_joints_are_unknown():
    arm, kinematics = arm_of_five()
    safety = JointFilter(limits(), 5, TICK, STEP)
    q = arm.middle()
    follow(safety, kinematics, q, towards(0, 0.3), 20)
    velocities = [safety.step(towards(0, 0.3), None).velocity for _ in range(30)]
    assert velocities[0].any() and not velocities[-1].any() and safety.counts["pose_unknown"]


legs = st.lists(
    st.tuples(st.sampled_from(["follows", "stands", "jumps", "noisy", "held"]), SEEDS),
    min_size=1,
    max_size=6,
)


@settings(max_examples=8, deadline=None)
@given(SEEDS, legs)
def test_a_target_is_smooth_whatever_the_arm_does_and_led_back_to_it(seed, legs):
    most, rng = 0.1, np.random.default_rng(seed)
    arm = RandomArm(rng)
    kinematics = ArmKinematics(arm.urdf, "tip")
    target = measured = arm.anywhere(rng)
    safety = JointFilter(limits(), len(arm.names), TICK, STEP)
    targets, velocities = [target], [np.zeros(len(target))] * 2
    leads = []
    for how, number in legs:
        wanted = np.random.default_rng(number).normal(size=len(target)) * 2.0
        if how == "jumps":
            measured = measured + wanted / 10.0
        for _ in range(15):
            here = measured + (how == "noisy") * rng.normal(size=len(target)) * 0.01
            lead = JointLead(target - here, most)
            posture = JointPosture(kinematics, target)
            limited = safety.halt() if how == "held" else safety.step(wanted, posture, lead)
            target = target + limited.motion
            targets.append(target)
            velocities.append(limited.velocity)
            if how == "follows":
                measured = target
            leads.append(np.abs(target - measured).max())
    assert_smooth(np.array(velocities), arm)
    assert_within(np.array(targets), arm)
    if all(how in ("follows", "stands", "held") for how, _ in legs):
        assert max(leads) <= most + 1e-6


def test_a_target_that_is_too_far_ahead_comes_back():
    arm, kinematics = arm_of_five()
    q = arm.middle()
    target, safety = q + 0.3, JointFilter(limits(), 5, TICK, STEP)
    for _ in range(200):
        lead = JointLead(target - q, 0.1)
        posture = JointPosture(kinematics, target)
        target = target + safety.step(np.full(5, 1.0), posture, lead).motion
    assert np.abs(target - q).max() <= 0.1 + 1e-6 and safety.counts["lead"]


@pytest.mark.parametrize("seed", range(2))
def test_links_keep_off_each_other_and_the_table(seed):
    """According to a distance computation that shares nothing with the guard's."""
    rng, arm, capsules = np.random.default_rng(seed), capsule_arm(), Capsules()
    stop, table = 0.02, 0.1
    guard = JointGuard(velocity_scale=SCALE, collision=CollisionGuard(0.08, stop, table))
    safety, q = JointFilter(limits(guard=guard), 7, TICK, STEP), READY
    geometry, watched = arm.geometry, guard.collision.watched(arm.geometry)
    pairs = {geometry.words(i) for i in np.flatnonzero(watched[: geometry.pairs])}
    pairs = sorted(tuple(each.split(" and ")) for each in pairs if "finger" not in each)
    least = []
    for _ in range(5):
        wanted = rng.normal(size=7) + np.array([0.0, 1.0, 0.0, -0.5, 0.0, 0.0, 0.0])
        for _ in range(20):
            q = q + safety.step(wanted, JointPosture(arm, q)).motion
        between, heights = capsules.measure(q, pairs)
        least.append(min(between, min(heights[f"panda_link{i}"] for i in (5, 6, 7)) - table))
    assert min(least) >= stop - 1e-3 and safety.counts["collision"]


def test_late_commands_gain_no_speed_and_brake_for_the_time_that_passed():
    arm, kinematics = arm_of_five()
    q = arm.middle()
    safety = JointFilter(limits(), 5, TICK, STEP, timeout_sec=0.5)
    follow(safety, kinematics, q, towards(1, 0.3), 15)
    speed = np.abs(safety.step(towards(1, 0.3), JointPosture(kinematics, q)).velocity).max()
    for _ in range(4):
        late = safety.step(np.zeros(5), JointPosture(kinematics, q), elapsed_sec=3.0 * TICK)
    assert np.abs(late.velocity).max() < speed / 4
    rested = safety.step(towards(1, 0.3), JointPosture(kinematics, q), elapsed_sec=1.0)
    assert np.abs(rested.velocity).max() <= ACCELERATION * TICK
