"""What an answer holds besides its action: fixed tags, and a reasoning in words.

Both are optional for a family. Codecs without them have neither attribute, so ask here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from heisd_ros.files.bounded import LONGEST_TEXT, one_line

Part = Literal["motion", "action"]
"""What is decoded again behind a kept reasoning: what describes the next motion and the action, or
the action alone."""


@runtime_checkable
class Reasoning(Protocol):
    """The part of an `ActionCodec` that answers with a reasoning have in addition."""

    def text(self, tokens: Sequence[int]) -> str:
        """Returns what an answer says in words, without its action."""
        ...

    def kept(self, tokens: Sequence[int], again: Part) -> tuple[int, ...]:
        """Returns the beginning of an answer up to what is decoded again.

        Returns:
            the ids; empty if the answer has nothing to keep.
        """
        ...


def reasoning_of(codec: Any) -> Reasoning | None:
    """Returns a codec's reasoning; None if its answers hold none."""
    return codec if isinstance(codec, Reasoning) else None


def tags_of(codec: Any) -> tuple[tuple[int, ...], ...]:
    """Returns the fixed texts of a codec's answers: ids, in the order in which an answer has them.

    Any may be missing in an answer. Empty for codecs that name none.
    """
    return tuple(getattr(codec, "tags", ()))


def said(codec: Any, tokens: Sequence[int]) -> str:
    """Returns the reasoning of an answer as one line of valid text, at most `LONGEST_TEXT` long."""
    reasoning = reasoning_of(codec)
    return "" if reasoning is None else one_line(reasoning.text(tokens), LONGEST_TEXT)
