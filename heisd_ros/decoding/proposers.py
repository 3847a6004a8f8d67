"""Who drafts a step: each way to make a draft is one class.

A new proposer is a class here with its `Source`, its settings in `settings`, and a line in
`proposers_of`. The decoder asks the one that a step is routed to and verifies what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from heisd_ros.decoding.actions import answer_of
from heisd_ros.decoding.consensus import consensus_of
from heisd_ros.decoding.lookup import ROOM, continuations
from heisd_ros.decoding.settings import (
    AcceptanceRule,
    DrafterSettings,
    ModeSettings,
    RetrievalSettings,
)
from heisd_ros.decoding.tree import NO_DRAFT, DraftTree
from heisd_ros.decoding.types import Source
from heisd_ros.decoding.verifier import Verification
from heisd_ros.retrieval.database import Matches
from heisd_ros.vla.drafter import Drafter
from heisd_ros.vla.engine import Prompt
from heisd_ros.vla.token_model import TokenModel


@dataclass(frozen=True)
class Step:
    """What a proposer may look at before the model has read the prompt.

    Attributes:
        prompt: what the model is to read.
        last: tokens of the step before; None at an episode's start.
        matches: retrieved entries, best first; None where the database was not searched.
    """

    prompt: Prompt
    last: tuple[int, ...] | None
    matches: Matches | None


class Proposer(Protocol):
    """Makes the drafts of the steps that are routed to it.

    Attributes:
        source: what those steps are put down to.
        accept: rule by which its drafts are accepted.
        room: nodes of the largest tree that it drafts after the prefill.
    """

    source: Source
    accept: AcceptanceRule
    room: int = 0

    def propose(self, step: Step) -> DraftTree | None:
        """Drafts of all tokens, before the prefill.

        Returns:
            the drafts, empty where it drafts after the prefill alone; None where it has nothing
            to draft from in this step, which the model then decodes by itself.
        """
        ...

    def propose_after(self, step: Step, verification: Verification) -> DraftTree | None:
        """Drafts of the tokens after the first one, once the model has read the prompt.

        Args:
            step: as in `propose`.
            verification: what the prefill left behind; at least one token is known, not all.

        Returns:
            the drafts; None: it makes none then.
        """
        return None

    def propose_next(self, step: Step, verification: Verification) -> DraftTree | None:
        """Drafts of what follows the newest token, after a draft was rejected.

        Args:
            step: as in `propose`.
            verification: what is known by then.

        Returns:
            the drafts; None: it makes none then.
        """
        return None


class RetrievalProposer(Proposer):
    """Drafts what was done in the most similar frames of the demonstrations.

    Args:
        settings: how entries draft.
        groups: `AnswerFormat.groups` of the model.
    """

    source = Source.RETRIEVAL

    def __init__(self, settings: RetrievalSettings, groups: Sequence[range]) -> None:
        self._settings, self._groups, self.accept = settings, groups, settings.accept

    def propose(self, step: Step) -> DraftTree | None:
        """A chain of each retrieved entry, or their consensus, and the last command."""
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


class LastCommandProposer(Proposer):
    """Drafts the last answer once more: little changes from step to step.

    Of an answer of any length the rest is drafted again after each difference, from where its
    newest tokens stand in the last one.

    Args:
        accept: rule by which its drafts are accepted.
        counted: `AnswerFormat.counted` of the model.
    """

    source = Source.LAST_COMMAND

    def __init__(self, accept: AcceptanceRule, counted: bool = True) -> None:
        self.accept, self._counted = accept, counted
        self.room = 0 if counted else ROOM

    def propose(self, step: Step) -> DraftTree | None:
        """One chain."""
        return None if step.last is None else DraftTree.from_chains([step.last])

    def propose_next(self, step: Step, verification: Verification) -> DraftTree | None:
        """What followed in the last answer."""
        if self._counted or step.last is None:
            return None
        return DraftTree.from_chains(continuations(verification.tokens, step.last))


class DrafterProposer(Proposer):
    """Drafts with a small model, from the hidden states of the prefill.

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

    def propose(self, step: Step) -> DraftTree | None:
        """The last command where the settings say so, else nothing yet."""
        return (self._before.propose(step) if self._before is not None else None) or NO_DRAFT

    def propose_after(self, step: Step, verification: Verification) -> DraftTree | None:
        """The drafter's tree below the first token."""
        settings = self._settings
        first, columns = verification.tokens[0], step.prompt.columns
        state = self._drafter.start(verification.prompt_hidden, columns, first)
        tokens, parents = self._drafter.propose(
            self._vla, state, settings.depth, settings.top_k, settings.nodes
        )
        return DraftTree(tuple(tokens), tuple(parents))


def proposers_of(
    mode: ModeSettings, vla: TokenModel, drafter: Drafter | None
) -> dict[Source, Proposer]:
    """The proposers that a mode's steps may be routed to, by their sources.

    Args:
        mode: the mode.
        vla: the model.
        drafter: needed by modes that draft; None: such steps are decoded by the model itself.
    """
    proposers: list[Proposer] = [
        RetrievalProposer(mode.retrieval, vla.codec.groups),
        LastCommandProposer(mode.drafter.accept, vla.codec.counted),
    ]
    if drafter is not None and mode.drafts:
        proposers.append(DrafterProposer(drafter, vla, mode.drafter))
    return {proposer.source: proposer for proposer in proposers}
