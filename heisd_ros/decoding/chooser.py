"""Chooses the way of each step whose expected time is the shortest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from heisd_ros.decoding.predictor import BEFORE, DRAFTER, LAST, RETRIEVAL, SKIP, Predictor
from heisd_ros.decoding.settings import AcceptanceRule, ModeSettings
from heisd_ros.decoding.terms import StepTerms
from heisd_ros.decoding.types import Source
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.retrieval.database import Matches


class Choice(NamedTuple):
    """A way of drafting, and why.

    Attributes:
        source: the proposer; without one the model decodes by itself.
        reason: explanation for the telemetry: expected times, and what weighs most.
        chance: that its draft passes; for a search before it was made, that it will.
    """

    source: Source
    reason: str
    chance: float | None = None


class Chooser:
    """Chooses by a predictor, step by step.

    A step is `begin`, then `search` where the database was searched, then `end`.

    Args:
        predictor: chances and costs.
        groups: `AnswerFormat.groups` of the model.
        sources: of the proposers that there are.
    """

    def __init__(
        self, predictor: Predictor, groups: Sequence[range], sources: Collection[Source]
    ) -> None:
        self._predictor = predictor
        self._drafts = Source.DRAFTER in sources
        self._tracked = StepTerms(groups)
        self.reset()

    def reset(self) -> None:
        """Forgets the episode."""
        self._tracked.reset()
        self._terms = self._tracked.begin(None)
        self._ways: dict[str, float] = {}
        self._started = False

    def begin(self, motion: MetricSample | None, search: bool, skip: bool) -> Choice:
        """Chooses what is known before the search: search, last command or drafter.

        Args:
            motion: the metric of the step; None: unknown.
            search: whether there is a shard to search.
            skip: whether what is found may be executed without verification.
        """
        self._terms = self._tracked.begin(motion)
        names = [LAST] if self._started else []
        names += [DRAFTER] if self._drafts else []
        self._ways = {name: self._chance(name) for name in names}
        costs = {name: self._cost(name) for name in names}
        if search:
            passes = self._chance(RETRIEVAL + BEFORE)
            costs[RETRIEVAL] = self._predictor.cost(RETRIEVAL, passes)
            harmless = self._chance(SKIP + BEFORE) if skip else 0.0
            found = min(costs.values())
            costs[RETRIEVAL] = self._predictor.costs.search + (
                harmless * self._predictor.costs.skip + (1.0 - harmless) * found
            )
            self._ways[RETRIEVAL] = passes
        return self._cheapest(costs, BEFORE)

    def search(self, matches: Matches, clearance: float) -> tuple[float, str]:
        """Takes what a search found; returns the chance that the nearest entry is harmless.

        Args:
            matches: the retrieved entries, best first.
            clearance: as in `StepTerms.search`.

        Returns:
            The chance, and the terms that weigh most in it.
        """
        self._terms = self._tracked.search(self._terms, matches, clearance)
        self._ways[RETRIEVAL] = self._chance(RETRIEVAL)
        return self._chance(SKIP), self._predictor.chances[SKIP].explain(self._terms)

    def after_search(self) -> Choice:
        """Chooses how to draft a step that was searched and is not skipped."""
        return self._cheapest({name: self._cost(name) for name in self._ways})

    def end(self, tokens: tuple[int, ...], passes: int) -> None:
        """Takes what was executed, and how many passes of the language model it took."""
        self._tracked.end(tokens, passes)
        self._started = True

    def _chance(self, name: str) -> float:
        return self._predictor.chances[name](self._terms)

    def _cost(self, way: str) -> float:
        return self._predictor.cost(way, self._ways[way])

    def _cheapest(self, costs: dict[str, float], kind: str = "") -> Choice:
        if not costs:
            return Choice(Source.AUTOREGRESSIVE, "nothing to draft from")
        best = min(costs, key=lambda name: costs[name])
        fit = self._predictor.chances[best + kind if best == RETRIEVAL else best]
        others = ", ".join(
            f"{name} {cost:.1f}" for name, cost in sorted(costs.items()) if name != best
        )
        reason = (
            f"predicted: {best} {costs[best]:.1f} ms, passes with {self._ways[best]:.2f} "
            f"[{fit.explain(self._terms)}]{'; ' if others else ''}{others}"
        )
        return Choice(Source(best), reason, self._ways[best])


def acceptance_rule(mode: ModeSettings, motion: MetricSample | None) -> AcceptanceRule:
    """Returns the rule by which a mode with a predicted boundary accepts drafts in a motion.

    In slow motion a difference within the bounds can hold the arm for good, whoever drafts, so the
    rule is no matter of cost: it follows from the speed alone.
    """
    fast = motion is not None and motion.speed >= mode.retrieval.speed
    return mode.retrieval.accept if fast else mode.drafter.accept
