"""Proposers: each way of making a draft is one class.

A new proposer is a class here, with `@proposer` above it and a `Source` of its own; it may have
settings in `settings`. A mode names it by its source. The decoder calls the one that a step is
routed to and verifies its draft.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from heisd_ros.decoding.answer_actions import answer_of
from heisd_ros.decoding.consensus import consensus_of
from heisd_ros.decoding.lookup import ROOM, continuations
from heisd_ros.decoding.settings import (
    AcceptanceRule,
    DrafterSettings,
    ModeSettings,
    RetrievalSettings,
)
from heisd_ros.decoding.tags import TAG_ROOM, tag_drafts
from heisd_ros.decoding.tree import NO_DRAFT, DraftTree
from heisd_ros.decoding.types import Source
from heisd_ros.decoding.verifier import Verification
from heisd_ros.retrieval.database import Matches
from heisd_ros.vla.action_codec import AnswerFormat
from heisd_ros.vla.drafter import Drafter, DrafterState
from heisd_ros.vla.engine import Prompt
from heisd_ros.vla.reasoning import tags_of
from heisd_ros.vla.token_model import TokenModel


@dataclass(frozen=True)
class Step:
    """The input of a proposer before the model has read the prompt.

    Attributes:
        prompt: the prompt of the step.
        last: tokens of the previous step; None at an episode's start.
        matches: retrieved entries, best first; None where the database was not searched.
    """

    prompt: Prompt
    last: tuple[int, ...] | None
    matches: Matches | None


class Proposer(Protocol):
    """Makes the drafts of the steps that are routed to it.

    Attributes:
        source: the `Source` that those steps are attributed to.
        accept: acceptance rule of its drafts.
        room: nodes of the largest tree that it drafts and the model has to read, in answers of a
            fixed length; of any length, of the largest after the prefill.
    """

    source: Source
    accept: AcceptanceRule
    room: int = 0

    @classmethod
    def of(cls, mode: ModeSettings, vla: TokenModel, drafter: Drafter | None) -> Proposer | None:
        """Makes the proposer that a mode's steps may be routed to.

        Args:
            mode: the mode.
            vla: the model.
            drafter: of modes that draft; None: there is none.

        Returns:
            The proposer; None: it has no use in this mode, or nothing to draft with.
        """
        raise NotImplementedError

    def propose(self, step: Step) -> DraftTree | None:
        """Drafts of all tokens, before the prefill; also those that `Prompt.begun` holds.

        Returns:
            the drafts, empty if it only drafts after the prefill; None if it has nothing to draft
            from in this step, which the model then decodes by itself.
        """
        ...

    def propose_after(self, step: Step, verification: Verification) -> DraftTree | None:
        """Drafts of the tokens after the newest one, once the model has read the prompt.

        Args:
            step: as in `propose`.
            verification: state after the prefill; at least one token is known, but not all.

        Returns:
            the drafts; None: it makes none at this point.
        """
        return None

    def propose_next(self, step: Step, verification: Verification) -> DraftTree | None:
        """Drafts of what follows the newest token, after a draft was rejected.

        Args:
            step: as in `propose`.
            verification: what is known so far.

        Returns:
            the drafts; None: it makes none at this point.
        """
        return None


Drafting = TypeVar("Drafting", bound=Proposer)
_PROPOSERS: list[type[Proposer]] = []


def proposer(kind: type[Drafting]) -> type[Drafting]:
    """Lets modes use a proposer; for the class, as a decorator."""
    _PROPOSERS.append(kind)
    return kind


@proposer
class RetrievalProposer(Proposer):
    """Drafts the actions of the most similar frames of the demonstrations.

    Args:
        settings: how entries are turned into drafts.
        answer: format of the model's answers.
    """

    source = Source.RETRIEVAL

    def __init__(self, settings: RetrievalSettings, answer: AnswerFormat) -> None:
        self._settings, self._groups, self.accept = settings, answer.groups, settings.accept
        if answer.counted:
            # The last token of a chain is never read.
            chains = (settings.k if settings.draft == "entries" else 1) + settings.last
            levels = answer.max_tokens - 1
            shared = answer.groups[1].start if settings.cross and len(answer.groups) > 1 else levels
            self.room = chains * shared + chains**2 * (levels - shared)

    @classmethod
    def of(cls, mode: ModeSettings, vla: TokenModel, drafter: Drafter | None) -> Proposer | None:
        """Makes the proposer of a mode; None where it does not retrieve."""
        return cls(mode.retrieval, vla.codec) if mode.retrieves else None

    def propose(self, step: Step) -> DraftTree | None:
        """Drafts a chain of each retrieved entry, or their consensus, and the last command."""
        if step.matches is None:
            return None
        chains = [answer_of(row) for row in step.matches.tokens]
        if self._settings.draft == "consensus":
            chains = [answer_of(consensus_of(step.matches.tokens, self._groups))]
        if self._settings.last and step.last is not None:
            chains.append(step.last)
        if self._settings.cross:
            return DraftTree.crossed(chains, self._groups)
        return DraftTree.from_chains(chains)


@proposer
class LastCommandProposer(Proposer):
    """Drafts the last answer again: little changes from step to step.

    If the length of answers is not fixed, the rest is drafted again after each difference, from the
    position in the last answer at which its newest tokens occur.

    Args:
        accept: acceptance rule of its drafts.
        counted: `AnswerFormat.counted` of the model.
        tags: fixed texts of an answer, which are drafted as well; see `tags_of`.
    """

    source = Source.LAST_COMMAND

    def __init__(
        self, accept: AcceptanceRule, counted: bool = True, tags: Sequence[Sequence[int]] = ()
    ) -> None:
        self.accept, self._counted, self._tags = accept, counted, tags
        self.room = 0 if counted else ROOM + (TAG_ROOM if tags else 0)

    @classmethod
    def of(cls, mode: ModeSettings, vla: TokenModel, drafter: Drafter | None) -> Proposer | None:
        """Makes the proposer of a mode."""
        return cls(mode.drafter.accept, vla.codec.counted, tags_of(vla.codec))

    def propose(self, step: Step) -> DraftTree | None:
        """Drafts the last answer as one chain; None at an episode's start."""
        return None if step.last is None else DraftTree.from_chains([step.last])

    def propose_next(self, step: Step, verification: Verification) -> DraftTree | None:
        """Drafts what followed the newest tokens in the last answer, and the next fixed text."""
        if self._counted or step.last is None:
            return None
        known = verification.tokens
        tagged = tag_drafts(known, self._tags, step.last)
        return DraftTree.from_chains([*continuations(known, step.last), *tagged])


@proposer
class TagProposer(Proposer):
    """Drafts the fixed texts of an answer, for steps in which there is nothing else to draft from.

    Args:
        tags: the texts; see `tags_of`.
    """

    source = Source.TAGS
    accept: AcceptanceRule = "exact"
    room = TAG_ROOM

    def __init__(self, tags: Sequence[Sequence[int]]) -> None:
        self._tags = tags

    @classmethod
    def of(cls, mode: ModeSettings, vla: TokenModel, drafter: Drafter | None) -> Proposer | None:
        """Makes the proposer of a mode; None where answers have no fixed texts."""
        tags = tags_of(vla.codec)
        return cls(tags) if tags else None

    def propose(self, step: Step) -> DraftTree | None:
        """Drafts the text that an answer may begin with."""
        return DraftTree.from_chains(tag_drafts((), self._tags))

    def propose_next(self, step: Step, verification: Verification) -> DraftTree | None:
        """Drafts the rest of a text that has begun, and the next one."""
        return DraftTree.from_chains(tag_drafts(verification.tokens, self._tags))


@proposer
class DrafterProposer(Proposer):
    """Drafts with a small model, from the hidden states of what the model has read.

    If the length of answers is not fixed, it drafts again after each pass.

    Args:
        drafter: the small model.
        vla: the model, whose embedding and head it shares.
        settings: size of its trees, and whether the last command is drafted in the prefill.
    """

    source = Source.DRAFTER

    def __init__(self, drafter: Drafter, vla: TokenModel, settings: DrafterSettings) -> None:
        self._drafter, self._vla, self._settings = drafter, vla, settings
        self.accept, self.room = settings.accept, settings.nodes
        self._before = LastCommandProposer(settings.accept) if settings.last else None
        self._state: DrafterState | None = None

    @classmethod
    def of(cls, mode: ModeSettings, vla: TokenModel, drafter: Drafter | None) -> Proposer | None:
        """Makes the proposer of a mode; None without a drafter."""
        return None if drafter is None or not mode.drafts else cls(drafter, vla, mode.drafter)

    def propose(self, step: Step) -> DraftTree | None:
        """Drafts the last command if the settings say so, else nothing yet."""
        return (self._before.propose(step) if self._before is not None else None) or NO_DRAFT

    def propose_after(self, step: Step, verification: Verification) -> DraftTree | None:
        """Drafts the drafter's tree below the newest token."""
        first, columns = verification.tokens[len(step.prompt.begun)], step.prompt.columns
        state = self._drafter.start(verification.prompt_hidden, columns, first)
        return self._tree(step, verification, state)

    def propose_next(self, step: Step, verification: Verification) -> DraftTree | None:
        """Drafts the drafter's tree below the newest token again, if answers have any length."""
        if self._vla.codec.counted or self._state is None:
            return None
        return self._tree(step, verification, self._state)

    def _tree(self, step: Step, verification: Verification, state: DrafterState) -> DraftTree:
        """Drafts behind what was accepted since the drafter's last state."""
        settings, known = self._settings, verification.tokens[len(step.prompt.begun) :]
        at = state.position + 1 - step.prompt.columns.shape[1]  # of the state's token in `known`
        hidden = torch.cat(verification.hidden)[at : len(known) - 1]
        self._state = self._drafter.follow(self._vla, state, hidden, known[at + 1 :])
        depth = min(settings.depth, verification.answer.max_tokens - len(verification.tokens))
        tokens, parents = self._drafter.propose(
            self._vla, self._state, depth, settings.top_k, settings.nodes
        )
        return DraftTree(tuple(tokens), tuple(parents))


def proposers_of(
    mode: ModeSettings, vla: TokenModel, drafter: Drafter | None
) -> dict[Source, Proposer]:
    """Makes the proposers that a mode's steps may be routed to, by their sources.

    Args:
        mode: the mode.
        vla: the model.
        drafter: needed by modes that draft; None: such steps are decoded by the model itself.
    """
    made = (kind.of(mode, vla, drafter) for kind in _PROPOSERS)
    return {each.source: each for each in made if each is not None}
