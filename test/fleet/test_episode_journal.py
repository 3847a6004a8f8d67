"""The journal: consistent after any crash, one process at a time, one model."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import zlib
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fleet import layout

from heisd_ros.errors import GrowthError
from heisd_ros.fleet.episode_journal import FILE, OLD_FILE, Journal

PAYLOADS = [b"first", b"second" * 4000, b"third"]


def filled(folder, payloads=PAYLOADS):
    with Journal(folder, layout()) as journal:
        for payload in payloads:
            journal.append(payload)
    return folder / FILE


def contents(folder):
    with Journal(folder, layout()) as journal:
        found = [payload for _, payload in journal.read(0)]
        assert journal.records == len(found)
        return found


def test_what_was_appended_is_read_in_another_process(tmp_path):
    filled(tmp_path)
    assert contents(tmp_path) == PAYLOADS


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    """The files of a journal whose process ended without closing it."""
    folder = tmp_path_factory.mktemp("crashed")
    with Journal(folder / "running", layout()) as journal:
        for payload in PAYLOADS:
            journal.append(payload)
        shutil.copytree(folder / "running", folder / "files")
    return folder / "files"


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0.0, 1.0), zeros=st.integers(0, 200))
def test_after_a_crash_at_any_byte_whole_records_are_there_and_more_can_follow(
    tmp_path_factory, crashed, share, zeros
):
    folder = tmp_path_factory.mktemp("torn") / "journal"
    shutil.copytree(crashed, folder)
    log = folder / f"{FILE}-wal"
    whole = log.read_bytes()
    kept = round(share * len(whole))
    # A file may have its length before its data.
    log.write_bytes(whole[:kept] + bytes(min(zeros, len(whole) - kept)))
    found = contents(folder)
    assert found == PAYLOADS[: len(found)]
    if kept == len(whole):
        assert len(found) == len(PAYLOADS)
    with Journal(folder, layout()) as journal:
        journal.append(b"after")
    assert contents(folder) == [*found, b"after"]


APPEND = """
import sys
from pathlib import Path
from support.fleet import layout
from heisd_ros.fleet.episode_journal import Journal
journal = Journal(Path(sys.argv[1]), layout())
for number in range(10**6):
    journal.append(b"%d" % number * 1000)
    print(number, flush=True)
"""


def test_what_append_returned_for_survives_sigkill(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", APPEND, tmp_path],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    for _ in range(50):
        process.stdout.readline()
    process.kill()
    told = 50 + len(process.stdout.read().splitlines())
    assert process.wait() == -signal.SIGKILL
    found = contents(tmp_path)
    assert told <= len(found) <= told + 1
    assert found == [b"%d" % number * 1000 for number in range(len(found))]


def test_damage_is_named_and_nothing_is_cut_off(tmp_path):
    path = filled(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"secondsecond")] ^= 1
    path.write_bytes(data)
    with pytest.raises(GrowthError, match=r"episodes\.sqlite is damaged: episode 2"):
        Journal(tmp_path, layout())
    assert path.read_bytes() == data


def test_the_journal_of_another_model_is_refused_by_name(tmp_path):
    filled(tmp_path)
    with pytest.raises(GrowthError, match="model_fingerprint 'aaaaaaaaaaaa', not 'cccccccccccc'"):
        Journal(tmp_path, layout(model="c" * 64))
    assert contents(tmp_path) == PAYLOADS


def test_two_processes_do_not_share_one(tmp_path):
    with Journal(tmp_path, layout()), pytest.raises(GrowthError, match="in use by another process"):
        Journal(tmp_path, layout())
    assert contents(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GrowthError, match=r"file/episodes\.sqlite cannot be used: .*exists"):
        Journal(tmp_path / "file", layout())


@pytest.mark.parametrize("name", [FILE, OLD_FILE])
@pytest.mark.parametrize("data", [b"some text", b"some text that is longer than a header of ours"])
def test_another_file_is_left_alone(tmp_path, name, data):
    (tmp_path / name).write_bytes(data * 100)
    with pytest.raises(GrowthError, match="no journal; name another folder"):
        Journal(tmp_path, layout())
    assert (tmp_path / name).read_bytes() == data * 100


def test_another_database_is_left_alone(tmp_path):
    with closing(sqlite3.connect(tmp_path / FILE)) as other:
        other.execute("CREATE TABLE stamps (number INTEGER)")
    with pytest.raises(GrowthError, match="no such table: layout"):
        Journal(tmp_path, layout())


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path):
    with Journal(tmp_path, layout()) as journal:
        journal.append(b"first")
        journal._database.execute("PRAGMA max_page_count = 1")  # SQLite's own: as many as there are
        with pytest.raises(GrowthError, match=r"episodes\.sqlite .*: database or disk is full"):
            journal.append(b"second" * 4000)
        assert journal.records == 1
        journal._database.execute("PRAGMA max_page_count = 1000")
        journal.append(b"third")
    assert contents(tmp_path) == [b"first", b"third"]


def test_what_a_receiver_has_is_remembered(tmp_path):
    filled(tmp_path)
    with Journal(tmp_path, layout()) as journal:
        places = [place for place, _ in journal.read(0)]
        assert journal.sent("server") == 0
        journal.mark_sent("server", places[0])
        journal.mark_sent("server", places[1])
    with Journal(tmp_path, layout()) as journal:
        assert journal.sent("server") == places[1] and journal.sent("other") == 0
        assert [payload for _, payload in journal.read(places[1])] == [b"third"]


def old_journal(payloads, **changes):
    """The bytes of the format before."""
    payloads = [layout(**changes).to_json().encode(), *payloads]
    records = (struct.pack("<II", len(p), zlib.crc32(p)) + p for p in payloads)
    return b"HEISDJ1\n" + b"".join(records)


def test_a_journal_of_the_format_before_is_imported_once_and_kept(tmp_path):
    old = old_journal(PAYLOADS)
    (tmp_path / OLD_FILE).write_bytes(old)
    assert contents(tmp_path) == PAYLOADS
    (kept,) = tmp_path.glob("imported-*.journal")
    assert kept.read_bytes() == old and not (tmp_path / OLD_FILE).exists()
    # As after a crash before it was renamed, and as of a later one of an older program.
    (tmp_path / OLD_FILE).write_bytes(old_journal([*PAYLOADS, b"fourth"]))
    assert contents(tmp_path) == [*PAYLOADS, b"fourth"]


@given(share=st.floats(0.0, 1.0))
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_of_a_torn_one_whole_episodes_are_imported_and_the_rest_is_told(tmp_path_factory, share):
    folder, old = tmp_path_factory.mktemp("old"), old_journal(PAYLOADS)
    old = old[: round(share * len(old))]
    (folder / OLD_FILE).write_bytes(old)
    with Journal(folder, layout()) as journal:
        found = [payload for _, payload in journal.read(0)]
        assert found == PAYLOADS[: len(found)]
        whole = len(old_journal(found))
        if whole > len(old):
            whole = 8  # not even the layout
        assert journal.torn_bytes == max(len(old) - whole, 0)


def test_one_of_another_model_is_refused_and_left(tmp_path):
    (tmp_path / OLD_FILE).write_bytes(old_journal(PAYLOADS, model="c" * 64))
    with pytest.raises(GrowthError, match=r"episodes\.journal holds episodes of model_fingerprint"):
        Journal(tmp_path, layout())
    assert (tmp_path / OLD_FILE).exists()
