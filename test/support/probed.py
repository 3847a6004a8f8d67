"""Made-up steps at which every way of drafting was tried."""

from __future__ import annotations

import numpy as np

from heisd_ros.decoding.terms import TERMS
from heisd_ros.evaluation.predictor_steps import COLUMNS

ROW = {"suite": "libero_spatial", "task_index": 0, "init_state": 32, "variation": 0}


def log_odds(columns, passes):
    """Whether steps pass by chances whose log-odds are given, by terms of unit deviation."""
    return 1.0 / (1.0 + np.exp(-columns)) > passes


def table(episodes=30, each=60, seed=0):
    """Steps whose retrieved draft passes by similarity, and whose last command by its change."""
    rng = np.random.default_rng(seed)
    count = episodes * each
    steps = {name: rng.normal(size=count) for name in TERMS}
    steps["speed"] = rng.uniform(0.0, 0.5, count)
    steps["until gripper change"] = rng.integers(0, 40, count).astype(float)
    steps["since gripper change"] = rng.integers(0, 40, count).astype(float)
    odds = {
        "retrieval": 2.0 * steps["similarity"],
        "last_command": 1.0 - 1.5 * steps["change"],
        "drafter": np.full(count, -1.0),
    }
    for way, of_way in odds.items():
        steps[way] = np.where(log_odds(of_way, rng.random(count)), 2.0, 4.0)
    harmless = log_odds(0.5 - 2.0 * steps["missed"], rng.random(count))
    steps["away"] = np.where(harmless, 10.0, 50.0)
    steps["gripper"] = np.ones(count)
    steps["last_command"][::each] = np.nan  # an episode's first step has no command before it
    columns = np.column_stack([steps[name] for name in COLUMNS])
    return columns, np.repeat(np.arange(episodes), each)


def episodes_of(store, columns, episode, row=ROW):
    """Adds steps to the episodes of a fit."""
    for number in np.unique(episode):
        steps = [
            [None if np.isnan(value) else float(value) for value in step]
            for step in columns[episode == number]
        ]
        store.add(int(number), {**row, "init_state": 32 + int(number) % 8}, steps)
    return store
