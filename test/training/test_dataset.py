"""Samples from files: columns in step, positions relative to the tip, views in the asked order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.bags import write_bag
from support.cell_bags import OUTCOME, TELEMETRY, ended, held_by, layout, recording
from support.episodes import VIEWS, episode

from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.data.marked_source import only_marked
from heisd_ros.data.open_sources import Reading, open_sources
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


def load(*folders, **options):
    return load_samples(open_sources(folders, Reading()), VIEWS, **options)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "a", "pick up the bowl", episode(steps=3, seed=1), episode(steps=2, seed=2))
    write(tmp_path, "b", "open the drawer", episode(steps=4, seed=3, landmarks=None))
    return tmp_path


def test_files_follow_each_other(folder):
    samples = load(folder)
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
    assert load(folder).weights is None and len(load(folder)) == 12
    samples = load(folder, person_weight=3.0, policy_weight=0.0)
    assert samples.weights.tolist() == [1.0] * 9 + [0.0, 3.0, 3.0]
    only = folder / "only"
    write(only, "d", "close it", corrected)
    with pytest.raises(DemonstrationError, match="hold no step to learn from"):
        load(only, person_weight=0.0, policy_weight=0.0)


@pytest.mark.parametrize(
    ("stride", "expected"), [(1, [3, 3, 0, 0, 0, 0, 0, 0]), (2, [3, 3, 3, 0, 0, 0, 0, 0])]
)
def test_a_chunk_is_learned_from_where_the_person_had_the_arm_to_its_end(
    tmp_path, stride, expected
):
    person = np.array([True] * 5 + [False] * 3)
    write(tmp_path, "a", "go", episode(steps=8, person=person, stride=stride))
    samples = load(tmp_path, person_weight=3.0, policy_weight=0.0, horizon=4)
    assert samples.weights.tolist() == expected


def test_views_come_in_the_asked_order(folder):
    sources = open_sources([folder], Reading())
    forward, backward = load_samples(sources, VIEWS), load_samples(sources, VIEWS[::-1])
    assert torch.equal(forward.images, backward.images.flip(1))


def test_landmarks_are_relative_to_the_tip_and_unknown_ones_nan(folder):
    samples = load(folder)
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
    samples = load(folder, more)
    assert samples.instructions == ("pick up the bowl", "open the drawer", "close the drawer")
    assert samples.instruction.tolist() == [0] * 5 + [1] * 4 + [2] + [1] * 2
    first, second = load(folder), load(more)
    for name in ("images", "proprio", "landmarks"):
        parts = torch.cat([getattr(first, name), getattr(second, name)])
        torch.testing.assert_close(getattr(samples, name), parts, rtol=0, atol=0, equal_nan=True)
    np.testing.assert_array_equal(samples.actions, np.concatenate([first.actions, second.actions]))


def test_an_empty_folder_among_others_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DemonstrationError, match=r"empty holds no \*_demo.hdf5"):
        demonstration_files([folder, tmp_path / "empty"])


def test_a_damaged_file_among_good_ones_is_named(folder):
    (folder / "c_demo.hdf5").write_bytes(b"not HDF5")
    with pytest.raises(DemonstrationError, match=r"c_demo.hdf5"):
        load(folder)


def test_a_bag_is_learned_from_by_its_marks(tmp_path):
    who = [held_by(n / 20, "person" if 8 <= n < 16 else "policy") for n in range(40)]
    ends = [ended(0.6, "success"), ended(1.2, "discard"), ended(1.8, "failure")]
    bag = write_bag(tmp_path / "bag", recording(extra=[*who, *ends]))
    marks = layout(telemetry_topic=TELEMETRY, outcome_topic=OUTCOME)
    sources = open_sources([bag], Reading(layout=marks))
    kept = [outline for outline in sources[0].outline() if outline.outcome != "discard"]
    samples = load_samples(
        sources, VIEWS, person_weight=3.0, policy_weight=0.5, control_rate_hz=20.0
    )
    assert len(samples) == sum(outline.steps for outline in kept)
    assert (samples.weights == 3.0).sum() == sum(outline.person_steps for outline in kept) > 0
    assert set(samples.weights.tolist()) == {0.5, 3.0}
    assert samples.landmarks.isnan().all() and samples.images.shape[1:] == (2, 16, 16, 3)
    corrected = load_samples(only_marked(sources, ["corrected"]), VIEWS)
    assert len(corrected) == kept[0].steps < len(samples)
    # Recorded without a statement of who had the arm: every step is a demonstration's.
    plain = open_sources([bag], Reading(layout=layout()))
    assert load_samples(plain, VIEWS, policy_weight=0.0).weights is None


def test_what_does_not_fit_is_refused_by_name(folder, tmp_path):
    bag = write_bag(tmp_path / "bag", recording(size=8))
    sources = open_sources([folder, bag], Reading(layout=layout()))
    load_samples(sources, VIEWS, control_rate_hz=20.0)
    with pytest.raises(DemonstrationError, match="bag has 20 steps a second, the model 10:"):
        load_samples(sources, VIEWS, control_rate_hz=10.0)
    other = write_bag(tmp_path / "other", recording())
    sizes = open_sources([folder, other], Reading(layout=layout()))
    with pytest.raises(DemonstrationError, match=r"sizes \[\(8, 8\), \(16, 16\)\]; accepted: one"):
        load_samples(sizes, VIEWS)
    one = load_samples(sizes, VIEWS, prepare=lambda picture: picture[:4, :4])
    assert one.images.shape[2:4] == (4, 4)
    sources[0].robot = "ur5e"
    with pytest.raises(DemonstrationError, match=r"robots \['panda', 'ur5e'\]; accepted: one"):
        load_samples(sources, VIEWS)


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


def test_an_episode_that_is_shorter_than_a_chunk_is_refused(folder):
    assert load(folder, horizon=4).chunks.shape == (9, 4, 7)  # the shortest has 2 steps of 2
    with pytest.raises(DemonstrationError, match="lasts 4 control steps; a chunk has 5"):
        load(folder, horizon=5)


def test_reasonings_go_with_their_steps_and_are_missed_by_name(tmp_path, folder):
    texts = np.array(["TASK: a", "TASK: b"], dtype=object)
    write(tmp_path / "reasoned", "a", "pick up the bowl", episode(steps=2, reasoning=texts))
    samples = load(tmp_path / "reasoned", reasoning=True)
    assert samples.reasonings.tolist() == [*texts]
    assert load(folder).reasonings is None
    with pytest.raises(DemonstrationError, match="has no reasonings; `heisd relabel` writes them"):
        load(folder, reasoning=True)
