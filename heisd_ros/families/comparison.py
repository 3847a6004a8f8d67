"""One thing compared with another implementation's output, and how numbers are compared."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from heisd_ros.families.reference import ReferenceCase

LOGIT_TOLERANCE = 1e-4
"""Largest difference of a float32 logit; of features times their root mean square, if above 1."""
ACTION_TOLERANCE = 1e-9
"""Largest difference of an action, which is float64 arithmetic on token ids."""
_BFLOAT16_BITS = 8
"""Significant bits of a bfloat16 number."""


@dataclass(frozen=True)
class Comparison:
    """One thing compared, or not.

    Attributes:
        case: of the reference; empty for what concerns all.
        stage: what was compared.
        measured: the difference, in words.
        accepted: what is accepted.
        passed: None where the reference does not have it.
    """

    case: str
    stage: str
    measured: str
    accepted: str
    passed: bool | None


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Float32 means float32: a GPU would convolve, and may multiply, in TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def equal(case: ReferenceCase, stage: str, key: str, value: Any) -> Comparison:
    """Whether a field of the case is this value."""
    if key not in case.fields:
        return Comparison(case.name, stage, "not in the reference", "", None)
    expected = case.fields[key]
    if value == expected:
        return Comparison(case.name, stage, "equal", "equal", True)
    return Comparison(case.name, stage, f"{value!r}", f"{expected!r}", False)


def close(
    case: ReferenceCase,
    stage: str,
    key: str,
    value: NDArray[Any],
    tolerance: float,
    *,
    relative: bool = False,
) -> Comparison:
    """Whether an array, or a list of the case's fields, is this value within a tolerance."""
    stored: ArrayLike | None = case.arrays.get(key, case.fields.get(key))
    if stored is None:
        return Comparison(case.name, stage, "not in the reference", "", None)
    expected = np.asarray(stored)
    if expected.shape != value.shape:
        shapes = f"shape {value.shape}", f"shape {expected.shape}"
        return Comparison(case.name, stage, *shapes, False)
    if tolerance == 0.0:
        wrong = int((value != expected).sum())
        measured = "equal" if wrong == 0 else f"{wrong} of {value.size} numbers differ"
        return Comparison(case.name, stage, measured, "equal", wrong == 0)
    gap = float(np.abs(value.astype(np.float64) - expected).max(initial=0.0))
    if relative:
        tolerance *= max(1.0, float(np.sqrt(np.mean(np.square(expected, dtype=np.float64)))))
    # Not "gap > tolerance": a NaN must fail.
    return Comparison(case.name, stage, f"{gap:.1e}", f"<= {tolerance:.1e}", gap <= tolerance)


def equal_or_tied(
    case: ReferenceCase,
    stage: str,
    expected: Sequence[int],
    tokens: Sequence[int],
    exact: Callable[[], NDArray[Any]],
) -> Comparison:
    """Whether tokens of a low precision are those expected, or differ first where two ids tie.

    A float32 margin below the format's resolution may be rounded either way, by another machine
    otherwise than by this one.

    Args:
        case: whose tokens.
        stage: what is compared.
        expected: the reference's tokens.
        tokens: of the model in low precision.
        exact: gives the float32 logits [N, vocab] of the same answer.

    Returns:
        `Comparison.passed` is None at a tie, which its text names.
    """
    if list(tokens) == list(expected):
        return Comparison(case.name, stage, "equal", "equal", True)
    pairs = zip(tokens, expected, strict=False)
    place = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(tokens), len(expected)))
    best = np.sort(exact()[place].astype(np.float64))[-2:]
    margin, size = float(best[1] - best[0]), abs(float(best[1]))
    resolution = 2.0 ** (math.floor(math.log2(max(size, 1e-30))) + 1 - _BFLOAT16_BITS)
    if margin <= 2 * resolution:
        measured = f"tie at token {place}: margin {margin:.2g} in a logit of {size:.2g}"
        return Comparison(case.name, stage, measured, "equal, or a tie", None)
    where = f"{list(tokens)[place : place + 3]} at token {place}, margin {margin:.2g}"
    return Comparison(case.name, stage, where, f"{list(expected)[place : place + 3]}", False)
