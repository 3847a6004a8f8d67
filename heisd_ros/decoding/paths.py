"""Ways to decode one observation that must all give the same tokens: what `model verify` compares.

A path is a function; one line in `PATHS` adds it to `heisd model verify --path` and to the tests
that hold every path to the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from heisd_ros.decoding.perception import perceive, prompt_of
from heisd_ros.decoding.types import Observation
from heisd_ros.vla.config import ACTION_DIMENSIONS
from heisd_ros.vla.engine import Engine, PlainEngine
from heisd_ros.vla.model import VLAModel
from heisd_ros.vla.static_engine import StaticEngine
from heisd_ros.vla.vla import VLA


class Decoded(NamedTuple):
    """One action and what it was chosen by.

    Attributes:
        tokens: the 7 greedy token ids.
        logits: [7, vocab], one row a step; or [7, 256], over the action ids alone.
    """

    tokens: tuple[int, ...]
    logits: Tensor


class DecodePath(Protocol):
    """Greedy decoding of one observation."""

    def __call__(self, vla: VLA, observation: Observation) -> Decoded:
        """Decode; raises what `VLA.encode` raises."""
        ...


@torch.inference_mode()
def eager(vla: VLA, observation: Observation) -> Decoded:
    """One prefill and six passes of one token: the definition of correct."""
    model, engine = vla.model, PlainEngine(vla.model)
    prefill = model.prefill(prompt_of(engine, perceive(vla, observation, engine=engine)))
    logits = [prefill.logits]
    while len(logits) < ACTION_DIMENSIONS:
        logits.append(model.decode(logits[-1].argmax(-1, keepdim=True), prefill.cache))
    stacked = torch.cat(logits)
    return Decoded(tuple(stacked.argmax(-1).tolist()), stacked)


def through(make: Callable[[VLAModel], Engine]) -> DecodePath:
    """The plain loop through an engine, as `AutoregressiveDecoder` runs it."""

    @torch.inference_mode()
    def decode(vla: VLA, observation: Observation) -> Decoded:
        engine = make(vla.model)
        seen = perceive(vla, observation, engine=engine)
        sequence, answers = engine.start(prompt_of(engine, seen))
        tokens, logits = [answers.greedy], [answers.logits.clone()]
        while len(tokens) < ACTION_DIMENSIONS:
            answers = sequence.extend(tokens[-1])
            tokens.append(answers.greedy)
            logits.append(answers.logits.clone())  # the next pass overwrites them
        return Decoded(tuple(torch.cat(tokens).tolist()), torch.cat(logits))

    return decode


PATHS: dict[str, DecodePath] = {
    "eager": eager,
    "plain": through(PlainEngine),
    "static": through(StaticEngine),
    "compiled": through(lambda model: StaticEngine(model, compiler="inductor")),
}
"""By the names that `--path` takes."""
