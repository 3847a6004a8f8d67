"""HDF5 demonstrations of other scripts are read if they are unambiguous."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from support.fake_scene import REST

from heisd_ros.data.libero_source import LiberoSource
from heisd_ros.data.open_sources import Reading, open_sources
from heisd_ros.data.recording_layout import RecordingLayout
from heisd_ros.errors import DemonstrationError

TASK = "pick up the black bowl"
STEPS = 6
TOP = 200
"""Shade of the row that is to be on top."""


def pictures(upright):
    shown = np.zeros((STEPS, 8, 8, 3), np.uint8)
    shown[:, 0 if upright else -1] = TOP
    return shown


def motion():
    return np.tile(REST, (STEPS, 1)) + 0.01 * np.arange(STEPS)[:, None]


def regenerated(path, demos=3):
    """As openvla/experiments/robot/libero/regenerate_libero_dataset.py writes: no attributes."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for number in range(demos):
            demo = data.create_group(f"demo_{number}")
            obs = demo.create_group("obs")
            obs["gripper_states"] = np.tile([0.02, -0.02], (STEPS, 1))
            obs["joint_states"] = motion()
            obs["ee_states"] = np.zeros((STEPS, 6))
            obs["ee_pos"], obs["ee_ori"] = np.zeros((STEPS, 3)), np.zeros((STEPS, 3))
            for name in ("agentview_rgb", "eye_in_hand_rgb"):
                obs[name] = pictures(upright=False)
            demo["actions"] = np.full((STEPS, 7), 0.1 * number)
            demo["states"], demo["robot_states"] = np.zeros((STEPS, 92)), np.zeros((STEPS, 9))
            demo["rewards"] = demo["dones"] = np.eye(1, STEPS, STEPS - 1, dtype=np.uint8)[0]
    return path


def robomimic(path, robots="Panda"):
    """As robomimic's dataset_states_to_obs.py writes: pictures are upright, and no instruction."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = STEPS
        environment = {"env_name": "Lift", "type": 1, "env_kwargs": {"robots": robots}}
        data.attrs["env_args"] = json.dumps(environment)
        demo = data.create_group("demo_0")
        demo.attrs["num_samples"] = STEPS
        demo["actions"], demo["states"] = np.zeros((STEPS, 7)), np.zeros((STEPS, 30))
        for name in ("obs", "next_obs"):
            obs = demo.create_group(name)
            for view in ("agentview_image", "robot0_eye_in_hand_image"):
                obs[view] = pictures(upright=True)
            obs["robot0_joint_pos"], obs["robot0_joint_vel"] = motion(), np.ones((STEPS, 7))
            obs["robot0_gripper_qpos"] = np.tile([0.03, -0.03], (STEPS, 1))
        file.create_group("mask")["train"] = np.array([b"demo_0"])
    return path


def change(path, action):
    with h5py.File(path, "a") as file:
        action(file)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("pick_up_the_black_bowl", TASK),
        ("KITCHEN_SCENE10_close_the_top_drawer", "close the top drawer"),
        ("LIVING_ROOM_SCENE2_put_it_in", "put it in"),
    ],
)
def test_openvlas_files_are_read_by_their_names(tmp_path, name, told):
    source = LiberoSource(regenerated(tmp_path / f"{name}_demo.hdf5"), 20.0)
    assert [(e.instruction, e.steps) for e in source.outline()] == [(told, STEPS)] * 3
    assert source.report.remarks == [
        f"no attribute 'problem_info': the instruction {told!r} is the file's name"
    ]
    assert source.report.dropped == {}
    episode = source.episode(2, ("agentview", "wrist"))
    assert (episode.actions == 0.2).all()
    assert all((shown[:, 0] == TOP).all() for shown in episode.images.values())


def told_by(path, instruction):
    layout = RecordingLayout((), "", "", "", (), instruction=instruction)
    (source,) = open_sources([path], Reading(layout=layout, rate_hz=20.0))
    return source


def test_robomimics_files_are_read_with_an_instruction(tmp_path):
    robomimic(tmp_path / "image.hdf5")
    source = told_by(tmp_path, "lift the cube")
    assert [(e.instruction, e.steps) for e in source.outline()] == [("lift the cube", STEPS)]
    episode = source.episode(0, ("agentview", "wrist"))
    assert all((shown[:, 0] == TOP).all() for shown in episode.images.values())
    np.testing.assert_array_equal(episode.joint_positions, motion())
    np.testing.assert_array_equal(episode.joint_velocities, 1.0)
    np.testing.assert_allclose(episode.gripper_opening, 0.06)


@pytest.mark.parametrize("name", ["image.hdf5", "lift_demo.hdf5"])
def test_what_robomimic_leaves_out_is_named_with_its_remedy(tmp_path, name):
    path = robomimic(tmp_path / name)
    with pytest.raises(DemonstrationError, match=r"names no instruction.*'instruction' in a file"):
        LiberoSource(path).outline()


def test_another_robot_is_refused(tmp_path):
    robomimic(tmp_path / "x.hdf5", ["Sawyer"])
    with pytest.raises(DemonstrationError, match=r"its robot is \['Sawyer'\]; accepted: 'Panda'"):
        told_by(tmp_path / "x.hdf5", "lift it").outline()


def test_demonstrations_that_were_cut_off_are_counted(tmp_path):
    path = regenerated(tmp_path / "pick_it_up_demo.hdf5")
    change(path, lambda file: file["data/demo_1"].attrs.update(num_samples=STEPS))
    source = LiberoSource(path)
    assert len(source.outline()) == 1
    reason = "demonstration without 'num_samples': its recording was cut off"
    assert source.report.dropped == {reason: 2}
    assert (source.episode(0, ()).actions == 0.1).all()


def without(name):
    return lambda file: file.__delitem__(name)


def instead(name, value):
    def action(file):
        del file[name]
        file[name] = value

    return action


def sparse(name, shape, kind):
    def action(file):
        del file[name]
        file.create_dataset(name, shape, kind, chunks=True)

    return action


def elsewhere(name):
    """External data, which may be a pipe that never ends."""

    def action(file):
        shape = file[name].shape
        del file[name]
        file.create_dataset(name, shape, "f8", external=[("/dev/zero", 0, 8 * int(np.prod(shape)))])

    return action


OBS = "data/demo_1/obs"


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (without("data"), r"/ has no 'data'; it has \[\]"),
        (without(f"{OBS}/joint_states"), "/data/demo_1: .*obs has no 'joint_states'; it has"),
        (without(f"{OBS}/eye_in_hand_rgb"), "/data/demo_1: .*obs has no 'eye_in_hand_rgb'"),
        (instead(OBS, 3), "/data/demo_1: 'obs' is no group"),
        (instead("data/demo_1/actions", np.zeros((STEPS, 6))), r"'actions' is of shape \(6, 6\)"),
        (instead("data/demo_1/actions", np.full((STEPS, 7), np.nan)), "not finite at step 0"),
        (instead(f"{OBS}/joint_states", np.zeros((5, 7))), r"shape \(5, 7\); accepted: \(6, 7\)"),
        (sparse("data/demo_1/actions", (10**9, 7), "f8"), "claims 56000000000 bytes, of which"),
        (
            sparse(f"{OBS}/agentview_rgb", (STEPS, 60000, 60000, 3), "u1"),
            "'agentview_rgb' claims 64800000000 bytes",
        ),
        (
            instead(f"{OBS}/agentview_rgb", h5py.ExternalLink("/dev/zero", "/")),
            "'agentview_rgb' is a link to '/dev/zero'; accepted: data in this file",
        ),
        (elsewhere(f"{OBS}/joint_states"), "the data of 'joint_states' are in other files"),
        (lambda file: file["data/demo_1"].attrs.update(stride=0), "'stride' is 0; accepted: 1 to"),
        (lambda file: file["data/demo_1"].attrs.update(num_samples=9), "'num_samples' is 9, but"),
        (lambda file: file["data"].attrs.update(problem_info="{}"), "names no instruction"),
        (lambda file: file.create_group("data/more"), r"data has \['more'\]; accepted: demo_0"),
    ],
)  # fmt: skip
def test_what_is_missing_or_wrong_is_named(tmp_path, action, message):
    path = regenerated(tmp_path / "pick_it_up_demo.hdf5")
    change(path, action)
    source = LiberoSource(path)
    with pytest.raises(DemonstrationError, match=message) as caught:
        source.outline()
        source.episode(0 if "num_samples" in message else 1, ("agentview", "wrist"))
    assert str(caught.value).startswith(f"{path} is not in LIBERO's layout: ")


def test_a_link_through_a_group_of_another_file_is_refused(tmp_path):
    path, other = tmp_path / "pick_it_up_demo.hdf5", tmp_path / "other.hdf5"
    regenerated(path)
    with h5py.File(other, "w") as file:
        file["joints"] = np.zeros((STEPS, 7))

    def linked(file):
        file["there"] = h5py.ExternalLink(str(other), "/")
        instead(f"{OBS}/joint_states", h5py.SoftLink("/there/joints"))(file)

    change(path, linked)
    with pytest.raises(DemonstrationError, match=r"'joint_states' is in '.*other\.hdf5'; accepted"):
        LiberoSource(path).episode(1, ())
