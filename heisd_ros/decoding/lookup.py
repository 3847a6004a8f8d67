"""Prompt look-up on the last answer: finds by content what followed in it.

Answers of a reasoning model change from step to step in a few words, and what follows a difference
is the old text again, some tokens earlier or later (arXiv 2304.04487). So the place in the old
answer is looked for by the newest tokens, never by their number.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_MATCH = 8
"""Greatest number of tokens that are compared at a position; more add nothing."""
LEAST_MATCH = 2
"""Least number of tokens compared; fewer occur too often to identify a position."""
LENGTH = 8
"""Tokens of a draft, at most: more save few passes, and each takes time on a CPU."""

# Newest tokens that may be new, and old ones in whose place they stand: none, one for one, one put
# in, two for two.
_DIFFERENCES = ((0, 0), (1, 1), (1, 0), (2, 2))
ROOM = LENGTH * len(_DIFFERENCES)
"""Tokens of all drafts of a pass, at most."""


def continuations(tokens: Sequence[int], old: Sequence[int]) -> list[tuple[int, ...]]:
    """How an answer may go on, by an old one.

    Args:
        tokens: of the answer so far.
        old: an earlier answer.

    Returns:
        drafts, the likeliest first: as if the newest tokens were in the old answer, or were new.
    """
    drafts = []
    for new, replaced in _DIFFERENCES:
        known = tokens[: len(tokens) - new]
        place = _place(known, old, len(known))
        if place is not None:
            drafts.append(tuple(old[place + replaced :][:LENGTH]))
    return [draft for draft in dict.fromkeys(drafts) if draft]


def _place(tokens: Sequence[int], old: Sequence[int], expected: int) -> int | None:
    """The place after the longest match of the newest tokens; of equal ones the nearest."""
    if not tokens:
        return None
    best: tuple[int, int, int] | None = None
    for end in (index + 1 for index, token in enumerate(old) if token == tokens[-1]):
        most = min(LONGEST_MATCH, end, len(tokens))
        match = 1
        while match < most and old[end - match - 1] == tokens[-match - 1]:
            match += 1
        whole = match == min(end, len(tokens))  # all there is in front of it
        rank = (match, -abs(end - expected), end)
        if (match >= LEAST_MATCH or whole) and (best is None or rank > best):
            best = rank
    return None if best is None else best[2]
