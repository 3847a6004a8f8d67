"""Fits the predictor of a mode to probed steps, and its costs to measured times."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timezone
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from heisd_ros.decoding.logistic import Logistic
from heisd_ros.decoding.predictor import (
    BEFORE,
    CHANCES,
    RETRIEVAL,
    SKIP,
    WAYS,
    Costs,
    Fit,
    Predictor,
    bound_settings,
)
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.terms import MOST_PASSES, TERMS, UNSEEN
from heisd_ros.decoding.types import Source
from heisd_ros.errors import PredictorError
from heisd_ros.evaluation.accounting import Row, start_of
from heisd_ros.evaluation.pass_predictor import FOLDS, Foreseen, judged, reliability
from heisd_ros.evaluation.predictor_rig import FittedParts
from heisd_ros.evaluation.predictor_steps import COLUMNS, ProbedEpisodes


def terms_of(name: str) -> tuple[str, ...]:
    """Returns the terms that a chance may be fitted to: what is known when it is asked for."""
    return TERMS if name in (SKIP, RETRIEVAL) else UNSEEN


@dataclass(frozen=True)
class Probed:
    """Steps at which every way was tried.

    Attributes:
        table: [n, len(COLUMNS)]; NaN where a step has none.
        episode: [n] number of its episode.
        agree: greatest distance of a harmless entry from the model's own answer, bins.
    """

    table: NDArray[np.float64]
    episode: NDArray[np.int64]
    agree: int

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """Returns a column by its name, [n]."""
        return self.table[:, COLUMNS.index(name)]

    def outcome(self, name: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Returns what a chance is of: whether it happened, and whether it was tried; [n] each."""
        way = name.removesuffix(BEFORE)
        if way == SKIP:
            harmless = (self["away"] <= self.agree) & (self["gripper"] == 1.0)
            return harmless, np.isfinite(self["away"])
        return self[way] <= MOST_PASSES, np.isfinite(self[way])


class Fitted(NamedTuple):
    """A chance, and what its fits say of steps whose episodes they have not seen.

    Attributes:
        fit: of all steps.
        chances: [n], NaN where the way was not tried.
    """

    fit: Fit
    chances: NDArray[np.float64]


def fit_chance(steps: Probed, name: str, without: Collection[str] = ()) -> Fitted:
    """Fits a chance, of `CHANCES`.

    Args:
        steps: the steps.
        name: of the chance.
        without: terms that are left out.

    Raises:
        PredictorError: there are too few episodes, or all steps went the same way.
    """
    terms = [term for term in terms_of(name) if term not in without]
    happened, tried = steps.outcome(name)
    columns = steps.table[:, [COLUMNS.index(term) for term in terms]][tried]
    happened, episode = happened[tried], steps.episode[tried]
    if len(np.unique(episode)) < FOLDS or len(np.unique(happened)) < 2:
        raise PredictorError(
            f"{name}: {len(happened)} steps of {len(np.unique(episode))} episodes, in "
            f"{int(happened.sum())} of which it happened, cannot be told apart: at least {FOLDS} "
            "episodes are needed, and steps of both kinds"
        )
    seen: Foreseen = judged(columns, happened, episode)
    logistic = Logistic.fit(columns, happened)
    fit = Fit(
        terms=tuple(terms),
        mean=_rounded(logistic.mean),
        scale=_rounded(logistic.scale),
        weights=_rounded(logistic.weights),
        offset=round(logistic.offset, 6),
        steps=len(happened),
        share=round(float(happened.mean()), 4),
        auc=round(seen.auc, 4),
        reliability=tuple(
            (round(chance, 4), round(share, 4), count)
            for chance, share, count in reliability(seen.chances, happened)
        ),
    )
    chances = np.full(len(tried), np.nan)
    chances[tried] = seen.chances
    return Fitted(fit, chances)


def fit_predictor(
    episodes: ProbedEpisodes, mode: ModeSettings, parts: FittedParts, costs: Costs
) -> Predictor:
    """Fits the predictor of a mode.

    Args:
        episodes: Episodes with every way tried.
        mode: The mode.
        parts: What the predictor is bound to.
        costs: What the parts of a step cost.

    Raises:
        PredictorError: As `fit_chance`.
    """
    steps = Probed(*episodes.steps(), mode.skip.agree)
    rows = episodes.rows
    return Predictor(
        chances={name: fit_chance(steps, name).fit for name in CHANCES},
        passes={way: mean_passes(steps, way) for way in WAYS},
        costs=costs,
        settings=bound_settings(mode),
        **vars(parts),
        suite=rows[0]["suite"],
        starts=tuple(start_of(row) for row in rows),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def mean_passes(steps: Probed, way: str) -> tuple[float, float]:
    """Returns the mean passes of a way where its draft passes, and where it does not."""
    happened, tried = steps.outcome(way)
    hit, miss = steps[way][tried & happened], steps[way][tried & ~happened]
    return round(float(hit.mean()), 4), round(float(miss.mean()), 4)


def costs_of(rows: Sequence[Row]) -> Costs:
    """Fits what the parts of a step cost to the times of steps, as medians by source and passes.

    Args:
        rows: Episodes of any modes, from one run on one machine. Steps without a draft do not
            count: their passes are over one token, and shorter.

    Raises:
        PredictorError: The steps do not tell the parts apart.
    """
    times: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        for source, passes, ms in zip(row["source"], row["passes"], row["ms"], strict=True):
            times.setdefault((source, passes), []).append(ms)
    skipped = times.pop((Source.SKIP.letter, 0), [])
    drafted = [source.letter for source in map(Source, WAYS)]
    verified = {key: values for key, values in times.items() if key[0] in drafted}
    if len({passes for _, passes in verified}) < 2:
        raise PredictorError(
            f"{sum(map(len, verified.values()))} verified steps do not tell what a pass costs: "
            "steps of one pass and of more are needed"
        )
    parts = [
        [1.0, passes, source == Source.RETRIEVAL.letter, _drafted(source, passes)]
        for source, passes in verified
    ]
    heavy = np.sqrt([len(values) for values in verified.values()])
    medians = np.array([float(np.median(values)) for values in verified.values()])
    step, language, search, drafter = nnls(np.array(parts) * heavy[:, None], medians * heavy)[0]
    skip = float(np.median(skipped)) if skipped else step + search
    return Costs(*(round(float(ms), 3) for ms in (step, language, search, drafter, skip)))


def _drafted(source: str, passes: int) -> bool:
    """Whether the drafter ran: not where what was drafted in the prefill was all."""
    return source == Source.DRAFTER.letter and passes > 1


def describe_costs(costs: Costs) -> str:
    """Returns the costs in one line."""
    step, language, search, drafter, skip = astuple(costs)
    return (
        f"a verified step {step:.1f} ms, each pass {language:.1f}, a search {search:.1f}, the "
        f"drafter {drafter:.1f}; a skipped step {skip:.1f}"
    )


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)
