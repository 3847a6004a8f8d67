"""Relabelled recordings: today's expert in the recorded states, nothing else changed."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from heisd_ros.data.demo_files import PERSON
from heisd_ros.data.libero_hdf5 import read_episodes
from heisd_ros.errors import DemonstrationError
from heisd_ros.sim import demonstrations, expert
from heisd_ros.sim.demonstrations import collect_task
from heisd_ros.sim.relabelling import relabel
from heisd_ros.sim.scene import LiberoScene


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    pytest.importorskip("libero")
    folder = tmp_path_factory.mktemp("recording")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demonstrations, "choose_grasp", lambda scene: 0)
        return collect_task("libero_spatial", 2, folder, 1, stride=2, image_size=32)


def actions(path):
    with h5py.File(path) as file:
        return np.array(file["data/demo_0/actions"])


def test_the_same_expert_says_the_same(recording, tmp_path):
    done = relabel(recording, tmp_path / "again.hdf5")
    before, after = actions(recording), actions(tmp_path / "again.hdf5")
    assert done.frames == len(before)
    off = np.abs(after - before).max(axis=1)
    assert np.mean(off < 0.05) > 0.9
    assert done.contradicted <= 0.1 * done.frames


def test_a_softer_expert_moves_no_faster_and_pictures_stay(recording, tmp_path, monkeypatch):
    monkeypatch.setattr(expert, "_GAIN", expert._GAIN / 2)
    relabel(recording, tmp_path / "soft.hdf5")
    before, after = actions(recording), actions(tmp_path / "soft.hdf5")
    slower = np.abs(after[:, :3]) <= np.abs(before[:, :3]) + 0.05
    assert slower.mean() > 0.9
    assert np.abs(after[:, :3]).mean() < 0.9 * np.abs(before[:, :3]).mean()
    with h5py.File(recording) as old, h5py.File(tmp_path / "soft.hdf5") as new:
        name = "data/demo_0/obs/agentview_rgb"
        np.testing.assert_array_equal(old[name], new[name])


def test_a_file_of_something_else_is_refused_and_leaves_nothing(tmp_path):
    path = tmp_path / "other_demo.hdf5"
    with h5py.File(path, "w") as file:
        file.create_group("data")
    with pytest.raises(DemonstrationError, match="is no recording of `heisd demos`"):
        relabel(path, tmp_path / "copy.hdf5")
    assert [*tmp_path.iterdir()] == [path]


def test_every_frame_gets_its_reasoning_and_again_in_the_same_words(recording, tmp_path):
    relabel(recording, tmp_path / "first.hdf5")
    relabel(tmp_path / "first.hdf5", tmp_path / "second.hdf5")
    first, second = (
        next(read_episodes(tmp_path / name, ())) for name in ("first.hdf5", "second.hdf5")
    )
    assert first.reasoning is not None and len(first.reasoning) == len(first)
    assert (first.reasoning == second.reasoning).all()
    assert "SUBTASK: reach the bowl" in first.reasoning[0]
    assert "SUBTASK: withdraw" in first.reasoning[-1]
    for text, action in zip(first.reasoning, first.actions, strict=True):
        assert ("close gripper" in text) == (action[6] > 0)


def test_in_a_corrected_episode_what_misses_the_goal_is_not_left_there(
    recording, tmp_path, monkeypatch
):
    """The goal is stricter than the expert's place: a person takes the object up again."""
    corrected = tmp_path / "corrected.hdf5"
    shutil.copy(recording, corrected)
    with h5py.File(corrected, "r+") as file:
        demo = file["data/demo_0"]
        demo.create_dataset(PERSON, data=np.ones(len(demo["actions"]), np.uint8))
    monkeypatch.setattr(LiberoScene, "success", lambda scene: False)
    last = []
    for source in (recording, corrected):
        relabel(source, tmp_path / "relabelled.hdf5")
        episode = next(read_episodes(tmp_path / "relabelled.hdf5", ()))
        assert episode.reasoning is not None
        last.append("SUBTASK: withdraw" in episode.reasoning[-1])
    assert last == [True, False]
