"""HeiSD: one control step from an observation to 7 tokens, drafted by the past or by a drafter.

    vision -> F high: fast: retrieve -> trusted? execute : verify in the prefill
                      slow: verify the last command in the prefill
              F low:  prefill -> draft -> verify
           -> what is not accepted is decoded by the model itself

Each mode of ``config/modes`` is this decoder with other settings. What verifies nothing and decodes
nothing by itself costs nothing: without a proposer it is the plain autoregressive loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from heisd_ros.decoding.acceptance import within_tolerance
from heisd_ros.decoding.actions import action_of
from heisd_ros.decoding.boundary import Boundary, Zone
from heisd_ros.decoding.consensus import consensus_of
from heisd_ros.decoding.settings import AcceptanceRule, ModeSettings
from heisd_ros.decoding.skip import SkipContext, SkipDecision, SkipGate
from heisd_ros.decoding.stopwatch import Stopwatch
from heisd_ros.decoding.tree import NO_DRAFT, DraftTree
from heisd_ros.decoding.types import Observation, Settled, Source, StepResult, VerifiedFrame
from heisd_ros.decoding.verifier import Verification
from heisd_ros.kinematics.metric import MetricSample
from heisd_ros.retrieval.database import EXACT, Matches, SearchableShard, Store, normalise
from heisd_ros.vla.drafter import Drafter
from heisd_ros.vla.engine import Prompt
from heisd_ros.vla.token_model import ModelInputs, TokenModel

REDRAFT_ROOM = 20
"""Nodes of the largest `redraft` that the model has to read: after one token, five levels of the
model's first choices, and below each place its second one with what follows it."""


@dataclass(frozen=True)
class _Skipped:
    """A step that was executed unseen, to be verified while the arm moves."""

    inputs: ModelInputs
    features: Tensor
    tokens: tuple[int, ...]


class HybridDecoder:
    """Speculative decoding in one mode.

    Args:
        vla: the model that has the last word.
        mode: which parts take part, and how.
        database: past frames of the same model; needed by modes that retrieve.
        drafter: needed by modes that draft.
        gate: decides when a retrieved action is executed unseen.
        boundary: parts retrieval from drafting; needed by ``hybrid``.
        allow_unknown: accept instructions that the model wasn't trained on.
        keep_frames: say with each verified step what may be kept of it (`StepResult.frame`).
    """

    def __init__(
        self,
        vla: TokenModel,
        mode: ModeSettings,
        *,
        database: Store | None,
        drafter: Drafter | None,
        gate: SkipGate,
        boundary: Boundary | None,
        allow_unknown: bool = False,
        keep_frames: bool = False,
    ) -> None:
        self.vla, self.mode = vla, mode
        self.database, self.drafter = database, drafter
        self.gate, self.boundary = gate, boundary
        self._allow_unknown, self._keep_frames = allow_unknown, keep_frames
        self._last: tuple[int, ...] | None = None
        self._to_settle: _Skipped | None = None
        self._disagreed = False

    def warning(self) -> str:
        """Why nothing is skipped in a mode that is meant to."""
        return self.gate.warning

    def reset(self, success: bool | None = None) -> None:
        """Forget the episode; how it ended may loosen or tighten the skipping."""
        self.gate.reset(success)
        if self.boundary is not None:
            self.boundary.reset()
        self._last = self._to_settle = None
        self._disagreed = False

    @torch.inference_mode()
    def infer(self, observation: Observation) -> StepResult:
        """Decode one action; raises what `TokenModel.encode` raises."""
        watch = Stopwatch(self.vla.device)
        self._to_settle = None
        inputs = self.vla.encode(
            observation.images,
            observation.instruction,
            observation.proprio,
            allow_unknown=self._allow_unknown,
        )
        watch.lap("preprocess")
        features = self.vla.features(inputs)
        watch.lap("vision")
        zone, shard, how = self._route(observation)
        matches = None
        if shard is not None:
            matches = self._retrieve(shard, features)
            decision = self._may_skip(matches, zone, shard, how, observation)
            watch.lap("retrieval")
            zone = zone._replace(reason=f"{zone.reason}; {decision.reason}")
            if decision.skip:
                return self._skip(matches, zone.reason, decision.shadow, inputs, features, watch)
        else:
            self.gate.note_verified()
        verification, source = self._decode(inputs, features, zone, matches, watch)
        if matches is not None:
            self.gate.observe_verified(matches, tuple(verification.tokens))
        return self._result(
            tuple(verification.tokens),
            source=source,
            reason=zone.reason,
            watch=watch,
            passes=verification.passes,
            accepted=verification.accepted if source != "autoregressive" else None,
            similarity=None if matches is None else float(matches.similarity[0]),
            frame=self._frame(features, verification),
        )

    @torch.inference_mode()
    def settle(self) -> Settled | None:
        """Verify the step that was just executed unseen, if it was chosen for that."""
        skipped, self._to_settle = self._to_settle, None
        if skipped is None:
            return None
        watch = Stopwatch(self.vla.device)
        verified = self.verified_tokens(skipped.inputs, skipped.features, skipped.tokens)
        agrees = within_tolerance(skipped.tokens, verified, self.vla.codec)
        self.gate.observe_shadow(agrees)
        # The next command is then the model's own, on what it sees by then.
        self._disagreed = not agrees
        watch.lap("verify")
        return Settled(watch.timings_ms()["total"], agrees)

    def verified_tokens(
        self, inputs: ModelInputs, features: Tensor, draft: tuple[int, ...]
    ) -> tuple[int, ...]:
        """The model's own greedy tokens, found with the help of a draft: lossless."""
        tree = DraftTree.from_chains([draft])
        prompt = self.vla.prompt(inputs, features)
        verification = Verification.start(self.vla.engine, prompt, tree, "exact", REDRAFT_ROOM)
        while not verification.finished:
            verification.advance(redraft(verification, tree, "exact"), "exact")
        return tuple(verification.tokens)

    def _route(self, observation: Observation) -> tuple[Zone, SearchableShard | None, str]:
        """Who proposes, and the shard if that is retrieval, with how it was found."""
        if not self.mode.retrieves or self.database is None:
            return Zone(False, f"mode proposes by {self.mode.propose}"), None, ""
        zone = Zone(True, "mode always retrieves")
        if self.mode.propose == "hybrid" and self.boundary is not None:
            zone = self.boundary.update(observation.motion)
            if not zone.retrieval:
                return zone, None, ""
        # Asked at every step: a shard may grow, or come from the fleet, while the arm works.
        shard, how = self.database.shard_for(observation.instruction)
        if shard is None:
            return Zone(False, how), None, how
        if slow := self._too_slow_to_search(observation.motion):
            return zone._replace(reason=f"{zone.reason}; last command: {slow}"), None, how
        return zone, shard, how

    def _too_slow_to_search(self, motion: MetricSample | None) -> str:
        """Why the last command alone is the draft; empty where the database is asked.

        Where little changes from step to step no entry is a better draft, and none is executed.
        """
        least = self.mode.retrieval.speed
        if self._last is None or motion is None or not motion.speed < least:
            return ""
        return f"{motion.speed:.3f} m/s < {least:g}"

    def _retrieve(self, shard: SearchableShard, features: Tensor) -> Matches:
        matches = shard.search(self.vla.retrieval_key(features), self.mode.retrieval.k)
        if self.mode.retrieval.payload == "own":
            return matches
        tokens = [self.vla.codec.encode(action[None]) for action in matches.actions]
        return replace(matches, tokens=np.array(tokens))

    def _may_skip(
        self,
        matches: Matches,
        zone: Zone,
        shard: SearchableShard,
        how: str,
        observation: Observation,
    ) -> SkipDecision:
        if how != EXACT:
            # A likeness holds for the words, not for what they mean; a wrong draft is rejected.
            self.gate.note_verified()
            return SkipDecision(False, False, f"no skip: another instruction, {how}")
        if self._disagreed:
            self.gate.note_verified()
            return SkipDecision(False, False, "no skip: the model disagreed with the last one")
        if shard.grown and self.gate.calibration is not None:
            # The bound holds for the entries that it was made with.
            self.gate.note_verified()
            return SkipDecision(False, False, "no skip: the calibration knows no added entries")
        context = SkipContext(
            retrieval_zone=zone.retrieval,
            gripper=None if self._last is None else self._last[-1],
            clearance=shard.clearance(matches) if self.mode.skip.clearance else math.inf,
            speed=math.nan if observation.motion is None else observation.motion.speed,
            task=normalise(observation.instruction),
        )
        return self.gate.decide(matches, context)

    def _skip(
        self,
        matches: Matches,
        reason: str,
        shadow: bool,
        inputs: ModelInputs,
        features: Tensor,
        watch: Stopwatch,
    ) -> StepResult:
        chosen = tuple(matches.tokens[0].tolist())
        if shadow or self.mode.skip.act_first:
            self._to_settle = _Skipped(inputs, features, chosen)
        return self._result(
            chosen,
            source="skip",
            reason=reason,
            watch=watch,
            passes=0,
            similarity=float(matches.similarity[0]),
        )

    def _decode(
        self,
        inputs: ModelInputs,
        features: Tensor,
        zone: Zone,
        matches: Matches | None,
        watch: Stopwatch,
    ) -> tuple[Verification, Source]:
        mode = self.mode
        drafter = self.drafter if mode.drafts and not zone.retrieval else None
        prompt = self.vla.prompt(inputs, features)
        source: Source
        rule: AcceptanceRule
        if matches is not None:
            source, rule, draft = "retrieval", mode.retrieval.accept, self._tree(matches)
        elif zone.retrieval:
            source, rule = "last_command", mode.drafter.accept
            draft = self._last_command()
        elif drafter is not None:
            source, rule = "drafter", mode.drafter.accept
            draft = self._last_command() if mode.drafter.last else NO_DRAFT
        else:
            source, rule, draft = "autoregressive", "exact", NO_DRAFT
        later = len(draft) if drafter is None else mode.drafter.nodes
        verification = Verification.start(
            self.vla.engine,
            prompt,
            draft if mode.one_pass else NO_DRAFT,
            rule,
            max(later, REDRAFT_ROOM if mode.redraft else 0),
            mode.correct,
            self._keep_frames,
        )
        watch.lap("prefill")
        # The draft, its first level that of the first token, and whether it is still unseen.
        level, unseen = 0, not mode.one_pass
        if drafter is not None and not verification.finished and not verification.correcting:
            draft = self._draft(drafter, verification, prompt)
            watch.lap("draft")
            level, unseen = 1, True
        while not verification.finished:
            if unseen and not verification.correcting:
                tree = draft.tails(len(verification.tokens) - level)
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

    def _tree(self, matches: Matches) -> DraftTree:
        settings = self.mode.retrieval
        chains = matches.tokens.tolist()
        if settings.draft == "consensus":
            chains = [consensus_of(matches.tokens)]
        if settings.last and self._last is not None:
            chains.append(self._last)
        return DraftTree.crossed(chains) if settings.cross else DraftTree.from_chains(chains)

    def _last_command(self) -> DraftTree:
        """The last command as the draft of a step in slow motion, where little changes."""
        return NO_DRAFT if self._last is None else DraftTree.from_chains([self._last])

    def _draft(self, drafter: Drafter, verification: Verification, prompt: Prompt) -> DraftTree:
        settings, first = self.mode.drafter, verification.tokens[0]
        state = drafter.start(verification.prompt_hidden, prompt.columns, first)
        tokens, parents = drafter.propose(
            self.vla, state, settings.depth, settings.top_k, settings.nodes
        )
        return DraftTree(tuple(tokens), tuple(parents))

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
    ) -> StepResult:
        action = action_of(self.vla.codec, tokens)
        watch.lap("detokenise")
        self._last = tokens
        if passes:
            self._disagreed = False
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
        )


def redraft(
    verification: Verification, draft: DraftTree, rule: AcceptanceRule, level: int = 0
) -> DraftTree:
    """A draft of the rest: what the model said down the last one, then that one's own tail.

    After a token that is a little off it says nearly what it will say after the right one
    (Jacobi decoding, arXiv 2305.10427), so one more pass mostly ends the step. Where that is not
    exactly right, its second choice mostly is, so in exact mode each of them is drafted as well.

    Args:
        verification: what is known of the step so far.
        draft: the draft that it was started with.
        rule: what will accept it.
        level: position of that draft's first level within the 7 tokens.
    """
    tails, answers = draft.tails(len(verification.tokens) - level), verification.answers
    if not answers:
        return tails
    # Where the draft that was verified ended, the first one may go on.
    rest = tails.chains()[0][len(answers) :] if len(tails) else ()
    chains = [(*answers, *rest)]
    second_choices = verification.second_choices() if rule == "exact" else ()
    for place, second in enumerate(second_choices):
        chains.append((*answers[:place], second, *answers[place + 1 :], *rest))
    return DraftTree.from_chains(chains)
