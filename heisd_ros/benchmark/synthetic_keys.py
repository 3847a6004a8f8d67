"""Synthetic retrieval keys in any number, like those of a model, for measuring search.

A frame is a point of a space of few dimensions (where tip, wrist, gripper and objects are). A task
is a smooth path through it, an episode that path with ends and bends of its own and a jitter from
frame to frame. Each number of a key is a smooth random function of the point (random Fourier
features, Rahimi and Recht 2007, with the heavy-tailed frequencies of a Matérn kernel) about a mean
that all frames share, plus noise of each frame alone, and a key has unit length.

The constants are fitted to the keys of the shipped model (10 tasks, 4096 numbers):
`bench/retrieval_keys.py` prints both sides. So the spectrum is as flat and the best entry no more
ahead of the next ones than there; with vectors of independent noise a search would be easier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.signal import lfilter

_POINT = 8
"""Dimensions of the space that frames are points of."""
_BENDS = 6
"""Number of points that a task's path goes through."""
_EPISODE, _JITTER, _JITTER_MEMORY = 0.25, 0.17, 0.7
"""Deviation of an episode's bends from its task's, of a frame's point from its path, and the share
of that which is kept from one frame to the next; the bends themselves deviate by 1."""
_FREQUENCY, _TAIL = 0.55, 4.0
"""Scale of the random functions' frequencies, and degrees of freedom of their Student's t."""
_MEAN, _NOISE = 0.765, 0.03
"""Length of the mean of all keys, and variance of a frame's noise in a key of length 1."""
EPISODES = 50
"""Number of episodes of a task, as in LIBERO."""
_STRANGERS = 5
"""Number of episodes of a task that are queried but not in the database."""


@dataclass(frozen=True)
class TaskKeys:
    """Keys of one task.

    Attributes:
        keys: (N, D) float32 of unit length, episode after episode.
        episodes: (N,) number of the episode, from 0.
        steps: (N,) number of the frame in its episode.
        queries: (Q, D) of frames of the same episodes that are not among `keys`.
        strangers: (Q, D) of frames of other episodes of the same task.
    """

    keys: NDArray[np.float32]
    episodes: NDArray[np.int64]
    steps: NDArray[np.int64]
    queries: NDArray[np.float32]
    strangers: NDArray[np.float32]


class SyntheticKeys:
    """A model's keys.

    Args:
        size: D, numbers in a key.
        seed: the same seed gives the same keys, task by task.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self._seed, self._size = seed, size
        rng = np.random.default_rng(seed)
        spread = np.sqrt(_TAIL / rng.chisquare(_TAIL, size))
        frequencies = _FREQUENCY * spread * rng.standard_normal((_POINT, size))
        self._frequencies = frequencies.astype(np.float32)
        self._phases = rng.uniform(0.0, 2.0 * np.pi, size).astype(np.float32)
        # Some numbers of real keys vary far more than others.
        gains = rng.gamma(1.0, size=size)
        gains *= np.sqrt(2.0 * (1.0 - _MEAN**2 - _NOISE) / np.square(gains).sum())
        mean = rng.standard_normal(size)
        self._gains = gains.astype(np.float32)
        self._mean = (_MEAN * mean / np.linalg.norm(mean)).astype(np.float32)

    def task(self, number: int, entries: int, queries: int) -> TaskKeys:
        """Returns frames of one task.

        Args:
            number: which task.
            entries: N.
            queries: Q; of the same episodes, drawn from among all their frames.
        """
        rng = np.random.default_rng((self._seed, number))
        frames = entries + queries
        lengths = np.diff(np.linspace(0, frames, min(EPISODES, frames) + 1).astype(int))
        bends = rng.standard_normal((_BENDS, _POINT))
        points = np.concatenate([_episode(rng, bends, int(length)) for length in lengths])
        episodes = np.repeat(np.arange(len(lengths)), lengths)
        steps = np.concatenate([np.arange(length) for length in lengths])
        keys = self._keys(rng, points)
        asked = np.zeros(frames, dtype=bool)
        asked[rng.choice(frames, queries, replace=False)] = True
        length = max(1, int(lengths[0]))
        others = np.concatenate([_episode(rng, bends, length) for _ in range(_STRANGERS)])
        chosen = rng.choice(len(others), queries, replace=queries > len(others))
        return TaskKeys(
            keys[~asked],
            episodes[~asked],
            steps[~asked],
            keys[asked],
            self._keys(rng, others[chosen]),
        )

    def _keys(self, rng: np.random.Generator, points: NDArray[np.float64]) -> NDArray[np.float32]:
        keys = rng.standard_normal((len(points), self._size), dtype=np.float32)
        keys *= np.float32(np.sqrt(_NOISE / self._size))
        # Block by block: all at once would take several times the memory of the keys.
        for start in range(0, len(points), 512):
            block = slice(start, start + 512)
            waves = np.cos(points[block].astype(np.float32) @ self._frequencies + self._phases)
            keys[block] += self._mean + self._gains * waves
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
        return keys


def _episode(
    rng: np.random.Generator, bends: NDArray[np.float64], length: int
) -> NDArray[np.float64]:
    """Returns the points (length, P) of one episode along its task's path."""
    own = bends + _EPISODE * rng.standard_normal(bends.shape)
    # Each episode has its own pace along the path.
    times = np.sort(rng.uniform(0.0, 1.0, len(bends)))
    times = (np.linspace(0.0, 1.0, len(bends)) + times) / 2.0
    path = CubicSpline(times, own)(np.linspace(times[0], times[-1], length))
    steps = rng.standard_normal((length, _POINT)) * _JITTER * np.sqrt(1.0 - _JITTER_MEMORY**2)
    jitter: NDArray[np.float64] = lfilter([1.0], [1.0, -_JITTER_MEMORY], steps, axis=0)
    return path + jitter
