"""Which drafted tokens the model's own greedy tokens let pass.

Where bins are ordered a token has a bias: how many bins it lies from the greedy one
(`AnswerFormat.distance`). Where nothing orders them a token is the greedy one or is rejected. Each
is judged on the logits after its own drafted predecessors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heisd_ros.decoding.settings import AcceptanceRule
from heisd_ros.decoding.tree import DraftTree
from heisd_ros.vla.action_codec import POSE_GROUPS, AnswerFormat

TOKEN_BIAS = 9
"""``token_relaxed``: greatest bias of a token, bins (SpecVLA)."""
GROUP_TOKEN_BIAS, GROUP_BIAS = 15, 30
"""``sequence_relaxed``: greatest bias of a token and of a group's sum, bins (HeiSD)."""


@dataclass(frozen=True)
class _Path:
    """Nodes of a path so far, the answer down to them, its bias, and that of its group."""

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
) -> tuple[int, ...]:
    """The longest path that a rule accepts; of equally long ones, that of the least bias.

    A path ends where the answer does.

    Args:
        rule: the rule.
        tree: the drafts.
        greedy: the greedy token after what is certain, then after each node that needs one:
            those at the last place of the longest answer do not.
        tokens: of the answer, before the tree's roots.
        answer: how it is written.

    Returns:
        the nodes of the path, from the root on.
    """
    group_of = {position: group for group in answer.groups for position in group}
    best = _Path(tuple(tokens))
    open_paths = [best]
    while open_paths:
        path = open_paths.pop()
        # A group is accepted whole, or as far as it is what the model itself would say.
        whole = rule != "sequence_relaxed" or path.group_bias == 0
        if whole and (len(path.nodes), -path.bias) > (len(best.nodes), -best.bias):
            best = path
        last = path.nodes[-1] if path.nodes else -1
        children = tree.children.get(last, ())
        if not children or answer.finished(path.tokens):
            continue
        at = len(path.tokens)
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
    """Whether an answer stays as near to the model's own as ``sequence_relaxed`` asks for.

    Args:
        tokens: the answer.
        verified: the model's own.
        answer: how they are written (None: position and rotation in bins, the rest as it is).
    """
    if len(tokens) != len(verified):
        return False
    groups = POSE_GROUPS if answer is None else answer.groups
    distance = _bins if answer is None else answer.distance
    bias = [distance(a, b, n) for n, (a, b) in enumerate(zip(tokens, verified, strict=True))]
    known = [b for b in bias if b is not None]
    if len(known) < len(bias):
        return False
    held = [known[group.start : group.stop] for group in groups]
    grouped = {position for group in groups for position in group}
    return all(max(g) <= GROUP_TOKEN_BIAS and sum(g) <= GROUP_BIAS for g in held) and not any(
        b for position, b in enumerate(known) if position not in grouped
    )


def _bins(token: int, verified: int, _position: int) -> int:
    return abs(token - verified)


def _passes(rule: AcceptanceRule, bias: int, group_bias: int) -> bool:
    if rule == "exact":
        return bias == 0
    if rule == "token_relaxed":
        return bias <= TOKEN_BIAS
    return bias <= GROUP_TOKEN_BIAS and group_bias <= GROUP_BIAS
