"""Speculative decoding of one answer: a proposer's draft, then passes until the answer is known."""

from __future__ import annotations

from collections.abc import Mapping

from heisd_ros.decoding.proposers import Proposer, Step
from heisd_ros.decoding.redraft import GUESSES, REDRAFT_ROOM, expected, redraft
from heisd_ros.decoding.settings import AcceptanceRule, ModeSettings
from heisd_ros.decoding.stopwatch import Stopwatch
from heisd_ros.decoding.tree import NO_DRAFT, DraftTree
from heisd_ros.decoding.types import Source
from heisd_ros.decoding.verifier import Verification
from heisd_ros.vla.engine import Prompt
from heisd_ros.vla.token_model import TokenModel


class Speculation:
    """Drafts and verifies answers; what is not accepted is decoded by the model itself.

    Args:
        vla: the model that verifies.
        mode: `one_pass`, `correct` and `redraft` are used.
        proposers: by source, see `proposers_of`.
        keep_frames: keep of each answer what `StepResult.frame` holds.
    """

    def __init__(
        self,
        vla: TokenModel,
        mode: ModeSettings,
        proposers: Mapping[Source, Proposer],
        keep_frames: bool = False,
    ) -> None:
        self._vla, self._mode = vla, mode
        self._proposers, self._keep_frames = proposers, keep_frames
        # Of an answer of a fixed length all of the rest is guessed, by `redraft`.
        self._guesses = GUESSES if mode.redraft and not vla.codec.counted else 0
        # Of the whole mode, so that what is compiled for the first step serves all later ones.
        self._room = max(
            REDRAFT_ROOM if mode.redraft else 0,
            *(each.room + self._guesses for each in proposers.values()),
            0,
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
            proposer: makes the drafts; None, or nothing to draft from: the fixed texts of an answer
                are drafted where there are any, else the model decodes by itself.
            watch: times the laps from ``prefill`` on.
            accept: acceptance rule; None: that of the proposer.

        Returns:
            The finished verification, and what decided the step.
        """
        mode, begun = self._mode, len(step.prompt.begun)
        proposer, draft = self._first_draft(step, proposer)
        source: Source = Source.AUTOREGRESSIVE
        rule: AcceptanceRule = "exact"
        if proposer is not None:
            source, rule = proposer.source, accept or proposer.accept
        verification = Verification.start(
            self._vla.engine,
            step.prompt,
            draft if mode.one_pass else NO_DRAFT,
            rule,
            self._room,
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
                if self._guesses:
                    rest = expected(verification, draft, level)
                    draft, level = DraftTree.from_chains([rest]), len(verification.tokens)
                    tree = DraftTree.from_chains([rest[: self._guesses], *tree.chains()])
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

    def verified(self, prompt: Prompt, draft: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the model's own greedy tokens; the draft only makes this faster."""
        tree = DraftTree.from_chains([draft])
        verification = Verification.start(self._vla.engine, prompt, tree, "exact", REDRAFT_ROOM)
        while not verification.finished:
            verification.advance(redraft(verification, tree, "exact"), "exact")
        return tuple(verification.tokens)

    def _first_draft(
        self, step: Step, proposer: Proposer | None
    ) -> tuple[Proposer | None, DraftTree]:
        """Returns who drafts a step, and what it drafts behind what the prompt has begun."""
        for each in (proposer, self._proposers.get(Source.TAGS)):
            draft = None if each is None else each.propose(step)
            if draft is not None:
                return each, draft.tails(len(step.prompt.begun)) if step.prompt.begun else draft
        return None, NO_DRAFT


def _next(proposer: Proposer | None, step: Step, verification: Verification) -> DraftTree:
    """What a proposer drafts after a rejection; empty where it drafts nothing then."""
    return (proposer and proposer.propose_next(step, verification)) or NO_DRAFT
