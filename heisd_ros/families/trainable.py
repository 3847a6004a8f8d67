"""What a family offers to be trained here: `families.checkpoint.preparation` finds it.

It is a module ``training.py`` in the family's folder with the functions of `Preparation`; the
result of `prepare` is a `Trainable`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from heisd_ros.vla.action_codec import ActionCodec
from heisd_ros.vla.token_model import TokenModel


@dataclass(frozen=True)
class Corpus:
    """What a model is made for, before the first step of a training run.

    Attributes:
        instructions: the distinct instructions.
        proprio: [N, P] float32.
        actions: [N, 7] float64, of one control step each, in the environment's units.
        texts: the distinct reasonings, each from ``TASK:`` on; empty: answers are actions alone.
        chunks: [N, H, 7] float64, the actions of H control steps each; None: H is 1.
    """

    instructions: tuple[str, ...]
    proprio: NDArray[np.float32]
    actions: NDArray[np.float64]
    texts: Sequence[str] = ()
    chunks: NDArray[np.float64] | None = None


class TeacherOutput(NamedTuple):
    """Result of a teacher-forced pass.

    Attributes:
        logits: [B, A, R] at the positions that predict an answer's token, over `Trainable.rows`.
        visual_tokens: [B, N, hidden].
    """

    logits: Tensor
    visual_tokens: Tensor


class Trainable(Protocol):
    """A model in training. Ids are padded on the right, with any id.

    Attributes:
        network: the parameters.
        codec: its answers.
        rows: ids that get a logit.
        visual_tokens: number and width of `TeacherOutput.visual_tokens`.
    """

    network: nn.Module

    @property
    def codec(self) -> ActionCodec: ...  # noqa: D102

    @property
    def rows(self) -> range: ...  # noqa: D102

    @property
    def visual_tokens(self) -> tuple[int, int]: ...  # noqa: D102

    def prompt(self, instruction: str, proprio: NDArray[np.float32]) -> Sequence[int]:
        """Ids of a prompt.

        Raises:
            UnknownInstructionError: the model does not know the instruction.
        """
        ...

    def answer(self, chunk: NDArray[np.float64], text: str) -> Sequence[int]:
        """Ids of the whole answer for a chunk [H, 7] and a reasoning, which may be empty."""
        ...

    def teach(
        self, pixels: Tensor, prompts: Tensor, lengths: Tensor, answers: Tensor, proprio: Tensor
    ) -> TeacherOutput:
        """Runs a teacher-forced pass.

        Args:
            pixels: [B, V, S, S, 3] uint8 on the network's device.
            prompts: [B, T].
            lengths: [B], ids of each prompt.
            answers: [B, A].
            proprio: [B, P].
        """
        ...

    def scale(self) -> dict[str, Any]:
        """What gives action tokens their meaning, as JSON values, for the state of a run."""
        ...

    def rescale(self, scale: Mapping[str, Any]) -> None:
        """Takes over the result of `scale` of an earlier part of the run."""
        ...

    def layout(self) -> dict[str, Any]:
        """What must not change when a run is resumed, as JSON values."""
        ...

    def save(self, folder: Path, network: nn.Module, dtype: torch.dtype) -> None:
        """Writes a checkpoint of a network of the same layout."""
        ...


class Inputs(NamedTuple):
    """What demonstrations have to give.

    Attributes:
        views: camera views, in the model's order.
        resize: makes a picture [H, W, 3] uint8 one of the network's size.
        rate_hz: control steps a second; 0: any.
        reasoning: whether every step has to say why it is taken.
        horizon: control steps of an answer (H).
    """

    views: tuple[str, ...]
    resize: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    rate_hz: float
    reasoning: bool = False
    horizon: int = 1


class Preparation(Protocol):
    """The module ``training.py`` of a family."""

    def inputs(self, start: TokenModel | None) -> Inputs:
        """Says what the demonstrations of a training from `start` have to give."""
        ...

    def prepare(self, corpus: Corpus, start: TokenModel | None, layers: int) -> Trainable:
        """Makes a model to train.

        Args:
            corpus: what it is made for.
            start: a model to start from; None: random weights.
            layers: decoder layers to have instead of the start's; 0: as many.

        Raises:
            CheckpointError: the family cannot start from this model.
            ValueError: it cannot have so many layers.
        """
        ...
