"""The metric's feed: the control rate whatever the stream's, and where bounds come from."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from heisd_ros.control.motion_feed import BOUNDS_FILE, MotionFeed, load_bounds
from heisd_ros.kinematics.metric import MetricBounds, MetricSettings

BOUNDS = MetricBounds(MetricSettings(window=3), (0.0, 1.0), (0.0, 0.3), (0.0, 0.4), 0.25)


def arm(x, velocity=True):
    tip = SimpleNamespace(position=np.array([x, 0.0, 0.3]))
    return SimpleNamespace(
        tip=lambda: tip, tip_velocity=lambda: np.array([0.1, 0, 0]) if velocity else None
    )


@pytest.mark.parametrize("stream_hz", [7.0, 10.0, 15.0, 20.0, 30.0, 100.0, 1000.0])
def test_the_window_covers_the_same_time_at_every_rate(stream_hz):
    feed = MotionFeed(BOUNDS, 20.0)
    for step in range(int(stream_hz)):
        stamp = step / stream_hz
        feed.add(arm(0.1 * stamp), stamp)
    # Three samples at 20 Hz are 0.1 s at 0.1 m/s.
    assert feed.latest.ready and feed.latest.path_length == pytest.approx(0.01, rel=0.05)
    assert feed.latest.source == "velocity"
    assert feed.stream_hz == pytest.approx(stream_hz)


def test_a_jittering_stream_at_the_control_rate_is_taken_whole(monkeypatch):
    feed, taken = MotionFeed(BOUNDS, 20.0), []
    update = feed._metric.update
    monkeypatch.setattr(feed._metric, "update", lambda *a: taken.append(a[2]) or update(*a))
    for step in range(40):
        feed.add(arm(0.0), 0.05 * step + 0.004 * math.sin(step))
    assert len(taken) == 40


def test_a_gap_or_a_jump_back_does_not_block_the_feed():
    feed = MotionFeed(BOUNDS, 20.0)
    for start in (100.0, 500.0, 3.0):
        for step in range(4):
            feed.add(arm(0.1 * step), start + 0.05 * step)
        assert feed.latest.ready


def test_missing_velocities_are_said():
    feed = MotionFeed(BOUNDS, 20.0)
    feed.add(arm(0.0, velocity=False), 0.0)
    assert feed.latest.source == "position_difference"
    feed.reset()
    assert feed.latest is None


def test_bounds_come_from_the_named_file_then_the_model_then_built_in(tmp_path):
    assert load_bounds("paper", "", tmp_path)[1] == "built-in"
    beside = tmp_path / BOUNDS_FILE
    beside.write_text(BOUNDS.to_json())
    assert load_bounds("paper", "", tmp_path) == (BOUNDS, str(beside))
    other = tmp_path / "other.json"
    other.write_text(BOUNDS.to_json())
    assert load_bounds("paper", str(other), tmp_path)[1] == str(other)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("paper", None, "'metric.bounds'.*bounds.json"),
        ("paper", "{}", "'metric.bounds'"),
        ("speed", BOUNDS.to_json(), "'metric.kind' is 'speed'; accepted: 'paper'"),
    ],
)
def test_bounds_that_cannot_be_used_are_named(tmp_path, kind, content, message):
    file = tmp_path / "bounds.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_bounds(kind, str(file), tmp_path)
