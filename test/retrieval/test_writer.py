"""A database is written atomically, with a manifest that describes it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from support.database import INSTRUCTIONS, MODEL, description, entries, projection, write_small

from heisd_ros.errors import DatabaseError
from heisd_ros.retrieval import writer
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.manifest import Manifest
from heisd_ros.retrieval.writer import write_database


def test_the_manifest_says_what_was_written(tmp_path):
    manifest = write_small(tmp_path / "new" / "db")
    assert manifest == Manifest.read(tmp_path / "new" / "db")
    assert [(s.entries, s.episodes, s.graph) for s in manifest.shards] == [(15, 3, False)] * 2
    assert (manifest.features.size, manifest.features.kept) == (24, 8)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["db"]


def test_the_same_content_has_the_same_id(tmp_path):
    first, again = write_small(tmp_path / "a"), write_small(tmp_path / "b")
    assert first.database_id == again.database_id
    other = write_small(tmp_path / "c", {INSTRUCTIONS[0]: entries(seed=5)})
    assert other.database_id != first.database_id


def test_a_database_is_replaced_with_its_calibration(tmp_path):
    write_small(tmp_path / "db")
    (tmp_path / "db" / "calibration.json").write_text("{}")
    new = write_small(tmp_path / "db", {INSTRUCTIONS[0]: entries(seed=5)})
    assert Database.open(tmp_path / "db", MODEL).manifest == new
    assert not (tmp_path / "db" / "calibration.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_an_open_database_outlives_its_replacement(tmp_path):
    write_small(tmp_path / "db")
    opened = Database.open(tmp_path / "db", MODEL)
    write_small(tmp_path / "db", {INSTRUCTIONS[0]: entries(seed=5)})
    shard, _ = opened.shard_for(INSTRUCTIONS[0])
    np.testing.assert_array_equal(shard.search(entries().keys[3], 1).tokens, entries().tokens[3:4])


def test_a_reader_always_finds_one_whole_database_while_it_is_replaced(tmp_path):
    versions = {write_small(tmp_path / "db").database_id}
    ended, found, failed = threading.Event(), set(), []

    def read():
        while not ended.is_set():
            try:
                opened = Database.open(tmp_path / "db", MODEL)
                found.add(opened.manifest.database_id)
            except DatabaseError as error:
                failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for seed in range(15):
            new = write_small(tmp_path / "db", {INSTRUCTIONS[0]: entries(seed=seed)})
            versions.add(new.database_id)
    finally:
        ended.set()
        reader.join()
    assert not failed and found <= versions
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_without_an_exchange_the_old_one_is_moved_away_first(tmp_path, monkeypatch):
    write_small(tmp_path / "db")
    monkeypatch.setattr(writer, "_exchange", lambda one, other: False)
    new = write_small(tmp_path / "db", {INSTRUCTIONS[0]: entries(seed=5)})
    assert Database.open(tmp_path / "db", MODEL).manifest == new
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


@pytest.mark.parametrize("name", ["save", "_move"])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, name):
    before = write_small(tmp_path / "db")

    def fail(*arguments):
        raise OSError("disk full")

    owner = writer.np if name == "save" else writer
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(OSError, match="disk full"):
        write_small(tmp_path / "db", {INSTRUCTIONS[0]: entries(seed=5)})
    monkeypatch.undo()
    assert Database.open(tmp_path / "db", MODEL).manifest == before
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_a_folder_of_something_else_is_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("the only copy")
    with pytest.raises(DatabaseError, match="holds something else than a database"):
        write_small(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "the only copy"
    (tmp_path / "empty").mkdir()
    write_small(tmp_path / "empty")
    theirs = tmp_path / "extension" / "manifest.json"
    for text in ('{"manifest_version": 3, "name": "theirs"}', "[]", "{"):
        theirs.parent.mkdir(exist_ok=True)
        theirs.write_text(text)
        with pytest.raises(DatabaseError, match="holds something else than a database"):
            write_small(theirs.parent)
        assert theirs.read_text() == text


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ({}, "without entries"),
        ({"Dance": entries(), " dance ": entries()}, "two shards of one instruction"),
        ({"dance": entries(size=20)}, "have 20 numbers, the projection takes 24"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, shards, message):
    with pytest.raises(DatabaseError, match=message):
        write_database(tmp_path / "db", description(), shards, projection())
    assert not (tmp_path / "db").exists()


def test_others_may_read_it(tmp_path):
    write_small(tmp_path / "db")
    assert (tmp_path / "db").stat().st_mode & 0o055 == 0o055
