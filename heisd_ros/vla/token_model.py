"""The interface of a model to engines and decoders, whatever its family.

One control step: `TokenModel.encode` -> `features` -> `prompt` -> `Engine.start`, then one pass for
each token or draft, then `ActionCodec.decode`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from heisd_ros.errors import CheckpointError
from heisd_ros.files.bounded import shown
from heisd_ros.vla.action_codec import ActionCodec
from heisd_ros.vla.engine import Engine, Prompt
from heisd_ros.vla.engine_choice import EngineChoice
from heisd_ros.vla.language_config import LanguageConfig

__all__ = ["BatchModel", "ModelInputs", "ObservationSpec", "Prompt", "TokenModel", "Vocabulary"]

MOST_RATE_HZ = 1000.0
"""Highest control rate of a model: it divides the motion of an action, so zero or a negative one
would command another motion."""

ModelInputs = Any
"""One observation on the model's device; its content is private to the model's family."""


@dataclass(frozen=True)
class ObservationSpec:
    """The inputs that a model expects.

    Attributes:
        views: names of the camera views, in the order in which images are given.
        image_size: side of the square input image, pixels.
        proprio_size: numbers in the proprioception vector; 0: the model takes none.
        control_rate_hz: rate at which the policy was demonstrated, Hz (None: unknown).
        instructions: those that the model was trained on (None: any is accepted).

    Raises:
        CheckpointError: views share a name, or the rate is none.
    """

    views: tuple[str, ...]
    image_size: int
    proprio_size: int = 0
    control_rate_hz: float | None = None
    instructions: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Checks the values."""
        if len(set(self.views)) < len(self.views):
            raise CheckpointError(
                f"the model's views are {shown(self.views)}; accepted: all differ"
            )
        rate = self.control_rate_hz
        if rate is not None and not 0.0 < rate <= MOST_RATE_HZ:
            raise CheckpointError(
                f"the model's control_rate_hz is {rate}; accepted: above 0, up to {MOST_RATE_HZ:g}"
            )


class Vocabulary(Protocol):
    """The embedding and the LM head of a model, which the drafter shares."""

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Maps token ids [...] to input columns [..., hidden]."""
        ...

    def logits(self, hidden: Tensor, rows: slice = ...) -> Tensor:
        """Maps last hidden states [..., columns, hidden] to logits [..., columns, rows]."""
        ...


class TokenModel(Vocabulary, Protocol):
    """A model of any family, ready for use; a checkpoint folder makes one (`families`).

    Attributes:
        codec: converts its answers to actions.
        spec: the inputs that it expects.
        statistics_key: name of the action statistics in use; empty where they have no name.
        language: sizes of a Llama layer that fits its hidden states, for a drafter; None: its
            engine gives none (`PassLogits.hidden`). ValueError: no layer fits them.
        engine: runs its passes.
        device: device of the weights.
        dtype: type of the weights.
        weight_bytes: size of the weights in memory.
    """

    @property
    def codec(self) -> ActionCodec: ...  # noqa: D102

    @property
    def spec(self) -> ObservationSpec: ...  # noqa: D102

    @property
    def statistics_key(self) -> str: ...  # noqa: D102

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
        """Returns this model, with the same weights, run by another engine.

        Raises:
            EngineError: the family has no such engine, or it cannot run here.
        """
        ...

    def encode(
        self,
        images: Sequence[NDArray[np.uint8]],
        instruction: str,
        proprio: ArrayLike | None = None,
    ) -> ModelInputs:
        """Preprocesses one observation.

        Args:
            images: RGB uint8 [H, W, 3], one per view, in the order of `ObservationSpec.views`.
            instruction: the task in words.
            proprio: [P] in the units of the demonstrations, if the model takes it.

        Raises:
            ImageError: an image is missing or malformed.
            UnknownInstructionError: the model was not trained on the instruction.
            ProprioceptionError: the vector is missing, not expected, of the wrong size or not
                finite.
        """
        ...

    def features(self, inputs: ModelInputs) -> Tensor:
        """Computes visual features [1, N, D]; N is 0 if the family has no separate ones."""
        ...

    def prompt(self, inputs: ModelInputs, features: Tensor) -> Prompt:
        """Makes the prompt of an observation and its visual features."""
        ...

    def retrieval_key(self, features: Tensor) -> NDArray[np.float32]:
        """Computes the key [D] by which frames are compared; it has unit length."""
        ...


@runtime_checkable
class BatchModel(Protocol):
    """What a model may offer besides: to answer many frames of one task at once.

    Attributes:
        key_parts: numbers of each part of a view's share of a key, such as the channels of each
            vision tower.
    """

    @property
    def key_parts(self) -> tuple[int, ...]: ...  # noqa: D102

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resizes a picture to what the model sees, which `answer_frames` leaves unchanged."""
        ...

    def answer_frames(
        self,
        images: Sequence[NDArray[np.uint8]],
        instruction: str,
        proprio: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Computes keys [B, D], as `TokenModel.retrieval_key`, and greedy tokens [B, N].

        Args:
            images: [B, H, W, 3] RGB, one array per view.
            instruction: the task in words.
            proprio: [B, P]; None, or not used, by a model without it.

        Raises:
            UnknownInstructionError: the model was not trained on the instruction.
            ImageError: a picture is malformed.
        """
        ...
