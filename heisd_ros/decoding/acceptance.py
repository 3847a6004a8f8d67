"""Which drafted tokens are accepted, given the model's greedy tokens.

Where bins are ordered, a token has a bias: its distance from the greedy token in bins
(`AnswerFormat.distance`). Where they are not, a token that differs from the greedy one is rejected,
unless it stands for numbers that can be compared (`SpannedActions`, module `spans`).
Each token is judged on the logits after its own drafted predecessors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heisd_ros.decoding.settings import AcceptanceRule
from heisd_ros.decoding.spans import Limits, accept_spans, spans_within
from heisd_ros.decoding.tree import DraftTree
from heisd_ros.vla.action_codec import POSE_GROUPS, AnswerFormat, PlacedActions, SpannedActions

TOKEN_BIAS = 9
"""``token_relaxed``: greatest bias of a token, bins (SpecVLA)."""
GROUP_TOKEN_BIAS, GROUP_BIAS = 15, 30
"""``sequence_relaxed``: greatest bias of a token and of a group's sum, bins (HeiSD)."""
_LIMITS = {
    "token_relaxed": Limits(TOKEN_BIAS, math.inf),
    "sequence_relaxed": Limits(GROUP_TOKEN_BIAS, GROUP_BIAS),
}


@dataclass(frozen=True)
class _Path:
    """The nodes of a path so far, the answer up to them, and the bias of the path and its group."""

    tokens: tuple[int, ...]
    nodes: tuple[int, ...] = ()
    bias: int = 0
    group_bias: int = 0


def accept(
    rule: AcceptanceRule,
    tree: DraftTree,
    greedy: Sequence[int],
    tokens: Sequence[int],
    answer: AnswerFormat,
    own: Sequence[int] = (),
) -> tuple[int, ...]:
    """Finds the longest path that a rule accepts; of equally long ones, that with the least bias.

    A path ends where the answer does.

    Args:
        rule: the acceptance rule.
        tree: the drafts.
        greedy: the greedy token after the certain tokens, then after each node that needs one;
            nodes at the last position of the longest answer do not.
        tokens: tokens of the answer before the tree's roots.
        answer: format of the answer.
        own: the model's own token at the position of each of `tokens`; needed for `SpannedActions`,
            whose differences add up over an answer.

    Returns:
        the nodes of the path, starting at the root.
    """
    if rule != "exact" and isinstance(answer, SpannedActions):
        return accept_spans(_LIMITS[rule], tree, greedy, tokens, answer, own)
    place = place_of(answer)
    group_of = {position: group for group in groups_of(answer) for position in group}
    best = _Path(tuple(tokens))
    open_paths = [best]
    while open_paths:
        path = open_paths.pop()
        # A group is accepted completely, or up to where it differs from the greedy tokens.
        whole = rule != "sequence_relaxed" or path.group_bias == 0
        if whole and (len(path.nodes), -path.bias) > (len(best.nodes), -best.bias):
            best = path
        last = path.nodes[-1] if path.nodes else -1
        children = tree.children.get(last, ())
        if not children or answer.finished(path.tokens):
            continue
        at = place(path.tokens)
        ends = at not in group_of or at + 1 == group_of[at].stop
        for node in reversed(children):
            token = tree.tokens[node]
            bias = answer.distance(token, greedy[last + 1], at)
            if bias is None or not _passes(rule, bias, path.group_bias + bias):
                continue
            open_paths.append(
                _Path(
                    (*path.tokens, token),
                    (*path.nodes, node),
                    path.bias + bias,
                    0 if ends else path.group_bias + bias,
                )
            )
    return best.nodes


def within_tolerance(
    tokens: Sequence[int], verified: Sequence[int], answer: AnswerFormat | None = None
) -> bool:
    """Whether an answer is as close to the model's own as ``sequence_relaxed`` requires.

    Args:
        tokens: the answer.
        verified: the model's own answer.
        answer: format of both (None: position and rotation in bins, the rest must be equal).
    """
    if isinstance(answer, SpannedActions):
        return spans_within(_LIMITS["sequence_relaxed"], tokens, verified, answer)
    if len(tokens) != len(verified):
        return False
    groups = POSE_GROUPS if answer is None else groups_of(answer)
    distance = _bins if answer is None else answer.distance
    place = len if answer is None else place_of(answer)
    sums = dict.fromkeys(groups, 0)
    for n, (token, own) in enumerate(zip(tokens, verified, strict=True)):
        at = place(tokens[:n])
        bias = distance(token, own, at)
        group = next((group for group in groups if at in group), None)
        if bias is None or bias > (0 if group is None else GROUP_TOKEN_BIAS):
            return False
        if group is not None:
            sums[group] += bias
    return all(total <= GROUP_BIAS for total in sums.values())


def acts_alike(tokens: Sequence[int], verified: Sequence[int], answer: AnswerFormat) -> bool:
    """Whether the actions of two answers are within tolerance, whatever words are around them."""
    return within_tolerance(action_ids(tokens, answer), action_ids(verified, answer), answer)


def action_ids(tokens: Sequence[int], answer: AnswerFormat) -> tuple[int, ...]:
    """Returns the ids of an answer that stand for its actions."""
    return tuple(token for token in tokens if token in answer.action_ids)


def groups_of(answer: AnswerFormat) -> tuple[range, ...]:
    """Returns the places whose tokens are accepted together; see `place_of`."""
    return answer.action_groups if isinstance(answer, PlacedActions) else answer.groups


def place_of(answer: AnswerFormat) -> Callable[[Sequence[int]], int]:
    """Returns what maps an answer so far to the place of the next token.

    It is the position within the answer, or within the action where that has no fixed position.
    """
    return answer.place if isinstance(answer, PlacedActions) else len


def _bins(token: int, verified: int, _position: int) -> int:
    return abs(token - verified)


def _passes(rule: AcceptanceRule, bias: int, group_bias: int) -> bool:
    if rule == "exact":
        return bias == 0
    if rule == "token_relaxed":
        return bias <= TOKEN_BIAS
    return bias <= GROUP_TOKEN_BIAS and group_bias <= GROUP_BIAS
