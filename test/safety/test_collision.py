"""The arm keeps off itself and the table, according to an independent distance computation."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.collisions import READY, Capsules, capsule_arm

from heisd_ros.safety.collision import CollisionGuard
from heisd_ros.safety.joints import METRES_A_RADIAN, JointGuard, Posture
from heisd_ros.safety.limits import PartLimits, SafetyFilter, SafetyLimits

ARM = capsule_arm()
CAPSULES = Capsules()
SLOW, STOP, TICK, SETTLE = 0.08, 0.02, 0.02, 0.3
LENGTHS = np.repeat([1.0, METRES_A_RADIAN], 3)
LINEAR, ANGULAR = PartLimits(0.02, 0.25, 1.0, 40.0), PartLimits(0.1, 1.0, 5.0, 100.0)
FOLDED = np.array([0.14, 0.8, -0.53, -2.25, 0.38, 1.05, 0.7])
"""The hand is before the shoulder."""
twists = st.lists(st.floats(-1, 1), min_size=6, max_size=6).map(np.array)


def guard(table=None):
    return CollisionGuard(SLOW, STOP) if table is None else CollisionGuard(SLOW, STOP, table)


@cache
def watched():
    """Pairs of links without the fingers."""
    geometry, seen = ARM.geometry, guard().watched(ARM.geometry)
    pairs = {geometry.words(i) for i in np.flatnonzero(seen[: geometry.pairs])}
    return sorted(tuple(pair.split(" and ")) for pair in pairs if "finger" not in pair)


def clearance(q, table):
    """Least distance of the links to each other, and of any that can leave it to the table."""
    between, heights = CAPSULES.measure(q, watched())
    heights.pop("panda_link1")  # it stands on the base
    return between, min(heights.values()) - table


def follow(twist, q):
    """As a controller by damped least squares moves the joints."""
    jacobian = ARM.jacobian(q)
    step = np.linalg.solve(jacobian @ jacobian.T + 0.02**2 * np.eye(6), twist)
    return q + jacobian.T @ step * TICK


def filter_for(table=None, **joints):
    limits = SafetyLimits(LINEAR, ANGULAR, joints=JointGuard(collision=guard(table), **joints))
    return SafetyFilter(limits, TICK, 0.05)


def lowered(height):
    """The arm with its fingers this much above z = 0, pointing down."""
    return next(
        q
        for q in (np.array([0, a, 0, a - 2.3, 0, 2.3, 0.7]) for a in np.linspace(0, 1.5, 600))
        if guard(0.0)._distances(Posture(ARM, q), ARM.geometry)[ARM.geometry.pairs :].min() < height
    )


@pytest.mark.parametrize("seed", range(4))
def test_an_arm_that_does_what_it_is_told_touches_nothing(seed):
    """Acceleration and jerk come after the guard: it has to leave room to brake."""
    rng = np.random.default_rng(seed)
    q, table = [(READY, 0.0), (FOLDED, -0.2), (lowered(0.1), 0.0)][seed % 3]
    safety, before = filter_for(table), np.zeros(6)
    for _ in range(6):
        wanted = rng.normal(size=6) * np.repeat([0.5, 2.0], 3)
        for tick in range(25):
            twist = safety.step(wanted, None, Posture(ARM, q)).twist
            q = follow(twist, q)
            for part, most in ((slice(0, 3), LINEAR), (slice(3, 6), ANGULAR)):
                change = np.linalg.norm(twist[part] - before[part])
                assert change <= most.acceleration * TICK + 1e-9
            before = twist
            assert tick % 5 or min(clearance(q, table)) >= STOP
    assert safety.counts["collision"]


@pytest.mark.parametrize(
    ("start", "wanted", "table"),
    [
        (FOLDED, [-0.25, 0.1, 0.1, 0, 0, 0], None),
        (FOLDED, [-0.2, 0.1, -0.1, 0, 1.0, 0], None),
        (lowered(0.2), [0, 0, -0.25, 0, 0, 0], 0.0),
        (lowered(0.1), [0, 0, -0.25, 1.0, 0, 0], 0.0),
        (READY, [0, 0, -0.25, 0, 1.0, 0], 0.1),
    ],
)
def test_who_pushes_on_is_stopped_close_by(start, wanted, table):
    safety, q, least = filter_for(table), start, np.inf
    for tick in range(120):
        limited = safety.step(np.array(wanted), None, Posture(ARM, q))
        q = follow(limited.twist, q)
        if tick % 3:
            continue
        between, height = clearance(q, 0.0 if table is None else table)
        least = min(least, between, np.inf if table is None else height)
        assert least >= STOP
    assert safety.counts["collision"] and " m apart: approach at " in str(limited)
    now = guard(table)._distances(Posture(ARM, q), ARM.geometry).min()
    assert now < STOP + 0.02


@settings(max_examples=60, deadline=None)
@given(
    twists,
    st.sampled_from([READY, FOLDED, lowered(0.05)]),
    st.lists(st.floats(-0.3, 0.3), min_size=7, max_size=7).map(np.array),
)
def test_a_twist_that_is_cut_grows_never_and_leads_back_never(twist, posture, offset):
    shaped, notes = JointGuard(collision=guard(0.0)).shape(
        twist, Posture(ARM, posture + offset), SETTLE
    )
    long, short = twist * LENGTHS, shaped * LENGTHS
    assert np.linalg.norm(short) <= np.linalg.norm(long) + 1e-9 and short @ long >= -1e-9
    assert np.array_equal(shaped, twist) or notes["collision"]


def test_from_below_the_table_the_way_is_up_and_the_reason_is_told():
    safety, q = filter_for(0.3), lowered(0.1)
    for wanted, moved in ((-0.1, False), (0.1, True)):
        start = ARM.forward(q).position
        for _ in range(50):
            limited = safety.step(np.array([0, 0, wanted, 0, 0, 0]), None, Posture(ARM, q))
            q = follow(limited.twist, q)
        rise = ARM.forward(q).position[2] - start[2]
        assert (rise > 0.05) if moved else abs(rise) < 1e-3
        assert moved or "the table are -0." in limited.notes["collision"]


def test_who_starts_too_near_comes_no_nearer_whatever_is_wanted():
    rng, q, safety = np.random.default_rng(0), lowered(STOP / 2), filter_for(0.0)
    first = guard(0.0)._distances(Posture(ARM, q), ARM.geometry).min()
    assert first < STOP
    for _ in range(6):
        wanted = rng.normal(size=6) * np.repeat([0.3, 1.0], 3)
        wanted[2] = -abs(wanted[2])
        for _ in range(25):
            q = follow(safety.step(wanted, None, Posture(ARM, q)).twist, q)
        assert guard(0.0)._distances(Posture(ARM, q), ARM.geometry).min() > first - 2e-4


def test_where_several_links_are_too_near_there_is_a_way_out():
    """Three pairs are nearer than their stop, two of them overlap."""
    rng, (low, high), geometry = np.random.default_rng(5), ARM.position_limits, ARM.geometry
    left = 0
    while left < 4:
        q = rng.uniform(low, high)
        distances = guard()._distances(Posture(ARM, q), geometry)
        worst = int(distances.argmin())
        if np.count_nonzero(distances < STOP) < 3 or "link7" in geometry.words(worst):
            continue
        away = ARM.jacobian(q) @ geometry.slopes(q, np.array([worst]))[0]
        away *= 0.1 / np.linalg.norm(away)
        safety = filter_for()
        for _ in range(50):
            q = follow(safety.step(away, None, Posture(ARM, q)).twist, q)
        assert guard()._distances(Posture(ARM, q), geometry)[worst] > distances[worst] + 1e-3
        left += 1


def test_over_the_table_a_tip_slides():
    safety, q = filter_for(0.0), lowered(STOP + 0.001)
    start = ARM.forward(q).position
    for _ in range(60):
        q = follow(safety.step(np.array([0, 0.2, -0.1, 0, 0, 0]), None, Posture(ARM, q)).twist, q)
    assert ARM.forward(q).position[1] - start[1] > 0.1


def test_links_that_touch_by_their_make_are_not_looked_at_and_named():
    assert "panda_link1 and panda_link3" in guard().touching(ARM.geometry)
    assert ("panda_link0", "panda_hand") in watched()
    assert guard(2.0).gaps(ARM.geometry) == ["the table at 2 m, which no link comes above"]
    assert guard(0.0).gaps(ARM.geometry) == guard().gaps(ARM.geometry) == []


def test_without_geometry_nothing_is_looked_at():
    from support.collisions import BASE, TIP, capsule_urdf

    from heisd_ros.kinematics.arm import ArmKinematics

    blind = ArmKinematics(capsule_urdf(), TIP, None, BASE)
    twist = np.array([0.1, 0, 0, 0, 0, 0])
    shaped, notes = JointGuard(collision=guard(0.0)).shape(twist, Posture(blind, FOLDED), SETTLE)
    assert np.array_equal(shaped, twist) and not notes


def test_thresholds_in_the_wrong_order_are_named():
    with pytest.raises(ValueError, match=r"stop_m 0\.2; accepted: 0 to slow_m 0\.1"):
        CollisionGuard(0.1, 0.2)
