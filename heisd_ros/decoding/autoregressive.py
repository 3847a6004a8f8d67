"""Plain greedy decoding, one token a pass: what every other decoder is measured against."""

from __future__ import annotations

import torch

from heisd_ros.decoding.stopwatch import Stopwatch
from heisd_ros.decoding.types import Observation, StepResult
from heisd_ros.vla.config import ACTION_DIMENSIONS
from heisd_ros.vla.engine import Engine
from heisd_ros.vla.vla import VLA


class AutoregressiveDecoder:
    """One prefill and six passes of one token.

    As upstream, each token is the argmax over the whole vocabulary; an id that is no action
    becomes NaN in the action, and the arm is held (`VLA.unnormalise`). With ``actions_only`` the
    argmax is over the 256 action ids: the same tokens wherever the model answers with actions at
    all, never another kind.

    Args:
        vla: the model.
        actions_only: restrict the argmax to the action ids.
        allow_unknown: accept instructions that the model wasn't trained on.
        engine: runs the passes (None: the model's own).
    """

    def __init__(
        self,
        vla: VLA,
        *,
        actions_only: bool = False,
        allow_unknown: bool = False,
        engine: Engine | None = None,
    ) -> None:
        self.vla = vla
        self._actions_only, self._allow_unknown = actions_only, allow_unknown
        self._engine = engine

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
        engine = self._engine or self.vla.engine
        watch = Stopwatch(self.vla.device)
        inputs = self.vla.encode(
            observation.images,
            observation.instruction,
            observation.proprio,
            allow_unknown=self._allow_unknown,
        )
        watch.lap("preprocess")
        visual_tokens = engine.project(engine.vision(inputs.pixels))
        watch.lap("vision")
        prompt = self.vla.model.embed(inputs.ids, visual_tokens, inputs.proprio)
        sequence, answers = engine.start(prompt, actions_only=self._actions_only)
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
            source="autoregressive",
            reason="greedy, one token a pass",
            timings_ms=watch.timings_ms(),
            passes=ACTION_DIMENSIONS,
        )
