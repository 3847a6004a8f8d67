"""`heisd db` builds a database and says what is in it, or what is wrong."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
import typer
from support.database import write_small
from support.episodes import episode
from support.robots import robot_files, urdf_of
from support.skipping import calibration
from support.tiny_vla import INSTRUCTIONS, save_tiny_checkpoint
from typer.testing import CliRunner

from heisd_ros.cli.db import app, parse_states
from heisd_ros.cli.db_jobs import read_as
from heisd_ros.data.libero_hdf5 import LiberoWriter
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.manifest import MANIFEST, Manifest
from heisd_ros.vla.checkpoint_files import fingerprint


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_build_then_info(tmp_path):
    model = save_tiny_checkpoint(tmp_path / "model")
    writer = LiberoWriter(tmp_path / "demos" / "a_demo.hdf5", INSTRUCTIONS[0], "x.bddl", {})
    for seed in range(3):
        recorded = episode(steps=9, seed=seed, init_state=seed)
        writer.add(recorded, seed, np.zeros((9, 4)), "")
    folder = tmp_path / "db"
    built = run("build", tmp_path / "demos", folder, "--model", model, "--states", "0,2")
    assert built.exit_code == 0, built.output
    database = Database.open(folder, fingerprint(model))
    assert database.manifest.entries == 18
    unasked = "left out: 1 x episode of an initial state that is not requested"
    assert f"demos/a_demo.hdf5: {unasked}" in built.output
    with h5py.File(tmp_path / "demos" / "a_demo.hdf5", "a") as file:
        del file["data/demo_2"].attrs["num_samples"]
    again = run("build", tmp_path / "demos", tmp_path / "db2", "--model", model, "--states", "0,1")
    assert "left out: 1 x demonstration without 'num_samples'" in again.output
    told = run("info", folder, "--model", model)
    assert told.exit_code == 0, told.output
    for text in (database.manifest.database_id[:12], "panda, 20 Hz", "agentview, wrist", "0,2"):
        assert text in built.output and text in told.output
    assert "no calibration" in told.output and "heisd calibrate" in told.output
    calibration(
        database_id=database.manifest.database_id, model_fingerprint=fingerprint(model)
    ).save(folder)
    assert "no calibration" not in run("info", folder).output


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    model = save_tiny_checkpoint(tmp_path / "model")
    write_small(tmp_path / "db")
    (tmp_path / "file").write_text("")
    demos = tmp_path.with_name(f"{tmp_path.name}_demos")
    writer = LiberoWriter(demos / "a_demo.hdf5", INSTRUCTIONS[0], "x.bddl", {})
    writer.add(episode(steps=9, init_state=0), 0, np.zeros((9, 4)), "")
    for arguments, message in (
        (("info", tmp_path / "nowhere"), "holds no database"),
        (("info", tmp_path / "db", "--model", model), "is in use"),
        (("build", tmp_path, tmp_path / "new", "--model", model), "heisd demos"),
        (("merge", tmp_path / "db", tmp_path / "nowhere", tmp_path / "new"), "holds no database"),
        (("prune", tmp_path / "db", "--instruction", "dance"), "has no task"),
        (("verify", tmp_path / "nowhere"), "holds no database"),
        (("build", tmp_path, tmp_path / "new", "--model", tmp_path), "config.json"),
        (("build", demos, tmp_path / "file" / "db", "--model", model), "cannot be written: Not a"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and "Traceback" not in result.output
        # A long path is broken anywhere.
        said = "".join(result.output.replace("│", " ").split())
        assert message.replace(" ", "") in said


def test_databases_are_added_to_merged_pruned_and_verified(tmp_path):
    model = save_tiny_checkpoint(tmp_path / "model")
    for name in ("a", "b"):
        writer = LiberoWriter(tmp_path / name / "x_demo.hdf5", INSTRUCTIONS[0], "x.bddl", {})
        for seed in range(2):
            writer.add(episode(steps=9, seed=seed, init_state=seed), seed, np.zeros((9, 4)), "")
    one, two = tmp_path / "one", tmp_path / "two"
    for arguments in (
        ("build", tmp_path / "a", one, "--model", model),
        ("build", tmp_path / "b", two, "--model", model),
        ("merge", one, two, tmp_path / "merged"),
        ("add", one, tmp_path / "b", "--model", model),
        ("prune", one, "--episodes", "1", "--every", "3"),
        ("verify", one, "--model", model),
    ):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
    assert Database.open(tmp_path / "merged", fingerprint(model)).manifest.entries == 36
    assert Database.open(one, fingerprint(model)).manifest.entries == 9
    assert f"{one}: good" in result.output


def test_states_are_numbers_and_ranges():
    assert parse_states("0-3, 7,9-9") == {0, 1, 2, 3, 7, 9}
    for text in ("", "a", "3-1", "1-", "-1", "1;2"):
        with pytest.raises(typer.BadParameter, match="numbers and ranges"):
            parse_states(text)


def test_brackets_in_an_instruction_are_shown_as_they_are(tmp_path):
    write_small(tmp_path / "db")
    manifest = tmp_path / "db" / MANIFEST
    words = "put it on [/shelf] with the [left arm]"
    old = Manifest.read(tmp_path / "db")
    shards = (replace(old.shards[0], instruction=words), *old.shards[1:])
    manifest.write_text(replace(old, shards=shards, database_id="").sealed().to_json())
    result = run("info", tmp_path / "db")
    assert result.exit_code == 0, result.output
    assert "".join(words.split()) in "".join(result.output.replace("│", " ").split())


def test_a_urdf_that_a_robot_file_names_counts_by_what_it_says(tmp_path):
    model, urdf = save_tiny_checkpoint(tmp_path / "model"), tmp_path / "arm.urdf"
    params = tmp_path / "arm.yaml"
    text = robot_files()["ur5e"].read_text(encoding="utf-8")
    params.write_text(text.replace("source: topic", f"source: file\n    robot.urdf: {urdf}"))
    found = []
    for comment in ("", "<!-- another -->"):
        urdf.write_text(urdf_of("ur5e") + comment, encoding="utf-8")
        found.append(read_as(str(model), "", "float32", params, None, None))
    assert found[0] != found[1] and found[1]["urdf"].endswith("another -->")
