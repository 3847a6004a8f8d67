"""Recorded episodes, and waiting for threads."""

from __future__ import annotations

import hashlib
import time

from support.database import MODEL, SIZE, description, entries

from heisd_ros.fleet.collection_layout import Layout
from heisd_ros.fleet.recorded_episode import RecordedEpisode, episode_number

INSTRUCTION = 'put the "red" bowl \\ on the plate'
"""With what a careless filter would stumble over."""


def layout(**changes):
    """That of the databases of `support.database`."""
    return Layout.of(description(**changes))


def episode(seed=0, steps=6, instruction=INSTRUCTION, size=SIZE):
    """An episode of random steps."""
    uid = hashlib.md5(str(seed).encode(), usedforsecurity=False).hexdigest()
    own = entries(1, steps, seed=seed, size=size, first=episode_number(uid))
    return RecordedEpisode(uid, instruction, own)


def wait_for(condition, what, seconds=60.0):
    """Until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.02)


__all__ = ["INSTRUCTION", "MODEL", "SIZE", "episode", "layout", "wait_for"]
