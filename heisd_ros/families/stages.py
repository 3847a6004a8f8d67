"""What a family compares with the outputs of its upstream's code, stage by stage.

The comparisons follow the data: what the prompt became, pixels, vision, logits of each token,
tokens, actions. So the first failure names the faulty stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from heisd_ros.errors import AnswerError, ReferenceDataError
from heisd_ros.families.comparison import ACTION_TOLERANCE, Comparison, close
from heisd_ros.families.reference import Reference, ReferenceCase

PIXEL_TOLERANCE = 3e-7
"""Of bilinear pixels in [-1, 1]: torch rounds their last bit by its number of threads."""


class Decoded(NamedTuple):
    """An answer of the plain loop.

    Attributes:
        tokens: [N] the greedy token ids.
        logits: [N, vocab], one row a token.
    """

    tokens: tuple[int, ...]
    logits: Tensor


class Stages:
    """What is compared of one family; each family's folder has its own.

    Args:
        reference: all of it.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference

    def options(self, case: ReferenceCase) -> dict[str, Any]:
        """What a case asks of `load_checkpoint`."""
        return {}

    def inputs(self, model: Any, case: ReferenceCase) -> Any:
        """A case's observation, encoded."""
        raise NotImplementedError

    def most(self, case: ReferenceCase) -> int | None:
        """Tokens after which upstream was stopped; None: where the model's files say."""
        return None

    def before(self, model: Any, case: ReferenceCase, inputs: Any) -> Iterator[Comparison]:
        """What comes before the language model."""
        raise NotImplementedError

    def after(
        self, model: Any, case: ReferenceCase, inputs: Any, decoded: Decoded
    ) -> Iterator[Comparison]:
        """Compares logits and tokens."""
        raise NotImplementedError

    def actions(self, case: ReferenceCase) -> NDArray[np.float64] | None:
        """Actions [H, D] of a case; None where the answer has to be refused."""
        raise NotImplementedError

    def low_precision(self, case: ReferenceCase) -> list[int] | None:
        """Tokens in bfloat16; None where the reference does not have them."""
        return None

    def left_out(self) -> Iterator[Comparison]:
        """Names what of the reference is not compared."""
        return iter(())

    def compare_actions(
        self, model: Any, case: ReferenceCase, tokens: list[int]
    ) -> Iterator[Comparison]:
        """The actions that upstream decodes; where it makes some up, that they are refused."""
        expected, stage = self.actions(case), "actions"
        try:
            actions = model.codec.decode(tokens)
        except AnswerError as error:
            accepted = "refused" if expected is None else "decoded"
            yield Comparison(case.name, stage, f"refused: {error}", accepted, expected is None)
            return
        if expected is None:
            yield Comparison(case.name, stage, f"decoded to {actions.tolist()}", "refused", False)
            return
        whole = ReferenceCase(case.name, case.image, {}, {stage: expected})
        yield close(whole, stage, stage, actions, ACTION_TOLERANCE)


def given(case: ReferenceCase, key: str) -> Any:
    """Returns a field of a case; raises ReferenceDataError if it has none."""
    if key not in case.fields:
        raise ReferenceDataError(f"case {case.name!r} has no {key!r}")
    return case.fields[key]


def thinned(case: ReferenceCase, pixels: NDArray[Any]) -> Iterator[Comparison]:
    """Pixels, whole or every n-th along the last two axes, as far as the reference has them."""
    for key in sorted(case.arrays):
        if key == "pixel_values":
            yield close(case, "pixels", key, pixels, 0.0)
        elif key.startswith("pixel_values_every"):
            step = int(key.removeprefix("pixel_values_every"))
            thin = pixels[..., ::step, ::step]
            yield close(case, f"pixels, every {step}th", key, thin, 0.0)
