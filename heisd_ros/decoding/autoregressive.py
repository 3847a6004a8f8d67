"""Plain greedy decoding, one token a pass: what every other decoder is measured against."""

from __future__ import annotations

import torch

from heisd_ros.decoding.actions import action_of
from heisd_ros.decoding.perception import perceive
from heisd_ros.decoding.stopwatch import Stopwatch
from heisd_ros.decoding.types import Observation, Source, StepResult
from heisd_ros.vla.token_model import TokenModel


class AutoregressiveDecoder:
    """One prefill, then one pass for each further token.

    Each token is the argmax over the whole vocabulary; an answer that stands for no action becomes
    NaN, and the arm is held (`StepResult.problem`).

    Args:
        vla: the model.
        allow_unknown: accept instructions that the model wasn't trained on.
    """

    def __init__(self, vla: TokenModel, *, allow_unknown: bool = False) -> None:
        self.vla = vla
        self._allow_unknown = allow_unknown

    def settle(self) -> None:
        """Nothing is left to do after a step."""

    def warning(self) -> str:
        """Nothing can be amiss that is no error."""
        return ""

    def reset(self, success: bool | None = None) -> None:
        """Nothing is kept between steps."""

    @torch.inference_mode()
    def infer(self, observation: Observation) -> StepResult:
        """Decode one action; raises what `TokenModel.encode` raises."""
        watch = Stopwatch(self.vla.device)
        seen = perceive(self.vla, observation, watch=watch, allow_unknown=self._allow_unknown)
        codec = self.vla.codec
        sequence, said = self.vla.engine.start(self.vla.prompt(*seen))
        watch.lap("prefill")
        if codec.counted:
            # The tokens leave the device once, after the loop: no waiting for a GPU inside it.
            guesses = [said.greedy]
            for _ in range(codec.max_tokens - 1):
                guesses.append(sequence.extend(guesses[-1]).greedy)
            chosen = torch.cat(guesses).tolist()
        else:
            chosen = said.greedy.tolist()
            while not codec.finished(chosen):
                chosen += sequence.extend(chosen[-1]).greedy.tolist()
        watch.lap("decode")
        action = action_of(codec, chosen)
        watch.lap("detokenise")
        return StepResult(
            **action._asdict(),
            tokens=tuple(chosen),
            source=Source.AUTOREGRESSIVE,
            reason="greedy, one token a pass",
            timings_ms=watch.timings_ms(),
            passes=len(chosen),
        )
