"""Rooflines: least times of a device, from bytes at its bandwidth or operations at its rate.

Both are measured on the device at hand, in the same run (Williams et al. 2009, "Roofline").
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.tower_config import TowerConfig
from heisd_ros.vla.drafter import Drafter

Clock = Callable[[], float]
"""Seconds from any origin: ``time.perf_counter``, or on a shared CPU ``time.process_time``."""


class Work(NamedTuple):
    """Least work of a pass.

    Attributes:
        bytes: of the weights and of cached keys and values, each read once.
        operations: multiplications and additions of the matrix products.
    """

    bytes: float
    operations: float


@dataclass(frozen=True)
class Roofline:
    """A device's two ceilings, measured.

    Attributes:
        bandwidth: bytes a second.
        rate: operations a second.
    """

    bandwidth: float
    rate: float

    def ms(self, *passes: Work) -> float:
        """Milliseconds of passes that follow each other."""
        return sum(1e3 * max(w.bytes / self.bandwidth, w.operations / self.rate) for w in passes)

    @classmethod
    def measure(
        cls,
        device: torch.device,
        dtype: torch.dtype,
        size: int,
        clock: Clock = time.perf_counter,
    ) -> Roofline:
        """Measures both.

        Args:
            device: the device.
            dtype: type of the products.
            size: bytes of the buffer that is read: as many as the model's, since a small model may
                stay in a cache.
            clock: the clock that is used.
        """
        size = max(1 << 22, min(size, 1 << 31))
        source = torch.zeros(size // 4, dtype=torch.float32, device=device)
        target = torch.empty_like(source)
        copied = 2 * size / _least_seconds(lambda: target.copy_(source), device, clock)
        read = size / _least_seconds(lambda: source.sum(), device, clock)
        n = 8192 if device.type == "cuda" else 1024
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        rate = 2 * n**3 / _least_seconds(lambda: torch.mm(a, b), device, clock)
        return cls(max(copied, read), rate)

    def best(self, other: Roofline) -> Roofline:
        """Returns the higher of each ceiling, since a busy machine measures too low ones."""
        return Roofline(max(self.bandwidth, other.bandwidth), max(self.rate, other.rate))


class Workloads:
    """The work of each part of a step.

    Args:
        model: the network.
        drafter: the drafter.
        columns: of the prompt.
    """

    def __init__(self, model: VLAModel, drafter: Drafter, columns: int) -> None:
        self._model, self._drafter, self._columns = model, drafter, columns
        language = model.config.language
        self._head = model.language_model.lm_head.weight
        self._layers = model.language_model.model.layers
        self._layer_bytes = byte_size(self._layers)
        self._kv_row = 2 * language.key_value_heads * language.head_width
        self._kv_row *= self._head.element_size() * language.num_hidden_layers

    def vision(self) -> Work:
        """Returns the work of both vision towers on all views."""
        config, backbone = self._model.config, self._model.vision_backbone
        views = len(config.views)
        operations = sum(views * _tower_operations(tower) for tower in config.towers)
        return Work(byte_size(backbone), operations)

    def project(self) -> Work:
        """Returns the work of the projector on all visual tokens."""
        projector = self._model.projector
        return Work(byte_size(projector), 2 * _matrix(projector) * self._model.config.visual_tokens)

    def prefill(self, drafted: int = 0) -> Work:
        """Returns the work of prompt and drafts, with the LM head on the requested columns."""
        return self._pass(self._columns + drafted, self._columns + drafted, 1 + drafted)

    def extend(self, drafted: int = 0) -> Work:
        """Returns the work of one token with drafts behind it."""
        return self._pass(1 + drafted, self._columns + 1 + drafted, 1 + drafted)

    def draft(self, levels: int) -> tuple[Work, ...]:
        """Returns the drafter's work: keys and values of the prompt, then one pass per level."""
        rows = 256 * self._head.shape[1]
        size, matrix = byte_size(self._drafter), _matrix(self._drafter)
        attention = self._drafter.layer.self_attn
        remembered = attention.qkv_proj.weight.numel() + self._drafter.fc.weight.numel()
        first = Work(remembered * self._head.element_size(), 2 * remembered * self._columns)
        level = Work(size + rows * self._head.element_size(), 2 * (matrix + rows))
        return (first, *[level] * levels)

    def _pass(self, new: int, seen: int, read: int) -> Work:
        language = self._model.config.language
        attention = 4 * new * seen * language.hidden_size * language.num_hidden_layers
        head = self._head.numel()
        return Work(
            self._layer_bytes + seen * self._kv_row + head * self._head.element_size(),
            2 * _matrix(self._layers) * new + attention + 2 * head * read,
        )


def _tower_operations(config: TowerConfig) -> float:
    tokens = config.grid**2 + config.registers + int(config.class_token)
    block = 4 * config.width**2 + 2 * config.width * config.mlp_width
    stem = 3 * config.patch_size**2 * config.width
    per_token = config.blocks_run * (block + 2 * tokens * config.width) + stem
    return 2.0 * tokens * per_token


def byte_size(module: nn.Module) -> float:
    """Returns the size of all parameters and buffers of a module, bytes."""
    tensors = [*module.parameters(), *module.buffers()]
    return float(sum(t.numel() * t.element_size() for t in tensors))


def _matrix(module: nn.Module) -> float:
    """Returns the number of matrix elements, whatever their type."""
    tensors = [*module.parameters(), *module.buffers()]
    return float(sum(t.numel() for t in tensors if t.dim() > 1))


def _least_seconds(
    function: Callable[[], object], device: torch.device, clock: Clock, seconds: float = 0.5
) -> float:
    """Returns the shortest of at least 3 runs within some time."""
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        synchronize(device)
        start = clock()
        function()
        synchronize(device)
        times.append(clock() - start)
    return min(times)


def synchronize(device: torch.device) -> None:
    """Waits until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
