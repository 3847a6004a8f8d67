"""A growing database: entries are found at once, merged by similarity, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from support.database import INSTRUCTIONS, MODEL, entries, unit, write_small

from heisd_ros.errors import DatabaseError, GrowthError
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.entries import Entries
from heisd_ros.retrieval.growing import GrowingStore

NEW = "close the microwave"


@pytest.fixture
def database(tmp_path):
    write_small(tmp_path / "database")
    return Database.open(tmp_path / "database", MODEL)


def names(matches):
    return list(zip(matches.episodes.tolist(), matches.steps.tolist(), strict=True))


def test_an_added_entry_is_the_best_match_of_its_own_key(database):
    store, more = GrowingStore(database), entries(2, 4, seed=7, first=70)
    store.add(INSTRUCTIONS[0].upper(), more)
    shard, how = store.shard_for(INSTRUCTIONS[0])
    assert how == "exact" and shard.grown and len(shard) == 15 + 8 and store.added == 8
    for row in range(8):
        best = shard.search(more.keys[row], 3)
        assert names(best)[0] == (more.episodes[row], more.steps[row])
        assert best.similarity[0] > 0.999
        np.testing.assert_array_equal(best.tokens[0], more.tokens[row])
    other, _ = store.shard_for(INSTRUCTIONS[1])
    assert not other.grown and len(other) == 15


@pytest.mark.parametrize("k", [1, 4, 20])
def test_a_joint_search_is_one_search_over_all(database, k):
    """Added in two pieces, it answers like exact search over old and new together."""
    first, second = entries(1, 6, seed=3, first=30), entries(1, 5, seed=4, first=40)
    store = GrowingStore(database)
    store.add(INSTRUCTIONS[0], first)
    store.add(INSTRUCTIONS[0], second)
    everything = Entries.join([entries(seed=0), first, second])
    query = unit(np.random.default_rng(9).uniform(0.0, 1.0, 24))
    found = store.shard_for(INSTRUCTIONS[0])[0].search(query, k)
    cosines = everything.keys @ query
    wanted = np.sort(cosines)[::-1][:k]
    np.testing.assert_allclose(found.similarity, wanted, atol=1e-3)
    assert len(set(names(found))) == k


def test_a_frame_like_nothing_in_the_database_keeps_its_likeness(database):
    store, far = GrowingStore(database), unit(np.random.default_rng(3).normal(size=(3, 24)))
    store.add(INSTRUCTIONS[0], entries(1, 3, keys=far, first=80))
    best = store.shard_for(INSTRUCTIONS[0])[0].search(far[1], 1)
    assert names(best) == [(80, 2)] and best.similarity[0] > 0.9999


def test_a_task_that_is_new_gets_a_shard_and_until_then_is_missed(database):
    missed = []
    store = GrowingStore(database, missing=missed.append, least=5)
    assert store.shard_for(NEW)[0] is None and missed == [NEW]
    store.add(NEW, entries(1, 3, seed=5, first=50))
    assert store.shard_for(NEW)[0] is None, "a search asks for more entries than there are"
    store.add(NEW, entries(1, 3, seed=6, first=60))
    shard, how = store.shard_for(NEW)
    assert (how, len(shard)) == ("exact", 6)
    assert store.shard_for(NEW + "s")[1] == f"nearest: {NEW!r}"


def test_under_a_calibration_its_shards_are_refused_and_others_are_not(database):
    store = GrowingStore(database, frozen="the calibration of yesterday is in force")
    with pytest.raises(GrowthError, match="may not grow: the calibration of yesterday"):
        store.add(INSTRUCTIONS[1], entries(1, 3, seed=5))
    assert store.added == 0 and not store.shard_for(INSTRUCTIONS[1])[0].grown
    store.add(NEW, entries(1, 3, seed=5))
    assert store.shard_for(NEW)[0].grown


def test_what_does_not_fit_is_named_and_changes_nothing(database):
    store = GrowingStore(database)
    with pytest.raises(DatabaseError, match="keys have 16 numbers, the database's 24"):
        store.add(NEW, entries(1, 3, size=16))
    store.add(INSTRUCTIONS[0], entries(1, 3, seed=5))
    with pytest.raises(DatabaseError, match=r"k is 19, but the shard .* has 18 entries"):
        store.shard_for(INSTRUCTIONS[0])[0].search(unit(np.ones(24)), 19)
    assert len(store) == 33
