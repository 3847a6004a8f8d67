"""Models on our own Llama decoder (`vla.llama`), as `library` is for other networks."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, TypeVar

import torch
from torch import Tensor

from heisd_ros.vla.engine import Engine
from heisd_ros.vla.engine_choice import EngineChoice
from heisd_ros.vla.engines import make_engine

_Model = TypeVar("_Model", bound="OwnNetworkModel")


class OwnNetworkModel:
    """The half of a `TokenModel` that every family on our own decoder shares.

    Args:
        model: the network, an `engine.Network` in evaluation mode.
    """

    def __init__(self, model: Any) -> None:
        self.model = model.eval()
        self._engine: tuple[tuple[torch.device, torch.dtype], Engine] | None = None
        self._choice: EngineChoice = "auto"
        self._by_choice: dict[EngineChoice, Any] = {"auto": self}

    def with_engine(self: _Model, choice: EngineChoice) -> _Model:
        """Implements `TokenModel.with_engine`: any that `engines.make_engine` makes."""
        if choice not in self._by_choice:
            other = copy(self)
            other._choice, other._engine = choice, None
            _ = other.engine  # made now: what is wrong with it is said here, and it may compile
            self._by_choice[choice] = other
        chosen: _Model = self._by_choice[choice]
        return chosen

    @property
    def engine(self) -> Engine:
        """Implements `TokenModel.engine`; by default CUDA graphs on a GPU, else the plain engine.

        It is shared by all decoders of this model, and made on first use and again after the
        weights have moved.
        """
        kind = (self.device, self.dtype)
        if self._engine is None or self._engine[0] != kind:
            self._engine = (kind, make_engine(self.model, self._choice, self.usual_columns))
        return self._engine[1]

    @property
    def usual_columns(self) -> Sequence[int]:
        """Lengths of the prompts that are known beforehand; by default none."""
        return ()

    @property
    def device(self) -> torch.device:
        """Implements `TokenModel.device`."""
        return self.model.language_model.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Implements `TokenModel.dtype`."""
        return self.model.language_model.lm_head.weight.dtype

    @property
    def weight_bytes(self) -> int:
        """Implements `TokenModel.weight_bytes`."""
        return sum(part.nbytes for part in self.model.parameters())

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Implements `Vocabulary.embed_tokens`."""
        return self.model.language_model.embed_tokens(ids)

    def logits(self, hidden: Tensor, rows: slice = slice(None)) -> Tensor:
        """Implements `Vocabulary.logits`."""
        return self.model.language_model.logits(hidden, rows)
