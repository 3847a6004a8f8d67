"""Rooflines: least times of a device, from bytes at its bandwidth or operations at its rate.

Both are measured on the device at hand, in the same run (Williams et al. 2009, "Roofline").
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from heisd_ros.families.shapes import TimedModel, Work, byte_size, matrix_size
from heisd_ros.vla.drafter import Drafter

Clock = Callable[[], float]
"""Seconds from any origin: ``time.perf_counter``, or on a shared CPU ``time.process_time``."""


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

    Attributes:
        vision: work of the vision towers on all views.
        project: work of the projector on all visual tokens.
    """

    def __init__(self, model: TimedModel, drafter: Drafter, columns: int) -> None:
        self.vision, self.project = model.work()
        self._drafter, self._columns = drafter, columns
        network = model.model.language_model
        self._language = network.model.config
        self._head = network.lm_head.weight
        self._layers = network.model.layers
        self._layer_bytes = byte_size(self._layers)
        self._kv_row = 2 * self._language.key_value_heads * self._language.head_width
        self._kv_row *= self._head.element_size() * self._language.num_hidden_layers

    def prefill(self, drafted: int = 0) -> Work:
        """Returns the work of prompt and drafts, with the LM head on the requested columns."""
        return self._pass(self._columns + drafted, self._columns + drafted, 1 + drafted)

    def extend(self, drafted: int = 0) -> Work:
        """Returns the work of one token with drafts behind it."""
        return self._pass(1 + drafted, self._columns + 1 + drafted, 1 + drafted)

    def draft(self, levels: int) -> tuple[Work, ...]:
        """Returns the drafter's work: keys and values of the prompt, then one pass per level."""
        rows = (self._drafter.rows.stop - self._drafter.rows.start) * self._head.shape[1]
        size, matrix = byte_size(self._drafter), matrix_size(self._drafter)
        attention = self._drafter.layer.self_attn
        remembered = attention.qkv_proj.weight.numel() + self._drafter.fc.weight.numel()
        first = Work(remembered * self._head.element_size(), 2 * remembered * self._columns)
        level = Work(size + rows * self._head.element_size(), 2 * (matrix + rows))
        return (first, *[level] * levels)

    def _pass(self, new: int, seen: int, read: int) -> Work:
        language = self._language
        attention = 4 * new * seen * language.hidden_size * language.num_hidden_layers
        head = self._head.numel()
        return Work(
            self._layer_bytes + seen * self._kv_row + head * self._head.element_size(),
            2 * matrix_size(self._layers) * new + attention + 2 * head * read,
        )


def _least_seconds(function: Callable[[], object], device: torch.device, clock: Clock) -> float:
    """Returns the shortest of at least 3 runs within half a second."""
    times: list[float] = []
    while len(times) < 3 or sum(times) < 0.5:
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
