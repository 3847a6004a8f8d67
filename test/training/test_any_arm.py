"""A database from a bag of any arm, described only by its YAML and its URDF."""

from __future__ import annotations

import dataclasses

import numpy as np
from support.bags import SECOND, START, image, joint_state, text, write_bag
from support.cell_bags import picture
from support.robots import robot_files, urdf_of
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint

from heisd_ros.cli.reading import reading_of
from heisd_ros.data.open_sources import open_sources
from heisd_ros.families.openvla.checkpoint import load_checkpoint
from heisd_ros.retrieval.database import Database
from heisd_ros.robot.recording_parameters import RecordingParameters
from heisd_ros.training.build_database import build_database
from heisd_ros.vla.checkpoint_files import fingerprint


def recording(names):
    yield "/robot_description", START, text(urdf_of("ur5e"))
    for number in range(80):
        stamp = START + number * SECOND // 40
        joints = np.linspace(-1.0, 1.0, 6) + 0.01 * number
        yield "/joint_states", stamp, joint_state(stamp, names, joints, [0.4] * 6)
        if number % 2 == 0:
            for camera, topic in enumerate(RecordingParameters().images):
                yield topic, stamp + 1, image(stamp, picture(number / 40, camera))


def test_a_ur5_with_six_joints_becomes_a_database(tmp_path):
    reading = reading_of(robot_files()["ur5e"], None, None, 20.0)
    # The file's gripper is not in this recording.
    layout = dataclasses.replace(reading.layout, gripper_joints=(), instruction=INSTRUCTIONS[0])
    bag = write_bag(tmp_path / "bag", recording(layout.joint_names))
    sources = open_sources([bag], dataclasses.replace(reading, layout=layout))
    model = save_tiny_checkpoint(tmp_path / "model")
    manifest = build_database(
        load_checkpoint(model), fingerprint(model), sources, tmp_path / "db", 20.0
    )
    assert manifest.robot == sources[0].robot != "panda"
    assert manifest.entries == 39  # the last has no control step left to move in
    assert sorted(manifest.bounds) == ["legacy", "paper", "speed"]
    shard, _ = Database.open(tmp_path / "db", fingerprint(model)).shard_for(INSTRUCTIONS[0])
    assert shard is not None and len(shard) == manifest.entries
