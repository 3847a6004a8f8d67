"""Plain greedy decoding, one token a pass: what every other decoder is measured against."""

from __future__ import annotations

import torch

from heisd_ros.decoding.perception import perceive, prompt_of
from heisd_ros.decoding.stopwatch import Stopwatch
from heisd_ros.decoding.types import Observation, Source, StepResult
from heisd_ros.vla.config import ACTION_DIMENSIONS
from heisd_ros.vla.vla import VLA


class AutoregressiveDecoder:
    """One prefill and six passes of one token.

    As upstream, each token is the argmax over the whole vocabulary; an id that is no action
    becomes NaN in the action, and the arm is held (`VLA.unnormalise`).

    Args:
        vla: the model.
        allow_unknown: accept instructions that the model wasn't trained on.
    """

    def __init__(self, vla: VLA, *, allow_unknown: bool = False) -> None:
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
        """Decode one action; raises what `VLA.encode` raises."""
        engine, watch = self.vla.engine, Stopwatch(self.vla.device)
        seen = perceive(self.vla, observation, watch=watch, allow_unknown=self._allow_unknown)
        sequence, answers = engine.start(prompt_of(engine, seen))
        tokens = [answers.greedy]
        watch.lap("prefill")
        for _ in range(ACTION_DIMENSIONS - 1):
            tokens.append(sequence.extend(tokens[-1]).greedy)
        watch.lap("decode")
        # The tokens leave the device once, after the loop: no waiting for a GPU inside it.
        chosen = tuple(torch.cat(tokens).tolist())
        action = self.vla.unnormalise(chosen)
        watch.lap("detokenise")
        return StepResult(
            action=action,
            tokens=chosen,
            source=Source.AUTOREGRESSIVE,
            reason="greedy, one token a pass",
            timings_ms=watch.timings_ms(),
            passes=ACTION_DIMENSIONS,
        )
