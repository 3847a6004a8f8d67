"""Small retrieval databases: real folders of random entries."""

from __future__ import annotations

import numpy as np

from heisd_ros.kinematics.metric import MetricBounds, MetricSettings
from heisd_ros.retrieval.entries import Entries
from heisd_ros.retrieval.manifest import FeatureLayout, Manifest
from heisd_ros.retrieval.projection import Projection
from heisd_ros.retrieval.writer import write_database

MODEL = "a" * 64
INSTRUCTIONS = ("pick up the bowl", "open the top drawer of the cabinet")
SIZE = 24
"""Numbers in a key: two towers of 6 and 2 views, by `description`."""
BOUNDS = MetricBounds(
    settings=MetricSettings(kind="speed"),
    radius_range=(0.0, 1.0),
    path_range=(0.0, 0.5),
    speed_range=(0.0, 0.25),
    boundary=0.3,
)


def unit(keys):
    """Rows of unit length."""
    return (keys / np.linalg.norm(keys, axis=-1, keepdims=True)).astype(np.float32)


def entries(episodes=3, steps=5, seed=0, size=SIZE, first=0, **changes):
    """Entries in which every number differs; keys are all positive, as features often are."""
    rng = np.random.default_rng(seed)
    number = episodes * steps
    fields = {
        "keys": unit(rng.uniform(0.0, 1.0, (number, size))),
        "actions": rng.uniform(-1, 1, (number, 7)),
        "tokens": rng.integers(264, 520, (number, 7)),
        "episodes": np.repeat(np.arange(first, first + episodes), steps),
        "steps": np.tile(2 * np.arange(steps), episodes),
    }
    return Entries(**(fields | changes))


def description(size=SIZE, model=MODEL, **changes):
    """What is known of a database before it is written."""
    fields = {
        "model_fingerprint": model,
        "statistics_key": "small",
        "robot": "panda",
        "control_rate_hz": 20.0,
        "features": FeatureLayout(("agentview", "wrist"), (size // 4, size // 4), size, 0),
        "bounds": {"speed": BOUNDS},
        "provenance": {"states": "0-29"},
    }
    return Manifest(**(fields | changes))


def projection(size=SIZE, kept=8, seed=0):
    """Random orthonormal components."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, kept)))
    return Projection(np.full(size, 0.2, np.float32), basis.T.astype(np.float32))


def write_small(folder, shards=None, size=SIZE, **changes):
    """Writes a database of two tasks, or of the given entries by instruction; its manifest."""
    if shards is None:
        shards = {text: entries(seed=i, first=10 * i) for i, text in enumerate(INSTRUCTIONS)}
    return write_database(folder, description(size, **changes), shards, projection(size))
