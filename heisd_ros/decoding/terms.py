"""What is known of a control step before it is verified, as the numbers that a predictor weighs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heisd_ros.decoding.skip import dispersion
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.retrieval.database import Matches
from heisd_ros.vla.action_codec import motion_of

KINEMATIC = ("F", "path", "radius", "speed", "acceleration")
"""The metric, its path length (m) and radius of curvature (m), the tip's speed (m/s), and the
change of that speed since the previous step (m/s)."""
PAST = ("since gripper change", "change", "last passed", "skipped")
"""Steps since the gripper's command changed; greatest distance between the last two answers, bins;
whether the last verified step passed; steps executed without verification since then."""
SEARCHED = ("similarity", "margin", "spread", "apart", "missed", "until gripper change")
"""Similarity of the nearest entry, and how much it exceeds that of the second; dispersion of the
entries, bins; greatest distance of the nearest entry from the last answer, bins; the same from what
the last verified step that searched executed, of its own nearest entry; steps until an entry
reaches a change of its gripper."""
UNSEEN = (*KINEMATIC, *PAST)
"""The terms that are known before the database is searched."""
TERMS = (*UNSEEN, *SEARCHED)
MOST_PASSES = 2
"""A draft passes if its step takes no more passes of the language model: one accepts the draft, and
one more verifies the model's correction of it."""
_LONGEST = 40.0
"""Largest number of steps to or since a change of the gripper; larger ones are clipped."""


class StepTerms:
    """The terms of each step of an episode; an unknown one is NaN.

    Args:
        groups: `AnswerFormat.groups` of the model: tokens outside them have no distance.
    """

    def __init__(self, groups: Sequence[range]) -> None:
        self._groups, self._motion = groups, motion_of(groups)
        self.reset()

    def reset(self) -> None:
        """Forgets the episode."""
        self._last: tuple[int, ...] | None = None
        self._speed = self._change = self._missed = self._passed = math.nan
        self._since, self._skipped = _LONGEST, 0
        self._matches: Matches | None = None

    def begin(self, motion: MetricSample | None) -> NDArray[np.float64]:
        """Returns the terms of a new step, [len(TERMS)]; those of a search are missing."""
        self._matches = None
        kinematic = [math.nan] * len(KINEMATIC)
        if motion is not None:
            shape = [motion.value, motion.path_length, motion.curvature_radius]
            kinematic = [*(shape if motion.ready else [math.nan] * 3), motion.speed]
            kinematic.append(motion.speed - self._speed)
        self._speed = math.nan if motion is None else motion.speed
        past = [self._since, self._change, self._passed, float(self._skipped)]
        return np.array([*kinematic, *past, *[math.nan] * len(SEARCHED)])

    def search(
        self, terms: NDArray[np.float64], matches: Matches, clearance: float
    ) -> NDArray[np.float64]:
        """Returns the step's terms with those of a search filled in.

        Args:
            terms: what `begin` returned.
            matches: the retrieved entries, best first.
            clearance: control steps until the first of them reaches a change of its gripper.
        """
        if len(matches) == 0:
            return terms
        self._matches = matches
        second = matches.similarity[min(1, len(matches) - 1)]
        found = [
            float(matches.similarity[0]),
            float(matches.similarity[0] - second),
            dispersion(matches.tokens, self._groups) if self._groups else math.nan,
            self.distance(matches, self._last),
            self._missed,
            min(clearance, _LONGEST),
        ]
        return np.concatenate([terms[: len(UNSEEN)], found])

    def end(self, tokens: tuple[int, ...], passes: int) -> None:
        """Takes the outcome of a step: what was executed, and passes of the language model."""
        same = self._last is not None and len(self._last) == len(tokens)
        if self._last is not None and same:
            self._change = self._apart(tokens, self._last)
            self._since = min(self._since + 1.0, _LONGEST)
            if tokens[self._motion.stop :] != self._last[self._motion.stop :]:
                self._since = 0.0
        if passes:
            self._passed, self._skipped = float(passes <= MOST_PASSES), 0
            if self._matches is not None:
                self._missed = self.distance(self._matches, tokens)
        else:
            self._skipped += 1
        self._last = tokens

    def distance(self, matches: Matches, tokens: tuple[int, ...] | None) -> float:
        """Returns the greatest distance of the nearest entry's motion from an answer's, bins.

        NaN if there is no answer, or if their tokens have no distance.
        """
        if tokens is None or len(tokens) != matches.tokens.shape[1]:
            return math.nan
        return self._apart(matches.tokens[0], tokens)

    def _apart(self, one: Sequence[int] | NDArray[np.int64], other: Sequence[int]) -> float:
        if not self._groups:
            return math.nan
        away = np.asarray(one)[self._motion] - np.asarray(other)[self._motion]
        return float(np.abs(away).max())
