"""What engine and decoders ask of a model, whatever family it is of.

One control step: `TokenModel.encode` -> `features` -> `prompt` -> `Engine.start`, then one pass for
each token or draft, then `ActionCodec.decode`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from heisd_ros.vla.action_codec import ActionCodec
from heisd_ros.vla.engine import Engine, Prompt
from heisd_ros.vla.engine_choice import EngineChoice
from heisd_ros.vla.language_config import LanguageConfig

__all__ = ["ModelInputs", "ObservationSpec", "Prompt", "TokenModel", "Vocabulary"]

ModelInputs = Any
"""One observation on the model's device, as its family has it; nobody else looks inside."""


@dataclass(frozen=True)
class ObservationSpec:
    """What a model wants to see.

    Attributes:
        views: names of the camera views, in the order in which images are given.
        image_size: side of the square that the model looks at, pixels.
        proprio_size: numbers in the proprioception vector; 0: the model takes none.
        control_rate_hz: rate at which the policy was demonstrated, Hz (None: unknown).
        instructions: those that the model was trained on (None: any is accepted).
    """

    views: tuple[str, ...]
    image_size: int
    proprio_size: int = 0
    control_rate_hz: float | None = None
    instructions: tuple[str, ...] | None = None


class Vocabulary(Protocol):
    """Token ids going in and logits coming out: what the drafter borrows of a model."""

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token ids [...] -> input columns [..., hidden]."""
        ...

    def logits(self, hidden: Tensor, rows: slice = ...) -> Tensor:
        """Last hidden states [..., columns, hidden] -> logits [..., columns, rows]."""
        ...


class TokenModel(Vocabulary, Protocol):
    """A model of any family, ready for use; a checkpoint folder makes one (`families`).

    Attributes:
        codec: what its answers mean.
        spec: what it wants to see.
        language: sizes of a decoder layer that fits its hidden states, for a drafter; None: there
            is no drafter for the family.
        engine: what runs its passes.
        device: where the weights are.
        dtype: the type of the weights.
        weight_bytes: their size in memory.
    """

    @property
    def codec(self) -> ActionCodec: ...  # noqa: D102

    @property
    def spec(self) -> ObservationSpec: ...  # noqa: D102

    @property
    def language(self) -> LanguageConfig | None: ...  # noqa: D102

    @property
    def engine(self) -> Engine: ...  # noqa: D102

    @property
    def device(self) -> torch.device: ...  # noqa: D102

    @property
    def dtype(self) -> torch.dtype: ...  # noqa: D102

    @property
    def weight_bytes(self) -> int: ...  # noqa: D102

    def with_engine(self, choice: EngineChoice) -> TokenModel:
        """This model, with the same weights, run by another engine.

        Raises:
            EngineError: the family has no such engine, or it cannot run here.
        """
        ...

    def encode(
        self,
        images: Sequence[NDArray[np.uint8]],
        instruction: str,
        proprio: ArrayLike | None = None,
        *,
        allow_unknown: bool = False,
    ) -> ModelInputs:
        """Preprocess one observation.

        Args:
            images: RGB uint8 [H, W, 3], one per view, in the order of `ObservationSpec.views`.
            instruction: what the robot is to do.
            proprio: [P] in the units of the demonstrations, if the model takes it.
            allow_unknown: accept an instruction that the model wasn't trained on.

        Raises:
            ImageError: an image is missing or malformed.
            UnknownInstructionError: the model was not trained on the instruction.
            ProprioceptionError: the vector is missing, unasked, of the wrong size or not finite.
        """
        ...

    def features(self, inputs: ModelInputs) -> Tensor:
        """Visual features [1, N, D] of an observation; N is 0 where a family has none apart."""
        ...

    def prompt(self, inputs: ModelInputs, features: Tensor) -> Prompt:
        """What the language model reads of an observation and its visual features."""
        ...

    def retrieval_key(self, features: Tensor) -> NDArray[np.float32]:
        """[D] of unit length, by which frames are compared."""
        ...
