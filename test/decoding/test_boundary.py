import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.decoding.boundary import AT_REST, Boundary
from heisd_ros.decoding.modes import load_mode, mode_names
from heisd_ros.errors import ModeError
from heisd_ros.kinematics.metric import FusedMetric, MetricSample
from heisd_ros.models import shipped_model
from heisd_ros.retrieval.manifest import Manifest


def sample(value, ready=True):
    return MetricSample(value, 0.1, 0.1, 0.1, "paper", ready, "velocity")


def test_the_zone_changes_only_when_the_boundary_is_passed_clearly():
    boundary = Boundary(0.5, 0.1)
    zones = [boundary.update(sample(f)).retrieval for f in (0.55, 0.61, 0.45, 0.39, 0.55)]
    assert zones == [False, True, True, False, False]


@given(st.lists(st.floats(0.41, 0.59)))
def test_no_chatter_within_the_hysteresis(values):
    boundary = Boundary(0.5, 0.1)
    assert not any(boundary.update(sample(value)).retrieval for value in values)
    boundary.update(sample(1.0))
    assert all(boundary.update(sample(value)).retrieval for value in values)


@pytest.mark.parametrize(("motion", "reason"), [(None, "no metric"), (sample(0.9, False), "full")])
def test_without_a_metric_the_drafter_is_used(motion, reason):
    boundary = Boundary(0.2, 0.0)
    boundary.update(sample(0.9))
    zone = boundary.update(motion)
    assert not zone.retrieval
    assert reason in zone.reason


def test_reset_forgets_the_zone():
    boundary = Boundary(0.5, 0.2)
    boundary.update(sample(0.9))
    boundary.reset()
    assert not boundary.update(sample(0.5)).retrieval


def test_a_boundary_at_the_top_of_the_scale_can_be_reached():
    assert Boundary(0.99, 0.2).update(sample(1.0)).retrieval


MODES = {name: load_mode(name) for name in mode_names()}
HYBRID = [n for n, mode in MODES.items() if mode.propose == "hybrid" and not mode.predicted]


def tip_of(step):
    """Position and velocity: 20 cm/s straight, 1 cm/s around a centimetre, straight again; 1 s."""
    straight, angle = 0.2 * step / 20, (step - 40) / 20
    if 40 <= step < 60:
        sine, cosine = math.sin(angle), math.cos(angle)
        return [0.2 + 0.01 * sine, 0.01 * cosine, 0.3], [0.01 * cosine, -0.01 * sine, 0.0]
    return [straight, 0.0, 0.3], [0.2 if step >= 20 else 0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", HYBRID)
def test_fast_slow_fast_changes_the_zone_of_every_shipped_mode(name):
    """The shipped settings, on the shipped bounds."""
    mode = MODES[name]
    bounds = Manifest.read(shipped_model() / "database").bounds[mode.boundary.metric]
    metric, boundary = FusedMetric(bounds), Boundary(bounds.boundary, mode.boundary.hysteresis)
    motions = [metric.update(*tip_of(step), step / 20) for step in range(20, 80)]
    zones = [boundary.update(motion).retrieval for motion in motions]
    assert [zones[end] for end in (19, 39, 59)] == [True, False, True]


def test_an_arm_at_rest_leaves_the_retrieval_zone_whatever_the_hysteresis():
    boundary = Boundary(0.0348, 0.034)
    zones = [boundary.update(sample(f)).retrieval for f in (0.2, 0.021, 0.019, 0.0, 0.2)]
    assert zones == [True, True, False, False, True]
    at_rest = Boundary(0.001, 0.0)
    assert not at_rest.update(sample(AT_REST / 2)).retrieval


@pytest.mark.parametrize(("value", "hysteresis"), [(0.0348, 0.05), (0.05, 0.05), (0.0, 0.01)])
def test_a_hysteresis_as_wide_as_the_boundary_is_refused_by_name(value, hysteresis):
    with pytest.raises(ModeError, match=rf"boundary\.hysteresis is {hysteresis}.*F {value:.4f}"):
        Boundary(value, hysteresis)
