"""Peers of our index: exact search, and faiss HNSW over full keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from heisd_ros.benchmark.retrieval_timing import Timed, timed

K = 5
LINKS, BREADTH = 16, 100
"""HeiSD's graph (arXiv 2603.17573). It is searched as broadly as it was built, which is what Qdrant
does unless told otherwise."""
_MIB = 2**20


def exact_index(keys: NDArray[np.float32]) -> tuple[Any, float]:
    """Builds an exact index over keys [N, D]; returns it and its memory, MiB."""
    index = faiss.IndexFlatIP(keys.shape[1])
    index.add(keys)
    return index, keys.nbytes / _MIB


def graph_index(keys: NDArray[np.float32]) -> tuple[Any, float]:
    """Builds an HNSW graph over keys [N, D], single-threaded; returns it and its memory, MiB."""
    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(keys.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = index.hnsw.efSearch = BREADTH
    index.add(keys)
    # Two links to each side at the bottom, four bytes each; those of higher levels are few.
    return index, (keys.nbytes + len(keys) * 2 * LINKS * 4) / _MIB


def search_by(
    index: Any, queries: NDArray[np.float32]
) -> tuple[NDArray[np.int64], Sequence[Timed]]:
    """Searches each query [Q, D] alone; returns the rows found [Q, K], and times."""
    faiss.omp_set_num_threads(1)
    rows, times = [], []
    for query in queries:
        with timed() as taken:
            _, found = index.search(query[None], K)
        times.append(taken)
        rows.append(found[0])
    return np.array(rows), times


def nearest(
    blocks: Iterable[tuple[int, NDArray[np.float32]]], queries: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Returns the numbers (Q, K) of the entries most similar to each query, best first.

    Args:
        blocks: number of the first, and some keys [B, D].
        queries: [Q, D].
    """
    best = np.empty((len(queries), 0), dtype=np.float32)
    rows = np.empty((len(queries), 0), dtype=np.int64)
    for start, keys in blocks:
        cosines = queries @ keys.T
        numbers = np.broadcast_to(np.arange(start, start + len(keys)), cosines.shape)
        best, rows = np.hstack([best, cosines]), np.hstack([rows, numbers])
        order = np.argsort(-best, axis=1)[:, :K]
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
    return rows


def recalls(found: NDArray[np.int64], truth: NDArray[np.int64]) -> dict[str, float]:
    """Computes recall at 1 and at K.

    Args:
        found: (Q, K) rows, best first.
        truth: (Q, K) by `nearest`.
    """
    among = (truth[:, :, None] == found[:, None, :]).any(axis=2)
    return {
        "recall_at_1": float((truth[:, 0] == found[:, 0]).mean()),
        f"recall_at_{K}": float(among.mean()),
    }
