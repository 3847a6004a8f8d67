import pytest
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.decoding.boundary import Boundary
from heisd_ros.kinematics.metric import MetricSample


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
