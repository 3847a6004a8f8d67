"""Which drafted tokens are accepted where each covers several numbers at once (`SpannedActions`).

A token of FAST holds coefficients of a cosine transform, each of which moves one number in all
actions of the chunk. So a draft is compared coefficient by coefficient, wherever it covers the same
ones as the model's own token does, alone or with the tokens behind it. What the differences can
move a number by is added up over the whole answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

from heisd_ros.decoding.tree import DraftTree
from heisd_ros.vla.action_codec import SpannedActions


class Limits(NamedTuple):
    """What a relaxed rule allows, bins.

    Attributes:
        each: largest difference of a number of an action.
        together: largest sum of them over the numbers of an action.
    """

    each: float
    together: float

    def allow(self, spent: Sequence[float]) -> bool:
        """Whether they allow differences of the numbers of an action."""
        return max(spent) <= self.each and sum(spent) <= self.together


@dataclass(frozen=True)
class Compared:
    """How an answer so far compares with the model's own tokens.

    Attributes:
        place: coefficients that it covers.
        owed: coefficients that the model's newest different token covers, and the answer not yet.
        spent: largest possible difference of each number of an action, bins.
    """

    spent: tuple[float, ...]
    place: int = 0
    owed: tuple[int, ...] = ()

    @classmethod
    def of(cls, tokens: Sequence[int], own: Sequence[int], answer: SpannedActions) -> Compared:
        """Compares an answer that was accepted with the model's own token at each position."""
        self = cls((0.0,) * answer.dimensions)
        for token, greedy in zip(tokens, own, strict=True):
            after = self.after(token, greedy, answer)
            assert after is not None, "an accepted token covers what the model's own does"
            self = after
        return self

    def after(self, token: int, greedy: int, answer: SpannedActions) -> Compared | None:
        """Adds a token; None if it does not cover the same coefficients as the model's own."""
        span, steps = answer.span(token), answer.steps
        if not self.owed and token == greedy:
            # Behind a part of a coefficient it is not known which ones follow: none may differ.
            unknown = not span and token in answer.action_ids
            return replace(self, place=len(steps) if unknown else self.place + len(span))
        owed = self.owed or answer.span(greedy)
        if not span or len(span) > len(owed) or self.place + len(span) > len(steps):
            return None
        return replace(self, owed=owed).adding(span, answer)

    def adding(self, span: Sequence[int], answer: SpannedActions) -> Compared:
        """Adds coefficients in the place of owed ones."""
        spent, end = list(self.spent), self.place + len(span)
        for at, drafted, wanted in zip(range(self.place, end), span, self.owed, strict=False):
            if drafted != wanted:
                spent[at % len(spent)] += abs(drafted - wanted) * answer.steps[at]
        return Compared(tuple(spent), end, self.owed[len(span) :])


def accept_spans(
    limits: Limits,
    tree: DraftTree,
    greedy: Sequence[int],
    tokens: Sequence[int],
    answer: SpannedActions,
    own: Sequence[int],
) -> tuple[int, ...]:
    """Finds the longest path within limits; of equally long ones, the nearest.

    Args:
        limits: the limits; they hold for the whole answer.
        tree: as in `acceptance.accept`.
        greedy: as there.
        tokens: as there.
        answer: format of the answer.
        own: the model's own token at the position of each of `tokens`.

    Returns:
        the nodes of the path, starting at the root. It ends where both cover the same coefficients.
    """
    best: tuple[int, ...] = ()
    nearest = 0.0
    start = Compared.of(tokens, own, answer)
    open_paths: list[tuple[tuple[int, ...], tuple[int, ...], Compared]] = [((), (*tokens,), start)]
    while open_paths:
        nodes, said, compared = open_paths.pop()
        spent = sum(compared.spent)
        if not compared.owed and (len(nodes), -spent) > (len(best), -nearest):
            best, nearest = nodes, spent
        last = nodes[-1] if nodes else -1
        children = tree.children.get(last, ())
        if not children or answer.finished(said):
            continue
        for node in reversed(children):
            token = tree.tokens[node]
            after = compared.after(token, greedy[last + 1], answer)
            if after is not None and limits.allow(after.spent):
                open_paths.append(((*nodes, node), (*said, token), after))
    return best


def spans_within(
    limits: Limits, tokens: Sequence[int], verified: Sequence[int], answer: SpannedActions
) -> bool:
    """Whether two answers, by whichever tokens, are equal or differ within limits."""
    if tuple(tokens) == tuple(verified):
        return True
    (words, one), (own_words, other) = (_parts(said, answer) for said in (tokens, verified))
    if words != own_words or one is None or other is None:
        return False
    if not len(one) == len(other) == len(answer.steps):
        return False
    whole = Compared((0.0,) * answer.dimensions, owed=other)
    return limits.allow(whole.adding(one, answer).spent)


def _parts(
    tokens: Sequence[int], answer: SpannedActions
) -> tuple[list[int], tuple[int, ...] | None]:
    """Returns an answer's words, and its coefficients; None if some cannot be told."""
    spans = [answer.span(token) for token in tokens if token in answer.action_ids]
    words = [token for token in tokens if token not in answer.action_ids]
    return words, None if () in spans else tuple(chain.from_iterable(spans))
