"""LeRobot data sets of both versions, in the layout that huggingface/lerobot writes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.cell_bags import ARM
from support.lerobots import CAMERAS, LENGTHS, MAP, TASKS, rows, second, shade, third

from heisd_ros.data.lerobot import FeatureMap, LeRobotSource
from heisd_ros.errors import DemonstrationError


@pytest.mark.parametrize("write", [second, third])
def test_episodes_are_those_that_were_written(tmp_path, write):
    source = LeRobotSource(write(tmp_path / "set"), MAP, ARM)
    outline = source.outline()
    assert [(o.instruction, o.steps) for o in outline] == list(
        zip(TASKS[:2], LENGTHS[:2], strict=True)
    )
    assert source.report.dropped == {"episode of fewer than 2 steps": 1}
    assert (source.rate_hz, source.robot, source.label) == (10.0, "panda", "set")
    for number in (1, 0):
        episode, wanted = source.episode(number, ("agentview", "wrist")), rows(number)
        np.testing.assert_array_equal(episode.joint_positions, wanted["observation.state"][:, :7])
        np.testing.assert_array_equal(episode.actions, wanted["action"])
        np.testing.assert_allclose(episode.gripper_opening, 0.03, rtol=1e-6)
        assert episode.joint_velocities is None
        for camera, view in enumerate(("agentview", "wrist")):
            assert episode.images[view].shape == (LENGTHS[number], 64, 64, 3)
            shades = episode.images[view].mean(axis=(1, 2, 3))
            wanted_shades = [shade(number, step, camera) for step in range(LENGTHS[number])]
            np.testing.assert_allclose(shades, wanted_shades, atol=4)
    assert source.episode(0, ()).images == {}


def test_features_are_mapped_by_a_small_file(tmp_path):
    (tmp_path / "map.yaml").write_text(
        "joint_positions: observation.state[0:7]\nactions: action\nimages: [observation.images.top]"
    )
    features = FeatureMap.read(tmp_path / "map.yaml")
    source = LeRobotSource(third(tmp_path / "set"), features, ARM)
    assert source.cameras == CAMERAS[:1] and source.robot == "franka"
    with pytest.raises(DemonstrationError, match=r"has pictures \['observation.images.top'\]"):
        source.episode(0, ("a", "b"))


@pytest.mark.parametrize(
    "text", ["", "3", "actions: action", "joint_positions: [1]", "joint_positions: a\nother: b"]
)
def test_a_map_that_is_none_names_what_is_accepted(tmp_path, text):
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(DemonstrationError, match=r"map\.yaml.*accepted: .*joint_positions"):
        FeatureMap.read(tmp_path / "map.yaml")


@pytest.mark.parametrize(
    ("column", "message"),
    [("observation.stat", "no feature 'observation.stat'"), ("action[5:9]", "has 7 numbers")],
)
def test_a_column_that_is_not_there_is_named(tmp_path, column, message):
    source = LeRobotSource(third(tmp_path / "set"), FeatureMap(column), ARM)
    with pytest.raises(DemonstrationError, match=message):
        source.episode(0, ())


def test_damage_is_named_with_its_episode(tmp_path):
    folder = second(tmp_path / "set")
    video = folder / f"videos/chunk-000/{CAMERAS[0]}/episode_000001.mp4"
    video.write_bytes(video.read_bytes()[:200])
    source = LeRobotSource(folder, MAP, ARM)
    with pytest.raises(DemonstrationError, match="set, episode 1: "):
        source.episode(1, ("agentview",))
    assert len(source.episode(0, ("agentview",))) == 12
    (folder / "data/chunk-000/episode_000000.parquet").write_bytes(b"nothing")
    with pytest.raises(DemonstrationError, match="set, episode 0: "):
        source.episode(0, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codebase_version": "v1.6"}, "version is '1.6'; accepted: 2.0, 2.1, 3.0"),
        ({"codebase_version": None}, "'codebase_version' is None; accepted: str"),
        ({"features": None}, "'features' is None; accepted: dict"),
        ({"features": {"action": []}}, "feature 'action' has no 'dtype'"),
        ({"fps": 0}, "'fps' is 0.0; accepted: above 0"),
        ({"fps": "10"}, "'fps' is '10'; accepted: int or float"),
        ({"video_path": None}, "'video_path' is missing, and features are videos"),
        ({"data_path": "../../x.parquet"}, "leads out of the data set"),
        ({"data_path": "/x.parquet"}, "leads out of the data set"),
        ({"data_path": "{unknown}"}, "'{unknown}'; accepted: a pattern of .*chunk_index"),
        ({"data_path": "{chunk_index:0999999999d}"}, "'data_path' is .*accepted: a path with"),
        ({"data_path": "{chunk_index.__class__}"}, "'data_path' is .*accepted: a path with"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(tmp_path, change, message):
    folder = third(tmp_path / "set")
    place = folder / "meta/info.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | change))
    with pytest.raises(DemonstrationError, match=rf"meta/info\.json.*{message}"):
        LeRobotSource(folder, MAP, ARM).outline()
