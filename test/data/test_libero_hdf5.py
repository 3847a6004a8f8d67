"""LIBERO's files: what is written is read back, LIBERO's own load, bad ones are refused by name."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
from support.episodes import episode
from support.tree import ROOT

from heisd_ros.data.libero_hdf5 import LiberoWriter, read_episodes
from heisd_ros.errors import DemonstrationError

STATES = np.arange(12.0).reshape(3, 4)
DAMAGED = [b"not HDF5", b"\x89HDF\r\n\x1a\n", None]
"""Contents of files; None: a good one with its end cut off."""


def writer_of(path):
    return LiberoWriter(path, "pick up the bowl", "bowl.bddl", {"suite": "libero_spatial"})


def write(path, *episodes):
    writer = writer_of(path)
    for seed, recorded in enumerate(episodes):
        writer.add(recorded, seed, STATES, "<mujoco/>")
    return writer


def assert_same(left, right):
    for field in dataclasses.fields(left):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if field.name == "images":
            assert a.keys() == b.keys()
            for view in a:
                np.testing.assert_array_equal(a[view], b[view], strict=True)
        else:
            np.testing.assert_array_equal(a, b)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "bowl_demo.hdf5"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"joint_velocities": None, "landmarks": None, "init_state": None, "stride": 1},
        {"steps": 2, "reasoning": np.array(["TASK: é", ""], dtype=object)},
        {"steps": 3, "person": np.array([False, True, True]), "outcome": "failure"},
    ],
)
def test_round_trip_is_exact(path, changes):
    recorded = [episode(seed=seed, **changes) for seed in (1, 2)]
    write(path, *recorded)
    for left, right in zip(recorded, read_episodes(path), strict=True):
        assert_same(left, right)


def test_order_is_that_of_recording_beyond_ten(path):
    recorded = [episode(steps=1, seed=seed) for seed in range(12)]
    write(path, *recorded)
    for left, right in zip(recorded, read_episodes(path), strict=True):
        assert_same(left, right)


def test_only_the_asked_views_are_read(path):
    write(path, episode())
    assert [*next(read_episodes(path, ("wrist",))).images] == ["wrist"]
    assert next(read_episodes(path, ())).images == {}


def test_layout_is_liberos(path):
    recorded = episode()
    write(path, recorded, episode(steps=2, seed=1))
    with h5py.File(path) as file:
        data = file["data"]
        assert json.loads(data.attrs["problem_info"])["language_instruction"] == "pick up the bowl"
        assert data.attrs["bddl_file_name"] == "bowl.bddl"
        assert json.loads(data.attrs["env_args"]) == {"suite": "libero_spatial"}
        assert data.attrs["tag"] == "libero-v1"
        assert (data.attrs["num_demos"], data.attrs["total"]) == (2, 5)
        demo = data["demo_0"]
        assert (demo.attrs["num_samples"], demo.attrs["model_file"]) == (3, "<mujoco/>")
        np.testing.assert_array_equal(demo.attrs["init_state"], STATES[0])
        np.testing.assert_array_equal(demo["states"], STATES)
        assert demo["rewards"][:].tolist() == demo["dones"][:].tolist() == [0, 0, 1]
        fingers = demo["obs/gripper_states"][:]
        assert (fingers[:, 0] >= 0).all() and (fingers[:, 0] == -fingers[:, 1]).all()
        upside_down = demo["obs/agentview_rgb"][:]
        np.testing.assert_array_equal(upside_down[:, ::-1], recorded.images["agentview"])


def test_a_resumed_file_gives_seeds_and_grasp_back(path):
    writer = write(path, episode(seed=1))
    assert writer.grasp_candidate is None
    writer.grasp_candidate = 2
    writer.add(episode(seed=2), 9, STATES, "<mujoco/>")
    resumed = writer_of(path)
    assert (resumed.seeds(), resumed.grasp_candidate) == ({0, 9}, 2)
    assert len([*read_episodes(path)]) == 2


def test_an_unclosed_demo_is_not_read_and_is_gone_on_resuming(path):
    write(path, episode(seed=1), episode(seed=2))
    with h5py.File(path, "a") as file:
        del file["data/demo_1"].attrs["num_samples"]
    assert len([*read_episodes(path)]) == 1
    resumed = writer_of(path)
    assert resumed.seeds() == {0}
    resumed.add(episode(seed=3), 5, STATES, "<mujoco/>")
    first, second = read_episodes(path)
    assert_same(first, episode(seed=1))
    assert_same(second, episode(seed=3))


def test_an_episode_that_fails_to_be_written_leaves_the_file_as_it_was(path):
    writer = write(path, episode(seed=1))
    before = path.read_bytes()
    with pytest.raises(KeyError):
        writer.add(episode(images={}), 1, STATES, "<mujoco/>")
    assert path.read_bytes() == before
    assert [*path.parent.iterdir()] == [path]


def test_the_file_can_be_read_between_two_episodes(path):
    writer = write(path, episode(seed=1))
    assert len([*read_episodes(path)]) == 1
    writer.add(episode(seed=2), 1, STATES, "<mujoco/>")
    assert len([*read_episodes(path)]) == 2


RECORDING = """
import pathlib, resource, signal, sys
target, beyond, *folders = sys.argv[1:]
sys.path[:0] = folders
import numpy as np
from support.episodes import episode
from heisd_ros.data.libero_hdf5 import LiberoWriter

path = pathlib.Path(target)
writer = LiberoWriter(path, "pick up the bowl", "bowl.bddl", {})
writer.add(episode(seed=1), 3, np.zeros((3, 4)), "")
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
limit = path.stat().st_size + int(beyond)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
writer.add(episode(seed=2, steps=40, size=32), 4, np.zeros((40, 4)), "")
"""
"""Adds an episode, then a second one that the kernel kills at a write beyond a size of the file."""


@pytest.mark.parametrize("beyond", [0, 200_000])
def test_a_recording_that_is_killed_within_an_episode_keeps_the_ones_before(path, beyond):
    folders = [str(ROOT), str(ROOT / "test")]
    command = [sys.executable, "-c", RECORDING, str(path), str(beyond), *folders]
    assert subprocess.run(command, env=os.environ).returncode == -signal.SIGXFSZ
    (kept,) = read_episodes(path)
    assert_same(kept, episode(seed=1))
    resumed = writer_of(path)
    assert resumed.seeds() == {3}
    resumed.add(episode(seed=3), 5, STATES, "<mujoco/>")
    assert_same([*read_episodes(path)][1], episode(seed=3))
    assert [*path.parent.iterdir()] == [path]


def test_a_file_that_another_process_is_writing_is_left_alone(path):
    writer = write(path, episode(seed=1))
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as other:
        other.write(b"half an episode")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DemonstrationError, match="Unless another process is writing it"):
            writer.add(episode(seed=2), 1, STATES, "<mujoco/>")
        assert part.read_bytes() == b"half an episode"
    writer.add(episode(seed=2), 1, STATES, "<mujoco/>")
    assert writer.seeds() == {0, 1}


def test_a_reader_that_has_begun_is_not_disturbed(path):
    writer = write(path, episode(seed=1), episode(seed=2))
    reader = read_episodes(path)
    assert_same(next(reader), episode(seed=1))
    writer.add(episode(seed=3), 2, STATES, "<mujoco/>")
    assert_same(next(reader), episode(seed=2))
    assert [*reader] == []


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_not_continued(path, content):
    write(path, episode(size=32))
    path.write_bytes(content or path.read_bytes()[:-4000])
    damaged = path.read_bytes()
    with pytest.raises(DemonstrationError, match=r"bowl_demo.hdf5 cannot be continued.*move it"):
        writer_of(path)
    assert path.read_bytes() == damaged
    assert [*path.parent.iterdir()] == [path]


def test_a_file_whose_data_is_no_group_is_not_continued(path):
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(DemonstrationError, match=r"bowl_demo.hdf5 cannot be continued"):
        writer_of(path)


def public_file(path, instruction="pick up the black bowl", steps=4):
    """A file as LIBERO's scripts write them: every step, no velocities, no landmarks."""
    rng = np.random.default_rng(0)
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["bddl_file_name"] = "libero/bddl_files/libero_spatial/bowl.bddl"
        data.attrs["env_args"] = json.dumps({"type": 1, "env_name": "Libero_Tabletop"})
        data.attrs["env_name"] = "Libero_Tabletop_Manipulation"
        data.attrs["macros_image_convention"] = "opengl"
        data.attrs["num_demos"], data.attrs["total"] = 2, 2 * steps
        data.attrs["problem_info"] = json.dumps(
            {
                "problem_name": "libero_tabletop_manipulation",
                "domain_name": "robosuite",
                "language_instruction": instruction,
            }
        )
        data.attrs["tag"] = "libero-v1"
        for number in range(2):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = steps
            demo.attrs["model_file"] = "<mujoco/>"
            demo.attrs["init_state"] = rng.normal(size=92)
            demo["actions"] = rng.uniform(-1, 1, (steps, 7))
            demo["states"] = rng.normal(size=(steps, 92))
            demo["robot_states"] = rng.normal(size=(steps, 9))
            demo["rewards"] = demo["dones"] = np.eye(1, steps, steps - 1, dtype=np.uint8)[0]
            obs = demo.create_group("obs")
            for name in ("agentview_rgb", "eye_in_hand_rgb"):
                pictures = np.zeros((steps, 128, 128, 3), np.uint8)
                pictures[:, 0] = 200  # LIBERO stores the bottom row first
                obs[name] = pictures
            obs["joint_states"] = rng.uniform(-1, 1, (steps, 7))
            obs["gripper_states"] = np.tile([0.03, -0.03125], (steps, 1))
            obs["ee_states"] = rng.normal(size=(steps, 6))
            obs["ee_pos"], obs["ee_ori"] = obs["ee_states"][:, :3], obs["ee_states"][:, 3:]


def test_a_public_libero_file_loads(path):
    public_file(path)
    episodes = [*read_episodes(path)]
    assert len(episodes) == 2
    first = episodes[0]
    assert first.instruction == "pick up the black bowl"
    assert (len(first), first.stride) == (4, 1)
    assert first.joint_velocities is first.landmarks is first.init_state is None
    np.testing.assert_allclose(first.gripper_opening, 0.06125)
    for images in first.images.values():
        assert (images[:, -1] == 200).all() and not images[:, 0].any()
    with h5py.File(path) as file:
        demo = file["data/demo_0"]
        np.testing.assert_array_equal(first.actions, demo["actions"])
        np.testing.assert_array_equal(first.joint_positions, demo["obs/joint_states"])


@pytest.mark.parametrize("instruction", [list("put it down"), '"put it down"'])
def test_other_spellings_of_the_instruction(path, instruction):
    public_file(path, instruction)
    assert next(read_episodes(path)).instruction == "put it down"


def test_a_missing_file_is_refused(path):
    with pytest.raises(DemonstrationError, match=r"bowl_demo.hdf5 cannot be read"):
        next(read_episodes(path))


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_refused(path, content):
    public_file(path)
    path.write_bytes(content or path.read_bytes()[:-4000])
    with pytest.raises(DemonstrationError, match=r"bowl_demo.hdf5 cannot be read"):
        next(read_episodes(path))


def remove(name):
    def change(file):
        del file[name]

    return change


def replace(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


def garble_instruction(file):
    file["data"].attrs["problem_info"] = "pick up"


def add_group(file):
    file["data"].create_group("mask").attrs["num_samples"] = 4


@pytest.mark.parametrize(
    "change",
    [
        remove("data"),
        replace("data", np.zeros(3)),
        garble_instruction,
        add_group,
        remove("data/demo_0/actions"),
        replace("data/demo_0/actions", np.zeros((4, 6))),
        remove("data/demo_0/obs"),
        replace("data/demo_0/obs", np.zeros((4, 7))),
        remove("data/demo_0/obs/eye_in_hand_rgb"),
        replace("data/demo_0/obs/eye_in_hand_rgb", np.zeros((4, 64, 64, 3))),
        remove("data/demo_0/obs/joint_states"),
        replace("data/demo_0/obs/joint_states", np.zeros((4, 6))),
        replace("data/demo_0/obs/joint_states", np.zeros((3, 7))),
        replace("data/demo_0/obs/gripper_states", np.zeros(4)),
    ],
)
def test_another_layout_is_refused(path, change):
    public_file(path)
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(DemonstrationError, match=r"bowl_demo.hdf5 is not in LIBERO's layout"):
        list(read_episodes(path))


def test_an_unknown_view_is_refused(path):
    public_file(path)
    with pytest.raises(DemonstrationError, match=r"sideview.*agentview.*wrist"):
        next(read_episodes(path, ("sideview",)))
