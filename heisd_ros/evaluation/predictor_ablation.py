"""What a predictor's choices would cost, and what its kinematic terms add, on steps not seen.

Every way was tried at every step, so the time of any choice is known: its real passes, and the
measured cost of a pass. Chances are those of fits that have not seen the step's episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heisd_ros.decoding.predictor import (
    BEFORE,
    CHANCES,
    DRAFTER,
    LAST,
    RETRIEVAL,
    SKIP,
    WAYS,
    Costs,
)
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.terms import KINEMATIC
from heisd_ros.decoding.types import Source
from heisd_ros.evaluation.predictor_fit import Probed, fit_chance, mean_passes

PAPER = ("F", "path", "radius")
"""The terms of the paper's metric."""
WITHOUT: Mapping[str, tuple[str, ...]] = {
    "all terms": (),
    "without F, path and radius": PAPER,
    "without any kinematic term": KINEMATIC,
}


_WAY_OF = {Source(way).letter: way for way in (SKIP, *WAYS)} | {
    Source.AUTOREGRESSIVE.letter: DRAFTER
}


class Modelled(NamedTuple):
    """A way of choosing, over all steps.

    Attributes:
        ms: Mean time of a step.
        skipped: Share of the steps that are not verified.
        harmful: Share of those whose entry was not harmless.
        passes: Mean passes of a step.
        ways: Share of the steps by way.
    """

    ms: float
    skipped: float
    harmful: float
    passes: float
    ways: dict[str, float]


def ablation(steps: Probed, mode: ModeSettings, costs: Costs, acted: str = "") -> dict[str, Any]:
    """Returns, by `WITHOUT`, the area under the curve of each chance and the modelled choices.

    Since the acceptance rule follows the speed, a kinematic term may only tell which rule there is.
    So the areas of fits of fast motion alone, where there is one rule, are beside the others.

    Each way of drafting alone, without skips, is beside them, and the mode that acted.

    Args:
        steps: The steps.
        mode: The mode.
        costs: Of the parts of a step.
        acted: The letter of each step's source, in order; empty: not known.

    Raises:
        PredictorError: The steps are too few.
    """
    found: dict[str, Any] = {"auc": {}, "auc in fast motion": {}, "modelled": {}}
    fast = steps["speed"] >= mode.retrieval.speed
    of_one_rule = Probed(steps.table[fast], steps.episode[fast], steps.agree)
    for label, without in WITHOUT.items():
        fitted = {name: fit_chance(steps, name, without) for name in CHANCES}
        found["auc"][label] = {name: each.fit.auc for name, each in fitted.items()}
        found["auc in fast motion"][label] = {
            name: fit_chance(of_one_rule, name, without).fit.auc for name in CHANCES
        }
        chances = {name: each.chances for name, each in fitted.items()}
        found["modelled"][label] = chosen(steps, chances, mode, costs)._asdict()
    for way in WAYS:
        found["modelled"][f"always {way}"] = _modelled(
            steps, np.full(len(steps.table), way), way == RETRIEVAL, costs
        )._asdict()
    if acted:
        ways = np.array([_WAY_OF[letter] for letter in acted])
        found["modelled"]["the mode that acted"] = _modelled(
            steps, ways, ways == RETRIEVAL, costs
        )._asdict()
    return found


def chosen(
    steps: Probed, chances: Mapping[str, NDArray[np.float64]], mode: ModeSettings, costs: Costs
) -> Modelled:
    """Returns what the choices by some chances cost, by the rules of `Chooser` and `SkipGate`.

    Of the gate's, those that a probed step cannot tell are left out, so this skips more than it
    does: an entry once an episode, equal grippers of all entries, none after a disagreement.

    Args:
        steps: The steps, in order.
        chances: By `CHANCES`, [n] each; NaN where the way was not tried.
        mode: Its settings of skipping.
        costs: Of the parts of a step.
    """
    passes = {way: mean_passes(steps, way) for way in WAYS}

    def cost(way: str, chance: NDArray[np.float64]) -> NDArray[np.float64]:
        expected = costs.step + costs.language * (
            chance * passes[way][0] + (1.0 - chance) * passes[way][1]
        )
        expected = expected + (costs.drafter if way == DRAFTER else 0.0)
        return np.where(np.isfinite(chance), expected, np.inf)

    plain = np.stack([cost(way, chances[way]) for way in (LAST, DRAFTER)])
    skip = mode.skip
    fast = steps["speed"] >= skip.speed if skip.speed else np.ones(len(steps.table), bool)
    found = np.minimum(cost(RETRIEVAL, chances[RETRIEVAL + BEFORE]), plain.min(axis=0))
    after = np.vstack([plain, cost(RETRIEVAL, chances[RETRIEVAL])[None]])
    names = np.array([LAST, DRAFTER, RETRIEVAL])
    ways, searched = names[after.argmin(axis=0)], np.zeros(len(steps.table), bool)
    in_a_row, episode = 0, -1
    for i in range(len(steps.table)):
        if steps.episode[i] != episode:
            in_a_row, episode = 0, steps.episode[i]
        may = fast[i] and in_a_row < skip.max_consecutive
        harmless = chances[SKIP + BEFORE][i] if may else 0.0
        search = costs.search + harmless * costs.skip + (1.0 - harmless) * found[i]
        searched[i] = search <= plain[:, i].min()
        if not searched[i]:
            ways[i] = names[plain[:, i].argmin()]
        clear = steps["until gripper change"][i] >= skip.clearance
        skips = searched[i] and may and clear and chances[SKIP][i] >= skip.chance
        ways[i], in_a_row = (SKIP, in_a_row + 1) if skips else (ways[i], 0)
    return _modelled(steps, ways, searched, costs)


def _modelled(
    steps: Probed,
    ways: NDArray[np.str_],
    searched: NDArray[np.bool_] | bool,
    costs: Costs,
) -> Modelled:
    """Returns what given ways cost; a way that was not tried at a step counts as the drafter."""
    passes = np.zeros(len(ways))
    for way in WAYS:
        tried = np.where(np.isfinite(steps[way]), steps[way], steps[DRAFTER])
        passes = np.where(ways == way, tried, passes)
    skipped = ways == SKIP
    verified = costs.step + costs.language * passes + costs.search * searched
    verified = verified + costs.drafter * ((ways == DRAFTER) & (passes > 1))
    harmless, _ = steps.outcome(SKIP)
    return Modelled(
        ms=round(float(np.where(skipped, costs.skip, verified).mean()), 2),
        skipped=round(float(skipped.mean()), 4),
        harmful=round(float(1.0 - harmless[skipped].mean()), 4) if skipped.any() else 0.0,
        passes=round(float(passes.mean()), 3),
        ways={way: round(float((ways == way).mean()), 4) for way in (SKIP, *WAYS)},
    )
