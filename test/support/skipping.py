"""Retrieved entries and calibrations for the tests of skipping."""

from __future__ import annotations

import numpy as np

from heisd_ros.decoding.calibration import Calibration, TriedSetting
from heisd_ros.retrieval.database import Matches

OPEN, CLOSED = 600, 400
"""Token ids of gripper commands."""


def matches(similarity=0.95, spread=2, grippers=(OPEN,) * 5):
    """K entries whose first token differs by a standard deviation of `spread` bins.

    K must be even for the deviation to be exact; with an odd one the last entry is in the middle.
    """
    k = len(grippers)
    tokens = np.full((k, 7), 500, np.int64)
    tokens[: k // 2 * 2, 0] += spread * (-1) ** np.arange(k // 2 * 2)
    tokens[:, 6] = grippers
    return Matches(
        similarity=similarity - 0.01 * np.arange(k, dtype=np.float32),
        actions=np.zeros((k, 7), np.float32),
        tokens=tokens,
        episodes=np.arange(k),
        steps=np.zeros(k, np.int64),
    )


def tried(**changes):
    values = {
        "loss": 0.02,
        "bound": 0.04,
        "disagreement": 0.03,
        "episode_disagreement": 0.02,
        "skip_rate": 0.3,
        "retrieved_rate": 0.6,
        "success_rate": 0.8,
        "episodes": 100,
    }
    return TriedSetting(**(values | changes))


def calibration(**changes):
    """Three settings, all within the risk."""
    values = {
        "similarity": (0.98, 0.9, 0.8),
        "dispersion": (1.0, 5.0, 20.0),
        "chosen": 2,
        "risk": 0.05,
        "criterion": "disagreement",
        "rule": "each_setting",
        "tried": (tried(), tried(), tried()),
        "k": 5,
        "max_consecutive": 2,
        "clearance": 0,
        "speed": 0.0,
        "mode": "heisd",
        "suite": "libero_spatial",
        "episodes": 100,
        "database_id": "database-a",
        "model_fingerprint": "model-a",
        "created": "2026-11-25T00:00:00+00:00",
    }
    return Calibration(**(values | changes))
