"""Drafts the rest of an answer after a token of its draft was rejected."""

from __future__ import annotations

from heisd_ros.decoding.settings import AcceptanceRule
from heisd_ros.decoding.tree import DraftTree
from heisd_ros.decoding.verifier import Verification

REDRAFT_ROOM = 20
"""Nodes of the largest `redraft` that the model has to read: after one token, five levels of the
model's first choices, and at each position its second choice with what follows it."""
SECOND_CHOICES = 8
"""Positions that are drafted by the model's second choice as well: all of a short answer, and few
enough of a long one that they do not crowd out its first choices."""


def redraft(
    verification: Verification, draft: DraftTree, rule: AcceptanceRule, level: int = 0
) -> DraftTree:
    """Drafts the rest: the model's own guesses along the last draft, then the tail of that draft.

    After a token that is slightly wrong the model predicts nearly what it will predict after the
    right one (Jacobi decoding, arXiv 2305.10427), so one more pass usually ends the step. Where the
    guess is not exactly right, its second choice usually is, so in exact mode each second choice
    is drafted as well.

    Args:
        verification: what is known of the step so far.
        draft: the draft that the step was started with.
        rule: the acceptance rule of the new draft.
        level: position of the first draft's first level within the answer.
    """
    tails, answers = draft.tails(len(verification.tokens) - level), verification.answers
    if not answers:
        return tails
    # Beyond the end of the draft that was verified, the first draft continues.
    rest = tails.chains()[0][len(answers) :] if len(tails) else ()
    chains = [(*answers, *rest)]
    second_choices = verification.second_choices() if rule == "exact" else ()
    for place, second in enumerate(second_choices[:SECOND_CHOICES]):
        chains.append((*answers[:place], second, *answers[place + 1 :], *rest))
    return DraftTree.from_chains(chains)
