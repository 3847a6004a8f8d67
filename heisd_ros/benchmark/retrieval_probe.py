"""Opens and searches a database in a separate process, for `retrieval_bench`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.benchmark.retrieval_timing import query_times, resident_mib, timed
from heisd_ros.retrieval.database import Database
from heisd_ros.retrieval.entries import Matches

_WARM = 20
"""Number of untimed queries: the first ones load code."""


def main(place: Path, keys: Path) -> None:
    """Prints the measurements as JSON.

    Args:
        place: the database.
        keys: folder of the queries.
    """
    before = resident_mib()
    with timed() as opening:
        database = Database.open(place, "0" * 64)
    opened = resident_mib()
    shards = list(database)
    names = [f"{number:03d}" for number in range(len(shards))]
    queries = [np.load(keys / f"{name}.queries.npy") for name in names]
    with_queries = resident_mib()
    asked = [(shard, query) for shard, own in zip(shards, queries, strict=True) for query in own]
    # Shuffled, so that a search does not profit from the caches of the previous one.
    order = np.random.default_rng(0).permutation(len(asked))
    times, found = [], {}
    for turn, number in enumerate([*order[:_WARM], *order]):
        shard, query = asked[number]
        with timed() as taken:
            matches = shard.search(query, 5)
        if turn >= _WARM:
            times.append(taken)
            found[int(number)] = matches
    searched = resident_mib()
    result = {
        "open_s": opening.wall_s,
        "open_cpu_s": opening.cpu_s,
        **query_times(times),
        # The memory of the queries is that of the bench, not of the database.
        "resident_mib": searched["total"] - (with_queries["total"] - opened["total"]),
        "resident_parts_mib": {"imported": before, "opened": opened, "searched": searched},
        "found": [_rows(shard.columns, found[n]) for n, (shard, _) in enumerate(asked)],
        "found_for_strangers": [
            _rows(shard.columns, shard.search(query, 5))
            for shard, name in zip(shards, names, strict=True)
            for query in np.load(keys / f"{name}.strangers.npy")
        ],
    }
    json.dump(result, sys.stdout)


def _rows(columns: Mapping[str, NDArray[Any]], matches: Matches) -> list[int]:
    """Returns the rows of matches in a shard; episode and step identify an entry."""
    episodes, steps = columns["episodes"], columns["steps"]
    pairs = zip(matches.episodes, matches.steps, strict=True)
    return [int(np.flatnonzero((episodes == e) & (steps == s))[0]) for e, s in pairs]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
