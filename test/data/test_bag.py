"""All kinds of bags are read alike; faults are reported, and intact messages are kept."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bags import SECOND, START, image, joint_state, make, text, twist, write_bag

from heisd_ros.data.bag import Bag
from heisd_ros.errors import BagError

STRING, JOINTS = "std_msgs/msg/String", "sensor_msgs/msg/JointState"
KINDS = [
    ("mcap", None),
    ("mcap", "storage"),
    ("mcap", "message"),
    ("mcap", "file"),
    ("sqlite3", None),
    ("sqlite3", "message"),
    ("sqlite3", "file"),
]


def recording(count=40):
    """Joint states, images and words, with random pixels that don't compress."""
    rng = np.random.default_rng(0)
    for number in range(count):
        stamp = START + number * SECOND // 20
        yield "/joints", stamp, joint_state(stamp, ["a", "b"], [number, -number], [0.5, 1.0])
        yield "/camera", stamp + 1, image(stamp, rng.integers(0, 256, (64, 64, 3), np.uint8))
        yield "/words", stamp + 2, text(f"number {number}")


def words(bag):
    return [message.message.data for message in bag.messages(["/words"])]


@pytest.mark.parametrize(("storage", "compression"), KINDS)
def test_every_kind_of_bag_reads_alike(tmp_path, storage, compression):
    folder = write_bag(tmp_path / "bag", recording(), storage, compression, {"robot": "panda"})
    with Bag(folder) as bag:
        assert bag.topics == {
            "/camera": "sensor_msgs/msg/Image",
            "/joints": JOINTS,
            "/words": STRING,
        }
        assert words(bag) == [f"number {n}" for n in range(40)]
        both = list(bag.messages(["/joints", "/camera"]))
        assert bag.custom == {"robot": "panda"} and bag.damage == ""
    assert [m.topic for m in both] == ["/joints", "/camera"] * 40
    assert [m.stamp_ns for m in both[::2]] == [START + n * SECOND // 20 for n in range(40)]
    np.testing.assert_array_equal(both[6].message.position, [3.0, -3.0])
    pixels = [message for _, _, message in recording()][1].data
    np.testing.assert_array_equal(both[1].message.data, pixels)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_storage_file_alone_is_a_bag(tmp_path, storage):
    folder = write_bag(tmp_path / "bag", recording(), storage)
    (file,) = (path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))
    with Bag(file) as bag:
        assert len(words(bag)) == 40


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_our_own_types_are_read_by_the_definitions_inside(tmp_path, storage):
    metric = make(
        "heisd_ros/msg/KinematicMetric",
        kind="paper", ready=True, value=0.25, path_length=0.1, curvature_radius=0.2, speed=0.3,
        source="velocity", boundary=0.2,
    )  # fmt: skip
    with Bag(write_bag(tmp_path / "bag", [("/metric", START, metric)], storage)) as bag:
        (found,) = bag.messages(["/metric"])
    assert found.type == "heisd_ros/msg/KinematicMetric"
    assert (found.message.value, found.message.source) == (0.25, "velocity")


def split_bag(tmp_path, storage="mcap"):
    """Two recordings of one folder, as a recorder with a limit on the files' size leaves them."""
    messages = list(recording())
    first = write_bag(tmp_path / "bag", messages[:60], storage)
    second = write_bag(tmp_path / "rest", messages[60:], storage)
    (name,) = (path for path in second.iterdir() if path.name != "metadata.yaml")
    shutil.move(name, first / name.name)
    change_metadata(first, lambda values: values["relative_file_paths"].append(name.name))
    return first, name.name


def change_metadata(folder, change):
    place = folder / "metadata.yaml"
    values = yaml.safe_load(place.read_text())
    change(values["rosbag2_bagfile_information"])
    place.write_text(yaml.safe_dump(values))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_split_bags_are_one(tmp_path, storage):
    folder, _ = split_bag(tmp_path, storage)
    with Bag(folder) as bag:
        assert words(bag) == [f"number {n}" for n in range(40)]


def test_a_lost_part_is_reported_and_the_rest_read(tmp_path):
    folder, rest = split_bag(tmp_path)
    (folder / rest).unlink()
    with Bag(folder) as bag:
        assert words(bag) == [f"number {n}" for n in range(20)]
        assert rest in bag.damage and "missing" in bag.damage


def test_a_part_that_is_no_bag_is_reported_and_what_was_before_kept(tmp_path):
    folder, rest = split_bag(tmp_path)
    (folder / rest).write_bytes(b"nothing of a bag")
    with Bag(folder) as bag:
        assert words(bag) == [f"number {n}" for n in range(20)]
        assert rest in bag.damage


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compression", [None, "file"])
def test_what_was_recorded_before_a_break_is_read(tmp_path, storage, compression):
    folder = write_bag(tmp_path / "bag", recording(400), storage, compression)
    (file,) = (path for path in folder.iterdir() if path.name != "metadata.yaml")
    file.write_bytes(file.read_bytes()[: int(0.7 * file.stat().st_size)])
    with Bag(folder) as bag:
        found = words(bag)
        assert bag.damage
    assert 40 <= len(found) < 400
    assert found == [f"number {n}" for n in range(len(found))]


def test_a_recorder_that_was_killed_leaves_a_readable_folder(tmp_path):
    folder = write_bag(tmp_path / "bag", recording(400))
    (folder / "metadata.yaml").unlink()
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-2000])
    with Bag(folder) as bag:
        assert "bag.mcap is cut off" in bag.damage
        assert any("metadata.yaml is missing" in remark for remark in bag.remarks)
        assert len(words(bag)) > 300


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_damage_anywhere_ends_in_a_bag_error_or_a_report(tmp_path, storage, data):
    whole = tmp_path / "whole"
    if not whole.exists():
        write_bag(whole, recording(12), storage)
    (file,) = (path for path in whole.iterdir() if path.name != "metadata.yaml")
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:at]
    else:
        content[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    damaged = tmp_path / f"damaged{file.suffix}"
    damaged.write_bytes(content)
    try:
        with Bag(damaged) as bag:
            for topic in bag.topics:
                list(bag.messages([topic]))
    except BagError as error:
        assert str(damaged) in str(error)


def test_what_is_no_bag_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mcap").write_text("no bag")
    (tmp_path / "text.db3").write_text("no bag")
    (tmp_path / "notes.txt").write_text("no bag")
    for name in ("nowhere", "empty", "text.mcap", "text.db3", "notes.txt"):
        with pytest.raises(BagError, match=name), Bag(tmp_path / name):
            pass


@pytest.mark.parametrize("name", ["../other.mcap", "/etc/passwd", "a/../../other.mcap", ""])
def test_paths_that_leave_the_folder_are_refused(tmp_path, name):
    folder = write_bag(tmp_path / "bag", recording(3))
    shutil.copy(folder / "bag.mcap", tmp_path / "other.mcap")
    change_metadata(folder, lambda values: values.update(relative_file_paths=[name]))
    with pytest.raises(BagError, match=rf"names '{name}'; accepted: files inside"), Bag(folder):
        pass


@pytest.mark.parametrize(
    "content", ["", "[]", "a: b", "rosbag2_bagfile_information: 3", "{: :", "[" * 5000, "\0"]
)
def test_metadata_that_is_none_is_said_and_the_files_are_read(tmp_path, content):
    folder = write_bag(tmp_path / "bag", recording(3))
    (folder / "metadata.yaml").write_text(content)
    with Bag(folder) as bag:
        assert len(words(bag)) == 3
        assert "metadata.yaml is no rosbag2 metadata: " in bag.remarks[0]
    (folder / "bag.mcap").unlink()
    with pytest.raises(BagError, match=r"no file; .*metadata\.yaml is no rosbag2"), Bag(folder):
        pass


def test_a_missing_topic_and_a_wrong_type_are_named(tmp_path):
    with Bag(write_bag(tmp_path / "bag", recording(3))) as bag:
        with pytest.raises(BagError, match=r"bag has no topic /joint; .*'/joints'"):
            bag.messages(["/joint"])
        bag.require({"/joints": [JOINTS], "/words": [STRING]})
        with pytest.raises(BagError, match=f"/joints has type {JOINTS}; accepted: {STRING}"):
            bag.require({"/joints": [STRING]})


def test_a_topic_of_two_types_is_refused(tmp_path):
    messages = [("/a", START, text("x")), ("/a", START + 1, twist(START, np.zeros(6)))]
    wrong = pytest.raises(BagError, match=r"/a has types .* and .*; accepted: one")
    with Bag(write_bag(tmp_path / "bag", messages)) as bag, wrong:
        bag.messages(["/a"])


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_span_of_time_is_read_alone(tmp_path, storage):
    folder = write_bag(tmp_path / "bag", recording(), storage)
    start, stop = START + SECOND, START + 3 * SECOND // 2
    with Bag(folder) as bag:
        found = [m.message.data for m in bag.messages(["/words"], start, stop)]
    assert found == [f"number {n}" for n in range(20, 30)]
