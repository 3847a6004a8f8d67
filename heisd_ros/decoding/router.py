"""Routes a step: which proposer drafts it, and whether what a search found may be executed.

F high: fast: retrieve -> trusted? execute : verify in the prefill
slow: verify the last command in the prefill
F low:  prefill -> draft -> verify
with a predicted boundary, `chooser` says which of these, by expected time
"""

from __future__ import annotations

import math
from typing import NamedTuple

from heisd_ros.decoding.boundary import Zone
from heisd_ros.decoding.chooser import Chooser, acceptance_rule
from heisd_ros.decoding.settings import AcceptanceRule, ModeSettings
from heisd_ros.decoding.skip import SkipContext, SkipDecision, SkipGate
from heisd_ros.decoding.types import Observation, Source
from heisd_ros.instructions import normalise_instruction
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.retrieval.database import EXACT, Matches, SearchableShard, Store

_ELSE = {"retrieval": Source.AUTOREGRESSIVE, "hybrid": Source.DRAFTER}
"""The proposer of these modes when the database is not searched; other modes have only one."""


class Route(NamedTuple):
    """Which proposer a step is routed to.

    Attributes:
        source: the proposer's source; without such a proposer the model decodes by itself.
        reason: explanation for the telemetry.
        shard: the shard that is searched for the step; None: none is.
        how: how the shard was found.
        chance: that the proposer's draft passes; None without a predictor.
    """

    source: Source
    reason: str
    shard: SearchableShard | None = None
    how: str = ""
    chance: float | None = None


class Router:
    """Decides before and after the search of a step.

    Args:
        mode: the parts in use and their settings.
        database: past frames of the same model; None: nothing is searched.
        gate: decides when a retrieved action is executed without verification.
        chooser: chooses between retrieval and drafting by a predictor; None: the zone does.

    Attributes:
        disagreed: the model disagreed with the last skipped step: the next is not skipped.
    """

    def __init__(
        self, mode: ModeSettings, database: Store | None, gate: SkipGate, chooser: Chooser | None
    ) -> None:
        self._mode, self._database = mode, database
        self._gate, self._chooser = gate, chooser
        self.disagreed = False

    def route(
        self, observation: Observation, zone: Zone | None, last: tuple[int, ...] | None
    ) -> Route:
        """Routes a step before the search.

        Args:
            observation: of the step.
            zone: of the metric; None: the mode does not use it.
            last: tokens of the previous step; None at an episode's start.
        """
        propose = self._mode.propose
        if not self._mode.retrieves or self._database is None:
            return Route(_ELSE.get(propose) or Source(propose), f"mode proposes by {propose}")
        if self._chooser is not None:
            return self._chosen(self._chooser, self._database, observation)
        reason = "mode always retrieves"
        if propose == "hybrid" and zone is not None:
            reason = zone.reason
            if not zone.retrieval:
                return Route(_ELSE[propose], reason)
        # Looked up at every step: a shard may grow, or arrive from the fleet, while the arm works.
        shard, how = self._database.shard_for(observation.instruction)
        if shard is None:
            return Route(_ELSE[propose], how)
        # In slow motion little changes from step to step: no entry is a better draft than the last
        # command, and none is executed.
        least, motion = self._mode.retrieval.speed, observation.motion
        if last is not None and motion is not None and motion.speed < least:
            slow = f"{reason}; last command: {motion.speed:.3f} m/s < {least:g}"
            return Route(Source.LAST_COMMAND, slow)
        return Route(Source.RETRIEVAL, reason, shard, how)

    def after_search(self, route: Route, found: SkipDecision) -> Route:
        """Routes a step that was searched and is not skipped.

        Args:
            route: as before the search.
            found: why nothing is executed without verification.
        """
        if self._chooser is None:
            return route._replace(reason=f"{route.reason}; {found.reason}")
        choice = self._chooser.after_search()
        return Route(choice.source, f"{found.reason}; {choice.reason}", chance=choice.chance)

    def may_skip(
        self,
        matches: Matches,
        route: Route,
        observation: Observation,
        last: tuple[int, ...] | None,
    ) -> SkipDecision:
        """Decides whether the nearest entry is executed without verification.

        Args:
            matches: the retrieved entries, best first.
            route: of the step; the entries are of its shard.
            observation: of the step.
            last: as in `route`.
        """
        shard = route.shard
        assert shard is not None, "entries were found"
        needed = self._chooser is not None or self._mode.skip.clearance
        clearance = shard.clearance(matches) if needed else math.inf
        harmless, because = math.nan, ""
        if self._chooser is not None:
            harmless, because = self._chooser.search(matches, clearance)
        if barred := self._barred(shard, route.how):
            self._gate.note_verified()
            return SkipDecision(False, False, f"no skip: {barred}")
        context = SkipContext(
            retrieval_zone=True,
            gripper=None if last is None else last[-1],
            clearance=clearance,
            speed=math.nan if observation.motion is None else observation.motion.speed,
            task=normalise_instruction(observation.instruction),
            harmless=harmless,
            because=because,
        )
        return self._gate.decide(matches, context)

    def rule(self, motion: MetricSample | None) -> AcceptanceRule | None:
        """Returns the acceptance rule of every draft in a motion; None: that of its proposer."""
        return None if self._chooser is None else acceptance_rule(self._mode, motion)

    def _chosen(self, chooser: Chooser, database: Store, observation: Observation) -> Route:
        """Routes a step by the predictor."""
        shard, how = database.shard_for(observation.instruction)
        speed = math.nan if observation.motion is None else observation.motion.speed
        skip = shard is not None and not self._barred(shard, how) and self._gate.may_skip(speed)
        choice = chooser.begin(observation.motion, shard is not None, skip)
        if shard is None or choice.source != Source.RETRIEVAL:
            return Route(choice.source, choice.reason, chance=choice.chance)
        return Route(choice.source, choice.reason, shard, how, choice.chance)

    def _barred(self, shard: SearchableShard, how: str) -> str:
        """Returns why no entry of a shard may be executed in this step; empty if one may."""
        if how != EXACT:
            # Similar words may mean something else. A wrong draft is rejected, a skip is not.
            return f"another instruction, {how}"
        if self.disagreed:
            return "the model disagreed with the last one"
        if shard.grown and (self._chooser is not None or self._gate.calibration is not None):
            # What was measured holds only for the entries that it was measured with.
            return "the calibration knows no added entries"
        return ""
