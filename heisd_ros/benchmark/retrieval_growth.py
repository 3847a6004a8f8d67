"""Measures how time and memory of one unsharded search grow with its size."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from heisd_ros.benchmark.retrieval_peers import (
    K,
    exact_index,
    graph_index,
    nearest,
    recalls,
    search_by,
)
from heisd_ros.benchmark.retrieval_timing import query_times, timed
from heisd_ros.benchmark.synthetic_shards import SyntheticShards
from heisd_ros.retrieval.arrays import RowsOnDisk
from heisd_ros.retrieval.entries import COLUMNS
from heisd_ros.retrieval.index import EXACT_BELOW, Index
from heisd_ros.retrieval.key_space import KeySpace
from heisd_ros.retrieval.manifest import UNNAMED_ANSWER
from heisd_ros.retrieval.shard import Shard

FAR = 10_000_000
"""Number of vectors to which growth is extrapolated."""
_QUERIES = 100
_MIB = 2**20

Say = Callable[[str], None]


def growth(
    shards: SyntheticShards,
    space: KeySpace,
    sizes: Sequence[int],
    peer_sizes: Sequence[int],
    scratch: Path,
    say: Say,
) -> dict[str, Any]:
    """Searches the first entries of all shards as one shard.

    Args:
        shards: where entries and queries come from.
        space: how keys are stored.
        sizes: entries for our index.
        peer_sizes: entries for the peers, which keep all keys in memory.
        scratch: folder for codes; removed at the end.
        say: called with progress messages.

    Returns:
        rows by size, and their extrapolation to `FAR` vectors.
    """
    rows: dict[str, list[dict[str, Any]]] = {"ours": [], "faiss_hnsw": [], "exact": []}
    for size in sizes:
        say(f"one shard of {size} vectors: ours")
        rows["ours"].append(_ours(shards, space, size, scratch))
    for size in peer_sizes:
        keys = np.concatenate([block for _, block in shards.blocks(size)])
        queries = shards.asked(size, _QUERIES)
        truth = nearest([(0, keys)], queries)
        for name, make in (("exact", exact_index), ("faiss_hnsw", graph_index)):
            say(f"one shard of {size} vectors: {name}")
            with timed() as building:
                index, mib = make(keys)
            found, times = search_by(index, queries)
            rows[name].append(
                {
                    "vectors": size,
                    **query_times(times),
                    **recalls(found, truth),
                    "memory_mib": mib,
                    "build_cpu_s": building.cpu_s,
                }
            )
    far = {name: extrapolate(measured) for name, measured in rows.items() if len(measured) > 1}
    return {"measured": rows, f"extrapolated_to_{FAR}": far}


def extrapolate(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Extrapolates the measured sizes to `FAR` by a power law.

    A graph's time grows like a logarithm, which a power law overestimates; memory grows evenly.
    Times that fall are noise, and are held level.

    Args:
        rows: of `growth`, at least two.

    Returns:
        exponent and median of the time of a query on the CPU, and MiB of memory.
    """
    sizes = np.array([row["vectors"] for row in rows], dtype=float)
    times = np.array([row["query_cpu_ms"]["p50"] for row in rows])
    exponent = max(np.polyfit(np.log(sizes), np.log(times), 1)[0], 0.0)
    offset = np.mean(np.log(times) - exponent * np.log(sizes))
    return {
        "query_exponent": float(exponent),
        "query_cpu_ms_p50": float(np.exp(offset + exponent * np.log(FAR))),
        "memory_mib": float(rows[-1]["memory_mib"] / sizes[-1] * FAR),
    }


def _ours(shards: SyntheticShards, space: KeySpace, size: int, scratch: Path) -> dict[str, Any]:
    scratch.mkdir(parents=True)
    dim, kept = space.projection.size, space.projection.kept
    codes = open_memmap(scratch / "codes.npy", "w+", "u1", (size, dim))
    lengths = np.empty(size, dtype="<f4")
    coordinates = np.empty((size, kept), dtype="<f2")
    queries = shards.asked(size, _QUERIES)
    with timed() as building:
        for start, keys in shards.blocks(size):
            rows = slice(start, start + len(keys))
            codes[rows] = space.quantiser.encode(keys)
            lengths[rows] = space.quantiser.lengths(codes[rows])
            coordinates[rows] = space.projection(keys)
        graph = size >= EXACT_BELOW
        index = Index.graph(coordinates) if graph else Index.exact(coordinates)
    # Entries are identified by their step; other columns are unused and take no memory.
    columns: dict[str, NDArray[Any]] = {
        name: np.broadcast_to(np.zeros(row := column.row(UNNAMED_ANSWER)), (size, *row))
        for name, column in COLUMNS.items()
    }
    columns["steps"] = np.arange(size)
    codes.flush()
    rows_on_disk = RowsOnDisk(scratch / "codes.npy", codes)
    shard = Shard("everything", columns, rows_on_disk, lengths, coordinates, space, index)
    for query in queries:  # loads pages into memory
        shard.search(query, K)
    found, times = [], []
    for query in queries:
        with timed() as taken:
            matches = shard.search(query, K)
        times.append(taken)
        found.append(matches.steps)
    index.write(scratch / "index.faiss")
    own = (scratch / "index.faiss").stat().st_size + lengths.nbytes
    shutil.rmtree(scratch)
    return {
        "vectors": size,
        "graph": graph,
        **query_times(times),
        **recalls(np.array(found), nearest(shards.blocks(size), queries)),
        "memory_mib": own / _MIB,
        "on_disk_mib": codes.nbytes / _MIB,
        "build_cpu_s": building.cpu_s,
    }


def picture(grown: dict[str, Any], path: Path) -> None:
    """Draws time and memory over the number of vectors, as far as `FAR`.

    Args:
        grown: of `growth`.
        path: a PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for number, (name, rows) in enumerate(grown["measured"].items()):
        far = grown[f"extrapolated_to_{FAR}"].get(name)
        if far is None:
            continue
        sizes = [row["vectors"] for row in rows]
        for axes, values, end in (
            (time_axes, [row["query_cpu_ms"]["p50"] for row in rows], far["query_cpu_ms_p50"]),
            (memory_axes, [row["memory_mib"] for row in rows], far["memory_mib"]),
        ):
            axes.plot(sizes, values, "o-", color=f"C{number}", label=name.replace("_", " "))
            axes.plot([sizes[-1], FAR], [values[-1], end], ":", color=f"C{number}")
    for axes, label in ((time_axes, "median query, ms on the CPU"), (memory_axes, "memory, MiB")):
        axes.set(xlabel="vectors in one search", ylabel=label, xscale="log", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle("Without shards; dotted: extrapolated")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
