"""Answers of the toy family: chunks of 4 actions of 3 numbers, run-length coded, and a stop id.

Id FIRST + d is the number d / 4 - 1 once, FIRST + 9 + d the same number twice: ids have no order.
"""

from __future__ import annotations

import numpy as np

from heisd_ros.errors import AnswerError

STEPS = 9  # numbers from -1 to 1
FIRST, STOP = 20, 20 + 2 * STEPS


class ToyCodec:
    """Reads answers of the toy family: up to 4 actions of 3 numbers, then the stop id."""

    horizon, dimensions = 4, 3
    action_ids = range(FIRST, STOP)
    max_tokens = horizon * dimensions + 1
    counted = False
    groups = ()
    action_space = ""

    def finished(self, tokens):
        return len(tokens) >= self.max_tokens or (len(tokens) > 0 and tokens[-1] == STOP)

    def distance(self, token, greedy, position):
        return 0 if token == greedy else None

    def decode(self, tokens):
        numbers = []
        for token in tokens[:-1]:
            if token not in self.action_ids:
                raise AnswerError(f"token {token} is no action")
            twice, number = divmod(token - FIRST, STEPS)
            numbers += [number / 4 - 1] * (1 + twice)
        if tokens[-1] != STOP or len(numbers) != self.horizon * self.dimensions:
            raise AnswerError(f"{list(tokens)} holds {len(numbers)} numbers; 12 and a stop")
        return np.array(numbers).reshape(self.horizon, self.dimensions)

    def encode(self, chunk):
        numbers = np.rint((np.clip(chunk, -1, 1).ravel() + 1) * 4).astype(int).tolist()
        tokens = []
        while numbers:
            number = numbers.pop(0)
            twice = bool(numbers) and numbers[0] == number
            tokens.append(FIRST + twice * STEPS + number)
            del numbers[:twice]
        return (*tokens, STOP)


class TalkingCodec(ToyCodec):
    """Answers of words, the ids below FIRST, and actions, 24 tokens at most; a reasoning variant.

    An answer whose length is a multiple of five stands for no action.
    """

    horizon, dimensions = 1, 7
    max_tokens = 24

    def __init__(self, tags=()):
        self.tags = tuple(tags)

    def text(self, tokens):
        return " ".join(map(str, tokens)) + "\x00\ud800\n" * 900

    def kept(self, tokens, again):
        words = next((n for n, token in enumerate(tokens) if token >= FIRST), 0)
        return tuple(tokens[: words if again == "action" else words // 2])

    def decode(self, tokens):
        if len(tokens) % 5 == 0:
            raise AnswerError("five tokens, or ten, and so on")
        return np.full((1, 7), float(len(tokens)))
