"""Random weights at the shapes of published models, which `heisd bench decode` times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from heisd_ros.vla.action_codec import AnswerFormat
from heisd_ros.vla.engine import Engine, Network, Prompt
from heisd_ros.vla.token_model import ModelInputs, TokenModel

_SPREAD = 0.02  # deviation of random weights, as at the start of training


class Work(NamedTuple):
    """Least work of a pass.

    Attributes:
        bytes: of the weights and of cached keys and values, each read once.
        operations: multiplications and additions of the matrix products.
    """

    bytes: float
    operations: float


class TimedModel(TokenModel, Protocol):
    """A model of which whole steps are timed."""

    @property
    def model(self) -> Network: ...  # noqa: D102

    def work(self) -> tuple[Work, Work]:
        """Returns the work of the vision towers on all views, and that of the projector."""
        ...


@dataclass(frozen=True)
class Whole:
    """A model of random weights of which whole steps are timed.

    Attributes:
        make: Makes it, given device and number format, with a function that gives the inputs of a
            step of noise for a seed.
    """

    make: Callable[[torch.device, torch.dtype], tuple[TimedModel, Callable[[int], ModelInputs]]]


@dataclass(frozen=True)
class Passes:
    """A network of which passes are timed, and the inputs of its parts.

    Attributes:
        vision: Runs the vision tower on noise.
        engine: Runs the decoder's passes.
        prompt: A prompt of the usual length.
    """

    vision: Callable[[], Tensor]
    engine: Engine
    prompt: Prompt


@dataclass(frozen=True)
class Published:
    """A published model of which passes are timed.

    Attributes:
        layers: Layers of its decoder.
        tokens: Tokens of a typical answer.
        make: Makes its passes, given layers, tokens, device and number format.
    """

    layers: int
    tokens: int
    make: Callable[[int, int, torch.device, torch.dtype], Passes]


Shape = Whole | Published


class Counted:
    """An `AnswerFormat` of so many tokens, none of which mean anything."""

    counted = True
    groups: tuple[range, ...] = ()
    action_ids = range(0)

    def __init__(self, tokens: int) -> None:
        self.max_tokens = tokens

    def finished(self, tokens: Sequence[int]) -> bool:
        """Implements `AnswerFormat.finished`."""
        return len(tokens) >= self.max_tokens

    def distance(self, token: int, greedy: int, position: int) -> int | None:
        """Implements `AnswerFormat.distance`."""
        return 0 if token == greedy else None


@torch.no_grad()
def fill(module: torch.nn.Module, device: torch.device) -> None:
    """Fills a module: random matrices, norms of one, everything else zero."""
    module.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1:
            parameter.normal_(0.0, _SPREAD, generator=generator)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    for buffer in module.buffers():
        buffer.zero_()


def noise(*shape: int, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Returns normal noise, the same on every device."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def library_network(kind: Any, config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Makes a network of `transformers` with random weights."""
    with torch.device("meta"):
        network = kind(config).to(dtype)
    fill(network, device)
    return network.requires_grad_(False).eval()


def library_engine(network: Any, tokens: int) -> Engine:
    """Makes the engine of such a network, for answers of so many tokens."""
    from heisd_ros.vla.transformers_engine import TransformersEngine

    answer: AnswerFormat = Counted(tokens)
    return TransformersEngine(network.model.language_model, network.lm_head, answer=answer)


def byte_size(module: nn.Module) -> float:
    """Returns the size of all parameters and buffers of a module, bytes."""
    tensors = [*module.parameters(), *module.buffers()]
    return float(sum(t.numel() * t.element_size() for t in tensors))


def matrix_size(module: nn.Module) -> float:
    """Returns the number of matrix elements of a module, whatever their type."""
    tensors = [*module.parameters(), *module.buffers()]
    return float(sum(t.numel() for t in tensors if t.dim() > 1))
