"""A decoder wrapper that keeps the newest observation, and digests of observations."""

from __future__ import annotations

import hashlib

import numpy as np

from heisd_ros.decoding.types import Decoder, Observation, StepResult
from heisd_ros.decoding.wrapper import DecoderWrapper


def observation_digest(observation: Observation) -> str:
    """Returns a digest that is equal exactly for observations that are the same to a decoder.

    Args:
        observation: Its images, instruction, proprioception and metric enter the digest.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(observation.instruction.encode())
    for pixels in observation.images:
        digest.update(f"{pixels.shape}{pixels.dtype}".encode())
        digest.update(np.ascontiguousarray(pixels).tobytes())
    if observation.proprio is not None:
        digest.update(observation.proprio.tobytes())
    # The repr of a float is exact.
    digest.update(repr(observation.motion).encode())
    return digest.hexdigest()[:16]


class ObservationTap(DecoderWrapper):
    """Passes everything to a decoder, and keeps the newest observation.

    Attributes:
        newest: The newest observation; None before the first.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder)
        self.newest: Observation | None = None

    def infer(self, observation: Observation) -> StepResult:
        """Keeps the observation and runs the decoder on it."""
        self.newest = observation
        return super().infer(observation)
