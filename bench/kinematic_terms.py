"""By how much chances are foreseen worse without kinematic terms, with intervals over episodes.

    python bench/kinematic_terms.py DATABASE/predictor_run.json --json F

The steps are those of a fit (`heisd calibrate --criterion predictor`), at which every way was
tried. Chances are those of fits that have not seen the step's episode. Areas under the curve are
over all steps together; `heisd predictor` gives the mean of those within the folds. Beside them
are the share of harmless entries, and the mean passes of each way.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from heisd_ros.decoding.modes import load_mode
from heisd_ros.decoding.predictor import SKIP, WAYS
from heisd_ros.evaluation.pass_predictor import auc
from heisd_ros.evaluation.predictor_ablation import WITHOUT
from heisd_ros.evaluation.predictor_fit import Probed, fit_chance
from heisd_ros.evaluation.predictor_steps import ProbedEpisodes

RESAMPLES = 1000


def losses(steps: Probed, name: str) -> dict[str, list[float]]:
    """Returns, by what is left out, the area that is lost and its 95% interval."""
    happened, tried = steps.outcome(name)
    every, *others = WITHOUT
    chances = {each: fit_chance(steps, name, WITHOUT[each]).chances for each in WITHOUT}
    rows = [np.flatnonzero(tried & (steps.episode == n)) for n in np.unique(steps.episode)]
    rows = [each for each in rows if len(each)]
    random = np.random.default_rng(0)
    draws = [np.concatenate(rows)]
    while len(draws) <= RESAMPLES:
        drawn = np.concatenate([rows[n] for n in random.integers(0, len(rows), len(rows))])
        if 0 < happened[drawn].sum() < len(drawn):
            draws.append(drawn)
    areas = {
        each: np.array([auc(chances[each][drawn], happened[drawn]) for drawn in draws])
        for each in WITHOUT
    }
    found = {}
    for each in others:
        lost = areas[every] - areas[each]
        interval = np.percentile(lost[1:], (2.5, 97.5))
        found[each] = [round(float(value), 4) for value in (lost[0], *interval)]
    return found


def main() -> None:
    """Prints and writes the losses of all steps, of fast and of slow ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="predictor_run.json beside a database")
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    episodes, mode = ProbedEpisodes.read(given.file), load_mode("heisd_predicted")
    steps = Probed(*episodes.steps(), mode.skip.agree)
    fast = steps["speed"] >= mode.retrieval.speed
    result: dict[str, object] = {"episodes": len(episodes.rows)}
    for part, chosen in (("all", fast | True), ("fast", fast), ("slow", ~fast)):
        some = Probed(steps.table[chosen], steps.episode[chosen], steps.agree)
        result[part] = {
            "steps": len(some.table),
            "harmless": round(float(some.outcome(SKIP)[0].mean()), 4),
            "passes": {way: round(float(np.nanmean(some[way])), 3) for way in WAYS},
            "lost": {name: losses(some, name) for name in (SKIP, *WAYS)},
        }
        print(part, json.dumps(result[part], indent=1))
    given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
