"""Decodes 7 tokens with the help of drafts: what a pass confirms need not be decoded one by one.

Every pass has the same shape: columns that are certain (the prompt, later one token), then a tree
of drafts behind them. Without drafts this is the plain autoregressive loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from heisd_ros.decoding.acceptance import accept
from heisd_ros.decoding.settings import AcceptanceRule
from heisd_ros.decoding.tree import DraftTree
from heisd_ros.vla.config import ACTION_DIMENSIONS
from heisd_ros.vla.engine import Answers, Engine, PromptSequence


class Judge(Protocol):
    """Decides which drafted tokens pass: `acceptance.accept` and its like."""

    def __call__(
        self,
        rule: AcceptanceRule,
        tree: DraftTree,
        greedy: Sequence[int],
        position: int,
        action_ids: range,
    ) -> tuple[int, ...]:
        """The nodes of the accepted path, from the root on."""
        ...


class _Outcome(NamedTuple):
    """The fields of a `Verification` that a pass extends."""

    tokens: list[int]
    own: list[int]
    margins: list[float]
    accepted: int


@dataclass
class Verification:
    """Tokens of one step as they become known.

    Attributes:
        sequence: the prompt and the tokens that are certain, as the model has read them.
        action_ids: token ids that are actions.
        correct: once a step, what the model said down an accepted draft takes the draft's place
            from the first token on in which they differ. That is another prefix, so it is verified
            in one more pass; where it breaks the bounds, a draft of all tokens is taken as it is.
        record: keep `own` and `margins`, which costs a look at all logits.
        tokens: the tokens so far.
        own: the model's own tokens, each after those accepted before it.
        margins: logit of each of them less that of the runner-up.
        passes: passes through the language model.
        accepted: drafted tokens among `tokens`.
        answers: what the model said further down the draft, from the token after the newest one
            on: its own guess at the rest, after drafted tokens that were not accepted. Where the
            draft branched, down the branch nearest to what it said.
        judge: decides what of a draft passes; by default `accept`.
    """

    sequence: PromptSequence
    action_ids: range
    correct: bool = False
    record: bool = False
    tokens: list[int] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    passes: int = 0
    accepted: int = 0
    answers: tuple[int, ...] = ()
    judge: Judge = accept
    _drafted: _Outcome | None = field(default=None, init=False, repr=False)
    _logits: Tensor | None = field(default=None, init=False, repr=False)
    _rows: list[int] = field(default_factory=list, init=False, repr=False)

    @property
    def prompt_hidden(self) -> Tensor:
        """[1, T, hidden] of the prompt's columns."""
        return self.sequence.prompt_hidden

    @classmethod
    def start(
        cls,
        engine: Engine,
        prompt: Tensor,
        tree: DraftTree,
        rule: AcceptanceRule,
        room: int = 0,
        correct: bool = False,
        record: bool = False,
        judge: Judge = accept,
    ) -> Verification:
        """The prefill, with a draft in it if there is one.

        Args:
            engine: runs the passes.
            prompt: [1, T, hidden] input columns of the prompt.
            tree: drafts of the tokens from the first on; may be empty.
            rule: what accepts them.
            room: nodes of the largest tree that will come later.
            correct: as in `Verification`.
            record: as in `Verification`.
            judge: as in `Verification`.
        """
        fed = _fed(tree, 0)
        sequence, answers = engine.start(prompt, fed, max(len(tree), room))
        rows = engine.model.action_rows
        self = cls(sequence, range(rows.start, rows.stop), correct, record, judge=judge)
        self._take(answers, tree, fed, rule)
        return self

    def advance(self, tree: DraftTree, rule: AcceptanceRule) -> None:
        """Feeds the newest token, with drafts of what follows it; at least one token is won."""
        fed = _fed(tree, len(self.tokens))
        self._take(self.sequence.extend(self.tokens[-1], fed), tree, fed, rule)

    def finish(self) -> None:
        """Decodes what is missing token by token; on a GPU they are read once, at the end."""
        # Each is fed while it is still on its way: nothing waits for the device in between.
        guesses: list[Tensor] = []
        margins: list[Tensor] = []
        token: int | Tensor = self.tokens[-1]
        for _ in range(ACTION_DIMENSIONS - len(self.tokens)):
            answers = self.sequence.extend(token)
            token = answers.greedy
            guesses.append(token)
            if self.record:
                margins.append(_margins(answers.logits))
        self.passes += len(guesses)
        if guesses:
            rest = torch.cat(guesses).tolist()
            self.tokens += rest
            if self.record:
                self.own += rest
                self.margins += torch.cat(margins).tolist()
        self.answers = ()

    def second_choices(self) -> tuple[int, ...]:
        """The model's second choice for each of `answers`; to be asked before the next pass."""
        if not self.answers or self._logits is None:
            return ()
        return tuple(self._logits[self._rows].topk(2, dim=-1).indices[:, 1].tolist())

    @property
    def finished(self) -> bool:
        """Whether all 7 tokens are known."""
        return len(self.tokens) == ACTION_DIMENSIONS

    @property
    def correcting(self) -> bool:
        """Whether a draft of all tokens was accepted, and its correction is to be verified."""
        return self._drafted is not None and not self.finished

    def _take(
        self, answers: Answers, tree: DraftTree, fed: DraftTree, rule: AcceptanceRule
    ) -> None:
        greedy = answers.greedy.tolist()
        path = self.judge(rule, tree, greedy, len(self.tokens), self.action_ids)
        self.passes += 1
        outcome = self._after(answers, greedy, tree, path)
        taken = path
        if self._drafted is not None and len(outcome.tokens) < ACTION_DIMENSIONS:
            outcome = self._drafted
        elif self.correct and (same := _same(tree, path, greedy)) < len(path):
            self.correct, taken = False, path[:same]
            if len(self.tokens) + len(path) == ACTION_DIMENSIONS:
                self._drafted = outcome
            outcome = self._after(answers, greedy, tree, taken)
        self.tokens, self.own, self.margins, self.accepted = outcome
        if len(fed) and not self.finished:
            self.sequence.keep([node for node in taken if node < len(fed)])
        rejected = [node + 1 for node in path[len(taken) :] if node < len(fed)]
        self._logits, self._rows = answers.logits, rejected + _rows_below(fed, path, greedy)
        self.answers = tuple(greedy[row] for row in self._rows)

    def _after(
        self, answers: Answers, greedy: list[int], tree: DraftTree, path: tuple[int, ...]
    ) -> _Outcome:
        """What is known with a path taken, and with what the model says after it for nothing."""
        tokens = [*self.tokens, *(tree.tokens[node] for node in path)]
        if len(tokens) < ACTION_DIMENSIONS:
            tokens.append(greedy[path[-1] + 1 if path else 0])
        own, margins = self.own, self.margins
        if self.record:
            rows = [node + 1 for node in (-1, *path)][: ACTION_DIMENSIONS - len(own)]
            own = own + [greedy[row] for row in rows]
            margins = margins + _margins(answers.logits[rows]).tolist()
        return _Outcome(tokens, own, margins, self.accepted + len(path))


def _same(tree: DraftTree, path: tuple[int, ...], greedy: Sequence[int]) -> int:
    """How many nodes of a path, from the root on, are what the model itself says."""
    parents = (-1, *path)
    differs = (
        tree.tokens[node] != greedy[parent + 1] for parent, node in zip(parents, path, strict=False)
    )
    return next((place for place, other in enumerate(differs) if other), len(path))


def _margins(logits: Tensor) -> Tensor:
    """[N, vocab] -> [N]: the best logit less that of the runner-up."""
    best = logits.float().topk(2, dim=-1).values
    return best[:, 0] - best[:, 1]


def _fed(tree: DraftTree, position: int) -> DraftTree:
    """What of a tree at a position the model has to read: the last of the 7 is followed by nothing.

    It is judged by its parent's logits.
    """
    return tree.above(ACTION_DIMENSIONS - 1 - position)


def _rows_below(fed: DraftTree, path: tuple[int, ...], greedy: Sequence[int]) -> list[int]:
    """Rows of the answers below an accepted path, down the branch nearest to the model's own."""
    rows, node = [], path[-1] if path else -1
    while children := fed.children.get(node):
        own = greedy[node + 1]
        node = min(children, key=lambda child: abs(fed.tokens[child] - own))
        rows.append(node + 1)
    return rows
