"""A database opens only for its own model and robot, and only if it is complete."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from support.database import BOUNDS, INSTRUCTIONS, MODEL, SIZE, entries, unit, write_small

from heisd_ros.errors import DatabaseError
from heisd_ros.retrieval.database import EXACT, Database
from heisd_ros.retrieval.manifest import MANIFEST


@pytest.fixture
def folder(tmp_path):
    write_small(tmp_path / "db")
    return tmp_path / "db"


def test_every_task_has_its_shard(folder):
    database = Database.open(folder, MODEL, robot="panda")
    assert [shard.instruction for shard in database] == list(INSTRUCTIONS)
    assert len(database) == 30 == database.manifest.entries
    for number, instruction in enumerate(INSTRUCTIONS):
        shard, how = database.shard_for(instruction)
        assert how == "exact" and shard.instruction == instruction and len(shard) == 15
        matches = shard.search(entries(seed=number).keys[4], 1)
        np.testing.assert_array_equal(matches.tokens, entries(seed=number).tokens[4:5])
        assert matches.episodes[0] == 10 * number


def test_more_entries_than_a_shard_has_are_refused_before_the_first_search(folder):
    database = Database.open(folder, MODEL)
    database.check_k(15)
    with pytest.raises(DatabaseError, match=r"k is 16, .* has 15 entries; set retrieval\.k"):
        database.check_k(16)


def test_another_model_is_refused(folder):
    with pytest.raises(
        DatabaseError, match=r"model aaaaaaaaaaaa, but bbbbbbbbbbbb.*heisd db build"
    ):
        Database.open(folder, "b" * 64)


def test_another_robot_is_refused(folder):
    with pytest.raises(DatabaseError, match="robot 'panda', but 'ur5' is in use; build one"):
        Database.open(folder, MODEL, robot="ur5")


def test_no_database_is_refused(tmp_path):
    with pytest.raises(DatabaseError, match=r"holds no database.*heisd db build"):
        Database.open(tmp_path, MODEL)


def test_an_empty_database_is_refused(folder):
    manifest = dataclasses.replace(Database.open(folder, MODEL).manifest, shards=())
    (folder / MANIFEST).write_text(manifest.sealed().to_json())
    with pytest.raises(DatabaseError, match="is empty; build it again"):
        Database.open(folder, MODEL)


def test_every_file_is_checked(folder):
    names = list(json.loads((folder / MANIFEST).read_text())["files"])
    assert sorted(names) == sorted(str(path.relative_to(folder)) for path in folder.rglob("*.npy"))
    for name in names:
        path = folder / name
        content = path.read_bytes()
        for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), b""):
            path.write_bytes(damaged)
            with pytest.raises(DatabaseError, match=f"{path.name} is damaged.*heisd db build"):
                Database.open(folder, MODEL)
        path.unlink()
        with pytest.raises(DatabaseError, match=f"{path.name} is missing"):
            Database.open(folder, MODEL)
        path.write_bytes(content)
    Database.open(folder, MODEL)


def test_what_others_put_into_the_folder_is_left_alone(folder):
    (folder / "calibration.json").write_text("{}")
    assert len(Database.open(folder, MODEL)) == 30


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("  Open the TOP drawer\tof the cabinet ", "exact"),
        ("Open the top drawer, of the cabinet.", "exact"),
        ("open the top drawr of the cabinet", f"nearest: {INSTRUCTIONS[1]!r}"),
    ],
)
def test_an_instruction_may_be_written_a_little_differently(folder, asked, found):
    shard, how = Database.open(folder, MODEL).shard_for(asked)
    assert shard.instruction == INSTRUCTIONS[1] and how == found


@pytest.mark.parametrize(
    "asked", ["", "dance", "open the middle drawer of the cabinet", "pick up the ball"]
)
def test_another_task_has_no_shard(folder, asked):
    shard, how = Database.open(folder, MODEL).shard_for(asked)
    assert shard is None and how == f"no shard for {asked!r}; no retrieval"


OPPOSITES = [
    (
        "put the black bowl between the plate and the ramekin on the tray",
        "put the black bowl not between the plate and the ramekin on the tray",
    ),
    (
        "pick up the book in front of the caddy and place it in the compartment of the caddy",
        "pick up the book in left of the caddy and place it in the compartment of the caddy",
    ),
    (
        "open the top drawer of the wooden cabinet and put the black bowl inside of it",
        "open the bottom drawer of the wooden cabinet and put the black bowl inside of it",
    ),
    (
        "turn on the stove in the corner and put the frying pan on the table",
        "turn off the stove in the corner and put the frying pan on the table",
    ),
    ("move the arm up by 5 centimetres", "move the arm up by -5 centimetres"),
    ("move the arm up by 1.5 centimetres", "move the arm up by 15 centimetres"),
]


@pytest.mark.parametrize(("known", "asked"), OPPOSITES)
def test_what_is_only_like_an_instruction_is_never_found_as_the_same(tmp_path, known, asked):
    write_small(tmp_path / "db", {known: entries()})
    database = Database.open(tmp_path / "db", MODEL)
    assert database.shard_for(f" {known.upper()}!")[1] == EXACT
    assert database.shard_for(asked)[1] != EXACT


def test_bounds_by_kind(folder):
    database = Database.open(folder, MODEL)
    assert database.bounds("speed") == BOUNDS
    with pytest.raises(
        DatabaseError, match=r"no bounds of the metric 'paper', only of \['speed'\]"
    ):
        database.bounds("paper")


def test_one_entry_is_enough(tmp_path):
    write_small(tmp_path / "db", {INSTRUCTIONS[0]: entries(episodes=1, steps=1)})
    shard, _ = Database.open(tmp_path / "db", MODEL).shard_for(INSTRUCTIONS[0])
    assert len(shard.search(unit(np.ones(SIZE)), 1)) == 1
