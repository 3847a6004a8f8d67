"""The motion window: known paths, clocks, missing velocities, streaming against batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heisd_ros.kinematics.curvature import path_radius
from heisd_ros.kinematics.motion import MetricSettings, MotionWindow

RATE = 20.0


def feed(window, positions, velocities, stamps):
    return [window.update(*sample) for sample in zip(positions, velocities, stamps, strict=True)]


def circle(radius, speed, stamps):
    angle = speed / radius * np.asarray(stamps)
    along, across = np.cos(angle), np.sin(angle)
    flat = np.zeros_like(angle)
    positions = radius * np.stack([along, across, flat], axis=1)
    return positions, speed * np.stack([-across, along, flat], axis=1)


@given(st.floats(0.03, 0.5), st.floats(0.02, 0.4), st.integers(0, 2**32 - 1))
def test_a_circle_gives_its_radius_speed_and_length_at_uneven_times(radius, speed, seed):
    stamps = np.cumsum(np.random.default_rng(seed).uniform(0.01, 0.1, 15))
    positions, velocities = circle(radius, speed, stamps)
    motion = feed(MotionWindow(MetricSettings()), positions, velocities, stamps)[-1]
    assert motion.ready
    assert motion.source == "velocity"
    assert motion.speed == pytest.approx(speed)
    assert motion.path_length == pytest.approx(speed * (stamps[-1] - stamps[0]))
    assert motion.curvature_radius == pytest.approx(radius, rel=1e-3)


@pytest.mark.parametrize("velocity", [None, np.full(3, np.nan), np.array([0.0, np.inf, 0.0])])
def test_without_velocities_positions_stand_in_and_it_says_so(velocity):
    stamps = np.arange(15) / RATE
    positions, _ = circle(0.2, 0.1, stamps)
    motion = feed(MotionWindow(MetricSettings()), positions, [velocity] * 15, stamps)[-1]
    assert motion.source == "position_difference"
    assert motion.speed == pytest.approx(0.1, rel=1e-3)
    assert motion.path_length == pytest.approx(0.1 * 14 / RATE, rel=1e-3)


def test_one_missing_velocity_counts_until_it_leaves_the_window():
    stamps = np.arange(30) / RATE
    positions, velocities = circle(0.2, 0.1, stamps)
    velocities[10] = np.nan
    motions = feed(MotionWindow(MetricSettings(window=15)), positions, velocities, stamps)
    sources = [motion.source for motion in motions]
    assert sources == ["velocity"] * 10 + ["position_difference"] * 15 + ["velocity"] * 5
    assert motions[12].path_length == pytest.approx(0.1 * 12 / RATE, rel=1e-3)


def test_a_first_sample_without_velocity_has_no_speed():
    motion = MotionWindow(MetricSettings()).update(np.zeros(3), None, 0.0)
    assert (motion.speed, motion.path_length, motion.curvature_radius) == (0.0, 0.0, 0.0)
    assert not motion.ready


def test_a_window_at_rest_has_radius_zero_and_a_straight_one_is_capped():
    window = MotionWindow(MetricSettings(window=5, max_radius=2.0))
    noise = np.random.default_rng(0).normal(0.0, 1e-5, (5, 3))
    assert feed(window, noise, [None] * 5, np.arange(5) / RATE)[-1].curvature_radius == 0.0
    line = np.outer(np.arange(5) * 0.01, [1.0, 2.0, 3.0])
    assert feed(window, line, [None] * 5, 1 + np.arange(5) / RATE)[-1].curvature_radius == 2.0


def test_a_twitch_has_no_shape():
    still = np.zeros((15, 3))
    still[-1, 0] = 2e-4
    assert (
        feed(MotionWindow(MetricSettings()), still, [None] * 15, np.arange(15) / RATE)[
            -1
        ].curvature_radius
        == 0.0
    )


def test_legacy_sums_distances_from_the_newest_point():
    window = MotionWindow(MetricSettings(kind="legacy"))
    line = np.outer(np.arange(6), [0.1, 0.0, 0.0])
    motions = feed(window, line, [None] * 6, np.arange(6) / RATE)
    assert [m.ready for m in motions] == [False] * 4 + [True] * 2
    assert motions[-1].path_length == pytest.approx(0.1 + 0.2 + 0.3 + 0.4)


@pytest.mark.parametrize("jump", [-5.0, -1e-3, 0.51, 1e9])
def test_a_clock_that_jumps_restarts_the_window(jump):
    window = MotionWindow(MetricSettings(window=5, max_gap=0.5))
    stamps = np.arange(5) / RATE
    positions, velocities = circle(0.2, 0.1, stamps)
    assert feed(window, positions, velocities, stamps)[-1].ready
    again = feed(window, positions, velocities, stamps + stamps[-1] + jump)
    assert [motion.ready for motion in again] == [False] * 4 + [True]


def test_a_repeated_stamp_replaces_the_newest_sample():
    window = MotionWindow(MetricSettings(window=5))
    stamps = np.arange(5) / RATE
    positions, velocities = circle(0.2, 0.1, stamps)
    once = feed(window, positions, velocities, stamps)[-1]
    assert window.update(positions[-1], velocities[-1], stamps[-1]) == once


def test_reset_empties_the_window():
    window = MotionWindow(MetricSettings(window=3))
    feed(window, np.eye(3), [None] * 3, np.arange(3) / RATE)
    window.reset()
    assert not window.update(np.zeros(3), None, 1.0).ready


@settings(max_examples=40)
@given(st.floats(4.0, 60.0), st.floats(0.0, 0.3), st.integers(0, 2**32 - 1))
def test_a_window_of_time_gives_the_same_length_at_every_rate(rate, jitter, seed):
    period, speed = 1.0 / RATE, 0.1
    window = MotionWindow(MetricSettings(), period)
    steps = 1.0 + jitter * np.random.default_rng(seed).uniform(-1.0, 1.0, int(2.0 * rate))
    stamps = np.cumsum(steps / rate)
    positions, velocities = circle(0.2, speed, stamps)
    motion = feed(window, positions, velocities, stamps)[-1]
    assert motion.ready
    assert motion.path_length == pytest.approx(speed * 14 * period, rel=0.02)


@pytest.mark.parametrize("kind", ["paper", "legacy", "speed"])
def test_at_its_own_rate_a_window_of_time_is_one_of_samples(kind):
    config, stamps = MetricSettings(kind=kind), 1.7e9 + np.arange(40) / RATE
    positions, velocities = circle(0.2, 0.1, stamps - stamps[0])
    samples = feed(MotionWindow(config), positions, velocities, stamps)
    timed = feed(MotionWindow(config, 1.0 / RATE), positions, velocities, stamps)
    full = [index for index, motion in enumerate(samples) if motion.ready]
    assert full == [index for index, motion in enumerate(timed) if motion.ready]
    assert timed[full[0] :] == samples[full[0] :]


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["paper", "legacy", "speed"]))
def test_streaming_equals_recomputing_every_window(seed, kind):
    rng = np.random.default_rng(seed)
    config = MetricSettings(kind=kind)
    w, n = config.window, 40
    stamps = np.cumsum(rng.uniform(0.01, 0.2, n))
    positions = np.cumsum(rng.normal(0.0, 0.01, (n, 3)), axis=0)
    velocities = rng.normal(0.0, 0.1, (n, 3))
    motions = feed(MotionWindow(config), positions, velocities, stamps)
    speeds = np.linalg.norm(velocities, axis=1)
    for end in range(w, n + 1):
        points, part = positions[end - w : end], slice(end - w, end)
        means = (speeds[part][1:] + speeds[part][:-1]) / 2
        length = means @ np.diff(stamps[part])
        if kind == "legacy":
            length = np.linalg.norm(points - points[-1], axis=1).sum()
        assert motions[end - 1].path_length == pytest.approx(length, rel=1e-12)
        assert motions[end - 1].speed == pytest.approx(speeds[end - 1])
        radius = path_radius(points, config.max_radius) if w > 2 else 0.0
        assert motions[end - 1].curvature_radius == radius


@pytest.mark.parametrize(
    ("position", "velocity", "stamp", "message"),
    [
        ([0, 0], None, 0.0, "position"),
        ([0, 0, np.nan], None, 0.0, "position"),
        ([0, 0, 0], np.zeros(6), 0.0, "velocity"),
        ([0, 0, 0], None, np.nan, "stamp"),
    ],
)
def test_bad_samples_are_named(position, velocity, stamp, message):
    with pytest.raises(ValueError, match=message):
        MotionWindow(MetricSettings()).update(position, velocity, stamp)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "fast"},
        {"window": 2},
        {"window": 7.5},
        {"alpha": 1.5},
        {"alpha": np.nan},
        {"max_radius": 0.0},
        {"still_extent": -1.0},
        {"max_gap": np.inf},
    ],
)
def test_bad_settings_are_named(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        MetricSettings(**fields)
