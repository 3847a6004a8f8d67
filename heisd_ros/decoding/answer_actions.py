"""Conversion of an answer's tokens to an action of the arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heisd_ros.errors import AnswerError
from heisd_ros.retrieval.entries import PADDING
from heisd_ros.vla.action_codec import ActionCodec


class Action(NamedTuple):
    """The fields of a `StepResult` that an answer determines; they are described there."""

    action: NDArray[np.float64]
    chunk: NDArray[np.float64]
    problem: str


def action_of(codec: ActionCodec, tokens: Sequence[int]) -> Action:
    """Decodes an answer; one that encodes no action becomes NaN, with the reason in `problem`."""
    try:
        chunk, problem = codec.decode(tokens), ""
    except AnswerError as error:
        chunk, problem = np.full((codec.horizon, codec.dimensions), np.nan), str(error)
    return Action(chunk[0], chunk, problem)


def padded(answers: Sequence[Sequence[int]], width: int) -> NDArray[np.int64]:
    """Returns K answers as the rows of an array [K, width], padded with `PADDING`."""
    rows = np.full((len(answers), width), PADDING, np.int64)
    for row, answer in zip(rows, answers, strict=True):
        row[: len(answer)] = answer
    return rows


def answer_of(row: NDArray[np.int64]) -> tuple[int, ...]:
    """Returns the answer in a row of a padded array, without its padding."""
    return tuple(row[row != PADDING].tolist())
