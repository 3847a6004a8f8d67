"""The fitted predictor of a mode, ``predictor.json``: chances by logistic fits, and measured costs.

It is fitted by `heisd calibrate --criterion predictor` and lies beside the database that it is of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from heisd_ros.decoding.logistic import Logistic
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.terms import TERMS
from heisd_ros.decoding.types import Source
from heisd_ros.errors import PredictorError
from heisd_ros.files.atomic import replace_text
from heisd_ros.files.bounded import read_object, shown
from heisd_ros.files.typed import typed, within

FILE = "predictor.json"
FORMAT = 1
SKIP, RETRIEVAL, LAST, DRAFTER = (
    str(source) for source in (Source.SKIP, Source.RETRIEVAL, Source.LAST_COMMAND, Source.DRAFTER)
)
BEFORE = " before the search"
"""Appended to a way's name: the same chance, from what is known before the database is searched."""
CHANCES = (SKIP, RETRIEVAL, LAST, DRAFTER, SKIP + BEFORE, RETRIEVAL + BEFORE)
WAYS = (RETRIEVAL, LAST, DRAFTER)
"""The ways of drafting a step that is verified."""
FIX = "run `heisd calibrate DATABASE --criterion predictor --mode MODE`"

Chance = Annotated[float, within(0.0, 1.0)]
Cost = Annotated[float, within(0.0, 1e6)]


@dataclass(frozen=True)
class Fit:
    """One chance, as a logistic model (`Logistic`) of some terms.

    Attributes:
        terms: names of the terms, of `TERMS`.
        mean: of each term.
        scale: its deviation.
        weights: log-odds that each adds, a deviation.
        offset: log-odds where all terms are at their mean.
        steps: steps that it was fitted to.
        share: share of them in which it happened.
        auc: area under the curve on episodes that a fit has not seen; 0.5 is no better than chance.
        reliability: chance that was said of steps of unseen episodes, share in which it happened,
            number of steps: by rising chance.

    Raises:
        PredictorError: the terms are unknown, or the lists are not of their number.
    """

    terms: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[Annotated[float, within(0.0)], ...]
    weights: tuple[float, ...]
    offset: float
    steps: Annotated[int, within(0)]
    share: Chance
    auc: Chance
    reliability: tuple[tuple[Chance, Chance, int], ...] = ()

    def __post_init__(self) -> None:
        """Checks the lists; raises PredictorError."""
        if unknown := sorted(set(self.terms) - set(TERMS)):
            raise PredictorError(f"terms {unknown} are unknown; accepted: {', '.join(TERMS)}")
        lengths = {len(values) for values in (self.terms, self.mean, self.scale, self.weights)}
        if len(lengths) > 1:
            raise PredictorError(
                f"{len(self.terms)} terms have {len(self.mean)} means, {len(self.scale)} scales "
                f"and {len(self.weights)} weights"
            )

    def __call__(self, terms: NDArray[np.float64]) -> float:
        """Returns the chance of a step with these terms, [len(TERMS)]."""
        return float(self._logistic(terms[self._columns]))

    def explain(self, terms: NDArray[np.float64]) -> str:
        """Returns the two terms that weigh most in a step, with the log-odds that each adds."""
        added = self._logistic.contributions(terms[self._columns])
        heaviest = np.argsort(-np.abs(added), kind="stable")[:2]
        return ", ".join(f"{self.terms[i]} {added[i]:+.1f}" for i in heaviest)

    @cached_property
    def _columns(self) -> list[int]:
        return [TERMS.index(term) for term in self.terms]

    @cached_property
    def _logistic(self) -> Logistic:
        mean, scale, weights = map(np.array, (self.mean, self.scale, self.weights))
        return Logistic(mean, scale, weights, self.offset)


@dataclass(frozen=True)
class Costs:
    """What the parts of a step cost, ms.

    Attributes:
        step: what every verified step takes besides the other parts, vision above all.
        language: a pass of the language model.
        search: a search of the database, and what its longer draft adds to the pass.
        drafter: the drafter's tree.
        skip: a whole step that is executed without verification.
    """

    step: Cost
    language: Cost
    search: Cost
    drafter: Cost
    skip: Cost


@dataclass(frozen=True)
class Predictor:
    """Chances and costs from which the cheapest way of a step is chosen.

    Attributes:
        chances: by `CHANCES`: that the nearest entry is harmless to execute (no token further from
            the model's own than `skip.agree` bins, the gripper equal), and that a draft of each way
            passes (`MOST_PASSES`).
        passes: mean passes of a step by each of `WAYS`: where its draft passes, where it does not.
        costs: milliseconds.
        settings: those of the mode that decide how its drafts fare, by `bound_settings`.
        database_id: the database whose entries were judged.
        model_fingerprint: the model that judged.
        drafter: SHA-256 of the drafter's weights; None: the mode has none.
        suite: simulation suite of the episodes.
        starts: task, initial state and variation of the start of each episode.
        created: time of creation, ISO 8601, UTC.

    Raises:
        PredictorError: a chance or a way is missing.
    """

    chances: Mapping[str, Fit]
    passes: Mapping[str, tuple[Cost, Cost]]
    costs: Costs
    settings: Mapping[str, Any]
    database_id: str
    model_fingerprint: str
    drafter: str | None
    suite: str
    starts: tuple[tuple[int, int, int], ...]
    created: str

    def __post_init__(self) -> None:
        """Checks that nothing is missing; raises PredictorError."""
        for name, found, needed in (
            ("chances", self.chances, CHANCES),
            ("passes", self.passes, WAYS),
        ):
            if missing := [key for key in needed if key not in found]:
                raise PredictorError(f"{name} of {missing} are missing")

    def cost(self, way: str, chance: float) -> float:
        """Returns the expected time of a step, ms, without the search, whose draft may pass."""
        hit, miss = self.passes[way]
        extra = self.costs.drafter if way == DRAFTER else 0.0
        passes = chance * hit + (1.0 - chance) * miss
        return self.costs.step + self.costs.language * passes + extra

    def check(
        self, database_id: str, model_fingerprint: str, drafter: str | None, mode: ModeSettings
    ) -> None:
        """Checks that this predictor was fitted for a database, a model, a drafter and a mode.

        Raises:
            PredictorError: it was fitted for others.
        """
        for what, own, other in (
            ("database", self.database_id, database_id),
            ("model", self.model_fingerprint, model_fingerprint),
            ("drafter", self.drafter or "", drafter or ""),
        ):
            if own != other:
                raise PredictorError(
                    f"the predictor of {self.created} is of the {what} {own[:12]!r}, but the "
                    f"{what} in use is {other[:12]!r}: it was rebuilt or replaced since; {FIX}"
                )
        own_settings, used = dict(self.settings), bound_settings(mode)
        differ = [
            f"{name} is {used.get(name)!r}, fitted was {own_settings.get(name)!r}"
            for name in sorted({*own_settings, *used})
            if own_settings.get(name) != used.get(name)
        ]
        if differ:
            raise PredictorError(
                f"the predictor of {self.created} is of other settings than the mode's: "
                f"{'; '.join(differ)}; {FIX}"
            )

    def save(self, folder: str | Path) -> Path:
        """Writes ``predictor.json`` into a database's folder atomically."""
        path = Path(folder) / FILE
        replace_text(path, json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")
        return path

    @classmethod
    def load(cls, folder: str | Path) -> Predictor:
        """Reads the predictor of a database.

        Raises:
            PredictorError: there is none, or it is damaged.
        """
        path = Path(folder) / FILE
        if not path.exists():
            raise PredictorError(f"no predictor {path}; {FIX}")
        values = read_object(path, lambda problem: PredictorError(f"{problem}; {FIX}"))
        if (found := values.pop("format", None)) != FORMAT:
            raise PredictorError(f"{path}: format is {shown(found)}; accepted: {FORMAT}; {FIX}")
        try:
            read: Predictor = typed(cls, values)
        except (ValueError, PredictorError) as error:
            raise PredictorError(f"{path} is no predictor: {error}; {FIX}") from error
        return read


def bound_settings(mode: ModeSettings) -> dict[str, Any]:
    """Returns the settings of a mode that decide how its drafts fare, by dotted name.

    How often it skips does not; what counts as harmless, `skip.agree`, does.
    """
    return {
        name: value
        for name, value in mode.decisive().items()
        if not name.startswith("skip.") or name == "skip.agree"
    }
