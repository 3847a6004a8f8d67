"""How much of a drafter's drafts the VLA would accept, without running it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from heisd_ros.training.distillation import TeacherFrames
from heisd_ros.vla.drafter import Drafter
from heisd_ros.vla.llama import LanguageModel


@dataclass(frozen=True)
class DraftAcceptance:
    """Exact acceptance over N frames.

    Attributes:
        frames: N.
        depth: Levels of the drafts.
        top_k: Children of a node.
        nodes: Nodes of a tree at most.
        reached: Share of the frames where at least 1, 2, ... `depth` drafted tokens were accepted.
    """

    frames: int
    depth: int
    top_k: int
    nodes: int
    reached: tuple[float, ...]

    @property
    def length(self) -> float:
        """Accepted tokens a draft, in the mean; the first of the 7 tokens is never drafted."""
        return sum(self.reached)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, rounded to 4 places."""
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
    language_model: LanguageModel,
    frames: TeacherFrames,
    chosen: Tensor,
    depth: int,
    top_k: int,
    nodes: int,
) -> DraftAcceptance:
    """Drafts for some frames and compares with the tokens that the VLA chose there.

    Args:
        drafter: The drafter.
        language_model: The VLA's, in float32.
        frames: What the VLA made of the frames.
        chosen: [N] which of them.
        depth: Levels of the drafts.
        top_k: Children of a node.
        nodes: Nodes of a tree at most.
    """
    device = language_model.lm_head.weight.device
    columns = frames.embeds.shape[1]
    counts = [0] * depth
    for row in chosen.tolist():
        first = columns - int(frames.lengths[row])
        state = drafter.start(
            frames.hidden[row : row + 1, first:columns].to(device).float(),
            frames.embeds[row : row + 1, first:].to(device).float(),
            int(frames.tokens[row, 0]),
        )
        tokens, parents = drafter.propose(language_model, state, depth, top_k, nodes)
        for level in range(accepted_length(tokens, parents, frames.tokens[row, 1:].tolist())):
            counts[level] += 1
    reached = tuple(count / len(chosen) for count in counts)
    return DraftAcceptance(len(chosen), depth, top_k, nodes, reached)


def accepted_length(tokens: Sequence[int], parents: Sequence[int], greedy: Sequence[int]) -> int:
    """Tokens of the longest path of a tree that are the greedy ones.

    Args:
        tokens: Token ids of the nodes.
        parents: Index of each node's parent, -1 without one.
        greedy: The tokens to be met, from the first level on.
    """
    place = {(p, token): node for node, (token, p) in enumerate(zip(tokens, parents, strict=True))}
    node, length = -1, 0
    for token in greedy:
        if (node, token) not in place:
            break
        node, length = place[node, token], length + 1
    return length
