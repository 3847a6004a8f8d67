"""A base class for decoders that observe another decoder."""

from __future__ import annotations

from heisd_ros.decoding.types import Decoder, Observation, Settled, StepResult


class DecoderWrapper:
    """Delegates every call to another decoder; subclasses add to it."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def infer(self, observation: Observation) -> StepResult:
        """Returns the step of the wrapped decoder."""
        return self._decoder.infer(observation)

    def settle(self) -> Settled | None:
        """Settles the wrapped decoder and returns its outcome."""
        return self._decoder.settle()

    def warning(self) -> str:
        """Returns the warning of the wrapped decoder."""
        return self._decoder.warning()

    def reset(self, success: bool | None = None) -> None:
        """Resets the wrapped decoder."""
        self._decoder.reset(success)
