"""Plain greedy decoding, one token per pass: the reference for every other decoder."""

from __future__ import annotations

import torch

from heisd_ros.decoding.answer_actions import action_of
from heisd_ros.decoding.perception import Perceived, perceive
from heisd_ros.decoding.stopwatch import Stopwatch
from heisd_ros.decoding.types import Decoder, Observation, Source, StepResult
from heisd_ros.vla.token_model import TokenModel


class AutoregressiveDecoder(Decoder):
    """One prefill, then one pass for each further token.

    Each token is the argmax over the whole vocabulary. An answer that encodes no action becomes
    NaN, and the arm is held (`StepResult.problem`).
    """

    def __init__(self, vla: TokenModel) -> None:
        self.vla = vla

    @torch.inference_mode()
    def infer(self, observation: Observation) -> StepResult:
        """Decodes one action; raises what `TokenModel.encode` raises."""
        watch = Stopwatch(self.vla.device)
        seen = perceive(self.vla, observation, watch=watch)
        chosen = self.answer(seen, watch)
        action = action_of(self.vla.codec, chosen)
        watch.lap("detokenise")
        return StepResult(
            **action._asdict(),
            tokens=tuple(chosen),
            source=Source.AUTOREGRESSIVE,
            reason="greedy, one token a pass",
            timings_ms=watch.timings_ms(),
            passes=len(chosen),
        )

    def answer(self, seen: Perceived, watch: Stopwatch | None = None) -> list[int]:
        """Decodes the model's greedy answer, its token ids up to the last one.

        Args:
            seen: the observation, in inference mode.
            watch: times the laps ``prefill`` and ``decode``.
        """
        codec = self.vla.codec
        sequence, said = self.vla.engine.start(self.vla.prompt(*seen))
        if watch is not None:
            watch.lap("prefill")
        if codec.counted:
            # Tokens are copied from the device once, after the loop, so that it never waits.
            guesses = [said.greedy]
            for _ in range(codec.max_tokens - 1):
                guesses.append(sequence.extend(guesses[-1]).greedy)
            chosen: list[int] = torch.cat(guesses).tolist()
        else:
            chosen = said.greedy.tolist()
            while not codec.finished(chosen):
                chosen += sequence.extend(chosen[-1]).greedy.tolist()
        if watch is not None:
            watch.lap("decode")
        return chosen
