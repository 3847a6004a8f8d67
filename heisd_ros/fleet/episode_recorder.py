"""Collects the steps of the running episode until its outcome is known."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from heisd_ros.fleet.recorded_episode import RecordedEpisode, episode_number
from heisd_ros.retrieval.entries import Entries, joined

MAX_STEPS = 10_000
"""Steps kept of an episode; later ones are dropped. At 20 Hz this is more than 8 minutes."""


@dataclass(frozen=True)
class Verified:
    """The model's own output for a frame.

    Attributes:
        key: (D,) `VLA.retrieval_key`.
        tokens: its own greedy tokens.
    """

    key: NDArray[np.float32]
    tokens: tuple[int, ...]


_Seen = tuple[int, NDArray[np.float32], Verified]
"""A verified step: its number, the executed actions, the model's output."""


class EpisodeRecorder:
    """Records the steps of one episode; thread-safe, as one thread decides and another ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._instruction, self._count = "", 0
        self._seen: list[_Seen] = []

    def note(
        self, instruction: str, action: NDArray[np.floating], verified: Verified | None
    ) -> None:
        """Records a control step.

        Args:
            instruction: the task; a change of it begins an episode.
            action: (A,) the executed actions, robot units.
            verified: None for a step that was not verified, which is only counted.
        """
        with self._lock:
            if instruction != self._instruction:
                self._drop()
                self._instruction = instruction
            if verified is not None and self._count < MAX_STEPS:
                self._seen.append((self._count, np.array(action, dtype=np.float32), verified))
            self._count += 1

    def drop(self) -> None:
        """Discards the episode: it failed, or its outcome is unknown."""
        with self._lock:
            self._drop()

    def finish(self) -> Callable[[], RecordedEpisode] | None:
        """Ends the episode as a success; None if none of its steps was verified.

        Returns:
            What makes the episode: that copies all keys, which takes time that a control loop does
            not have.
        """
        with self._lock:
            instruction, seen = self._instruction, self._seen
            self._drop()
        return partial(_episode, instruction, seen) if seen else None

    def _drop(self) -> None:
        self._instruction, self._count, self._seen = "", 0, []


def _episode(instruction: str, seen: Sequence[_Seen]) -> RecordedEpisode:
    uid = uuid.uuid4().hex
    steps, actions, verified = zip(*seen, strict=True)
    entries = Entries(
        keys=np.array([own.key for own in verified], dtype=np.float32),
        actions=np.array(actions),
        tokens=joined("tokens", [np.array([own.tokens]) for own in verified]),
        episodes=np.full(len(seen), episode_number(uid)),
        steps=np.array(steps),
    )
    return RecordedEpisode(uid, instruction, entries)
