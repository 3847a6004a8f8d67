"""Compares the keys that `heisd bench retrieval` makes with those of the shipped model.

python bench/retrieval_keys.py --json bench/results/retrieval_keys.json

Both are 10 tasks of about 1,500 frames in 30 episodes of 4096 numbers. A number that makes search
easier on the synthetic side (a steeper spectrum, a larger gap behind the best entry, higher recall
by few coordinates) would make the bench too kind.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from heisd_ros.benchmark import synthetic_keys
from heisd_ros.models import shipped_model
from heisd_ros.retrieval.key_space import KeySpace
from heisd_ros.retrieval.manifest import Manifest
from heisd_ros.training.compression import fit_projection

EPISODES, FRAMES, ASKING = 30, 1500, 10
SIZES = (16, 64, 256, 512)


def shipped():
    """Keys and episodes of each task of the shipped database."""
    folder = shipped_model() / "database"
    manifest = Manifest.read(folder)
    quantiser = KeySpace.load(folder, manifest.features.size, manifest.features.kept).quantiser
    for shard in manifest.shards:
        keys = quantiser.decode(np.load(folder / shard.folder / "keys.npy"))
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
        yield keys, np.load(folder / shard.folder / "episodes.npy")


def synthetic():
    """The same of ours."""
    synthetic_keys.EPISODES = EPISODES
    keys = synthetic_keys.SyntheticKeys(4096)
    for number in range(10):
        task = keys.task(number, FRAMES, 0)
        yield task.keys, task.episodes


def describe(tasks):
    """Spectrum of all keys, and how frames of held-out episodes find their nearest entry."""
    tasks = list(tasks)
    held = [np.isin(episodes, np.unique(episodes)[::ASKING]) for _, episodes in tasks]
    entries = [keys[~own] for (keys, _), own in zip(tasks, held, strict=True)]
    everything = np.concatenate(entries)
    sample = everything[np.linspace(0, len(everything), 1024, endpoint=False).astype(int)]
    projection = fit_projection(sample)
    variances = np.square(projection(sample)).sum(axis=0)
    best, gap, recall = [], [], {size: [] for size in SIZES}
    for (keys, _), own, kept in zip(tasks, held, entries, strict=True):
        queries = keys[own][::10]
        cosines = queries @ kept.T
        ordered = -np.sort(-cosines, axis=1)
        best += ordered[:, 0].tolist()
        gap += (ordered[:, 0] - ordered[:, 1]).tolist()
        for size in SIZES:
            short = projection.truncated(size)
            points = short(kept)
            squares = np.square(points).sum(axis=1) - 2.0 * short(queries) @ points.T
            recall[size] += (squares.argmin(axis=1) == cosines.argmax(axis=1)).tolist()
    first, second = tasks[0][0], tasks[1][0]
    return {
        "length_of_mean": float(np.linalg.norm(sample.mean(axis=0))),
        "share_of_variance": {
            size: float(variances[:size].sum() / variances.sum()) for size in SIZES
        },
        "best_cosine": float(np.median(best)),
        "gap_to_second": float(np.median(gap)),
        "cosine_between_tasks": float(np.median(first[::50] @ second[::50].T)),
        "recall_at_1_by_coordinates_alone": {s: float(np.mean(r)) for s, r in recall.items()},
        "queries": len(best),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    out = parser.parse_args().json
    result = {"shipped": describe(shipped()), "synthetic": describe(synthetic())}
    text = json.dumps(result, indent=2)
    print(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
