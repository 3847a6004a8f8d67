"""The fleet's store on a real Milvus server: the same entries, each once, of one model."""

from __future__ import annotations

import fcntl

import numpy as np
import pytest
from support.fleet import INSTRUCTION, episode, layout
from support.milvus import MilvusServer

from heisd_ros.errors import FleetError
from heisd_ros.fleet.milvus import _BATCH, MilvusStore
from heisd_ros.retrieval.entries import COLUMNS, Entries


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = MilvusServer(tmp_path_factory.mktemp("milvus")).start()
    yield server
    server.kill()


def test_what_is_sent_twice_is_stored_once_and_comes_back_the_same(server):
    store = server.connect(layout(), "twice")
    one, two = episode(seed=1), episode(seed=2, steps=_BATCH + 1)
    for sent in (two, one, two):
        store.send(sent)
    store.send(episode(seed=3, instruction="something else"))
    both = sorted((one, two), key=lambda each: each.entries.episodes[0])
    wanted = Entries.join([each.entries for each in both])
    found = store.fetch(INSTRUCTION.upper() + " ", 1000)
    assert len(found) == _BATCH + 7
    np.testing.assert_allclose(found.keys, wanted.keys, atol=1e-6)
    for name, column in COLUMNS.items():
        sent = getattr(wanted, name).astype(column.disk)
        np.testing.assert_array_equal(getattr(found, name), sent)
    assert len(store.fetch(INSTRUCTION, 5)) == 5
    assert store.fetch("nobody did this", 5) is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": "d" * 64}, "model_fingerprint 'aaaaaaaaaaaa', not 'dddddddddddd'"),
        ({"size": 16}, "size 24, not 16"),
        ({"robot": "ur5e"}, "robot 'panda', not 'ur5e'"),
    ],
)
def test_frames_of_another_model_or_layout_are_refused_by_name(server, changes, named):
    server.connect(layout(), "mine")
    with pytest.raises(FleetError, match=named):
        server.connect(layout(**changes), "mine")


def test_a_file_that_another_process_has_open_is_named_with_what_to_do(tmp_path):
    (tmp_path / "fleet.db").mkdir()
    with (tmp_path / "fleet.db" / "LOCK").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FleetError, match=r"fleet\.db: .*another process .* share a server"):
            MilvusStore(str(tmp_path / "fleet.db"), layout())


def test_a_server_that_is_not_there_is_named(tmp_path):
    absent = MilvusServer(tmp_path)
    with pytest.raises(FleetError, match=absent.uri):
        MilvusStore(absent.uri, layout())
