"""Nearest neighbours by faiss, in this process and on one thread.

faiss is imported by what uses it: a node whose model runs on another machine needs none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import DatabaseError
from heisd_ros.files.bounded import check_plain

EXACT_BELOW = 20_000
"""Shards below this many entries are searched exhaustively; above, through a graph."""
# The graph is HeiSD's (arXiv 2603.17573, which does not say how broadly it searches).
_LINKS, _BUILD_BREADTH, _SEARCH_BREADTH = 16, 100, 128


class Index:
    """Squared Euclidean distance to the rows of one array."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def exact(cls, rows: NDArray[np.floating]) -> Index:
        """Looks at every one of the rows [N, C]; they are copied into memory as float32."""
        import faiss

        index = faiss.IndexFlatL2(rows.shape[1])
        index.add(np.ascontiguousarray(rows, dtype=np.float32))
        return cls(index)

    @classmethod
    def graph(cls, rows: NDArray[np.floating]) -> Index:
        """An HNSW graph over the rows [N, C], which it keeps in half precision."""
        import faiss

        index: Any = faiss.index_factory(rows.shape[1], f"HNSW{_LINKS}_SQfp16")
        index.hnsw.efConstruction = _BUILD_BREADTH
        index.hnsw.efSearch = _SEARCH_BREADTH
        matrix = np.ascontiguousarray(rows, dtype=np.float32)
        # faiss and PyTorch share one setting: a model in this thread is to find it as it was.
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            index.train(matrix)
            index.add(matrix)
        finally:
            faiss.omp_set_num_threads(threads)
        return cls(index)

    @classmethod
    def read(cls, path: Path, shape: tuple[int, ...]) -> Index:
        """A graph that `write` wrote, left on disk until it is searched.

        Args:
            path: the file.
            shape: [N, C] of the rows that it was made of.

        Raises:
            DatabaseError: the file is no such graph.
        """
        import faiss

        check_plain(path, DatabaseError)
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
        except (RuntimeError, MemoryError) as error:
            raise DatabaseError(f"{path} is no faiss index: {error}") from error
        if (index.ntotal, index.d) != shape:
            raise DatabaseError(
                f"{path} is of {index.ntotal} rows of {index.d}, the manifest says {shape}; build "
                "the database again with `heisd db build`"
            )
        return cls(index)

    def write(self, path: Path) -> None:
        """Writes the graph."""
        import faiss

        faiss.write_index(self._index, str(path))

    def search(self, query: NDArray[np.float32], number: int) -> NDArray[np.int64]:
        """Numbers (number,) of the rows nearest to a query [C], nearest first.

        A graph may find fewer.
        """
        _, rows = self._index.search(query[None], number)
        found: NDArray[np.int64] = rows[0][rows[0] >= 0]
        return found
