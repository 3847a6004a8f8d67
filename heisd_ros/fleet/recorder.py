"""Collects the steps of the running episode until it is known how that ended."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heisd_ros.fleet.episode import RecordedEpisode, episode_number
from heisd_ros.retrieval.entries import Entries

MAX_STEPS = 10_000
"""Of an episode; of a longer one the beginning is kept. At 20 Hz that is more than 8 minutes."""


@dataclass(frozen=True)
class Verified:
    """What the model itself said about a frame.

    Attributes:
        key: (D,) `VLA.retrieval_key`.
        tokens: (7,) its own greedy tokens.
    """

    key: NDArray[np.float32]
    tokens: tuple[int, ...]


class EpisodeRecorder:
    """The steps of one episode; called by the thread that decides and by the one that ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._instruction, self._count = "", 0
        self._seen: list[tuple[int, NDArray[np.float32], Verified]] = []

    def note(
        self, instruction: str, action: NDArray[np.floating], verified: Verified | None
    ) -> None:
        """Takes a control step.

        Args:
            instruction: what the robot is told to do; another than before begins an episode.
            action: (7,) what it does, robot units.
            verified: None for a step that the model did not see, which is only counted.
        """
        with self._lock:
            if instruction != self._instruction:
                self._drop()
                self._instruction = instruction
            if verified is not None and self._count < MAX_STEPS:
                self._seen.append((self._count, np.array(action, dtype=np.float32), verified))
            self._count += 1

    def drop(self) -> None:
        """Forgets the episode: it failed, or nobody knows."""
        with self._lock:
            self._drop()

    def finish(self) -> RecordedEpisode | None:
        """Ends the episode as a success; None where the model saw none of its steps."""
        with self._lock:
            instruction, seen = self._instruction, self._seen
            self._drop()
        if not seen:
            return None
        uid = uuid.uuid4().hex
        steps, actions, verified = zip(*seen, strict=True)
        entries = Entries(
            keys=np.array([own.key for own in verified], dtype=np.float32),
            actions=np.array(actions),
            tokens=np.array([own.tokens for own in verified]),
            episodes=np.full(len(seen), episode_number(uid)),
            steps=np.array(steps),
        )
        return RecordedEpisode(uid, instruction, entries)

    def _drop(self) -> None:
        self._instruction, self._count, self._seen = "", 0, []
