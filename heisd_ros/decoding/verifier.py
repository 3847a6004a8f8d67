"""Decodes an answer with the help of drafts: one pass confirms several tokens at once.

Every pass has the same shape: columns that are certain (the prompt, later one token), then a tree
of drafts. Without drafts this is the plain autoregressive loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from heisd_ros.decoding.acceptance import accept
from heisd_ros.decoding.settings import AcceptanceRule
from heisd_ros.decoding.tree import NO_DRAFT, DraftTree
from heisd_ros.vla.action_codec import AnswerFormat
from heisd_ros.vla.engine import Engine, PassLogits, Prompt, PromptSequence


class Judge(Protocol):
    """Decides which drafted tokens pass: `acceptance.accept` and its like."""

    def __call__(
        self,
        rule: AcceptanceRule,
        tree: DraftTree,
        greedy: Sequence[int],
        tokens: Sequence[int],
        answer: AnswerFormat,
        own: Sequence[int] = (),
    ) -> tuple[int, ...]:
        """Returns the nodes of the accepted path, starting at the root."""
        ...


class SecondChoice(NamedTuple):
    """A model's second choice of a token.

    Attributes:
        token: its id.
        behind: the best logit minus its own.
    """

    token: int
    behind: float


class _Outcome(NamedTuple):
    """The fields of a `Verification` that a pass extends."""

    tokens: list[int]
    own: list[int]
    margins: list[float]
    accepted: int


@dataclass
class Verification:
    """The tokens of one step as they become known.

    Attributes:
        sequence: the prompt and the certain tokens, as the model has read them.
        answer: format of an answer.
        room: nodes of the largest tree that fits a pass; the lower levels of a larger one are cut.
        correct: once per step, the model's own tokens along an accepted draft replace the draft
            from the first token on in which they differ. That is another prefix, so it is verified
            in one more pass; if it breaks the bounds, a draft of all tokens is taken as it is.
        record: keep `margins`, which needs all logits.
        tokens: the tokens so far.
        own: the model's own tokens, each after those accepted before it; those that a prompt began
            the answer with are taken as its own.
        margins: logit of each of them minus that of the runner-up.
        passes: passes through the language model.
        accepted: number of drafted tokens among `tokens`.
        answers: the model's greedy tokens further down the draft, from the token after the newest
            one on: its own guess at the rest, after drafted tokens that were not accepted. Where
            the draft branches, this follows the branch nearest to the greedy token.
        hidden: the model's hidden states [N, hidden] of the tokens that it has read, pass by pass;
            those of the answer's tokens but the last, if no token was decoded by `finish`.
        judge: decides which drafted tokens are accepted; by default `accept`.
    """

    sequence: PromptSequence
    answer: AnswerFormat
    room: int
    correct: bool = False
    record: bool = False
    tokens: list[int] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    passes: int = 0
    accepted: int = 0
    answers: tuple[int, ...] = ()
    hidden: list[Tensor] = field(default_factory=list)
    judge: Judge = accept
    _drafted: _Outcome | None = field(default=None, init=False, repr=False)
    _logits: Tensor | None = field(default=None, init=False, repr=False)
    _rows: list[int] = field(default_factory=list, init=False, repr=False)

    @property
    def prompt_hidden(self) -> Tensor:
        """[1, T, hidden], the hidden states of the prompt's columns."""
        return self.sequence.prompt_hidden

    @classmethod
    def start(
        cls,
        engine: Engine,
        prompt: Prompt | Tensor,
        tree: DraftTree,
        rule: AcceptanceRule,
        room: int = 0,
        correct: bool = False,
        record: bool = False,
        judge: Judge = accept,
    ) -> Verification:
        """Runs the prefill, with a draft in it if there is one.

        Args:
            engine: runs the passes.
            prompt: the prompt, or the prompt and the beginning of the answer (`Prompt.begun`); a
                tensor holds its input columns [1, T, hidden].
            tree: drafts of the tokens from the first undecided one on; may be empty.
            rule: acceptance rule of these drafts.
            room: nodes of the largest tree that will follow.
            correct: as in `Verification`.
            record: as in `Verification`.
            judge: as in `Verification`.
        """
        begun = prompt.begun if isinstance(prompt, Prompt) else ()
        record = record and not begun  # of what was not decoded nothing is known
        fed = _fed(tree, engine.answer.max_tokens - len(begun))
        room = max(len(fed), room)
        sequence, said = engine.start(prompt, fed, room)
        self = cls(sequence, engine.answer, room, correct, record, [*begun], [*begun], judge=judge)
        self._take(said, tree, fed, rule)
        return self

    def advance(self, tree: DraftTree, rule: AcceptanceRule) -> None:
        """Feeds the newest token and drafts of what follows; adds at least one token."""
        left = self.answer.max_tokens - len(self.tokens)
        fed = _fed(tree, left)
        if len(fed) > self.room:
            tree = tree.first(self.room)
            fed = _fed(tree, left)
        self._take(self.sequence.extend(self.tokens[-1], fed), tree, fed, rule)

    def finish(self) -> None:
        """Decodes the missing tokens one by one; a fixed number of them is read at once."""
        if not self.answer.counted:
            while not self.finished:
                self.advance(NO_DRAFT, "exact")
            return
        # Each token is fed before its value is known here, so nothing waits for the device.
        guesses: list[Tensor] = []
        margins: list[Tensor] = []
        token: int | Tensor = self.tokens[-1]
        for _ in range(self.answer.max_tokens - len(self.tokens)):
            said = self.sequence.extend(token)
            token = said.greedy
            guesses.append(token)
            if self.record:
                margins.append(_margins(said.logits))
        self.passes += len(guesses)
        if guesses:
            rest = torch.cat(guesses).tolist()
            self.tokens += rest
            self.own += rest
            if self.record:
                self.margins += torch.cat(margins).tolist()
        self.answers = ()

    def second_choices(self) -> tuple[SecondChoice, ...]:
        """Returns the model's second choice for each of `answers`; call it before the next pass."""
        if not self.answers or self._logits is None:
            return ()
        best = self._logits[self._rows].float().topk(2, dim=-1)
        tokens, behind = best.indices[:, 1], best.values[:, 0] - best.values[:, 1]
        return tuple(map(SecondChoice, tokens.tolist(), behind.tolist()))

    @property
    def finished(self) -> bool:
        """Whether all tokens of the answer are known."""
        return self.answer.finished(self.tokens)

    @property
    def correcting(self) -> bool:
        """Whether a draft of all tokens was accepted and its correction is still unverified."""
        return self._drafted is not None and not self.finished

    def _take(
        self, said: PassLogits, tree: DraftTree, fed: DraftTree, rule: AcceptanceRule
    ) -> None:
        greedy = said.greedy.tolist()
        path = self.judge(rule, tree, greedy, self.tokens, self.answer, self.own)
        self.passes += 1
        position = len(self.tokens)
        outcome = self._after(said, greedy, tree, path)
        taken = path
        if self._drafted is not None and not self.answer.finished(outcome.tokens):
            outcome = self._drafted
        elif self.correct and (same := _same(tree, path, greedy)) < len(path):
            self.correct, taken = False, path[:same]
            if position + len(path) == len(outcome.tokens):  # a draft of all that was left
                self._drafted = outcome
            outcome = self._after(said, greedy, tree, taken)
        self.tokens, self.own, self.margins, self.accepted = outcome
        read = [node for node in taken if node < len(fed)]
        # The first row of the prefill is the prompt's.
        rows = [node + 1 for node in (read if self.passes == 1 else (-1, *read))]
        self.hidden.append(said.hidden[rows])
        if len(fed) and not self.finished:
            self.sequence.keep(read)
        rejected = [node + 1 for node in path[len(taken) :] if node < len(fed)]
        below = self._rows_below(fed, path, greedy, position)
        self._logits, self._rows = said.logits, rejected + below
        self.answers = tuple(greedy[row] for row in self._rows)

    def _after(
        self, said: PassLogits, greedy: list[int], tree: DraftTree, path: tuple[int, ...]
    ) -> _Outcome:
        """Returns the outcome of an accepted path and of the greedy token that follows it."""
        tokens = [*self.tokens, *(tree.tokens[node] for node in path)]
        if not self.answer.finished(tokens):
            tokens.append(greedy[path[-1] + 1 if path else 0])
        rows = [node + 1 for node in (-1, *path)][: len(tokens) - len(self.own)]
        own, margins = self.own + [greedy[row] for row in rows], self.margins
        if self.record:
            margins = margins + _margins(said.logits[rows]).tolist()
        return _Outcome(tokens, own, margins, self.accepted + len(path))

    def _rows_below(
        self, fed: DraftTree, path: tuple[int, ...], greedy: Sequence[int], position: int
    ) -> list[int]:
        """Returns the logit rows below an accepted path, along the branch nearest to the model's.

        Args:
            fed: the tree that the model read.
            path: its accepted nodes.
            greedy: the greedy token of each row.
            position: position of the tree's roots within the answer.
        """
        rows, node = [], path[-1] if path else -1
        while children := fed.children.get(node):
            own, at = greedy[node + 1], position + fed.levels[children[0]]
            node = min(children, key=lambda child: self._off(fed.tokens[child], own, at))
            rows.append(node + 1)
        return rows

    def _off(self, token: int, own: int, position: int) -> float:
        distance = self.answer.distance(token, own, position)
        return math.inf if distance is None else distance


def _same(tree: DraftTree, path: tuple[int, ...], greedy: Sequence[int]) -> int:
    """Counts the nodes of a path, from the root on, that equal the model's greedy tokens."""
    parents = (-1, *path)
    differs = (
        tree.tokens[node] != greedy[parent + 1] for parent, node in zip(parents, path, strict=False)
    )
    return next((place for place, other in enumerate(differs) if other), len(path))


def _margins(logits: Tensor) -> Tensor:
    """Returns, for logits [N, vocab], the best logit minus that of the runner-up, [N]."""
    best = logits.float().topk(2, dim=-1).values
    return best[:, 0] - best[:, 1]


def _fed(tree: DraftTree, left: int) -> DraftTree:
    """Returns the part of a tree that the model has to read if at most `left` tokens are missing.

    The last token has no successor: it is judged by its parent's logits.
    """
    return tree.above(left - 1)
