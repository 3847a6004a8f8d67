"""Drafts of the fixed texts of an answer, such as `` PLAN:`` and ``ACTION: ``.

The family names them (`vla.reasoning.tags_of`). Once one has begun the rest of it must follow, and
the next one is drafted wherever it could begin, so a text of any length costs one pass at most.
"""

from __future__ import annotations

from collections.abc import Sequence

from heisd_ros.decoding.lookup import LENGTH

MOST_DRAFTS = 3
"""Drafts of a pass, at most: two fixed texts may begin alike, and the next one."""
TAG_ROOM = LENGTH * MOST_DRAFTS
"""Tokens of all drafts of a pass, at most."""


def tag_drafts(
    tokens: Sequence[int], tags: Sequence[Sequence[int]], old: Sequence[int] = ()
) -> list[tuple[int, ...]]:
    """Returns how an answer may continue by its fixed texts.

    Args:
        tokens: the answer so far.
        tags: ids of the fixed texts, in the order in which an answer has them.
        old: an earlier answer; what followed a text there is drafted behind it.

    Returns:
        drafts, the likeliest first: the rest of texts that the newest tokens begin, then the next
        text from its first token on.
    """
    following = tags[_newest(tokens, tags) + 1 :]
    begun = max((_begun(tokens, tag) for tag in following), default=0)
    starts = [(tag, begun) for tag in following if begun and _begun(tokens, tag) == begun]
    starts += [(tag, 0) for tag in following[:1]]
    drafts = [(*tag[start:], *_behind(tag, old))[:LENGTH] for tag, start in starts[:MOST_DRAFTS]]
    return [draft for draft in dict.fromkeys(drafts) if draft]


def _newest(tokens: Sequence[int], tags: Sequence[Sequence[int]]) -> int:
    """Returns the index of the tag that ends last among these tokens; -1 without any."""
    for end in range(len(tokens), 0, -1):
        for index, tag in enumerate(tags):
            if tag[-1] == tokens[end - 1] and _ends(tokens, end, tag):
                return index
    return -1


def _begun(tokens: Sequence[int], tag: Sequence[int]) -> int:
    """Returns how many tokens of a tag's beginning, not all of it, the newest tokens are."""
    most = min(len(tag) - 1, len(tokens))
    return next((n for n in range(most, 0, -1) if _ends(tokens, len(tokens), tag[:n])), 0)


def _behind(tag: Sequence[int], old: Sequence[int]) -> Sequence[int]:
    ends = (n for n in range(len(tag), len(old) + 1) if _ends(old, n, tag))
    end = next(ends, None)
    return () if end is None else old[end : end + LENGTH]


def _ends(tokens: Sequence[int], end: int, part: Sequence[int]) -> bool:
    """Whether the tokens before an end are these."""
    return end >= len(part) and tuple(tokens[end - len(part) : end]) == tuple(part)
