"""HeiSD: one control step from an observation to an answer, drafted by retrieval or by a drafter.

    vision -> F high: fast: retrieve -> trusted? execute : verify in the prefill
                      slow: verify the last command in the prefill
              F low:  prefill -> draft -> verify
           (with a predicted boundary: `chooser` says which of these, by expected time)
           -> what is not accepted is decoded by the model itself
    before it, of a model that reasons: F high -> the last reasoning as prefix, the action decoded

Each mode of ``config/modes`` is this decoder with other settings. Parts that a mode does not use
cost nothing: without a proposer it is the plain autoregressive loop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heisd_ros.decoding.acceptance import within_tolerance
from heisd_ros.decoding.answer_actions import action_of, answer_of, padded
from heisd_ros.decoding.boundary import Boundary, Zone
from heisd_ros.decoding.chooser import Chooser, acceptance_rule
from heisd_ros.decoding.perception import Perceived, perceive
from heisd_ros.decoding.proposers import Proposer, Step
from heisd_ros.decoding.redraft import REDRAFT_ROOM, redraft
from heisd_ros.decoding.route import Route
from heisd_ros.decoding.settings import AcceptanceRule, ModeSettings
from heisd_ros.decoding.skip import SkipContext, SkipDecision, SkipGate
from heisd_ros.decoding.stopwatch import Stopwatch
from heisd_ros.decoding.thinking import Thinking
from heisd_ros.decoding.tree import NO_DRAFT, DraftTree
from heisd_ros.decoding.types import Observation, Settled, Source, StepResult, VerifiedFrame
from heisd_ros.decoding.verifier import Verification
from heisd_ros.instructions import normalise_instruction
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.retrieval.database import EXACT, Matches, SearchableShard, Store
from heisd_ros.vla.token_model import TokenModel

_ELSE = {"retrieval": Source.AUTOREGRESSIVE, "hybrid": Source.DRAFTER}
"""The proposer of these modes when the database is not searched; other modes have only one."""


@dataclass(frozen=True)
class _Skipped:
    """A step that was executed without verification, which is deferred until the arm moves."""

    seen: Perceived
    tokens: tuple[int, ...]


class HybridDecoder:
    """Speculative decoding in one mode.

    Args:
        vla: the model that verifies.
        mode: the parts in use and their settings.
        database: past frames of the same model; needed by modes that retrieve.
        proposers: by source, see `proposers_of`; a step whose proposer is missing is decoded by the
            model itself.
        gate: decides when a retrieved action is executed without verification.
        boundary: chooses between retrieval and drafting, and between keeping a reasoning and
            decoding it; needed by modes that use the metric.
        chooser: chooses between retrieval and drafting in its place, by a predictor.
        allow_unknown: accept instructions that the model was not trained on.
        keep_frames: return with each verified step what may be kept of it (`StepResult.frame`).

    Raises:
        ModeError: the mode keeps reasonings, and answers of the model hold none.
    """

    def __init__(
        self,
        vla: TokenModel,
        mode: ModeSettings,
        *,
        database: Store | None,
        proposers: Mapping[Source, Proposer],
        gate: SkipGate,
        boundary: Boundary | None,
        chooser: Chooser | None = None,
        allow_unknown: bool = False,
        keep_frames: bool = False,
    ) -> None:
        self.vla, self.mode = vla, mode
        self.database, self.proposers = database, proposers
        self.gate, self.boundary, self.chooser = gate, boundary, chooser
        self._allow_unknown, self._keep_frames = allow_unknown, keep_frames
        self._thinking = Thinking(mode.reasoning, vla.codec)
        self._last: tuple[int, ...] | None = None
        self._deferred: _Skipped | None = None
        self._disagreed = False

    def warning(self) -> str:
        """Returns why a mode that should skip does not; empty while all is well."""
        return self.gate.warning

    def reset(self, success: bool | None = None) -> None:
        """Forgets the episode; its outcome may loosen or tighten the skipping."""
        self.gate.reset(success)
        if self.boundary is not None:
            self.boundary.reset()
        self._thinking.reset()
        if self.chooser is not None:
            self.chooser.reset()
        self._last = self._deferred = None
        self._disagreed = False

    @torch.inference_mode()
    def infer(self, observation: Observation) -> StepResult:
        """Decodes one action; raises what `TokenModel.encode` raises."""
        watch = Stopwatch(self.vla.device)
        self._deferred = None
        if self._last is not None and (reason := self.gate.hold()):
            return self._result(
                self._last, source=Source.SKIP, reason=reason, watch=watch, passes=0
            )
        zone = None if self.boundary is None else self.boundary.update(observation.motion)
        kept, thought = self._thinking.decide(observation.instruction, zone, observation.after_hold)
        seen = perceive(self.vla, observation, watch=watch, allow_unknown=self._allow_unknown)
        if kept:
            return self._act_on(kept, thought, seen, watch)
        route, matches = self._route(observation, zone), None
        reason = f"{route.reason}; {thought}" if thought else route.reason
        chance = route.chance
        if route.shard is not None:
            matches = self.retrieve(route.shard, seen.features)
            decision = self._may_skip(matches, route.shard, route.how, observation)
            watch.lap("retrieval")
            reason = f"{reason}; {decision.reason}"
            if decision.skip:
                return self._skip(matches, reason, decision, seen, watch)
            if self.chooser is not None:
                choice = self.chooser.after_search()
                route = route._replace(source=choice.source)
                reason, chance = f"{decision.reason}; {choice.reason}", choice.chance
        else:
            self.gate.note_verified()
        step = Step(self.vla.prompt(*seen), self._last, matches)
        verification, source = self.decode(
            step, self.proposers.get(route.source), watch, self._rule(observation.motion)
        )
        self._thinking.note(verification.tokens)
        if matches is not None:
            self.gate.observe_verified(matches, tuple(verification.tokens))
        return self._result(
            tuple(verification.tokens),
            source=source,
            reason=reason,
            watch=watch,
            passes=verification.passes,
            accepted=verification.accepted if source != Source.AUTOREGRESSIVE else None,
            similarity=None if matches is None else float(matches.similarity[0]),
            frame=self._frame(seen.features, verification),
            chance=chance,
        )

    @torch.inference_mode()
    def settle(self) -> Settled | None:
        """Verifies the step that was just executed without it, if verification was deferred."""
        skipped, self._deferred = self._deferred, None
        if skipped is None:
            return None
        watch = Stopwatch(self.vla.device)
        verified = self.verified_tokens(skipped.seen, skipped.tokens)
        agrees = within_tolerance(skipped.tokens, verified, self.vla.codec)
        if self.chooser is not None:
            # By what the predictor says of a skip.
            agrees = self.gate.near(skipped.tokens, verified)
        self.gate.observe_shadow(agrees)
        # After a disagreement the next command is the model's own, on a new observation.
        self._disagreed = not agrees
        watch.lap("verify")
        return Settled(watch.timings_ms()["total"], agrees)

    def verified_tokens(self, seen: Perceived, draft: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the model's own greedy tokens; the draft only makes this faster."""
        tree = DraftTree.from_chains([draft])
        prompt = self.vla.prompt(*seen)
        verification = Verification.start(self.vla.engine, prompt, tree, "exact", REDRAFT_ROOM)
        while not verification.finished:
            verification.advance(redraft(verification, tree, "exact"), "exact")
        return tuple(verification.tokens)

    def _act_on(
        self, kept: tuple[int, ...], reason: str, seen: Perceived, watch: Stopwatch
    ) -> StepResult:
        """Decodes what follows a kept reasoning, or all of it if that action is not to be used."""
        self.gate.note_verified()
        prompt, source = self.vla.prompt(*seen), Source.KEPT
        last = self.proposers.get(Source.LAST_COMMAND)
        ids = torch.tensor([kept], device=self.vla.device)
        begun = prompt.followed_by(self.vla.embed_tokens(ids), ids)
        verification, _ = self.decode(Step(begun, self._last, None), last, watch)
        passes = verification.passes
        if problem := self._thinking.problem(verification.tokens):
            reason, kept = f"{reason}; decoded again: {problem}", ()
            whole = Step(prompt, self._last, None)
            verification, source = self.decode(whole, last, watch)
            passes += verification.passes
        self._thinking.note(verification.tokens, kept)
        return self._result(
            tuple(verification.tokens),
            source=source,
            reason=reason,
            watch=watch,
            passes=passes,
            accepted=verification.accepted,
            frame=None if kept else self._frame(seen.features, verification),
        )

    def _route(self, observation: Observation, zone: Zone | None) -> Route:
        propose = self.mode.propose
        if not self.mode.retrieves or self.database is None:
            return Route(_ELSE.get(propose) or Source(propose), f"mode proposes by {propose}")
        if self.chooser is not None:
            return self._chosen(self.chooser, self.database, observation)
        reason = "mode always retrieves"
        if propose == "hybrid" and zone is not None:
            reason = zone.reason
            if not zone.retrieval:
                return Route(_ELSE[propose], reason)
        # Looked up at every step: a shard may grow, or arrive from the fleet, while the arm works.
        shard, how = self.database.shard_for(observation.instruction)
        if shard is None:
            return Route(_ELSE[propose], how)
        if slow := self._too_slow_to_search(observation.motion):
            return Route(Source.LAST_COMMAND, f"{reason}; last command: {slow}")
        return Route(Source.RETRIEVAL, reason, shard, how)

    def _chosen(self, chooser: Chooser, database: Store, observation: Observation) -> Route:
        """Routes a step by the predictor."""
        shard, how = database.shard_for(observation.instruction)
        speed = math.nan if observation.motion is None else observation.motion.speed
        skip = shard is not None and not self._barred(shard, how) and self.gate.may_skip(speed)
        choice = chooser.begin(observation.motion, shard is not None, skip)
        if shard is None or choice.source != Source.RETRIEVAL:
            return Route(choice.source, choice.reason, chance=choice.chance)
        return Route(choice.source, choice.reason, shard, how, choice.chance)

    def _rule(self, motion: MetricSample | None) -> AcceptanceRule | None:
        return None if self.chooser is None else acceptance_rule(self.mode, motion)

    def _too_slow_to_search(self, motion: MetricSample | None) -> str:
        """Returns why only the last command drafts; empty if the database is searched.

        In slow motion little changes from step to step: no entry is a better draft, and none is
        executed.
        """
        least = self.mode.retrieval.speed
        if self._last is None or motion is None or not motion.speed < least:
            return ""
        return f"{motion.speed:.3f} m/s < {least:g}"

    def retrieve(self, shard: SearchableShard, features: Tensor) -> Matches:
        """Searches a shard by visual features; the tokens are those that would be executed."""
        matches = shard.search(self.vla.retrieval_key(features), self.mode.retrieval.k)
        if self.mode.retrieval.payload == "own":
            return matches
        codec = self.vla.codec
        chunks = matches.actions.reshape(-1, codec.horizon, codec.dimensions)
        tokens = padded([codec.encode(chunk) for chunk in chunks], codec.max_tokens)
        return replace(matches, tokens=tokens)

    def _may_skip(
        self,
        matches: Matches,
        shard: SearchableShard,
        how: str,
        observation: Observation,
    ) -> SkipDecision:
        needed = self.chooser is not None or self.mode.skip.clearance
        clearance = shard.clearance(matches) if needed else math.inf
        harmless, because = math.nan, ""
        if self.chooser is not None:
            harmless, because = self.chooser.search(matches, clearance)
        if barred := self._barred(shard, how):
            self.gate.note_verified()
            return SkipDecision(False, False, f"no skip: {barred}")
        context = SkipContext(
            retrieval_zone=True,
            gripper=None if self._last is None else self._last[-1],
            clearance=clearance,
            speed=math.nan if observation.motion is None else observation.motion.speed,
            task=normalise_instruction(observation.instruction),
            harmless=harmless,
            because=because,
        )
        return self.gate.decide(matches, context)

    def _barred(self, shard: SearchableShard, how: str) -> str:
        """Returns why no entry of a shard may be executed in this step; empty if one may."""
        if how != EXACT:
            # Similar words may mean something else. A wrong draft is rejected, a skip is not.
            return f"another instruction, {how}"
        if self._disagreed:
            return "the model disagreed with the last one"
        if shard.grown and (self.chooser is not None or self.gate.calibration is not None):
            # What was measured holds only for the entries that it was measured with.
            return "the calibration knows no added entries"
        return ""

    def _skip(
        self,
        matches: Matches,
        reason: str,
        decision: SkipDecision,
        seen: Perceived,
        watch: Stopwatch,
    ) -> StepResult:
        chosen = answer_of(matches.tokens[0])
        if decision.shadow or self.mode.skip.act_first:
            self._deferred = _Skipped(seen, chosen)
        return self._result(
            chosen,
            source=Source.SKIP,
            reason=reason,
            watch=watch,
            passes=0,
            similarity=float(matches.similarity[0]),
            chance=decision.chance,
        )

    def decode(
        self,
        step: Step,
        proposer: Proposer | None,
        watch: Stopwatch,
        accept: AcceptanceRule | None = None,
    ) -> tuple[Verification, Source]:
        """Decodes a step with the drafts of a proposer.

        Args:
            step: the input of the proposer.
            proposer: makes the drafts; None, or nothing to draft from: the model by itself.
            watch: times the laps from ``prefill`` on.
            accept: acceptance rule; None: that of the proposer.

        Returns:
            The finished verification, and what decided the step.
        """
        mode, begun = self.mode, len(step.prompt.begun)
        source: Source = Source.AUTOREGRESSIVE
        rule: AcceptanceRule = "exact"
        draft, room = NO_DRAFT, 0
        proposed = None if proposer is None else proposer.propose(step)
        if proposed is None and (proposer := self.proposers.get(Source.TAGS)) is not None:
            proposed = proposer.propose(step)
        if proposer is not None and proposed is not None:
            source, rule = proposer.source, accept or proposer.accept
            draft = proposed.tails(begun) if begun else proposed
            room = max(len(draft), proposer.room)
        else:
            proposer = None
        verification = Verification.start(
            self.vla.engine,
            step.prompt,
            draft if mode.one_pass else NO_DRAFT,
            rule,
            max(room, REDRAFT_ROOM if mode.redraft else 0),
            mode.correct,
            self._keep_frames,
        )
        watch.lap("prefill")
        # Position of the draft's first level in the answer, and whether it is still unverified.
        level, unseen = begun, not mode.one_pass
        if proposer is not None and not verification.finished and not verification.correcting:
            after = proposer.propose_after(step, verification)
            if after is not None:
                draft, level, unseen = after, len(verification.tokens), True
                watch.lap("draft")
        while not verification.finished:
            if unseen and not verification.correcting:
                tree = draft.tails(len(verification.tokens) - level)
            elif not verification.correcting and (tree := _next(proposer, step, verification)):
                pass
            elif mode.redraft or verification.correcting:
                tree = redraft(verification, draft, rule, level)
            else:
                verification.finish()
                watch.lap("decode")
                break
            unseen = False
            verification.advance(tree, rule)
            watch.lap("verify" if len(tree) else "decode")
        return verification, source

    def _frame(self, features: Tensor, verification: Verification) -> VerifiedFrame | None:
        if not self._keep_frames:
            return None
        own, margins = tuple(verification.own), tuple(verification.margins)
        return VerifiedFrame(self.vla.retrieval_key(features), own, margins)

    def _result(
        self,
        tokens: tuple[int, ...],
        *,
        source: Source,
        reason: str,
        watch: Stopwatch,
        passes: int,
        accepted: int | None = None,
        similarity: float | None = None,
        frame: VerifiedFrame | None = None,
        chance: float | None = None,
    ) -> StepResult:
        action = action_of(self.vla.codec, tokens)
        watch.lap("detokenise")
        self._last = tokens
        if passes:
            self._disagreed = False
        if self.chooser is not None:
            self.chooser.end(tokens, passes)
        return StepResult(
            **action._asdict(),
            tokens=tokens,
            source=source,
            reason=reason,
            timings_ms=watch.timings_ms(),
            passes=passes,
            accepted=accepted,
            similarity=similarity,
            frame=frame,
            chance=chance,
        )


def _next(proposer: Proposer | None, step: Step, verification: Verification) -> DraftTree:
    """What a proposer drafts after a rejection; empty where it drafts nothing then."""
    return (proposer and proposer.propose_next(step, verification)) or NO_DRAFT
