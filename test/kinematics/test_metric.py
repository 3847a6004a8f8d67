"""The fused metric: its range, its meaning, bounds from demonstrations, JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heisd_ros.kinematics.metric import FusedMetric, MetricBounds, MetricSettings, Trajectory

RATE = 20.0
KINDS = ("paper", "legacy", "speed")


def demonstrations(count=6, seed=0, with_velocities=True):
    """Episodes of a fast straight reach, then slow tight circles, like picking something up."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        speed, radius = rng.uniform(0.15, 0.3), rng.uniform(0.01, 0.03)
        t = np.arange(60) / RATE
        reach = np.outer(speed * t, [1.0, 0.0, 0.0])
        angle = 0.02 / radius * (t + 1 / RATE)
        curl = radius * np.stack([np.sin(angle), 1 - np.cos(angle), np.zeros(60)], axis=1)
        positions = np.concatenate([reach, reach[-1] + curl])
        stamps = np.arange(120) / RATE
        velocities = np.gradient(positions, 1 / RATE, axis=0) if with_velocities else None
        yield Trajectory(positions, stamps, velocities)


def run(metric, trajectory):
    velocities = trajectory.velocities
    if velocities is None:
        velocities = [None] * len(trajectory.stamps)
    samples = zip(trajectory.positions, velocities, trajectory.stamps, strict=True)
    return [metric.update(*sample) for sample in samples]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_velocities", [True, False])
def test_reaching_scores_high_and_fine_work_low(kind, with_velocities):
    config = MetricSettings(kind=kind)
    bounds = MetricBounds.from_trajectories(
        demonstrations(with_velocities=with_velocities), config, boundary_percentile=50.0
    )
    episode = next(demonstrations(1, seed=9, with_velocities=with_velocities))
    samples = run(FusedMetric(bounds), episode)
    values = [sample.value for sample in samples]
    assert [s.ready for s in samples] == [i + 1 >= config.window for i in range(120)]
    assert min(values[20:58]) > bounds.boundary > max(values[80:])
    assert {s.source for s in samples} == {"velocity" if with_velocities else "position_difference"}
    assert {s.kind for s in samples} == {kind}


@settings(max_examples=60)
@given(
    st.sampled_from(KINDS),
    st.lists(
        st.tuples(
            *[st.floats(-5.0, 5.0)] * 3,
            *[st.floats(allow_nan=True, allow_infinity=True)] * 3,
            st.floats(-1.0, 1.0),
        ),
        min_size=1,
        max_size=40,
    ),
)
def test_any_stream_gives_a_value_in_0_1(kind, rows):
    bounds = MetricBounds(
        MetricSettings(kind=kind, window=3), (0.0, 0.5), (0.0, 0.2), (0.0, 0.3), 0.25
    )
    metric = FusedMetric(bounds)
    stamp = 0.0
    for row in rows:
        stamp += row[6]
        sample = metric.update(np.array(row[:3]), np.array(row[3:6]), stamp)
        assert 0.0 <= sample.value <= 1.0
        assert sample.ready or sample.value == 0.0
        for part in (sample.path_length, sample.curvature_radius, sample.speed):
            assert not np.isnan(part)


def test_bounds_are_percentiles_of_the_parts_and_of_the_metric():
    config = MetricSettings()
    bounds = MetricBounds.from_trajectories(demonstrations(), config)
    samples = [
        sample
        for episode in demonstrations()
        for sample in run(FusedMetric(bounds), episode)
        if sample.ready
    ]
    for name, limits in (
        ("path_length", bounds.path_range),
        ("curvature_radius", bounds.radius_range),
        ("speed", bounds.speed_range),
    ):
        parts = [getattr(sample, name) for sample in samples]
        assert limits == pytest.approx((min(parts), np.percentile(parts, 95.0)))
    values = [sample.value for sample in samples]
    assert bounds.boundary == pytest.approx(np.percentile(values, 25.0))


def test_scaling_the_world_and_its_bounds_changes_nothing():
    def scaled(factor):
        for episode in demonstrations():
            yield Trajectory(
                factor * episode.positions, episode.stamps, factor * episode.velocities
            )

    plain = MetricSettings()
    large = replace(plain, max_radius=100 * plain.max_radius, still_extent=0.01)
    a = MetricBounds.from_trajectories(scaled(1.0), plain)
    b = MetricBounds.from_trajectories(scaled(100.0), large)
    for one, other in zip(scaled(1.0), scaled(100.0), strict=True):
        values = [[s.value for s in run(FusedMetric(x), t)] for x, t in ((a, one), (b, other))]
        np.testing.assert_allclose(*values, atol=1e-9)


def test_rigid_motion_changes_nothing():
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    bounds = MetricBounds.from_trajectories(demonstrations())
    for episode in demonstrations():
        moved = Trajectory(
            episode.positions @ rotation.T + [0.3, -0.2, 0.5],
            episode.stamps,
            episode.velocities @ rotation.T,
        )
        values = [[s.value for s in run(FusedMetric(bounds), t)] for t in (episode, moved)]
        np.testing.assert_allclose(*values, atol=1e-6)


def test_alpha_weighs_the_two_parts():
    def value(alpha):
        bounds = MetricBounds(
            MetricSettings(alpha=alpha, window=3), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0), 0.5
        )
        metric = FusedMetric(bounds)
        for i in range(3):
            sample = metric.update([0.1 * i, 0.0, 0.0], None, i / RATE)
        return sample.value

    assert [value(a) for a in (0.0, 0.5, 1.0)] == pytest.approx([0.2, 0.6, 1.0])


def test_demonstrations_that_never_vary_make_a_step_not_a_nan():
    still = Trajectory(np.zeros((20, 3)), np.arange(20) / RATE)
    bounds = MetricBounds.from_trajectories([still])
    assert [s.value for s in run(FusedMetric(bounds), still)] == [0.0] * 20


def test_reset_starts_an_episode_over():
    metric = FusedMetric(MetricBounds.from_trajectories(demonstrations()))
    episode = next(demonstrations(1))
    first = run(metric, episode)
    metric.reset()
    assert run(metric, episode) == first


@pytest.mark.parametrize("kind", KINDS)
def test_json_round_trip(kind):
    bounds = MetricBounds.from_trajectories(demonstrations(), MetricSettings(kind=kind))
    assert MetricBounds.from_json(bounds.to_json()) == bounds


BOUNDS = MetricBounds(MetricSettings(), (0.0, 0.5), (0.0, 0.2), (0.0, 0.3), 0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boundary": 1.5}, "boundary"),
        ({"boundary": float("nan")}, "boundary"),
        ({"path_range": [0.2, 0.1]}, "path_range"),
        ({"radius_range": [0.2]}, "radius_range"),
        ({"speed_range": [0.0, float("inf")]}, "speed_range"),
        ({"speed_range": None}, "speed_range"),
        ({"colour": "red"}, "colour"),
        ({"settings": {"kind": "fast"}}, "fast"),
        ({"settings": {"windows": 3}}, "windows"),
        ({"settings": 3}, "settings|mapping"),
    ],
)
def test_bad_json_fields_are_named(change, message):
    fields = {**json.loads(BOUNDS.to_json()), **change}
    with pytest.raises(ValueError, match=message):
        MetricBounds.from_json(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"settings": {}}'])
def test_text_that_is_no_bounds_is_named(text):
    with pytest.raises(ValueError, match="not the JSON of metric bounds"):
        MetricBounds.from_json(text)


def test_trajectories_too_short_are_named():
    with pytest.raises(ValueError, match="15 samples"):
        MetricBounds.from_trajectories([Trajectory(np.zeros((14, 3)), np.arange(14.0) / RATE)])
    with pytest.raises(ValueError, match="percentile"):
        MetricBounds.from_trajectories(demonstrations(), top_percentile=101.0)


@pytest.mark.parametrize(
    ("positions", "stamps", "velocities", "message"),
    [
        (np.zeros((4, 3)), np.arange(5.0), None, "positions"),
        (np.zeros((5, 2)), np.arange(5.0), None, "positions"),
        (np.zeros((5, 3)), np.zeros(5), None, "increasing"),
        (np.zeros((5, 3)), np.full(5, np.nan), None, "increasing"),
        (np.zeros((5, 3)), np.arange(5.0), np.zeros((5, 6)), "velocities"),
    ],
)
def test_bad_trajectories_are_named(positions, stamps, velocities, message):
    with pytest.raises(ValueError, match=message):
        Trajectory(positions, stamps, velocities)
