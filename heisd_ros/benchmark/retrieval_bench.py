"""Search at the scale of the paper and beyond: our index, faiss HNSW and exact search, one thread.

Keys are those of `synthetic_keys`. Queries are frames of the same episodes that are not in the
database. Times are of one query: by the wall, and on the CPU, which other work does not lengthen.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from heisd_ros.benchmark.retrieval_growth import growth
from heisd_ros.benchmark.retrieval_peers import (
    BREADTH,
    LINKS,
    K,
    exact_index,
    graph_index,
    nearest,
    recalls,
    search_by,
)
from heisd_ros.benchmark.retrieval_timing import Timed, folder_mib, query_times, timed
from heisd_ros.benchmark.synthetic_keys import SyntheticKeys
from heisd_ros.benchmark.synthetic_shards import SyntheticShards
from heisd_ros.retrieval.key_space import KeySpace
from heisd_ros.retrieval.manifest import FeatureLayout, Fidelity, Manifest
from heisd_ros.retrieval.projection import Projection
from heisd_ros.retrieval.writer import quantiser_of, write_database
from heisd_ros.training.compression import fit_projection, shortest

MODEL = "0" * 64
"""Placeholder for the model's fingerprint, since there is no model."""
_FIT_FRAMES, _ASKING_SHARDS, _ASKING_EPISODES, _ASKING = 2048, 4, 10, 500
"""Frames of all shards that the projection is fitted to; shards that its length is chosen on, every
how many-th of their episodes asks, and with how many frames altogether."""


@dataclass(frozen=True)
class Plan:
    """Settings of the benchmark.

    Attributes:
        vectors: frames in the database.
        dim: numbers in a key.
        shards: tasks.
        queries: of each shard.
        peer_shards: shards that HNSW is built for; all shards are alike.
        unsharded: sizes of one search over everything, ours.
        unsharded_peers: sizes of the same for the peers.
        seed: of the keys.
    """

    vectors: int = 273_465
    dim: int = 4352
    shards: int = 40
    queries: int = 50
    peer_shards: int = 8
    unsharded: tuple[int, ...] = (27_346, 109_386, 273_465)
    unsharded_peers: tuple[int, ...] = (3_418, 6_837, 13_673)
    seed: int = 0

    def sizes(self) -> list[int]:
        """Number of entries of each shard."""
        ends = [self.vectors * number // self.shards for number in range(self.shards + 1)]
        return [end - start for start, end in pairwise(ends)]


def measure(
    plan: Plan, folder: Path, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Builds and searches everything.

    Args:
        plan: what to measure.
        folder: an empty folder for keys and database; it takes six bytes a number.
        say: called with progress messages.

    Returns:
        the results, ready for JSON.
    """
    faiss.omp_set_num_threads(1)
    keys = SyntheticKeys(plan.dim, plan.seed)
    shards = SyntheticShards.generate(folder / "keys", keys, plan.sizes(), plan.queries, say)
    place = folder / "database"
    say("building the database")
    with timed() as building:
        projection, fidelity = choose(shards)
        manifest = write_database(place, _description(plan, fidelity), shards, projection)
    say("searching it in a process of its own")
    ours = search_apart(place, shards.folder)
    say("exact matches of all queries")
    truths = {name: _truths(shards, name) for name in ("queries", "strangers")}
    space = KeySpace.load(place, plan.dim, manifest.features.kept)
    return {
        "vectors": plan.vectors,
        "dim": plan.dim,
        "shards": plan.shards,
        "queries": plan.shards * plan.queries,
        "coordinates": manifest.features.kept,
        "query_ms": ours["query_ms"],
        "query_cpu_ms": ours["query_cpu_ms"],
        **recalls(np.array(ours["found"]), np.concatenate(truths["queries"])),
        "unseen_episodes": recalls(
            np.array(ours["found_for_strangers"]), np.concatenate(truths["strangers"])
        ),
        "resident_mib": ours["resident_mib"],
        "resident_parts_mib": ours["resident_parts_mib"],
        "disk_mib": folder_mib(place),
        "build_s": building.wall_s,
        "build_cpu_s": building.cpu_s,
        "open_s": ours["open_s"],
        "open_cpu_s": ours["open_cpu_s"],
        "peers": peers(plan, shards, truths, say),
        "unsharded": growth(
            shards, space, plan.unsharded, plan.unsharded_peers, folder / "codes", say
        ),
    }


def choose(shards: SyntheticShards) -> tuple[Projection, Fidelity]:
    """Chooses the projection as `heisd db build` does, from samples of all shards."""
    numbers = range(len(shards))
    each = max(1, _FIT_FRAMES // len(shards))
    parts = [shards.read(number, "keys") for number in numbers]
    sample = np.concatenate([part[:: max(1, len(part) // each)][:each] for part in parts])
    asking = numbers[:: max(1, len(shards) // _ASKING_SHARDS)]
    pairs = []
    for number in asking:
        held = shards.read(number, "episodes") % _ASKING_EPISODES == 0
        asks = parts[number][held]
        pairs.append((asks[:: max(1, len(asks) * len(asking) // _ASKING)], parts[number][~held]))
    return shortest(fit_projection(sample), quantiser_of(shards.values()), pairs)


def search_apart(place: Path, keys: Path) -> dict[str, Any]:
    """Opens and searches a database in a new process, so that its memory can be measured.

    Args:
        place: the database.
        keys: folder of the queries.

    Raises:
        RuntimeError: that process failed; with what it said.
    """
    probe = [sys.executable, "-m", "heisd_ros.benchmark.retrieval_probe", str(place), str(keys)]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the searching process failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def peers(
    plan: Plan,
    shards: SyntheticShards,
    truths: dict[str, list[NDArray[np.int64]]],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measures times, recall and memory of the peers, shard by shard."""
    results: dict[str, Any] = {}
    for name, make, count in (
        ("exact", exact_index, plan.shards),
        ("faiss_hnsw", graph_index, plan.peer_shards),
    ):
        times: list[Timed] = []
        found, strange, mib, build_s = [], [], 0.0, 0.0
        for number in range(count):
            say(f"{name} in shard {number + 1} of {count}")
            keys = np.array(shards.read(number, "keys"))
            with timed() as building:
                index, own = make(keys)
            rows, taken = search_by(index, shards.read(number, "queries"))
            times += taken
            found.append(rows)
            strange.append(index.search(np.array(shards.read(number, "strangers")), K)[1])
            mib, build_s = mib + own, build_s + building.cpu_s
        results[name] = {
            "shards_measured": count,
            **query_times(times),
            **recalls(np.concatenate(found), np.concatenate(truths["queries"][:count])),
            "unseen_episodes": recalls(
                np.concatenate(strange), np.concatenate(truths["strangers"][:count])
            ),
            "memory_mib": mib / count * plan.shards,
            "build_cpu_s": build_s / count * plan.shards,
        }
    results["faiss_hnsw"] |= {"m": LINKS, "ef_construct": BREADTH, "ef_search": BREADTH}
    return results


def _truths(shards: SyntheticShards, name: str) -> list[NDArray[np.int64]]:
    """Returns the exact matches (Q, K) of the queries of each shard."""
    return [
        nearest([(0, shards.read(number, "keys"))], shards.read(number, name))
        for number in range(len(shards))
    ]


def _description(plan: Plan, fidelity: Fidelity) -> Manifest:
    return Manifest(
        model_fingerprint=MODEL,
        statistics_key="none",
        robot="none",
        control_rate_hz=20.0,
        features=FeatureLayout(("synthetic",), (plan.dim,), plan.dim, 0),
        fidelity=fidelity,
        provenance={"keys": f"synthetic, seed {plan.seed}"},
    )
