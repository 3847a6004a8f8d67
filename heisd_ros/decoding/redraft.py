"""Drafts the rest of an answer after a token of its draft was rejected."""

from __future__ import annotations

from heisd_ros.decoding.settings import AcceptanceRule
from heisd_ros.decoding.tree import DraftTree
from heisd_ros.decoding.verifier import Verification

REDRAFT_ROOM = 14
"""Nodes of the largest `redraft` that the model has to read: after one token, five levels of the
model's first choices, and two second choices with what follows them."""
SECOND_CHOICES = 2
"""Positions that are drafted by the model's second choice as well, of those in which it is nearest
to the first. More save few passes, and would not fit the same compiled program."""
_AHEAD = 8  # positions of which these are chosen: a long answer differs before it comes to others
GUESSES = 16
"""First choices behind the newest token of a long answer that are drafted beside what its proposer
drafts there: words that change singly, such as numbers, then cost one pass together."""


def redraft(
    verification: Verification, draft: DraftTree, rule: AcceptanceRule, level: int = 0
) -> DraftTree:
    """Drafts the rest: the model's own guesses along the last draft, then the tail of that draft.

    After a token that is slightly wrong the model predicts nearly what it will predict after the
    right one (Jacobi decoding, arXiv 2305.10427), so one more pass usually ends the step. Where the
    guess is not exactly right, its second choice usually is, so in exact mode those that come
    nearest are drafted as well.

    Args:
        verification: what is known of the step so far.
        draft: the draft that the step was started with.
        rule: the acceptance rule of the new draft.
        level: position of the first draft's first level within the answer.
    """
    if not verification.answers:
        return draft.tails(len(verification.tokens) - level)
    rest = expected(verification, draft, level)
    chains = [rest]
    seconds = (verification.second_choices() if rule == "exact" else ())[:_AHEAD]
    places = sorted(range(len(seconds)), key=lambda place: seconds[place].behind)
    for place in places[:SECOND_CHOICES]:
        chains.append((*rest[:place], seconds[place].token, *rest[place + 1 :]))
    return DraftTree.from_chains(chains)


def expected(verification: Verification, draft: DraftTree, level: int = 0) -> tuple[int, ...]:
    """Returns what is expected behind the known tokens; the arguments are those of `redraft`.

    That is the model's own guesses, and beyond the draft that it read last, the first draft.
    """
    tails, answers = draft.tails(len(verification.tokens) - level), verification.answers
    return (*answers, *(tails.chains()[0][len(answers) :] if len(tails) else ()))
