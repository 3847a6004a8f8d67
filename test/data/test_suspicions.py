"""Impossible joint positions and differing clocks are reported for every file format."""

from __future__ import annotations

import dataclasses

import h5py
import numpy as np
import pytest
from support.bags import SECOND, write_bag
from support.cell_bags import ARM, CAMERAS, JOINTS, layout, positions, recording
from support.episodes import episode
from support.fake_scene import REST
from support.lerobots import MAP, second, third

from heisd_ros.data.bag_source import BagSource
from heisd_ros.data.joint_check import JointCheck
from heisd_ros.data.lerobot import LeRobotSource
from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.data.libero_source import LiberoSource
from heisd_ros.data.recording_layout import ActionRule
from heisd_ros.errors import BagError, DatabaseError
from heisd_ros.kinematics.robots import PANDA_BASE
from heisd_ros.training.selection import choose_items

DEGREES = "joint positions look like degrees; accepted: rad"


def bag(tmp_path, messages):
    rule = ActionRule(frame=PANDA_BASE)
    return BagSource(write_bag(tmp_path / "bag", messages), layout(action=rule))


def in_degrees(at):
    return np.degrees(positions(at))


def with_zeros(at):
    """Every second message, at 100 Hz, is of a publisher that knows nothing of the arm."""
    return positions(at) if round(at * 100) % 2 else np.zeros(7)


def checked(rows, hz=100.0):
    check = JointCheck(ARM)
    rows = np.asarray(rows, np.float64)
    check.add(rows, np.arange(len(rows)) / hz)
    return check


def moving(count=100):
    return np.stack([positions(n / 100) for n in range(count)])


def test_good_motion_is_not_suspected(tmp_path):
    source = bag(tmp_path, recording())
    source.outline()
    assert source.report.warnings == [] and source.report.unusable == ""
    still = JointCheck(ARM)
    still.add(np.tile(REST, (1, 1)), np.zeros(1))
    assert still.lines() == []


def test_degrees_in_a_bag_are_said_and_make_no_database(tmp_path):
    source = bag(tmp_path, recording(joints_of=in_degrees))
    source.outline()
    assert source.report.warnings[0] == f"{JOINTS}: {DEGREES}"
    counted = "panda_joint4: 200 of 200 positions are outside -3.27 to 0.13, first at 0.00 s"
    assert f"{JOINTS}: {counted}" in source.report.warnings
    with pytest.raises(DatabaseError, match=f"bag: {JOINTS}: {DEGREES}"):
        list(choose_items([source], ()))


def test_zeros_of_a_second_publisher_are_said(tmp_path):
    source = bag(tmp_path, recording(joints_of=with_zeros))
    source.outline()
    report = "\n".join(source.report.lines())
    assert "198 joint states leap away from their neighbours and back (100 are 0 in all" in report
    assert "first at 0.01 s: two publishers on one topic?" in report
    assert "panda_joint4: 199 steps are faster than its limit of 2.17 a second" in report
    with pytest.raises(DatabaseError, match=r"bag: /joints: 198 joint states leap away"):
        list(choose_items([source], ()))


def test_a_few_leaps_are_said_and_no_more():
    rows = moving()
    rows[[20, 60]] = 0.0
    check = checked(rows)
    assert check.unusable == ""
    assert check.lines()[-1].startswith("2 joint states leap away")


def test_the_first_time_is_that_of_the_recording():
    rows = moving()
    rows[37, 1] = 4.0
    out, fast, apart = checked(rows).lines()
    assert out == ("panda_joint2: 1 of 100 positions are outside -1.96 to 1.96, first at 0.37 s")
    assert fast.startswith("panda_joint2: 2 steps are faster") and fast.endswith("at 0.37 s")
    assert apart.startswith("1 joint states leap away") and "first at 0.37 s" in apart


def test_positions_that_are_not_finite_are_counted_as_outside():
    rows = moving()
    rows[3] = np.inf
    assert checked(rows).lines()[0].startswith("panda_joint1: 1 of 100 positions are outside")


@pytest.mark.parametrize("write", [second, third])
def test_degrees_in_a_lerobot_set_are_said_by_episode(tmp_path, monkeypatch, write):
    import support.lerobots as sets

    plain = sets.rows

    def turned(number):
        rows = plain(number)
        rows["observation.state"][:, :7] = np.degrees(REST)
        return rows

    monkeypatch.setattr(sets, "rows", turned)
    source = LeRobotSource(write(tmp_path / "set"), MAP, ARM)
    source.outline()
    column = MAP.joint_positions
    assert source.report.warnings[0] == f"{column}: {DEGREES}"
    assert "22 of 22" in source.report.warnings[1]
    assert "first at episode 0, 0.00 s" in source.report.warnings[1]
    with pytest.raises(DatabaseError, match="look like degrees"):
        list(choose_items([source], ()))


def test_degrees_in_hdf5_are_said(tmp_path):
    path = tmp_path / "x_demo.hdf5"
    recorded = episode(steps=9)
    writer = LiberoWriter(path, "pick up the bowl", "x.bddl", {})
    for seed in range(2):
        odd = dataclasses.replace(recorded, joint_positions=np.degrees(np.tile(REST, (9, 1))))
        writer.add(odd, seed, np.zeros((9, 4)), "")
    source = LiberoSource(path, 20.0)
    source.outline()
    assert source.report.unusable == DEGREES
    with h5py.File(path) as file:
        assert len(file["data"]) == 2


@pytest.mark.parametrize("topic", [*CAMERAS, JOINTS])
@pytest.mark.parametrize("seconds", [-1_699_995_000, 30, -3600])
def test_a_topic_of_another_clock_is_named_with_the_difference(tmp_path, topic, seconds):
    source = bag(tmp_path, shifted(topic, seconds))
    with pytest.raises(BagError, match=r"holds no episode: .*clocks of the topics") as caught:
        source.outline()
    said = str(caught.value)
    assert abs(float(said.split(f"{topic} ")[-1].split(" s")[0]) - seconds) < 0.1
    assert "synchronise the clocks" in said


def shifted(topic, seconds):
    """A recording in which one topic is stamped by a clock that is off."""
    messages = recording()
    for where, _, message in messages:
        if where == topic:
            message.header.stamp.sec += seconds
    return messages


def test_clocks_that_differ_by_little_are_said_where_steps_are_made_all_the_same(tmp_path):
    source = bag(tmp_path, shifted(CAMERAS[0], 1))
    assert len(source.outline()) == 1
    (warning,) = source.report.warnings
    assert "clocks of the topics differ by 1.00" in warning and f"{CAMERAS[0]} +0.998 s" in warning


def test_pictures_from_the_future_are_of_another_clock(tmp_path):
    messages = recording()
    for topic, _, message in messages:
        if topic in CAMERAS:
            message.header.stamp.nanosec += 200_000_000
            message.header.stamp.sec += message.header.stamp.nanosec // SECOND
            message.header.stamp.nanosec %= SECOND
    source = bag(tmp_path, messages)
    assert len(source.outline()) == 1
    (warning,) = source.report.warnings
    assert "clocks of the topics differ by 0.200 s" in warning


def test_latency_is_no_other_clock(tmp_path):
    late = [
        (topic, received + (topic != JOINTS) * SECOND // 5, message)
        for topic, received, message in recording()
    ]
    source = bag(tmp_path, sorted(late, key=lambda message: message[1]))
    source.outline()
    assert source.report.warnings == []
