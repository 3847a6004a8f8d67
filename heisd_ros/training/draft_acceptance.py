"""How much of a drafter's drafts the VLA would accept, computed without running it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from heisd_ros.training.distillation import NO_TOKEN, TeacherFrames
from heisd_ros.vla.drafter import Drafter
from heisd_ros.vla.token_model import Vocabulary


@dataclass(frozen=True)
class DraftAcceptance:
    """Exact acceptance over N frames.

    Attributes:
        frames: N, the number of frames.
        depth: Levels of the drafts.
        top_k: Children of a node.
        nodes: Greatest number of nodes in a tree.
        reached: Share of the frames where at least 1, 2, ... `depth` drafted tokens were accepted.
    """

    frames: int
    depth: int
    top_k: int
    nodes: int
    reached: tuple[float, ...]

    @property
    def length(self) -> float:
        """Mean number of accepted tokens per draft; the first of an answer is never drafted."""
        return sum(self.reached)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, rounded to 4 places."""
        return {
            "frames": self.frames,
            "depth": self.depth,
            "top_k": self.top_k,
            "nodes": self.nodes,
            "length": round(self.length, 4),
            "reached": [round(share, 4) for share in self.reached],
        }


def measure_acceptance(
    drafter: Drafter,
    vocabulary: Vocabulary,
    frames: TeacherFrames,
    chosen: Tensor,
    depth: int,
    top_k: int,
    nodes: int,
) -> DraftAcceptance:
    """Drafts for some frames and compares the drafts with the tokens that the VLA chose.

    A frame gives one draft. In answers longer than a draft it begins at another token from frame
    to frame.

    Args:
        drafter: The drafter.
        vocabulary: The VLA's embedding and LM head, in float32.
        frames: The VLA's outputs for the frames.
        chosen: [N] indices of the frames to use.
        depth: Levels of the drafts.
        top_k: Children of a node.
        nodes: Greatest number of nodes in a tree.
    """
    device = next(drafter.parameters()).device
    columns = frames.embeds.shape[1]
    counts = [0] * depth
    for row in chosen.tolist():
        first = columns - int(frames.lengths[row])
        answer = [token for token in frames.tokens[row].tolist() if token != NO_TOKEN]
        at = row % max(1, len(answer) - depth)
        hidden = frames.hidden[row, first:].to(device).float()
        embeds = frames.embeds[row : row + 1, first:].to(device).float()
        own = columns - first
        state = drafter.start(hidden[None, :own], embeds, answer[0])
        state = drafter.follow(vocabulary, state, hidden[own : own + at], answer[1 : at + 1])
        tokens, parents = drafter.propose(vocabulary, state, depth, top_k, nodes)
        for level in range(accepted_length(tokens, parents, answer[at + 1 :])):
            counts[level] += 1
    reached = tuple(count / len(chosen) for count in counts)
    return DraftAcceptance(len(chosen), depth, top_k, nodes, reached)


def accepted_length(tokens: Sequence[int], parents: Sequence[int], greedy: Sequence[int]) -> int:
    """Returns the length of a tree's longest path that equals the greedy tokens.

    Args:
        tokens: Token ids of the nodes.
        parents: Index of each node's parent, -1 without one.
        greedy: The greedy tokens, from the first level on.
    """
    place = {(p, token): node for node, (token, p) in enumerate(zip(tokens, parents, strict=True))}
    node, length = -1, 0
    for token in greedy:
        if (node, token) not in place:
            break
        node, length = place[node, token], length + 1
    return length
