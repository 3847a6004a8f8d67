"""Drafts as a tree of tokens: what they share is verified once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from heisd_ros.vla.action_codec import POSE_GROUPS


@dataclass(frozen=True)
class DraftTree:
    """N drafted tokens, level by level, each below the token that it follows.

    Attributes:
        tokens: [N] token ids.
        parents: [N] index of the parent, which stands before its children; -1: no drafted parent.

    Raises:
        ValueError: lengths differ, or a level stands before the one above it.
    """

    tokens: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Validates the order."""
        if len(self.tokens) != len(self.parents):
            raise ValueError(f"{len(self.tokens)} tokens, {len(self.parents)} parents")
        if any(not -1 <= parent < node for node, parent in enumerate(self.parents)):
            raise ValueError(f"a parent must stand before its children, got {self.parents}")
        if any(a > b for a, b in zip(self.levels, self.levels[1:], strict=False)):
            raise ValueError(f"nodes must stand level by level, got levels {self.levels}")

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.tokens)

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """[N] level of each node; 0 for those without a parent."""
        levels: list[int] = []
        for parent in self.parents:
            levels.append(0 if parent < 0 else levels[parent] + 1)
        return tuple(levels)

    @cached_property
    def children(self) -> dict[int, tuple[int, ...]]:
        """Children of each node that has some, in order; those of -1 are the roots."""
        children: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents):
            children.setdefault(parent, []).append(node)
        return {parent: tuple(nodes) for parent, nodes in children.items()}

    @classmethod
    def from_chains(cls, chains: Iterable[Sequence[int]]) -> DraftTree:
        """Chains that share their beginnings; the first chain's nodes come first in each level."""
        nodes: dict[tuple[int, ...], None] = {}
        for chain in chains:
            for end in range(1, len(chain) + 1):
                nodes.setdefault(tuple(int(token) for token in chain[:end]))
        ordered = sorted(nodes, key=len)
        index = {prefix: i for i, prefix in enumerate(ordered)} | {(): -1}
        return cls(
            tokens=tuple(prefix[-1] for prefix in ordered),
            parents=tuple(index[prefix[:-1]] for prefix in ordered),
        )

    @classmethod
    def crossed(
        cls, chains: Sequence[Sequence[int]], groups: Sequence[range] = POSE_GROUPS
    ) -> DraftTree:
        """Any chain's first group followed by any chain's second one: position, then rotation.

        The rest is never crossed: below a pair stands the gripper of the chain that gave the
        position (and, where another chain is the same up to there, that one's as well).

        Args:
            chains: the drafts.
            groups: `AnswerFormat.groups`; with less than two nothing is crossed.
        """
        own = [tuple(chain) for chain in chains]
        if len(groups) < 2:
            return cls.from_chains(own)
        cut, end = groups[1].start, groups[1].stop
        mixed = [(*a[:cut], *b[cut:end], *a[end:]) for a in own for b in own if a is not b]
        return cls.from_chains([*own, *mixed])

    def chains(self) -> list[tuple[int, ...]]:
        """Every path from a root to a leaf, in the order of the leaves."""
        paths: list[tuple[int, ...]] = []
        for token, parent in zip(self.tokens, self.parents, strict=True):
            paths.append((*(paths[parent] if parent >= 0 else ()), token))
        return [path for node, path in enumerate(paths) if node not in self.children]

    def tails(self, level: int) -> DraftTree:
        """What was drafted from a level on, whatever was drafted above it."""
        return DraftTree.from_chains([chain[level:] for chain in self.chains()])

    def above(self, level: int) -> DraftTree:
        """The nodes above a level."""
        return self.first(sum(own < level for own in self.levels))

    def first(self, count: int) -> DraftTree:
        """The first nodes, as many as given: those of the upper levels."""
        return DraftTree(self.tokens[:count], self.parents[:count])

    def mask(self, device: torch.device) -> Tensor:
        """[N, N] boolean: a node sees its ancestors and itself."""
        count = len(self)
        sees: list[list[bool]] = []
        for node, parent in enumerate(self.parents):
            sees.append(list(sees[parent]) if parent >= 0 else [False] * count)
            sees[node][node] = True
        return torch.tensor(sees, dtype=torch.bool, device=device).view(count, count)


NO_DRAFT = DraftTree()
