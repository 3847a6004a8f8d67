"""`heisd data inspect` says what would be read, or what is wrong, in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from support.bags import write_bag
from support.cell_bags import CAMERAS, JOINTS, positions, recording
from support.episodes import episode
from support.mcaps import write_mcap
from typer.testing import CliRunner

from heisd_ros.cli.data import app
from heisd_ros.data.libero_hdf5 import LiberoWriter

PARAMS = f"""\
/**:
  ros__parameters:
    instruction: pick up the bowl
    recording.images: {list(CAMERAS)}
    recording.joint_states: {JOINTS}
"""


def run(*arguments, command="inspect"):
    return CliRunner().invoke(app, [command, *map(str, arguments)])


@pytest.fixture
def params(tmp_path):
    path = tmp_path / "cell.yaml"
    path.write_text(PARAMS)
    return path


def test_a_bag_is_shown_as_it_would_be_read(tmp_path, params):
    messages = [m for m in recording(seconds=2.0) if m[0] != CAMERAS[1] or m[1] % 7]
    bag = write_bag(tmp_path / "bag", messages)
    result = run(bag, "--params", params, "--picture", tmp_path / "bag.png")
    assert result.exit_code == 0, result.output
    for text in ("panda, 20 control steps a second", CAMERAS[0], "30.0", "pick up the bowl"):
        assert text in result.output
    assert "left out" in result.output and "99th percentile" in result.output
    with Image.open(tmp_path / "bag.png") as picture:
        assert picture.width > 500 and len(set(np.asarray(picture).reshape(-1).tolist())) > 50


def test_demonstration_files_are_shown_too(tmp_path):
    writer = LiberoWriter(tmp_path / "demos" / "x_demo.hdf5", "pick up the bowl", "x.bddl", {})
    writer.add(episode(steps=9), 0, np.zeros((9, 4)), "")
    result = run(tmp_path / "demos", "--picture", tmp_path / "demos.png")
    assert result.exit_code == 0, result.output
    assert "demos/x_demo.hdf5: panda, 20 control steps a second, 1 episodes, 9 steps" in (
        result.output
    )


def test_what_is_wrong_is_said_in_one_line(tmp_path, params):
    bag = write_bag(tmp_path / "bag", recording(seconds=0.5))
    (tmp_path / "wrong.yaml").write_text(PARAMS.replace("joint_states", "joint_state"))
    (tmp_path / "other.yaml").write_text(PARAMS.replace(JOINTS, "/joint"))
    (tmp_path / "rule.yaml").write_text(PARAMS + "    recording.action: twist\n")
    for arguments, message in (
        ((tmp_path / "nowhere",), "holds nothing that can be read"),
        ((bag,), "name the robot's YAML with --params"),
        ((bag, "--params", tmp_path / "wrong.yaml"), "such as 'recording.joint_states'"),
        ((bag, "--params", tmp_path / "other.yaml"), "has no topic /joint"),
        ((bag, "--params", tmp_path / "rule.yaml"), "'recording.action_topic' is ''"),
        ((bag, "--params", params, "--picture", tmp_path / "no" / "x.png"), "No such file"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1 and message in result.output, result.output


def test_joints_in_degrees_are_shown_and_said(tmp_path, params):
    messages = recording(seconds=0.5, joints_of=lambda at: np.degrees(positions(at)))
    result = run(write_bag(tmp_path / "bag", messages), "--params", params)
    assert result.exit_code == 0, result.output
    assert f"warning: {JOINTS}: joint positions look like degrees; accepted: rad" in result.output
    assert "panda_joint4: 50 of 50 positions are outside" in result.output


def test_a_recording_of_another_program_is_shown_with_what_is_left_out(tmp_path, params):
    path = write_mcap(tmp_path / "x.mcap", recording(seconds=0.5), foreign=("json", "schemaless"))
    result = run(path, "--params", params)
    assert result.exit_code == 0, result.output
    assert "1 episodes, 10 steps" in result.output and "broken off" not in result.output
    assert "note: left out: /other/json (json, no ROS 2 message)" in result.output


def test_a_file_without_demonstrations_is_shown_as_that(tmp_path):
    LiberoWriter(tmp_path / "x_demo.hdf5", "pick up the bowl", "x.bddl", {})
    result = run(tmp_path)
    assert result.exit_code == 0 and "0 episodes, 0 steps" in result.output
    result = run(tmp_path, "--picture", tmp_path / "x.png")
    assert result.exit_code == 1 and "holds no episode to draw" in result.output


def test_a_bag_is_read_by_the_robot_s_file_in_it(tmp_path, params):
    notes = {"parameters": PARAMS, "model": "openvla-7b", "lerobot.operator_prompt": "stack them"}
    bag = write_bag(tmp_path / "bag", recording(seconds=0.5), custom=notes)
    result = run(bag)
    assert result.exit_code == 0, result.output
    assert "stack them" in result.output and "recorded: model: 'openvla-7b'" in result.output
    params.write_text(PARAMS.replace("pick", "put"))
    result = run(bag, "--params", params)
    assert f"recorded: parameters: 5 lines, other than {params}" in result.output
    broken = write_bag(tmp_path / "broken", recording(seconds=0.5), custom={"parameters": "a: 1"})
    result = run(broken)
    assert result.exit_code == 1 and "the robot's YAML in it: keys are ['a']" in result.output


def test_bags_are_exported_and_read_again_without_a_feature_map(tmp_path, params):
    bags = [
        write_bag(tmp_path / name, recording(seconds=0.5, size=64), custom={"model": "m"})
        for name in ("a", "b")
    ]
    result = run(*bags, tmp_path / "set", "--params", params, command="export")
    assert result.exit_code == 0, result.output
    assert "set: 2 episodes, 20 frames, 20 a second" in result.output
    notes = json.loads((tmp_path / "set/meta/heisd.json").read_text())
    assert (notes["fps"], notes["control_steps_per_frame"]) == (20.0, 1)
    assert [source["recorded"] for source in notes["sources"]] == [{"model": "m"}] * 2
    assert (tmp_path / "set/meta/robot.yaml").read_text() == PARAMS
    result = run(tmp_path / "set", "--params", params)
    assert result.exit_code == 0, result.output
    assert "set: panda, 20 control steps a second, 2 episodes, 20 steps" in result.output
    result = run(tmp_path / "set", tmp_path / "again", "--params", params, command="export")
    assert result.exit_code == 0 and "2 episodes" in result.output, result.output


def test_every_second_step_is_exported_with_a_word(tmp_path):
    writer = LiberoWriter(tmp_path / "x_demo.hdf5", "pick up the bowl", "x.bddl", {})
    writer.add(episode(steps=4, size=64, outcome="success"), 0, np.zeros((4, 4)), "")
    result = run(tmp_path / "x_demo.hdf5", tmp_path / "set", "--images", "h264", command="export")
    assert result.exit_code == 0, result.output
    assert "1 episodes, 4 frames, 10 a second" in result.output
    assert "an action is that of one control step, 0.05 s, and not of the 0.1 s" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "zarr"), "--to is 'zarr'; accepted: lerobot, rlds"),
        (("--to", "rlds", "--images", "av1"), "'av1' are not written; accepted: jpeg, png"),
        (("--images", "gif"), "'gif' are not written; accepted: av1, h264, png"),
        (("--leave-out", "x"), "['x'] cannot be left out; accepted: "),
    ],
)
def test_an_export_that_cannot_be_is_one_line(tmp_path, options, message):
    LiberoWriter(tmp_path / "x_demo.hdf5", "pick up the bowl", "x.bddl", {})
    result = run(tmp_path, tmp_path / "set", *options, command="export")
    assert result.exit_code == 1 and message in result.output, result.output
    assert len(result.output.strip().splitlines()) == 1 and not (tmp_path / "set").exists()
