"""Ways to decode one observation that must all give the same tokens: what `model verify` compares.

A path is a function; one line in `PATHS` adds it to `heisd model verify --path` and to the tests
that hold every path to the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from heisd_ros.decoding.types import Observation
from heisd_ros.errors import ReferenceDataError
from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.vla import VLA
from heisd_ros.vla.engine import Engine, Network, PlainEngine
from heisd_ros.vla.llama_twin import transformers_twin
from heisd_ros.vla.static_engine import StaticEngine
from heisd_ros.vla.token_model import TokenModel


class Decoded(NamedTuple):
    """One action and its logits.

    Attributes:
        tokens: the 7 greedy token ids.
        logits: [7, vocab], one row a step; or [7, 256], over the action ids alone.
    """

    tokens: tuple[int, ...]
    logits: Tensor


class DecodePath(Protocol):
    """A function that decodes one observation greedily."""

    def __call__(self, vla: VLA, observation: Observation) -> Decoded:
        """Decode; raises what `TokenModel.encode` raises."""
        ...


@torch.inference_mode()
def eager(vla: VLA, observation: Observation) -> Decoded:
    """One prefill and six passes of one token: the definition of correct."""
    model = vla.model
    inputs = vla.encode(observation.images, observation.instruction, observation.proprio)
    visual_tokens = model.project(model.vision_features(inputs.pixels))
    prefill = model.prefill(model.embed(inputs.ids, visual_tokens, inputs.proprio))
    logits = [prefill.logits]
    while len(logits) < model.answer.max_tokens:
        logits.append(model.decode(logits[-1].argmax(-1, keepdim=True), prefill.cache))
    stacked = torch.cat(logits)
    return Decoded(tuple(stacked.argmax(-1).tolist()), stacked)


def through(make: Callable[[VLAModel], Engine]) -> DecodePath:
    """The plain loop through an engine, as `AutoregressiveDecoder` runs it."""

    @torch.inference_mode()
    def decode(vla: VLA, observation: Observation) -> Decoded:
        model = vla.model
        engine = make(model)
        inputs = vla.encode(observation.images, observation.instruction, observation.proprio)
        features = engine.stage(model.vision_features, inputs.pixels)
        visual_tokens = engine.stage(model.project, features)
        sequence, said = engine.start(model.embed(inputs.ids, visual_tokens, inputs.proprio))
        tokens, logits = [said.greedy], [said.logits.clone()]
        while len(tokens) < model.answer.max_tokens:
            said = sequence.extend(tokens[-1])
            tokens.append(said.greedy)
            logits.append(said.logits.clone())  # the next pass overwrites them
        return Decoded(tuple(torch.cat(tokens).tolist()), torch.cat(logits))

    return decode


PATHS: dict[str, DecodePath] = {
    "eager": eager,
    "plain": through(PlainEngine),
    "static": through(StaticEngine),
    "compiled": through(lambda model: StaticEngine(model, compiler="inductor")),
    "transformers": through(transformers_twin),
}
"""By the names that `--path` takes."""


def engine_of(model: TokenModel, path: str) -> Engine:
    """The engine that a path runs a model of any family by.

    Raises:
        ReferenceDataError: the path is of networks of our own, and the model has none.
    """
    if path == "eager" or (path == "transformers" and not hasattr(model, "model")):
        return model.engine
    network = getattr(model, "model", None)
    makes: dict[str, Callable[[Network], Engine]] = {
        "plain": PlainEngine,
        "static": StaticEngine,
        "compiled": lambda network: StaticEngine(network, compiler="inductor"),
        "transformers": transformers_twin,
    }
    if network is None:
        raise ReferenceDataError(
            f"path {path!r} runs networks of our own; accepted for this model: eager, transformers"
        )
    return makes[path](network)
