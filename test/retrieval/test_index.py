"""The exact index is exact, the graph nearly, and a graph survives its file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.errors import DatabaseError
from heisd_ros.retrieval.index import Index


def rows_of(seed, number, size=6):
    rows = np.random.default_rng(seed).normal(size=(number, size))
    return rows.astype(np.float16)


def brute_force(rows, query, number):
    squares = np.square(rows.astype(np.float64) - query).sum(axis=1)
    return np.argsort(squares, kind="stable")[:number]


@given(st.integers(0, 999), st.integers(1, 40), st.data())
def test_the_exact_index_finds_the_nearest_in_order(seed, number, data):
    rows = rows_of(seed, number)
    wanted = data.draw(st.integers(1, number))
    query = rows_of(seed + 1000, 1)[0].astype(np.float32)
    found = Index.exact(rows).search(query, wanted)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, brute_force(rows, query, wanted))


def test_a_graph_finds_most_and_reads_back_as_it_was(tmp_path):
    rows, queries = rows_of(0, 2000), rows_of(1, 50).astype(np.float32)
    graph = Index.graph(rows)
    graph.write(tmp_path / "index.faiss")
    again = Index.read(tmp_path / "index.faiss", (2000, 6))
    hits = 0
    for query in queries:
        found = graph.search(query, 10)
        np.testing.assert_array_equal(found, again.search(query, 10))
        hits += len(np.intersect1d(found, brute_force(rows, query, 10)))
    assert hits >= 0.99 * 10 * len(queries)


def test_a_graph_gives_no_row_that_there_is_not():
    found = Index.graph(rows_of(0, 5)).search(np.zeros(6, np.float32), 9)
    assert sorted(found.tolist()) == [0, 1, 2, 3, 4]


def test_the_models_threads_are_left_to_the_model():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for index in (Index.exact(rows_of(0, 50)), Index.graph(rows_of(0, 50))):
            assert torch.get_num_threads() == 3
            index.search(np.zeros(6, np.float32), 5)
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("content", [b"", b"not an index", b"IHNs" + b"\xff" * 64])
def test_a_damaged_graph_is_named(tmp_path, content):
    path = tmp_path / "index.faiss"
    path.write_bytes(content)
    with pytest.raises(DatabaseError, match=r"index.faiss is no faiss index"):
        Index.read(path, (2000, 6))


def test_a_graph_of_other_rows_is_named(tmp_path):
    Index.graph(rows_of(0, 50)).write(tmp_path / "index.faiss")
    with pytest.raises(DatabaseError, match=r"is of 50 rows of 6, the manifest says \(51, 6\)"):
        Index.read(tmp_path / "index.faiss", (51, 6))
