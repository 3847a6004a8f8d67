"""Collects the steps of the running episode until it is known how that ended."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heisd_ros.fleet.episode import RecordedEpisode, episode_number
from heisd_ros.retrieval.entries import LOOKAHEAD, Entries

MAX_STEPS = 10_000
"""Of an episode; of a longer one the beginning is kept. At 20 Hz that is more than 8 minutes."""


@dataclass(frozen=True)
class Verified:
    """What the model itself said about a frame.

    Attributes:
        key: (D,) `VLA.retrieval_key`.
        tokens: (7,) its own greedy tokens.
        margins: (7,) logit of each less that of the runner-up.
        position: (3,) end effector, m, robot base frame.
    """

    key: NDArray[np.float32]
    tokens: tuple[int, ...]
    margins: tuple[float, ...]
    position: NDArray[np.floating]


class EpisodeRecorder:
    """The steps of one episode; called by the thread that decides and by the one that ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._instruction = ""
        self._actions: list[NDArray[np.float32]] = []
        self._verified: list[Verified | None] = []

    def note(
        self, instruction: str, action: NDArray[np.floating], verified: Verified | None
    ) -> None:
        """Takes a control step.

        Args:
            instruction: what the robot is told to do; another than before begins an episode.
            action: (7,) what it does, robot units.
            verified: None for a step that the model did not see: its action still counts as what
                followed the ones before.
        """
        with self._lock:
            if instruction != self._instruction:
                self._drop()
                self._instruction = instruction
            if len(self._actions) < MAX_STEPS:
                self._actions.append(np.array(action, dtype=np.float32))
                self._verified.append(verified)

    def drop(self) -> None:
        """Forgets the episode: it failed, or nobody knows."""
        with self._lock:
            self._drop()

    def finish(self) -> RecordedEpisode | None:
        """Ends the episode as a success; None where the model saw none of its steps."""
        with self._lock:
            instruction, actions, verified = self._instruction, self._actions, self._verified
            self._drop()
        steps = [step for step, own in enumerate(verified) if own is not None]
        kept = [own for own in verified if own is not None]
        if not kept:
            return None
        uid = uuid.uuid4().hex
        done = np.array(actions)
        # The last action repeats: a zero would be a command to stop.
        ahead = np.minimum(np.array(steps)[:, None] + 1 + np.arange(LOOKAHEAD), len(done) - 1)
        entries = Entries(
            keys=np.array([own.key for own in kept], dtype=np.float32),
            actions=done[steps],
            lookahead=done[ahead],
            tokens=np.array([own.tokens for own in kept]),
            margins=np.array([own.margins for own in kept], dtype=np.float32),
            positions=np.array([own.position for own in kept], dtype=np.float32),
            episodes=np.full(len(kept), episode_number(uid)),
            steps=np.array(steps),
        )
        return RecordedEpisode(uid, instruction, entries)

    def _drop(self) -> None:
        self._instruction, self._actions, self._verified = "", [], []
