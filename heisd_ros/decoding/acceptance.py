"""Which drafted tokens the model's own greedy tokens let pass.

Bins are ordered, so a token has a bias: how many bins it lies from the greedy one. Each token is
judged on the logits after its own drafted predecessors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heisd_ros.decoding.settings import AcceptanceRule
from heisd_ros.decoding.tree import GRIPPER, POSITION, ROTATION, DraftTree
from heisd_ros.vla.config import ACTION_DIMENSIONS

TOKEN_BIAS = 9
"""``token_relaxed``: greatest bias of a token, bins (SpecVLA)."""
GROUP_TOKEN_BIAS, GROUP_BIAS = 15, 30
"""``sequence_relaxed``: greatest bias of a token and of a group's sum, bins (HeiSD)."""

_GROUP_END = {position: group.stop for group in (POSITION, ROTATION, GRIPPER) for position in group}


@dataclass(frozen=True)
class _Path:
    """Nodes of a path so far, its bias, and that of the group it is in."""

    nodes: tuple[int, ...] = ()
    bias: int = 0
    group_bias: int = 0


def accept(
    rule: AcceptanceRule,
    tree: DraftTree,
    greedy: Sequence[int],
    position: int,
    action_ids: range,
) -> tuple[int, ...]:
    """The longest path that a rule accepts; of equally long ones, that of the least bias.

    Args:
        rule: the rule.
        tree: the drafts.
        greedy: the greedy token after what is certain, then after each node that needs one:
            those at the last of the 7 positions do not.
        position: of the tree's roots within the 7 tokens.
        action_ids: token ids that are actions; any other is equal to itself or not accepted.

    Returns:
        the nodes of the path, from the root on.
    """
    best = _Path()
    open_paths = [_Path()]
    while open_paths:
        path = open_paths.pop()
        at = position + len(path.nodes)
        # A group is accepted whole, or as far as it is what the model itself would say.
        whole = rule != "sequence_relaxed" or path.group_bias == 0
        if whole and (len(path.nodes), -path.bias) > (len(best.nodes), -best.bias):
            best = path
        if at == ACTION_DIMENSIONS:
            continue
        last = path.nodes[-1] if path.nodes else -1
        for node in reversed(tree.children.get(last, ())):
            bias = _bias(tree.tokens[node], greedy[last + 1], action_ids)
            group_bias = path.group_bias + bias
            if not _passes(rule, at, bias, group_bias):
                continue
            ends = at + 1 == _GROUP_END[at]
            open_paths.append(
                _Path((*path.nodes, node), path.bias + bias, 0 if ends else group_bias)
            )
    return best.nodes


def within_tolerance(tokens: Sequence[int], verified: Sequence[int]) -> bool:
    """Whether 7 tokens stay as near to the model's own as ``sequence_relaxed`` asks for."""
    bias = [abs(a - b) for a, b in zip(tokens, verified, strict=True)]
    groups_hold = all(
        max(bias[g.start : g.stop]) <= GROUP_TOKEN_BIAS
        and sum(bias[g.start : g.stop]) <= GROUP_BIAS
        for g in (POSITION, ROTATION)
    )
    return groups_hold and bias[GRIPPER.start] == 0


def _bias(token: int, greedy: int, action_ids: range) -> int:
    known = token in action_ids and greedy in action_ids
    return abs(token - greedy) if known or token == greedy else len(action_ids)


def _passes(rule: AcceptanceRule, position: int, bias: int, group_bias: int) -> bool:
    if rule == "exact" or position in GRIPPER:
        return bias == 0
    if rule == "token_relaxed":
        return bias <= TOKEN_BIAS
    return bias <= GROUP_TOKEN_BIAS and group_bias <= GROUP_BIAS
