"""From an answer's tokens to what the arm is to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import AnswerError
from heisd_ros.vla.action_codec import ActionCodec

PADDING = -1
"""Fills the rows of shorter answers where several stand in one array."""


class Action(NamedTuple):
    """Fields of a `StepResult`, where they are described."""

    action: NDArray[np.float64]
    chunk: NDArray[np.float64]
    problem: str


def action_of(codec: ActionCodec, tokens: Sequence[int]) -> Action:
    """What an answer stands for; an answer that stands for nothing is NaN, with the reason."""
    try:
        chunk, problem = codec.decode(tokens), ""
    except AnswerError as error:
        chunk, problem = np.full((codec.horizon, codec.dimensions), np.nan), str(error)
    return Action(chunk[0], chunk, problem)


def padded(answers: Sequence[Sequence[int]], width: int) -> NDArray[np.int64]:
    """K answers as the rows of an array [K, width]."""
    rows = np.full((len(answers), width), PADDING, np.int64)
    for row, answer in zip(rows, answers, strict=True):
        row[: len(answer)] = answer
    return rows


def answer_of(row: NDArray[np.int64]) -> tuple[int, ...]:
    """The answer in a row of an array."""
    return tuple(row[row != PADDING].tolist())
