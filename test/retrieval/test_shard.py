"""A search finds what full keys would find; bad queries are refused with a clear error."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.database import MODEL, SIZE, entries, projection, unit, write_small

from heisd_ros.errors import DatabaseError
from heisd_ros.retrieval.arrays import RowsOnDisk, map_array
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.writer import write_database

TASK = "pick up the bowl"


def shard_of(folder, made):
    write_small(folder, {TASK: made})
    return next(iter(Database.open(folder, MODEL)))


@pytest.fixture(scope="module")
def made():
    return entries(episodes=4, steps=10)


@pytest.fixture(scope="module")
def shard(made, tmp_path_factory):
    return shard_of(tmp_path_factory.mktemp("db") / "small", made)


@settings(max_examples=50)
@given(seed=st.integers(0, 999), k=st.integers(1, 40))
def test_the_best_entries_come_in_the_order_of_full_keys(shard, made, seed, k):
    query = unit(np.random.default_rng(seed).uniform(0, 1, SIZE))
    matches = shard.search(query, k)
    exact = np.sort(made.keys @ query)[::-1][:k]
    np.testing.assert_allclose(matches.similarity, exact, atol=2e-3)
    assert (np.diff(matches.similarity) <= 0).all() and matches.similarity.dtype == np.float32
    rows = 10 * matches.episodes + matches.steps // 2
    assert len(set(rows.tolist())) == k
    np.testing.assert_allclose(made.keys[rows] @ query, matches.similarity, atol=2e-3)
    np.testing.assert_array_equal(matches.tokens, made.tokens[rows])
    np.testing.assert_allclose(matches.actions, made.actions[rows], rtol=1e-6)


@given(entry=st.integers(0, 39))
def test_an_entry_finds_itself(shard, made, entry):
    matches = shard.search(made.keys[entry], 1)
    assert (matches.episodes[0], matches.steps[0]) == (made.episodes[entry], made.steps[entry])
    assert matches.similarity[0] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("exact_below", [0, 10_000])
def test_a_large_shard_is_searched_by_candidates(tmp_path, exact_below):
    """More entries than candidates: those that few coordinates order first are enough here."""
    made = entries(episodes=40, steps=10)
    description = write_small(tmp_path / "other")
    manifest = write_database(
        tmp_path / "db", description, {TASK: made}, projection(kept=SIZE), exact_below
    )
    assert manifest.shards[0].graph == (exact_below == 0)
    shard = next(iter(Database.open(tmp_path / "db", MODEL)))
    queries = unit(np.random.default_rng(1).uniform(0, 1, (20, SIZE)))
    for query in queries:
        best = np.sort(made.keys @ query)[::-1][:5]
        np.testing.assert_allclose(shard.search(query, 5).similarity, best, atol=2e-3)


@given(entry=st.integers(0, 39), k=st.integers(1, 30))
def test_neighbours_are_what_a_search_without_the_episode_would_find(shard, made, entry, k):
    matches = shard.neighbours(entry, k)
    assert len(matches) == k and made.episodes[entry] not in matches.episodes
    others = made.keys[made.episodes != made.episodes[entry]]
    exact = np.sort(others @ made.keys[entry])[::-1][:k]
    np.testing.assert_allclose(matches.similarity, exact, atol=4e-3)


@settings(max_examples=20, deadline=None)
@given(
    grippers=st.lists(st.sampled_from([-1.0, 1.0]), min_size=40, max_size=40), k=st.integers(1, 9)
)
def test_the_clearance_is_that_of_the_entry_whose_gripper_changes_first(grippers, k):
    made = entries(episodes=4, steps=10)
    made.actions[:, -1] = grippers
    with tempfile.TemporaryDirectory() as folder:
        shard = shard_of(Path(folder) / "db", made)
        found = shard.search(unit(np.ones(SIZE)), k)
        until = []
        for episode, step in zip(found.episodes, found.steps, strict=True):
            rows = np.flatnonzero((made.episodes == episode) & (made.steps >= step))
            before, after = made.actions[rows[:-1], -1], made.actions[rows[1:], -1]
            until += list(made.steps[rows[1:]][before != after] - step)[:1]
        assert shard.clearance(found) == min(until, default=math.inf)


def test_arrays_stay_on_disk(shard):
    assert all(isinstance(column.base, np.memmap) for column in shard.columns.values())
    assert type(shard.search(unit(np.ones(SIZE)), 2).actions) is np.ndarray


@pytest.mark.parametrize("k", [0, -1, 41])
def test_k_outside_the_shard_is_refused(shard, k):
    with pytest.raises(
        DatabaseError, match=f"k is {k}.*has 40 entries; set retrieval.k to 1 to 40"
    ):
        shard.search(unit(np.ones(SIZE)), k)


def test_neighbours_need_other_episodes(shard, tmp_path):
    with pytest.raises(DatabaseError, match=r"k is 31.*has 30 entries of other episodes"):
        shard.neighbours(0, 31)
    with pytest.raises(DatabaseError, match="has 0 entries of other episodes"):
        shard_of(tmp_path / "one", entries(episodes=1)).neighbours(0, 1)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (np.full(SIZE, np.nan, np.float32), "length nan.*features are not finite"),
        (np.full(SIZE, np.inf, np.float32), "length inf"),
        (np.zeros(SIZE, np.float32), "length 0.0.*all zero"),
        (np.ones(SIZE, np.float32), "gives unit length"),
        (unit(np.ones(SIZE - 1)), r"shape \(23,\), the database's have \(24,\)"),
        (unit(np.ones((1, SIZE))), r"shape \(1, 24\)"),
    ],
)
def test_keys_that_cannot_be_compared_are_refused(shard, key, message):
    with pytest.raises(DatabaseError, match=message):
        shard.search(key, 1)


def test_an_array_of_another_shape_or_type_is_named(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    for shape, dtype in (((3, 3), "<f4"), ((2, 3), "<f2")):
        with pytest.raises(DatabaseError, match=r"a\.npy holds float32 of shape \(2, 3\)"):
            map_array(tmp_path / "a.npy", shape, dtype)
    (tmp_path / "b.npy").write_bytes(b"no array")
    for name, problem in (("b.npy", "cannot be read as a"), ("c.npy", "is missing")):
        with pytest.raises(DatabaseError, match=f"{name} {problem}"):
            map_array(tmp_path / name, (2, 3), "<f4")


def rows_on_disk(path, values):
    np.save(path, values)
    return RowsOnDisk(path, map_array(path, values.shape, values.dtype.str))


@pytest.mark.parametrize("dtype", ["u1", "<f2", "<f4"])
def test_rows_are_read_as_they_were_written(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 255, (50, 7)).astype(dtype)
    rows = rows_on_disk(tmp_path / "a.npy", values)
    for asked in ([], [0], [49, 3, 3, 0], list(range(50))):
        numbers = np.array(asked, np.int64)
        np.testing.assert_array_equal(rows[numbers], values[numbers])
        assert rows[numbers].dtype == dtype


def test_rows_are_those_of_the_file_that_was_opened(tmp_path):
    rows = rows_on_disk(tmp_path / "a.npy", np.zeros((2, 3), "u1"))
    np.save(tmp_path / "b.npy", np.ones((2, 3), "u1"))
    (tmp_path / "b.npy").replace(tmp_path / "a.npy")
    assert not rows[np.array([0, 1])].any()


def test_rows_of_a_file_that_was_cut_off_are_an_error(tmp_path):
    path = tmp_path / "a.npy"
    rows = rows_on_disk(path, np.ones((20, 3), "u1"))
    os.truncate(path, path.stat().st_size - 4)
    assert rows[np.array([17])].all()
    with pytest.raises(DatabaseError, match=r"a\.npy was cut off: row 18 has 2 of 3 bytes"):
        rows[np.array([0, 18])]


def test_rows_let_go_of_their_file(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    rows = rows_on_disk(tmp_path / "a.npy", np.ones((2, 3), "u1"))
    assert len(rows) == 2
    del rows
    assert len(os.listdir("/proc/self/fd")) == before
