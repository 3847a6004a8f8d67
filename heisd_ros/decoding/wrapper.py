"""A decoder around another, for what looks on without having a say."""

from __future__ import annotations

from heisd_ros.decoding.types import Decoder, Observation, Settled, StepResult


class DecoderWrapper:
    """Hands everything on; subclasses add what they are for.

    Args:
        decoder: What decides.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def infer(self, observation: Observation) -> StepResult:
        """The decoder's step."""
        return self._decoder.infer(observation)

    def settle(self) -> Settled | None:
        """The decoder's."""
        return self._decoder.settle()

    def warning(self) -> str:
        """The decoder's."""
        return self._decoder.warning()

    def reset(self, success: bool | None = None) -> None:
        """The decoder's."""
        self._decoder.reset(success)
