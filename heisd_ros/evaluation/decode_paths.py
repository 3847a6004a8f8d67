"""Engines that must all give the same tokens: what `heisd model verify --path` compares."""

from __future__ import annotations

from collections.abc import Callable

from heisd_ros.vla.engine import Engine
from heisd_ros.vla.llama_twin import transformers_twin
from heisd_ros.vla.token_model import TokenModel


def _library(model: TokenModel) -> Engine:
    """Returns the engine that runs the decoder of `transformers`."""
    network = getattr(model, "model", None)  # one of our own
    return model.engine if network is None else transformers_twin(network)


PATHS: dict[str, Callable[[TokenModel], Engine]] = {
    "plain": lambda model: model.with_engine("plain").engine,
    "static": lambda model: model.with_engine("static").engine,
    "compiled": lambda model: model.with_engine("compiled").engine,
    "transformers": _library,
}
"""The engine of a model by the names that `--path` takes; EngineError: the model has none such."""
