"""Predicts that a draft passes in one pass, by a logistic fit on what is known before the step.

Steps come from the rows of a results file. They are split by episode, so that a step is judged by a
fit that has seen nothing of its episode. Sets of terms are fitted beside one another: what the
kinematic metric adds is the difference between the set with it and the set without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from heisd_ros.decoding.logistic import Logistic
from heisd_ros.decoding.terms import MOST_PASSES
from heisd_ros.decoding.types import Source
from heisd_ros.evaluation.accounting import Row, answered
from heisd_ros.sim.scene import CONTROL_RATE_HZ

TERMS = (
    "F",
    "speed",
    "acceleration",
    "similarity",
    "since gripper change",
    "last passed",
    "last skipped",
)
"""Known before a step is verified: the metric, the tip's speed (m/s) and acceleration (m/s^2), the
best entry's similarity, steps since the gripper changed, and the outcome of the previous step."""
SETS: Mapping[str, tuple[str, ...]] = {
    "F alone": ("F",),
    "speed alone": ("speed",),
    "similarity alone": ("similarity",),
    "kinematics (F, speed, acceleration)": ("F", "speed", "acceleration"),
    "all but F": TERMS[1:],
    "all but kinematics": TERMS[3:],
    "all": TERMS,
}
FOLDS = 5
_LONGEST = 40
"""Largest number of steps since a gripper change; larger ones are clipped."""
_VERIFIED = (Source.RETRIEVAL, Source.LAST_COMMAND, Source.DRAFTER)


@dataclass(frozen=True)
class Steps:
    """Steps whose draft was verified.

    Attributes:
        terms: [n, len(TERMS)]; NaN where a step has none.
        passed: [n] whether one pass was all that the step took.
        episode: [n] number of its episode.
    """

    terms: NDArray[np.float64]
    passed: NDArray[np.bool_]
    episode: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Steps:
        """The verified steps of some episodes.

        Raises:
            ValueError: There are too few episodes, or all steps went the same way.
        """
        terms, passed, episode = np.zeros((0, len(TERMS))), np.zeros(0, bool), np.zeros(0, np.int64)
        if rows:
            sources = np.array(list("".join(row["source"] for row in rows)))
            verified = np.isin(sources, [source.letter for source in _VERIFIED])
            verified &= np.concatenate([answered(row) for row in rows])
            passes = np.concatenate([row["passes"] for row in rows])
            numbers = np.repeat(np.arange(len(rows)), [row["steps"] for row in rows])
            terms = np.concatenate([_terms_of(row) for row in rows])[verified]
            passed, episode = (passes == 1)[verified], numbers[verified]
        found = cls(terms, passed, episode)
        if len(np.unique(found.episode)) < FOLDS or len(np.unique(found.passed)) < 2:
            raise ValueError(
                f"{len(found.passed)} verified steps of {len(rows)} episodes, "
                f"{int(found.passed.sum())} of them in one pass, cannot be told apart: at least "
                f"{FOLDS} episodes are needed, and steps of both kinds"
            )
        return found


class Foreseen(NamedTuple):
    """What fits say of steps whose episodes they have not seen.

    Attributes:
        chances: [n] that each step passes.
        auc: Mean over the folds of `auc`; 0.5 is no better than chance.
    """

    chances: NDArray[np.float64]
    auc: float


def foreseen(steps: Steps, terms: Sequence[str] = TERMS) -> Foreseen:
    """Judges steps by fits of some terms, each on the other folds' episodes."""
    columns = steps.terms[:, [TERMS.index(term) for term in terms]]
    return judged(columns, steps.passed, steps.episode)


def judged(
    columns: NDArray[np.float64],
    passed: NDArray[np.bool_],
    episode: NDArray[np.int64],
) -> Foreseen:
    """Judges steps by their terms, [n, d], each by a fit on the other folds' episodes."""
    episodes = np.unique(episode)
    fold_of = np.random.default_rng(0).permutation(len(episodes)) % FOLDS
    fold = fold_of[np.searchsorted(episodes, episode)]
    chances, areas = np.zeros(len(columns)), []
    for each in range(FOLDS):
        out = fold == each
        chances[out] = Logistic.fit(columns[~out], passed[~out])(columns[out])
        # Within a fold: between folds the share that passes differs, which nothing foresees.
        if len(np.unique(passed[out])) == 2:
            areas.append(auc(chances[out], passed[out]))
    return Foreseen(chances, float(np.mean(areas)) if areas else 0.5)


def auc(chances: NDArray[np.float64], passed: NDArray[np.bool_]) -> float:
    """Chance that a step that passes is given a greater one than a step that doesn't."""
    ranks, positive = rankdata(chances), int(passed.sum())
    wins = ranks[passed].sum() - positive * (positive + 1) / 2
    return float(wins / (positive * (len(passed) - positive)))


def reliability(
    chances: NDArray[np.float64], passed: NDArray[np.bool_], bins: int = 10
) -> list[tuple[float, float, int]]:
    """Mean chance, share that passed, and number of steps: of equally many steps each."""
    order = np.array_split(np.argsort(chances, kind="stable"), bins)
    return [
        (float(chances[part].mean()), float(passed[part].mean()), len(part))
        for part in order
        if len(part)
    ]


def foretold(rows: Sequence[Row]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns, of drafts that a predictor chose, the chance that it gave and whether they passed.

    Args:
        rows: episodes of a mode in which a predictor chooses; others add nothing.

    Returns:
        The chances, [n], and what happened, [n].
    """
    verified = {source.letter for source in _VERIFIED}
    steps = [
        (chance, passes <= MOST_PASSES)
        for row in rows
        for chance, passes, source in zip(
            row.get("chance", ()), row["passes"], row["source"], strict=False
        )
        if chance is not None and source in verified
    ]
    return np.array([said for said, _ in steps]), np.array([passed for _, passed in steps], bool)


def describe(rows: Sequence[Row]) -> dict[str, Any]:
    """The fit of some episodes, as `heisd predictor` prints and writes it.

    Returns:
        steps and passed, their number and share; recorded, the terms that any step has; auc of each
        of `SETS` that has a recorded term; weights of the fit of all of them, by term; reliability,
        [mean chance, share that passed, steps] by rising chance.

    Raises:
        ValueError: As `Steps.of`.
    """
    steps = Steps.of(rows)
    recorded = [name for i, name in enumerate(TERMS) if np.isfinite(steps.terms[:, i]).any()]
    sets = {name: [term for term in terms if term in recorded] for name, terms in SETS.items()}
    judged = foreseen(steps, recorded)
    fit = Logistic.fit(steps.terms[:, [TERMS.index(term) for term in recorded]], steps.passed)
    return {
        "steps": len(steps.passed),
        "passed": round(float(steps.passed.mean()), 4),
        "recorded": recorded,
        "auc": {
            name: round(foreseen(steps, terms).auc, 4) for name, terms in sets.items() if terms
        },
        "weights": dict(zip(recorded, fit.weights.round(4).tolist(), strict=True)),
        "reliability": [
            [round(chance, 4), round(share, 4), count]
            for chance, share, count in reliability(judged.chances, steps.passed)
        ],
    }


def _terms_of(row: Row) -> NDArray[np.float64]:
    """[steps, len(TERMS)] of an episode."""
    count = row["steps"]
    tips = np.array(row["tip_mm"], np.float64) / 1e3
    speed = np.concatenate([[0.0], np.linalg.norm(np.diff(tips, axis=0), axis=1) * CONTROL_RATE_HZ])
    gripper = np.full(count, float(_LONGEST))
    for changed in row["gripper_steps"]:
        gripper[changed:] = np.minimum(np.arange(count - changed), _LONGEST)
    passes, skipped = np.array(row["passes"]), np.array(list(row["source"])) == Source.SKIP.letter
    before = np.concatenate([[np.nan], (passes == 1)[:-1]])
    return np.column_stack(
        [
            [np.nan if value is None else value for value in row["metric"]],
            speed,
            np.concatenate([[0.0], np.diff(speed) * CONTROL_RATE_HZ]),
            [np.nan if value is None else value for value in row["similarity"]],
            gripper,
            np.where(np.concatenate([[False], skipped[:-1]]), np.nan, before),
            np.concatenate([[False], skipped[:-1]]),
        ]
    ).astype(np.float64)
