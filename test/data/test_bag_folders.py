"""Folders as recorders, killed or not, caches and disks leave them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys

import pytest
import yaml
from support.bags import SECOND, START, text, write_bag
from zstandard import ZstdCompressor

from heisd_ros.data import bag_files
from heisd_ros.data.bag import Bag
from heisd_ros.data.bag_files import METADATA
from heisd_ros.errors import BagError

PARTS, EACH = (0, 2, 10), 40
"""Numbers in the names of split files, which the alphabet has in another order than time."""
COUNT = len(PARTS) * EACH


def spoken(begin=0, count=COUNT):
    numbers = range(begin, begin + count)
    return [("/words", START + n * SECOND // 20, text(f"number {n}")) for n in numbers]


def heard(bag):
    return [int(m.message.data.split()[1]) for m in bag.messages(["/words"])]


def storage_file(folder):
    (file,) = (path for path in folder.iterdir() if path.name != METADATA)
    return file


def scattered(folder, name, storage="mcap", compression=None):
    """Storage files of one recording, without metadata.yaml."""
    folder.mkdir()
    for place, number in enumerate(PARTS):
        part = folder.parent / f"part{number}"
        file = storage_file(write_bag(part, spoken(place * EACH, EACH), storage, compression))
        shutil.move(file, folder / (name.format(number) + "".join(file.suffixes)))
    return folder


@pytest.mark.parametrize("name", ["run_{}", "{}_run_2025_11_01"])
@pytest.mark.parametrize(
    ("storage", "compression"),
    [("mcap", None), ("mcap", "file"), ("mcap", "message"), ("sqlite3", None), ("sqlite3", "file"),
     ("sqlite3", "message")],
)  # fmt: skip
def test_split_files_without_metadata_are_taken_in_order_of_time(
    tmp_path, name, storage, compression
):
    with Bag(scattered(tmp_path / "bag", name, storage, compression)) as bag:
        assert heard(bag) == list(range(COUNT))
        assert bag.damage == ""
        (remark,) = bag.remarks
    assert "metadata.yaml is missing; its files are taken in order" in remark


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_compressed_file_alone_is_a_bag(tmp_path, storage):
    folder = write_bag(tmp_path / "bag", spoken(), storage, "file")
    with Bag(storage_file(folder)) as bag:
        assert heard(bag) == list(range(COUNT))


def test_a_file_that_unpacks_to_far_more_is_not_unpacked_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(bag_files, "ROOM", 1 << 20)
    file = tmp_path / "x.mcap.zstd"
    file.write_bytes(ZstdCompressor().compress(bytes(1 << 26)))
    with pytest.raises(BagError, match=r"x\.mcap\.zstd .*more than 200 times as many"), Bag(file):
        pass


def test_a_file_that_its_recorder_was_compressing_is_read_once(tmp_path):
    folder = write_bag(tmp_path / "bag", spoken())
    packed = storage_file(write_bag(tmp_path / "packed", spoken(), "mcap", "file"))
    (folder / "bag.mcap.zstd").write_bytes(packed.read_bytes()[:50])
    (folder / METADATA).unlink()
    with Bag(folder) as bag:
        assert heard(bag) == list(range(COUNT))
        assert bag.damage == ""


def test_files_after_a_damaged_one_are_read_too(tmp_path):
    folder = scattered(tmp_path / "bag", "run_{}")
    file = folder / "run_2.mcap"
    file.write_bytes(file.read_bytes()[:400])
    with Bag(folder) as bag:
        assert heard(bag) == [*range(40), *range(80, 120)]
        assert "run_2.mcap" in bag.damage


def test_files_that_metadata_does_not_name_are_mentioned(tmp_path):
    folder = write_bag(tmp_path / "bag", spoken())
    shutil.copy(folder / "bag.mcap", folder / "bag_1.mcap")
    with Bag(folder) as bag:
        assert heard(bag) == list(range(COUNT))
        assert bag.remarks == ["left out: ['bag_1.mcap'], which metadata.yaml does not name"]


RECORDER = """
import os, sqlite3, sys
source, target, mode, early = sys.argv[1:]
old, new = sqlite3.connect(source), sqlite3.connect(target)
new.execute(f"PRAGMA journal_mode = {mode}")
new.execute("PRAGMA wal_autocheckpoint = 0")
new.execute("PRAGMA cache_size = 1")
rows = "SELECT {} FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%'"
for (text,) in old.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"):
    if "sqlite_" not in text:
        new.execute(text)
for (name,) in old.execute(rows.format("name")).fetchall():
    found = old.execute(f"SELECT * FROM {name}").fetchall()
    for number, row in enumerate(found):
        new.execute(f"INSERT INTO {name} VALUES ({','.join('?' * len(row))})", row)
        if name == "messages" and number == int(early):
            new.commit()
            if mode == "wal":
                new.execute("PRAGMA wal_checkpoint(truncate)")
    if mode == "wal":
        new.commit()
os._exit(9)
"""


def killed(folder, mode, early):
    """Lets a recorder write a bag again, and die with its journal."""
    file = storage_file(folder)
    shutil.move(file, folder.parent / "whole.db3")
    command = [sys.executable, "-c", RECORDER, folder.parent / "whole.db3", file, mode, str(early)]
    assert subprocess.run(command).returncode == 9
    return file


@pytest.mark.parametrize("early", [59, -1])
def test_what_lies_in_a_write_ahead_log_is_read(tmp_path, early):
    """At -1 the file itself holds nothing yet."""
    file = killed(write_bag(tmp_path / "bag", spoken(), "sqlite3"), "wal", early)
    log = file.with_name(f"{file.name}-wal")
    before = {path: path.read_bytes() for path in (file, log)}
    with Bag(tmp_path / "bag") as bag:
        assert heard(bag) == list(range(COUNT))
        assert "journal is read too" in bag.remarks[0]
    assert {path: path.read_bytes() for path in (file, log)} == before


def test_a_transaction_that_was_not_finished_is_undone(tmp_path):
    file = killed(write_bag(tmp_path / "bag", spoken(), "sqlite3"), "delete", 59)
    assert file.with_name(f"{file.name}-journal").stat().st_size
    with Bag(tmp_path / "bag") as bag:
        assert heard(bag) == list(range(60))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_files_may_be_links_to_another_disk(tmp_path, storage):
    folder = write_bag(tmp_path / "bag", spoken(), storage)
    (tmp_path / "disk").mkdir()
    for file in list(folder.iterdir()):
        shutil.move(file, tmp_path / "disk" / file.name)
        file.symlink_to(os.path.relpath(tmp_path / "disk" / file.name, folder))
    (tmp_path / "link").symlink_to(folder)
    with Bag(tmp_path / "link") as bag:
        assert heard(bag) == list(range(COUNT))
        assert bag.damage == "" and bag.remarks == []


def test_the_journal_of_a_linked_file_is_read(tmp_path):
    file = killed(write_bag(tmp_path / "bag", spoken(), "sqlite3"), "wal", 59)
    (tmp_path / "link.db3").symlink_to(file)
    with Bag(tmp_path / "link.db3") as bag:
        assert heard(bag) == list(range(COUNT))


def test_paths_of_old_recorders_begin_with_the_folder(tmp_path):
    folder = write_bag(tmp_path / "bag", spoken())
    place = folder / METADATA
    values = yaml.safe_load(place.read_text())
    values["rosbag2_bagfile_information"]["relative_file_paths"] = ["bag/bag.mcap"]
    place.write_text(yaml.safe_dump(values))
    with Bag(folder) as bag:
        assert heard(bag) == list(range(COUNT))


@pytest.mark.parametrize("definitions", ["unknown", None])
def test_types_without_a_definition_are_those_of_ros(tmp_path, definitions):
    folder = write_bag(tmp_path / "bag", spoken(), "sqlite3")
    with sqlite3.connect(storage_file(folder)) as database:
        if definitions:
            database.execute("UPDATE message_definitions SET encoding = ?", (definitions,))
        else:
            database.execute("DROP TABLE message_definitions")
    with Bag(folder) as bag:
        assert heard(bag) == list(range(COUNT))
        assert bag.damage == ""


def test_what_is_not_in_cdr_is_left_out_by_name(tmp_path):
    folder = write_bag(tmp_path / "bag", [*spoken(), ("/other", START, text("x"))], "sqlite3")
    with sqlite3.connect(storage_file(folder)) as database:
        database.execute("UPDATE topics SET serialization_format='json' WHERE name='/other'")
    with Bag(folder) as bag:
        assert bag.topics == {"/words": "std_msgs/msg/String"}
        assert bag.remarks == ["left out: /other (json, no ROS 2 message)"]


def test_tables_that_are_views_are_refused(tmp_path):
    with sqlite3.connect(tmp_path / "x.db3") as database:
        database.execute("CREATE TABLE topics (id, name, type, serialization_format)")
        database.execute(
            "CREATE VIEW messages AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 "
            "FROM n) SELECT id, 1 AS topic_id, id AS timestamp, 'x' AS data FROM n"
        )
    with (
        pytest.raises(BagError, match=r"x\.db3 cannot be read as a bag: its tables are"),
        Bag(tmp_path / "x.db3"),
    ):
        pass
