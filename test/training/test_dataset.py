"""Samples from files: columns in step, positions relative to the tip, views in the asked order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.episodes import VIEWS, episode

from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.errors import DemonstrationError
from heisd_ros.kinematics.arm import ArmKinematics
from heisd_ros.kinematics.robots import PANDA_JOINTS, PANDA_TIP, panda_urdf
from heisd_ros.training.dataset import (
    action_chunks,
    demonstration_files,
    episode_proprio,
    load_samples,
)

ARM = ArmKinematics(panda_urdf(), PANDA_TIP, PANDA_JOINTS)


def write(folder, name, instruction, *episodes):
    writer = LiberoWriter(folder / f"{name}_demo.hdf5", instruction, "x.bddl", {})
    for seed, recorded in enumerate(episodes):
        writer.add(recorded, seed, np.zeros((len(recorded), 4)), "")


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "a", "pick up the bowl", episode(steps=3, seed=1), episode(steps=2, seed=2))
    write(tmp_path, "b", "open the drawer", episode(steps=4, seed=3, landmarks=None))
    return tmp_path


def test_files_follow_each_other(folder):
    samples = load_samples([folder], VIEWS)
    assert len(samples) == 9
    assert samples.instructions == ("pick up the bowl", "open the drawer")
    assert samples.instruction.tolist() == [0] * 5 + [1] * 4
    assert samples.images.shape == (9, 2, 8, 8, 3) and samples.images.dtype == torch.uint8
    recorded = [episode(steps=n, seed=s) for n, s in ((3, 1), (2, 2), (4, 3))]
    np.testing.assert_array_equal(samples.actions, np.concatenate([e.actions for e in recorded]))
    for view, name in enumerate(VIEWS):
        expected = np.concatenate([e.images[name] for e in recorded])
        np.testing.assert_array_equal(samples.images[:, view], expected)


def test_corrections_are_weighted_and_discarded_episodes_left_out(folder):
    person = np.array([False, True, True])
    corrected = episode(steps=3, seed=4, person=person, outcome="success")
    write(folder, "c", "close it", corrected, episode(steps=2, seed=5, outcome="discard"))
    assert (
        load_samples([folder], VIEWS).weights is None and len(load_samples([folder], VIEWS)) == 12
    )
    samples = load_samples([folder], VIEWS, person_weight=3.0, policy_weight=0.0)
    assert samples.weights.tolist() == [1.0] * 9 + [0.0, 3.0, 3.0]
    only = folder / "only"
    write(only, "d", "close it", corrected)
    with pytest.raises(DemonstrationError, match="hold no step to learn from"):
        load_samples([only], VIEWS, person_weight=0.0, policy_weight=0.0)


def test_views_come_in_the_asked_order(folder):
    forward, backward = load_samples([folder], VIEWS), load_samples([folder], VIEWS[::-1])
    assert torch.equal(forward.images, backward.images.flip(1))


def test_landmarks_are_relative_to_the_tip_and_unknown_ones_nan(folder):
    samples = load_samples([folder], VIEWS)
    first = episode(steps=3, seed=1)
    tips = np.stack([ARM.forward(q).position for q in first.joint_positions])
    np.testing.assert_allclose(samples.landmarks[:3, :3], first.landmarks[:, :3] - tips, atol=1e-6)
    np.testing.assert_allclose(samples.landmarks[:3, 3:], first.landmarks[:, 3:] - tips, atol=1e-6)
    assert torch.isfinite(samples.landmarks[:5]).all() and samples.landmarks[5:].isnan().all()


def test_proprioception_is_tip_and_opening():
    recorded = episode(steps=3)
    proprio = episode_proprio(recorded, ARM)
    assert proprio.shape == (3, 7) and proprio.dtype == np.float32
    tip = ARM.forward(recorded.joint_positions[1]).position
    np.testing.assert_allclose(proprio[1, :3], tip, atol=1e-6)
    np.testing.assert_allclose(proprio[:, 6], recorded.gripper_opening, atol=1e-6)


def test_a_folder_without_files_is_refused(tmp_path):
    with pytest.raises(DemonstrationError, match=r"no \*_demo.hdf5"):
        load_samples([tmp_path], VIEWS)


def test_folders_follow_each_other_in_the_given_order(folder, tmp_path):
    more = tmp_path / "more"
    # The same file name and instruction as in the first folder, and a new instruction.
    write(more, "b", "open the drawer", episode(steps=2, seed=4))
    write(more, "a", "close the drawer", episode(steps=1, seed=5))
    assert [
        path.relative_to(tmp_path).as_posix() for path in demonstration_files([folder, more])
    ] == [
        "a_demo.hdf5",
        "b_demo.hdf5",
        "more/a_demo.hdf5",
        "more/b_demo.hdf5",
    ]
    samples = load_samples([folder, more], VIEWS)
    assert samples.instructions == ("pick up the bowl", "open the drawer", "close the drawer")
    assert samples.instruction.tolist() == [0] * 5 + [1] * 4 + [2] + [1] * 2
    first, second = load_samples([folder], VIEWS), load_samples([more], VIEWS)
    for name in ("images", "proprio", "landmarks"):
        parts = torch.cat([getattr(first, name), getattr(second, name)])
        torch.testing.assert_close(getattr(samples, name), parts, rtol=0, atol=0, equal_nan=True)
    np.testing.assert_array_equal(samples.actions, np.concatenate([first.actions, second.actions]))


def test_an_empty_folder_among_others_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DemonstrationError, match=r"empty holds no \*_demo.hdf5"):
        load_samples([folder, tmp_path / "empty"], VIEWS)


def test_a_damaged_file_among_good_ones_is_named(folder):
    (folder / "c_demo.hdf5").write_bytes(b"not HDF5")
    with pytest.raises(DemonstrationError, match=r"c_demo.hdf5"):
        load_samples([folder], VIEWS)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_chunk_meets_the_recorded_actions_and_is_straight_between_them(stride):
    recorded = episode(steps=4, stride=stride)
    chunks = action_chunks(recorded, 2 * stride + 1)
    for step in range(4):
        for later in range(3):
            expected = recorded.actions[min(step + later, 3)]
            np.testing.assert_allclose(chunks[step, later * stride], expected)
    pose, second = chunks[0, : stride + 1, :6], np.diff(chunks[0, : stride + 1, :6], 2, axis=0)
    np.testing.assert_allclose(second, np.zeros_like(pose[2:]), atol=1e-12)
    assert set(chunks[..., 6].flatten()) <= {*recorded.actions[:, 6]}


def test_reasonings_go_with_their_steps_and_are_missed_by_name(tmp_path, folder):
    texts = np.array(["TASK: a", "TASK: b"], dtype=object)
    write(tmp_path / "reasoned", "a", "pick up the bowl", episode(steps=2, reasoning=texts))
    samples = load_samples([tmp_path / "reasoned"], VIEWS, reasoning=True)
    assert samples.reasonings.tolist() == [*texts]
    assert load_samples([folder], VIEWS).reasonings is None
    with pytest.raises(DemonstrationError, match="without reasonings; `heisd relabel` writes them"):
        load_samples([folder], VIEWS, reasoning=True)
