"""A database of format 1 becomes one of this format: same searches, same id, same calibration."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.database import INSTRUCTIONS, MODEL, entries, write_small

from heisd_ros.errors import DatabaseError
from heisd_ros.retrieval.arrays import file_hash
from heisd_ros.retrieval.convert import DROPPED, convert_database
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.manifest import MANIFEST, digest


def rewrite(folder, **changes):
    """Gives a manifest other values, and the id that format 1 gives them."""
    values = json.loads((folder / MANIFEST).read_text()) | changes
    values.pop("checksum", None)
    values["database_id"] = digest(values, ("created", "database_id"))
    (folder / MANIFEST).write_text(json.dumps(values))
    return values["database_id"]


@pytest.fixture
def old(tmp_path):
    """A database as format 1 had them, with the columns that nothing read, and a calibration."""
    files = write_small(tmp_path / "db").files
    for shard in (tmp_path / "db" / "shards").iterdir():
        for name in DROPPED:
            np.save(shard / f"{name}.npy", np.zeros((15, 7)))
            files[f"shards/{shard.name}/{name}.npy"] = file_hash(shard / f"{name}.npy")
    (tmp_path / "db" / "calibration.json").write_text("bound to the id")
    rewrite(tmp_path / "db", format=1, files=files)
    return tmp_path / "db"


def test_an_old_one_names_the_command(old):
    with pytest.raises(DatabaseError, match="format 1, this version reads 2; run `heisd db conv"):
        Database.open(old, MODEL)


def test_a_converted_one_keeps_its_id_its_calibration_and_what_searches_find(old):
    before = json.loads((old / MANIFEST).read_text())
    manifest = convert_database(old)
    assert manifest.database_id == before["database_id"]
    assert (old / "calibration.json").read_text() == "bound to the id"
    names = {path.name for path in old.rglob("*.npy")}
    assert not names & {f"{name}.npy" for name in DROPPED}
    assert {name: before["files"][name] for name in manifest.files} == manifest.files
    opened = Database.open(old, MODEL)
    assert opened.manifest == manifest
    found = opened.shard_for(INSTRUCTIONS[0])[0].search(entries().keys[3], 1)
    np.testing.assert_array_equal(found.tokens, entries().tokens[3:4])
    with pytest.raises(DatabaseError, match="has format 2; accepted: 1"):
        convert_database(old)


def changed(folder):
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace("panda", "ur5e"))


def torn(folder):
    (folder / "shards" / "000" / "keys.npy").write_bytes(b"")


def outside(folder):
    (folder.parent / "joints.npy").write_bytes(b"")
    rewrite(folder, files={"../joints.npy": file_hash(folder.parent / "joints.npy")})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (changed, "changed after it was written"),
        (torn, r"keys\.npy is damaged"),
        (outside, "accepted: paths within the database"),
        (lambda folder: rewrite(folder, robot=None), "robot is None; accepted: a text"),
    ],
)
def test_a_damaged_one_is_left_alone(old, damage, message):
    damage(old)
    before = (old / MANIFEST).read_bytes(), sorted(old.parent.rglob("*"))
    with pytest.raises(DatabaseError, match=message):
        convert_database(old)
    assert before == ((old / MANIFEST).read_bytes(), sorted(old.parent.rglob("*")))


def test_a_conversion_that_stops_half_way_leaves_a_good_database(old, monkeypatch):
    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr("heisd_ros.files.atomic.os.replace", full)
    with pytest.raises(DatabaseError, match="cannot be written: No space left"):
        convert_database(old)
    monkeypatch.undo()
    convert_database(old)
    Database.open(old, MODEL)
