"""Decodes 7 tokens with the help of drafts: what a pass confirms need not be decoded one by one.

Every pass has the same shape: columns that are certain (the prompt, later one token), then a tree
of drafts behind them. Without drafts this is the plain autoregressive loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from heisd_ros.decoding.acceptance import accept
from heisd_ros.decoding.settings import AcceptanceRule
from heisd_ros.decoding.tree import DraftTree
from heisd_ros.vla.config import ACTION_DIMENSIONS
from heisd_ros.vla.language import KVCache
from heisd_ros.vla.model import VLAModel


@dataclass
class Verification:
    """Tokens of one step as they become known.

    Attributes:
        model: the model.
        cache: keys and values of all columns that are certain.
        correct: of an accepted draft, take the model's own tokens after each drafted one.
        judge: keep `own` and `margins`, which costs a look at all logits.
        tokens: the tokens so far.
        own: the model's own tokens, each after those accepted before it.
        margins: logit of each of them less that of the runner-up.
        passes: passes through the language model.
        accepted: drafted tokens among `tokens`.
        answers: what the model said further down the draft, from the token after the newest one
            on: its own guess at the rest, after drafted tokens that were not accepted.
        prompt_hidden: [1, T, hidden] of the prompt's columns.
    """

    model: VLAModel
    cache: KVCache
    correct: bool = False
    judge: bool = False
    tokens: list[int] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    passes: int = 0
    accepted: int = 0
    answers: tuple[int, ...] = ()
    prompt_hidden: Tensor = field(init=False)

    @classmethod
    def start(
        cls,
        model: VLAModel,
        prompt: Tensor,
        tree: DraftTree,
        rule: AcceptanceRule,
        room: int = 0,
        correct: bool = False,
        judge: bool = False,
    ) -> Verification:
        """The prefill, with a draft in it if there is one.

        Args:
            model: the model.
            prompt: [1, T, hidden] input columns of the prompt.
            tree: drafts of the tokens from the first on; may be empty.
            rule: what accepts them.
            room: nodes of the largest tree that will come later.
            correct: as in `Verification`.
            judge: as in `Verification`.
        """
        capacity = prompt.shape[1] + max(len(tree), room) + ACTION_DIMENSIONS
        self = cls(model, model.new_cache(1, capacity), correct, judge)
        hidden = self._pass(prompt, tree, rule)
        self.prompt_hidden = hidden[:, : prompt.shape[1]]
        return self

    def advance(self, tree: DraftTree, rule: AcceptanceRule) -> None:
        """Feeds the newest token, with drafts of what follows it; at least one token is won."""
        ids = torch.tensor([self.tokens[-1:]], device=self.cache.keys[0].device)
        self._pass(self.model.language_model.model.embed_tokens(ids), tree, rule)

    @property
    def finished(self) -> bool:
        """Whether all 7 tokens are known."""
        return len(self.tokens) == ACTION_DIMENSIONS

    def _pass(self, certain: Tensor, tree: DraftTree, rule: AcceptanceRule) -> Tensor:
        language, position = self.model.language_model, len(self.tokens)
        # The last token's node is judged by its parent's logits and followed by nothing.
        fed = tree.above(ACTION_DIMENSIONS - 1 - position)
        start, columns = self.cache.length, certain
        if len(fed):
            ids = torch.tensor([fed.tokens], device=certain.device)
            columns = torch.cat([certain, language.model.embed_tokens(ids)], dim=1)
        hidden = language.model(
            columns, self.cache, *_layout(start, certain.shape[1], fed, certain.device)
        )
        logits = language.logits(hidden[0, certain.shape[1] - 1 :])
        greedy = logits.argmax(dim=-1).tolist()
        ids_of_actions = range(self.model.action_rows.start, self.model.action_rows.stop)
        path = accept(rule, tree, greedy, position, ids_of_actions)

        self.passes += 1
        self.accepted += len(path)
        if self.correct:
            # Each follows drafted tokens within the bounds, not the plain loop's own.
            self.tokens += [greedy[parent + 1] for parent in (-1, *path)[: len(path)]]
        else:
            self.tokens += [tree.tokens[node] for node in path]
        if self.judge:
            self._judge(logits, greedy, path)
        end = start + certain.shape[1]
        self.cache.keep(end, [end + node for node in path if node < len(fed)])
        if not self.finished:
            # What the model says after the last accepted token comes for nothing.
            self.tokens.append(greedy[path[-1] + 1 if path else 0])
        self.answers = _answers(fed, path, greedy)
        return hidden

    def _judge(self, logits: Tensor, greedy: list[int], path: tuple[int, ...]) -> None:
        """Keeps what the model said after each accepted node, and by how much."""
        room = ACTION_DIMENSIONS - len(self.own)
        rows = [node + 1 for node in (-1, *path)][:room]
        best = logits[rows].float().topk(2, dim=-1).values
        self.own += [greedy[row] for row in rows]
        self.margins += (best[:, 0] - best[:, 1]).tolist()


def _answers(fed: DraftTree, path: tuple[int, ...], greedy: list[int]) -> tuple[int, ...]:
    """What the model says down the first branch below an accepted path."""
    answers, node = [], path[-1] if path else -1
    while children := fed.children.get(node):
        node = children[0]
        answers.append(greedy[node + 1])
    return tuple(answers)


def _layout(
    start: int, certain: int, tree: DraftTree, device: torch.device
) -> tuple[Tensor | None, Tensor | None]:
    """Position ids [1, T] and mask [T, start + T] of certain columns and a tree behind them.

    Siblings share a position; a node sees what is certain, its ancestors and itself. None where
    the defaults of the language model say the same.
    """
    if not len(tree):
        return None, None
    count = certain + len(tree)
    levels = torch.tensor(tree.levels, device=device)
    positions = torch.cat([torch.arange(certain, device=device), certain + levels]) + start
    mask = torch.ones(count, start + count, dtype=torch.bool, device=device).tril(start)
    mask[certain:, start + certain :] = tree.mask(device)
    return positions.unsqueeze(0), mask
