"""Header stamps against the clock: how old, and why."""

from __future__ import annotations

import re

import pytest

from heisd_ros.control.inputs import NANOSECONDS
from heisd_ros.control.stamps import StampAges

NOW = 1_750_000_000 * NANOSECONDS


def ages(told):
    """Ages at arrival of every source, s, ten messages a second."""
    stamps = StampAges(list(told))
    for name, each in told.items():
        for step, age in enumerate(each):
            clock = NOW + step * NANOSECONDS // 10
            stamps.note(name, clock - round(age * NANOSECONDS), clock)
    return stamps


@pytest.mark.parametrize(
    ("camera", "joints", "words"),
    [
        ([3.0] * 9, [0.01] * 9, "3.00 s behind.*constant and others have none.*not synchronised"),
        ([-2.0] * 9, [0.01] * 9, "2.00 s ahead of.*future.*not synchronised"),
        ([3.0] * 9, [3.1] * 9, "All are about as old.*pipeline to the node is slow, or"),
        ([1.2, 1.6, 2.1, 2.8], [0.01] * 4, "vary from 1.20 to 2.80 s: the pipeline.* is slow"),
        ([1.75e9 - 5000.0], [0.01], "time since a start"),
    ],
)
def test_the_likely_cause_is_told(camera, joints, words):
    stamps = ages({"camera": camera, "joint_states": joints})
    complaint = stamps.complaint("camera", 1.0)
    assert re.search(words, complaint), complaint
    assert f"camera {camera[-1]:.2f} s, joint_states {joints[-1]:.2f} s" in complaint


def test_stamps_of_about_now_are_no_fault():
    stamps = ages({"camera": [0.9, -0.9, 0.2], "joint_states": [0.0]})
    assert stamps.complaint("camera", 1.0) is None
    assert stamps.newest("camera") == pytest.approx(0.2)
    assert StampAges(["camera"]).complaint("camera", 1.0) is None


def test_messages_without_a_stamp_are_told():
    stamps = StampAges(["camera"])
    stamps.note("camera", 0, NOW)
    assert "not stamped" in stamps.complaint("camera", 1.0)


def test_what_was_long_ago_says_nothing_of_now():
    stamps = ages({"camera": [5.0, 0.1]})
    clock = NOW + 60 * NANOSECONDS
    stamps.note("camera", clock - 3 * NANOSECONDS, clock)
    assert "vary" not in stamps.complaint("camera", 1.0)
