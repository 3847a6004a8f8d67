"""HeiSD: one control step from an observation to an answer, drafted by retrieval or by a drafter.

    reasoning kept? -> the last reasoning as prefix, and only the action is decoded (`thinking`)
    vision -> `router`: which proposer, and whether the database is searched
           -> trusted? execute what was found (`skip`)
           -> draft, verify, and decode by the model what is not accepted (`speculation`)

Each mode of ``config/modes`` is this decoder with other settings. Parts that a mode does not use
cost nothing: without a proposer it is the plain autoregressive loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heisd_ros.decoding.acceptance import acts_alike, within_tolerance
from heisd_ros.decoding.answer_actions import action_of, answer_of, padded
from heisd_ros.decoding.boundary import Boundary
from heisd_ros.decoding.chooser import Chooser
from heisd_ros.decoding.perception import Perceived, perceive
from heisd_ros.decoding.proposers import Proposer, Step
from heisd_ros.decoding.reasoning_calibration import ReasoningCalibration
from heisd_ros.decoding.redraft import REDRAFT_ROOM as REDRAFT_ROOM  # scripts import it from here
from heisd_ros.decoding.redraft import redraft as redraft
from heisd_ros.decoding.router import Router
from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.decoding.skip import SkipDecision, SkipGate
from heisd_ros.decoding.speculation import Speculation
from heisd_ros.decoding.stopwatch import Stopwatch
from heisd_ros.decoding.thinking import Thinking, Thought
from heisd_ros.decoding.types import Observation, Settled, Source, StepResult, VerifiedFrame
from heisd_ros.decoding.verifier import Verification
from heisd_ros.retrieval.database import Matches, SearchableShard, Store
from heisd_ros.vla.token_model import TokenModel


@dataclass(frozen=True)
class _Skipped:
    """A step that was not decoded in full, which is deferred until the arm moves.

    Attributes:
        seen: what it was decided on.
        tokens: its answer.
        kept: it was decoded behind a kept reasoning; false: executed without verification.
    """

    seen: Perceived
    tokens: tuple[int, ...]
    kept: bool = False


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
        keeping: says how long reasonings are kept; None: the mode does.
        keep_frames: return with each verified step what may be kept of it (`StepResult.frame`).
        seed: seed of shadow checks of kept reasonings.

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
        keeping: ReasoningCalibration | None = None,
        keep_frames: bool = False,
        seed: int = 0,
    ) -> None:
        self.vla, self.mode = vla, mode
        self.database, self.proposers = database, proposers
        self.gate, self.boundary, self.chooser = gate, boundary, chooser
        self._keep_frames = keep_frames
        self.speculation = Speculation(vla, mode, proposers, keep_frames)
        self._router = Router(mode, database, gate, chooser)
        limit = None if keeping is None else keeping.limit(mode)
        self._thinking = Thinking(mode.reasoning, vla.codec, keeping, limit, seed)
        self._last: tuple[int, ...] | None = None
        self._deferred: _Skipped | None = None

    def warning(self) -> str:
        """Returns why a mode does not skip, or keep reasonings, as calibrated; empty if it does."""
        # A calibration of skipping has judged the kept reasonings of its mode too.
        covered = self.mode.skip.policy == "calibrated"
        return self.gate.warning or ("" if covered else self._thinking.warning)

    def reset(self, success: bool | None = None) -> None:
        """Forgets the episode; its outcome may loosen or tighten the skipping."""
        self.gate.reset(success)
        if self.boundary is not None:
            self.boundary.reset()
        self._thinking.reset()
        if self.chooser is not None:
            self.chooser.reset()
        self._last = self._deferred = None
        self._router.disagreed = False

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
        thought = self._thinking.decide(
            observation.instruction, zone, observation.after_hold, observation.motion
        )
        seen = perceive(self.vla, observation, watch=watch)
        if thought.kept:
            return self._act_on(thought, seen, watch)
        route, matches = self._router.route(observation, zone, self._last), None
        if thought.reason:
            route = route._replace(reason=f"{route.reason}; {thought.reason}")
        if route.shard is not None:
            matches = self.retrieve(route.shard, seen.features)
            found = self._router.may_skip(matches, route, observation, self._last)
            watch.lap("retrieval")
            if found.skip:
                return self._skip(matches, f"{route.reason}; {found.reason}", found, seen, watch)
            route = self._router.after_search(route, found)
        else:
            self.gate.note_verified()
        step = Step(self.vla.prompt(*seen), self._last, matches)
        verification, source = self.speculation.decode(
            step,
            self.proposers.get(route.source),
            watch,
            thought.accept or self._router.rule(observation.motion),
        )
        self._thinking.note(verification.tokens)
        if matches is not None:
            self.gate.observe_verified(matches, tuple(verification.tokens))
        return self._result(
            tuple(verification.tokens),
            source=source,
            reason=route.reason,
            watch=watch,
            passes=verification.passes,
            accepted=verification.accepted if source != Source.AUTOREGRESSIVE else None,
            similarity=None if matches is None else float(matches.similarity[0]),
            frame=self._frame(seen.features, verification),
            chance=route.chance,
        )

    @torch.inference_mode()
    def settle(self) -> Settled | None:
        """Decodes the step that was just executed in full, if that was deferred."""
        skipped, self._deferred = self._deferred, None
        if skipped is None:
            return None
        watch = Stopwatch(self.vla.device)
        if skipped.kept:
            return self._settle_kept(skipped, watch)
        verified = self.speculation.verified(self.vla.prompt(*skipped.seen), skipped.tokens)
        agrees = within_tolerance(skipped.tokens, verified, self.vla.codec)
        if self.chooser is not None:
            # By what the predictor says of a skip.
            agrees = self.gate.near(skipped.tokens, verified)
        self.gate.observe_shadow(agrees)
        # After a disagreement the next command is the model's own, on a new observation.
        self._router.disagreed = not agrees
        watch.lap("verify")
        return Settled(watch.timings_ms()["total"], agrees)

    def _settle_kept(self, step: _Skipped, watch: Stopwatch) -> Settled:
        whole = Step(self.vla.prompt(*step.seen), step.tokens, None)
        last = self.proposers.get(Source.LAST_COMMAND)
        fresh, _ = self.speculation.decode(whole, last, watch, "exact")
        agrees = acts_alike(step.tokens, fresh.tokens, self.vla.codec)
        self._thinking.observe_shadow(agrees)
        return Settled(watch.timings_ms()["total"], agrees)

    def _act_on(self, thought: Thought, seen: Perceived, watch: Stopwatch) -> StepResult:
        """Decodes what follows a kept reasoning, or all of it if that action is not to be used."""
        self.gate.note_verified()
        kept, reason, accept = thought
        prompt, source = self.vla.prompt(*seen), Source.KEPT
        last = self.proposers.get(Source.LAST_COMMAND)
        ids = torch.tensor([kept], device=self.vla.device)
        begun = prompt.followed_by(self.vla.embed_tokens(ids), ids)
        step = Step(begun, self._last, None)
        verification, _ = self.speculation.decode(step, last, watch, accept)
        passes = verification.passes
        if problem := self._thinking.problem(verification.tokens):
            reason, kept = f"{reason}; decoded again: {problem}", ()
            whole = Step(prompt, self._last, None)
            verification, source = self.speculation.decode(whole, last, watch, accept)
            passes += verification.passes
        self._thinking.note(verification.tokens, kept)
        if kept and self._thinking.shadow():
            self._deferred = _Skipped(seen, tuple(verification.tokens), kept=True)
        return self._result(
            tuple(verification.tokens),
            source=source,
            reason=reason,
            watch=watch,
            passes=passes,
            accepted=verification.accepted,
            frame=None if kept else self._frame(seen.features, verification),
        )

    def retrieve(self, shard: SearchableShard, features: Tensor) -> Matches:
        """Searches a shard by visual features; the tokens are those that would be executed."""
        matches = shard.search(self.vla.retrieval_key(features), self.mode.retrieval.k)
        if self.mode.retrieval.payload == "own":
            return matches
        codec = self.vla.codec
        chunks = matches.actions.reshape(-1, codec.horizon, codec.dimensions)
        tokens = padded([codec.encode(chunk) for chunk in chunks], codec.max_tokens)
        return replace(matches, tokens=tokens)

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
            self._router.disagreed = False
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
