"""Growth with and without a server: no episode is lost, and nothing waits for the network."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing

import pytest
from support.database import INSTRUCTIONS, MODEL, entries, write_small
from support.fleet import episode, layout, wait_for
from support.milvus import MilvusServer

from heisd_ros.errors import FleetError, GrowthError
from heisd_ros.fleet import episode_recorder, link, online_growth
from heisd_ros.fleet.episode_journal import FILE
from heisd_ros.fleet.episode_recorder import Verified
from heisd_ros.fleet.link import FleetLink
from heisd_ros.fleet.milvus import MilvusStore
from heisd_ros.fleet.online_growth import OnlineGrowth
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.growing import GrowingStore

NEW = "close the microwave"


@pytest.fixture
def database(tmp_path):
    write_small(tmp_path / "database")
    return Database.open(tmp_path / "database", MODEL)


def work(growth, steps=6, instruction=INSTRUCTIONS[0], seed=0):
    """An episode of some steps; its keys."""
    own = entries(1, steps, seed=seed)
    for row in range(steps):
        verified = Verified(own.keys[row], tuple(own.tokens[row].tolist()))
        growth.note(instruction, own.actions[row], verified)
    return own.keys


def test_a_success_is_searched_from_then_on_and_after_a_restart(database, tmp_path):
    growth = OnlineGrowth(GrowingStore(database), tmp_path / "journal", append=True)
    keys = work(growth, seed=11)
    growth.end(success=False)
    work(growth, seed=1)
    growth.end(success=True)
    growth.close()
    assert (growth.status.episodes, growth.status.added, growth.status.problem) == (1, 6, "")
    again = OnlineGrowth(GrowingStore(database), tmp_path / "journal", append=True)
    shard, _ = again.store.shard_for(INSTRUCTIONS[0])
    assert shard.grown and len(shard) == 15 + 6
    assert shard.search(entries(1, 6, seed=1).keys[2], 1).similarity[0] > 0.9999
    assert shard.search(keys[0], 1).similarity[0] < 0.9999, "a failure must not be kept"
    again.close()


def test_recording_alone_changes_no_search(database, tmp_path):
    frozen = "the calibration of today is in force"
    growth = OnlineGrowth(GrowingStore(database, frozen), tmp_path / "journal")
    work(growth)
    growth.end(success=True)
    growth.close()
    assert (growth.status.episodes, growth.status.added) == (1, 0)
    assert not growth.store.shard_for(INSTRUCTIONS[0])[0].grown


def test_appending_under_a_calibration_is_refused_by_name(database, tmp_path):
    with pytest.raises(GrowthError, match="may not grow: the calibration of today is in force"):
        OnlineGrowth(
            GrowingStore(database, "the calibration of today is in force"),
            tmp_path / "journal",
            append=True,
        )
    assert not (tmp_path / "journal").exists()


def test_a_full_disk_is_told_and_what_waited_is_written_when_there_is_room(database, tmp_path):
    growth = OnlineGrowth(GrowingStore(database), tmp_path / "journal", append=True)
    growth._journal._execute("PRAGMA max_page_count = 1")  # SQLite's own: as many as there are
    work(growth, steps=60)
    growth.end(success=True)
    wait_for(lambda: growth.status.problem, "problem")
    assert "1 episodes wait in memory" in growth.status.problem
    assert "database or disk is full" in growth.status.problem
    growth._journal._execute("PRAGMA max_page_count = 1000")
    work(growth, seed=1)
    growth.end(success=True)
    wait_for(lambda: growth.status.episodes == 2, "both episodes")
    assert growth.status.problem == ""
    growth.close()


def test_a_server_that_is_killed_loses_nothing_and_nobody_waits(database, tmp_path, monkeypatch):
    """Killed (SIGKILL) with episodes sent and unsent; the robot restarts and sends the rest."""
    monkeypatch.setattr(link, "_LAST_RETRY_SEC", 1.0)
    server = MilvusServer(tmp_path / "milvus").start()
    probe = server.connect(layout())

    def begin():
        return OnlineGrowth(
            GrowingStore(database),
            tmp_path / "journal",
            receiver=server.uri,
            connect=lambda: MilvusStore(server.uri, layout()),
        )

    growth = begin()
    work(growth)
    growth.end(success=True)
    wait_for(lambda: growth.status.link.sent == 1, "the first episode to arrive")
    assert len(probe.fetch(INSTRUCTIONS[0], 1000)) == 6
    server.kill()

    longest = 0.0
    for seed in range(1, 6):
        began = time.monotonic()
        work(growth, seed=seed)
        growth.store.shard_for(NEW)
        growth.end(success=True)
        longest = max(longest, time.monotonic() - began)
    wait_for(lambda: growth.status.link.state == "away", "the link to notice")
    wait_for(lambda: growth.status.episodes == 6, "the journal to be written")
    status = growth.status
    assert status.episodes == 6 and status.link.waiting == 5 and server.uri in status.link.problem
    assert len(growth.store.shard_for(INSTRUCTIONS[0])[0]) == 15, "it works with what it has"
    # No bound on speed: a call that waited for the network would have waited for its timeout.
    assert longest < 5.0
    growth.close()

    # Marks are lost too: everything is sent again, and stored once.
    with closing(sqlite3.connect(tmp_path / "journal" / FILE)) as file, file:
        file.execute("DELETE FROM sent")
    growth = begin()
    assert growth.status.link.waiting == 6
    server.start()
    wait_for(lambda: growth.status.link.waiting == 0, "the journal to be replayed")
    assert growth.status.link.state == "in touch" and growth.status.link.problem == ""
    assert len(server.connect(layout()).fetch(INSTRUCTIONS[0], 1000)) == 36

    # Another robot has a task that this one lacks: it comes without anybody waiting for it.
    server.connect(layout()).send(episode(seed=9, instruction=NEW))
    growth.store.shard_for(NEW)
    wait_for(lambda: growth.store.shard_for(NEW)[0] is not None, "the shard to come")
    assert growth.status.link.fetched == 6 and growth.store.shard_for(NEW)[0].grown
    growth.close()
    server.kill()


class Absent:
    """A client that fails at every call, and a take that refuses."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        raise FleetError("http://nowhere:1: unavailable")


def test_a_server_that_never_was_is_asked_less_and_less_often():
    absent = Absent()
    thread = FleetLink("nowhere", absent, None, lambda *_: 0, retry_sec=0.05)
    wait_for(lambda: absent.calls >= 4, "attempts")
    assert thread.status.state == "away" and "nowhere" in thread.status.problem
    # Three pauses lie between four attempts, each twice the one before.
    assert time.monotonic() - thread.status.since >= 0.05 + 0.1 + 0.2
    assert thread.close()


def test_a_shard_that_does_not_fit_is_told_and_the_link_goes_on(database):
    class Odd:
        def ping(self):
            pass

        def fetch(self, instruction, most):
            return entries(1, 3, size=16) if instruction == NEW else entries(1, 3)

        def close(self):
            pass

    store = GrowingStore(database)
    thread = FleetLink("odd", Odd, None, lambda name, shard: store.add(name, shard) or len(shard))
    thread.want(NEW)
    wait_for(lambda: thread.status.problem, "refusal")
    assert "keys have 16 numbers" in thread.status.problem
    thread.want("another task")
    wait_for(lambda: store.shard_for("another task")[0] is not None, "the next shard")
    assert thread.close()


def test_a_shard_that_is_too_small_to_be_searched_is_left_out_each_time(database):
    growth = OnlineGrowth(GrowingStore(database, least=5), None)
    for _ in range(4):
        assert growth._take(NEW, entries(1, 3)) == 0
    assert growth.store.shard_for(NEW)[0] is None and growth.store.added == 0
    assert growth._take(NEW, entries(1, 6)) == 6 and growth.store.holds(NEW)
    assert growth._take(NEW, entries(1, 6)) == 0  # it has one by now
    growth.close()


def test_the_journal_is_free_after_the_end_also_beside_a_connection_that_hangs(
    database, tmp_path, monkeypatch
):
    monkeypatch.setattr(online_growth, "_CLOSE_SEC", 0.1)
    hangs = threading.Event()

    def connect():
        hangs.wait(30.0)
        raise FleetError("too late")

    def begin():
        store, folder = GrowingStore(database), tmp_path / "journal"
        return OnlineGrowth(store, folder, receiver="nowhere", connect=connect)

    begin().close()
    begin().close()
    hangs.set()


def test_the_end_of_an_episode_copies_no_keys(database, tmp_path, monkeypatch):
    """The control loop reports it; copying thousands of keys takes as long as several commands."""
    made = []
    whole = episode_recorder._episode
    monkeypatch.setattr(
        episode_recorder,
        "_episode",
        lambda *given: made.append(threading.current_thread()) or whole(*given),
    )
    growth = OnlineGrowth(GrowingStore(database), tmp_path / "journal")
    work(growth)
    growth.end(success=True)
    growth.close()
    assert growth.status.episodes == 1
    assert made and made[0] is not threading.main_thread()
