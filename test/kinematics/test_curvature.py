"""The circle fit against circles, arcs, lines and helices of known radius."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heisd_ros.kinematics.curvature import fit_circle, path_radius

FAR = 1e6
radii = st.floats(1e-3, 10.0)
counts = st.integers(3, 30)
seeds = st.integers(0, 2**32 - 1)
clouds = st.lists(
    st.tuples(*[st.floats(-1.0, 1.0).map(lambda x: round(x, 6))] * 3), min_size=3, max_size=20
).map(np.array)


def arc(radius, angle, count):
    """An arc in the xy plane that starts at its centre's +x side."""
    t = np.linspace(0.0, angle, count)
    return radius * np.stack([np.cos(t), np.sin(t), np.zeros_like(t)], axis=1)


def rigid_motion(seed):
    rng = np.random.default_rng(seed)
    return pin.exp3(rng.normal(size=3)), rng.uniform(-1.0, 1.0, 3)


@given(radii, st.floats(0.05, 2.0 * np.pi - 0.3), counts, seeds)
def test_exact_arcs_give_radius_centre_and_plane(radius, angle, count, seed):
    rotation, shift = rigid_motion(seed)
    fit = fit_circle(arc(radius, angle, count) @ rotation.T + shift, FAR)
    assert fit.radius == pytest.approx(radius, rel=1e-4)
    np.testing.assert_allclose(fit.centre, shift, atol=1e-4 * radius + 1e-9)
    assert abs(fit.normal @ rotation[:, 2]) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("radius", [0.05, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("angle", [0.5, 1.0, 3.0, 6.0])
def test_noisy_arcs_are_recovered_on_average(radius, angle):
    """0.5% noise of the arc's length: the median radius is right, also where the arc is short."""
    rng = np.random.default_rng(1)
    noise = 0.005 * radius * angle
    fits = [
        fit_circle(arc(radius, angle, 15) + rng.normal(0.0, noise, (15, 3)), FAR).radius
        for _ in range(200)
    ]
    assert np.median(fits) == pytest.approx(radius, rel=0.1)


@given(radii, st.floats(0.02, 0.3), st.floats(0.5, 2.0), seeds)
def test_helix_has_the_radius_of_its_osculating_circle(radius, pitch, angle, seed):
    """A short piece of a helix of radius r and pitch 2 pi c curves with radius (r^2 + c^2) / r."""
    rotation, shift = rigid_motion(seed)
    c = pitch * radius
    t = np.linspace(0.0, angle, 15)
    helix = np.stack([radius * np.cos(t), radius * np.sin(t), c * t], axis=1)
    expected = (radius**2 + c**2) / radius
    fit = fit_circle(helix @ rotation.T + shift, FAR)
    assert fit.radius == pytest.approx(expected, rel=0.05)


@given(st.lists(st.floats(-10.0, 10.0), min_size=3, max_size=20), seeds)
def test_collinear_points_are_capped(along, seed):
    rotation, shift = rigid_motion(seed)
    points = np.outer(along, rotation[0]) + shift
    radius = fit_circle(points, 2.5).radius
    assert radius in (0.0, 2.5) or np.ptp(along) < 1e-6


@given(st.floats(0.01, 1.0), st.floats(0.0, 1e-5), seeds)
def test_almost_straight_paths_are_capped(length, bend, seed):
    rotation, shift = rigid_motion(seed)
    t = np.linspace(-0.5, 0.5, 15)
    points = length * np.stack([t, bend * t**2, np.zeros_like(t)], axis=1)
    assert fit_circle(points @ rotation.T + shift, 1.0).radius == 1.0


@given(st.floats(0.002, 0.3), st.integers(2, 13), seeds)
def test_a_way_out_and_back_is_not_straight(length, turn, seed):
    """Its radius is at most that of the circle of the same length, which ends where it began."""
    rotation, shift = rigid_motion(seed)
    along = np.concatenate([np.linspace(0.0, 1.0, turn + 1), np.linspace(1.0, 0.0, 15 - turn)])
    points = np.outer(length * along, rotation[0]) + shift
    assert path_radius(points, 1.0) <= 2.0 * length / (2.0 * np.pi) * 1.001


@given(st.floats(0.01, 0.5), st.floats(0.1, 6.0), seeds)
def test_an_arc_keeps_the_radius_of_its_fit(radius, angle, seed):
    rotation, shift = rigid_motion(seed)
    points = arc(radius, angle, 15) @ rotation.T + shift
    assert path_radius(points, 1.0) == fit_circle(points, 1.0).radius


@given(clouds, st.floats(1e-3, 1.0))
def test_the_radius_of_a_path_is_never_more_than_that_of_its_fit(points, cap):
    assert 0.0 <= path_radius(points, cap) <= fit_circle(points, cap).radius


def test_a_point_has_no_radius():
    fit = fit_circle(np.full((5, 3), 0.3), 1.0)
    assert fit.radius == 0.0
    assert fit.centre is None


@given(clouds, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_any_points_give_a_finite_radius_below_the_cap(points, scale, cap):
    assert 0.0 <= fit_circle(scale * points, cap).radius <= cap


@settings(max_examples=60)
@given(seeds, st.floats(1e-3, 1e3))
def test_fit_commutes_with_scale_and_rigid_motion(seed, scale):
    rotation, shift = rigid_motion(seed)
    rng = np.random.default_rng(seed)
    # Curved and clearly wider in one direction than across, so that the best plane is unique.
    t = np.linspace(0.0, 2.0, 15)
    points = np.stack([np.cos(t), 0.6 * np.sin(t), 0.1 * t**2], axis=1)
    points += rng.normal(0.0, 0.01, points.shape)
    plain = fit_circle(points, 100.0)
    moved = fit_circle(scale * (points @ rotation.T + shift), 100.0 * scale)
    assert moved.radius == pytest.approx(scale * plain.radius, rel=1e-6)
    np.testing.assert_allclose(
        moved.centre, scale * (rotation @ plain.centre + shift), atol=1e-6 * scale
    )


@pytest.mark.parametrize(
    ("points", "cap", "message"),
    [
        (np.zeros((2, 3)), 1.0, "shape"),
        (np.zeros((5, 2)), 1.0, "shape"),
        (np.zeros(3), 1.0, "shape"),
        (np.array([[0, 0, 0], [1, 0, np.nan], [0, 1, 0]]), 1.0, "finite"),
        (np.zeros((5, 3)), 0.0, "max_radius"),
        (np.zeros((5, 3)), np.inf, "max_radius"),
    ],
)
def test_bad_input_is_named(points, cap, message):
    with pytest.raises(ValueError, match=message):
        fit_circle(points, cap)
