"""A recording in a view: everything in order, in bounded memory, and what is wrong with it said."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support.bags import image, text
from support.replay_bags import IMAGE, IMAGE_WRIST, JOINTS, PERIOD, TELEMETRY, cell, telemetry
from support.views import Remembering

from heisd_ros.data.bag import Bag
from heisd_ros.errors import BagError
from heisd_ros.robot.cell_parameters import CellParameters
from heisd_ros.robot.declare import with_values
from heisd_ros.view.bag_view import FLUSH_EVERY, show_bag


def shown(path, parameters=None, **options):
    screen = Remembering()
    with Bag(path) as bag:
        remarks = show_bag(bag, screen, parameters or CellParameters(), **options)
    return screen, remarks


def test_pictures_arm_and_steps_are_shown_in_the_order_of_the_bag(tmp_path):
    screen, remarks = shown(cell(with_telemetry=True).write(tmp_path / "bag"))
    assert remarks == []
    assert screen.calls["arrange"][-1] == ((IMAGE, IMAGE_WRIST),)
    assert len(screen.moments) == 30 and len(screen.calls["arm"]) == 30
    assert len(screen.calls["picture"]) == 30  # two cameras of 20 Hz, each at 10 Hz
    times = [now for now, _ in screen.calls["moment"]]
    assert times == sorted(times)
    _, points = screen.calls["arm"][0]
    assert points.shape == (9, 3) and not points[0].any()  # base, seven joints, tip


def test_a_long_bag_waits_for_the_viewer(tmp_path):
    screen, _ = shown(cell(steps=200, with_telemetry=True).write(tmp_path / "bag"))
    assert len(screen.calls["flush"]) == 4 * 200 // FLUSH_EVERY


def test_odd_pictures_are_noted_once_and_the_rest_is_shown(tmp_path):
    def depth(stamp, pixels):
        message = image(stamp, pixels[:, : 2 * (pixels.shape[1] // 3)])
        message.encoding = "32FC1"
        return message

    screen, _ = shown(cell(picture=depth, with_telemetry=True).write(tmp_path / "bag"))
    assert len(screen.moments) == 30 and not screen.calls["picture"]
    assert len([note for note in screen.notes if "is not shown" in note]) == 2


def test_another_robot_than_the_parameters_say_is_not_drawn_and_named(tmp_path):
    path = cell(with_telemetry=True).write(tmp_path / "bag")
    other = with_values(CellParameters(), {"robot.joint_names": tuple("abcdefg")})
    screen, remarks = shown(path, other)
    assert not screen.calls["arm"] and len(screen.moments) == 30
    assert "the arm is not drawn" in remarks[0] and "joint_names" in remarks[0]


def test_a_description_comes_from_the_bag(tmp_path):
    from heisd_ros.kinematics.robots import panda_urdf

    path = "/robot_description"
    recording = cell()
    recording.add(0, path, text(panda_urdf()))
    settings = with_values(CellParameters(), {"robot.source": "topic"})
    screen, _ = shown(recording.write(tmp_path / "bag"), settings)
    assert len(screen.calls["arm"]) == 30
    screen, remarks = shown(cell().write(tmp_path / "without"), settings)
    assert not screen.calls["arm"] and remarks == []


def test_a_bag_that_breaks_off_is_shown_up_to_there(tmp_path):
    path = cell(steps=60, size=96, with_telemetry=True).write(tmp_path / "bag")
    file = next(path.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    screen, remarks = shown(path)
    assert 0 < len(screen.moments) < 60
    assert any("not read to its end" in line for line in remarks)
    assert any("breaks off" in note for note in screen.notes)


def test_of_two_nodes_one_is_shown(tmp_path):
    recording = cell(with_telemetry=True)
    recording.add(PERIOD, "/left/vla_node/telemetry", telemetry(0, np.zeros(7), hold=True))
    path = recording.write(tmp_path / "bag")
    screen, remarks = shown(path, node="left/vla_node")
    assert [moment.held for moment in screen.moments] == [True]
    assert remarks == [f"left out: {TELEMETRY}; choose with --node"]
    with pytest.raises(BagError, match=r"no telemetry of 'right'.*/left/vla_node/telemetry"):
        shown(path, node="right")


def test_a_bag_without_anything_to_show_is_refused(tmp_path):
    recording = cell(words="")
    recording.entries = [(0, "/chatter", text("hello"))]
    with pytest.raises(BagError, match=r"nothing to show.*/chatter"):
        shown(recording.write(tmp_path / "bag"))


def test_ticks_of_a_hold_are_thinned_out(tmp_path):
    recording = cell(steps=2)
    for tick in range(100):
        recording.add(tick * PERIOD // 5, TELEMETRY, telemetry(0, [], hold=True))
    screen, _ = shown(recording.write(tmp_path / "bag"))
    assert len(screen.moments) == 5  # of 100 in a second


def test_joint_states_without_a_node_are_drawn(tmp_path):
    recording = cell()
    recording.entries = [entry for entry in recording.entries if entry[1] == JOINTS]
    path = recording.write(tmp_path / "bag")
    metadata = path / "metadata.yaml"
    noted = "custom_data: {instruction: pick it up}"
    metadata.write_text(re.sub(r"custom_data:.*", noted, metadata.read_text()))
    screen, _ = shown(path)
    assert len(screen.calls["arm"]) == 30 and not screen.moments
    assert screen.notes == ["recorded instruction: pick it up"]
