"""Sees what a decoder sees."""

from __future__ import annotations

import hashlib

import numpy as np

from heisd_ros.decoding.types import Decoder, Observation, StepResult
from heisd_ros.decoding.wrapper import DecoderWrapper


def observation_digest(observation: Observation) -> str:
    """A digest that two observations share exactly if a decoder sees the same in both.

    Args:
        observation: Its images, instruction, proprioception and metric are what counts.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(observation.instruction.encode())
    for pixels in observation.images:
        digest.update(f"{pixels.shape}{pixels.dtype}".encode())
        digest.update(np.ascontiguousarray(pixels).tobytes())
    if observation.proprio is not None:
        digest.update(observation.proprio.tobytes())
    # The numbers' own text: that of a float says every bit of it.
    digest.update(repr(observation.motion).encode())
    return digest.hexdigest()[:16]


class ObservationTap(DecoderWrapper):
    """A decoder that is told of nothing else, and remembers the newest observation.

    Args:
        decoder: What decides.

    Attributes:
        newest: The newest observation; None before the first.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder)
        self.newest: Observation | None = None

    def infer(self, observation: Observation) -> StepResult:
        """Decides one step."""
        self.newest = observation
        return super().infer(observation)
