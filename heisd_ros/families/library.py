"""Networks of the `transformers` library: filled from safetensors files, never by remote code.

A family builds the library's config from its own folder; the class, and so all code, is the
library's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging as library_logging

from heisd_ros.errors import CheckpointError, EngineError, HeisdError
from heisd_ros.files.bounded import shown
from heisd_ros.vla.device_memory import device_memory_errors
from heisd_ros.vla.engine import Engine
from heisd_ros.vla.engine_choice import EngineChoice
from heisd_ros.vla.language_config import LanguageConfig
from heisd_ros.vla.load_weights import check_fit
from heisd_ros.vla.tensor_files import TensorFiles
from heisd_ros.vla.token_model import TokenModel
from heisd_ros.vla.transformers_engine import TransformersEngine

_LONGEST = 1 << 13
"""Columns that a drafter counts, at most: prompts have hundreds, and a table is made of them."""
_Model = TypeVar("_Model", bound="LibraryModel")
_Token = TypeVar("_Token", bound=TokenModel)


class LibraryModel:
    """The half of a `TokenModel` that every family on a network of the library shares.

    Args:
        network: the network, with its head in ``lm_head``.
        engine: what runs its passes.
    """

    statistics_key = ""

    def __init__(self, network: Any, engine: TransformersEngine) -> None:
        self.network, self._engine = network, engine

    @property
    def engine(self) -> Engine:
        """Implements `TokenModel.engine`."""
        return self._engine

    @property
    def language(self) -> LanguageConfig:
        """Implements `TokenModel.language`: a Llama layer of the decoder's sizes."""
        text = self.network.config.get_text_config()
        return LanguageConfig(
            vocab_size=text.vocab_size,
            hidden_size=text.hidden_size,
            intermediate_size=text.intermediate_size,
            num_hidden_layers=text.num_hidden_layers,
            num_attention_heads=text.num_attention_heads,
            num_key_value_heads=text.num_key_value_heads,
            rms_norm_eps=text.rms_norm_eps,
            max_position_embeddings=min(text.max_position_embeddings, _LONGEST),
        )

    @property
    def device(self) -> torch.device:
        """Implements `TokenModel.device`."""
        return self.network.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Implements `TokenModel.dtype`: the type of the decoder's weights."""
        return self.network.lm_head.weight.dtype

    @property
    def weight_bytes(self) -> int:
        """Implements `TokenModel.weight_bytes`."""
        return sum(part.nbytes for part in self.network.parameters())

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Implements `Vocabulary.embed_tokens`."""
        return self._engine.embed(ids)

    def logits(self, hidden: Tensor, rows: slice = slice(None)) -> Tensor:
        """Implements `Vocabulary.logits`."""
        return nn.functional.linear(hidden, self.network.lm_head.weight[rows])

    def with_engine(self: _Model, choice: EngineChoice) -> _Model:
        """Implements `TokenModel.with_engine`: there is one engine, which takes any shape."""
        if choice not in ("auto", "plain"):
            raise EngineError(f"engine {choice!r} runs networks of our own; accepted: auto, plain")
        return self


def tried(model: _Token, folder: Path) -> _Token:
    """Returns a model after a pass over a blank observation; one on ``meta`` is not run.

    The library builds networks of sizes with which it cannot run them.

    Raises:
        CheckpointError: the pass fails.
        DeviceMemoryError: the device has no room for it.
    """
    if model.device.type == "meta":
        return model
    spec = model.spec
    blank = np.zeros((spec.image_size, spec.image_size, 3), np.uint8)
    state = np.zeros(spec.proprio_size, np.float32) if spec.proprio_size else None
    try:
        with torch.inference_mode(), device_memory_errors(model.device, "a pass of the model"):
            inputs = model.encode([blank] * len(spec.views), "lift", state)
            model.engine.start(model.prompt(inputs, model.features(inputs)))
    except HeisdError:
        raise
    except Exception as error:  # whatever the library makes of them
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise CheckpointError(f"{folder}: the network cannot run: {problem}") from error
    return model


def load_network(
    kind: type[PreTrainedModel],
    config: PreTrainedConfig,
    weights: tuple[Path, ...],
    rename: Callable[[str], str],
    device: torch.device,
    dtype: torch.dtype,
    float32: Iterable[str] = (),
) -> PreTrainedModel:
    """Builds a network of the library and fills it; names and shapes are compared first.

    Args:
        kind: the class.
        config: its configuration.
        weights: safetensors files.
        rename: a tensor's name in the files -> its name in the library.
        device: where the network goes; ``meta`` compares the headers and reads no values.
        dtype: of the weights.
        float32: parts of names whose weights stay float32 whatever `dtype` is.

    Raises:
        CheckpointError: with a line for each tensor that is missing, unexpected or of another
            shape, up to fifty; or a file is damaged, or holds a number that is not finite.
        DeviceMemoryError: the device has no room.
    """
    files = TensorFiles(weights)
    names = {name: rename(name) for name in files.headers}
    try:
        with torch.device("meta"):
            skeleton = kind(config)
    except Exception as error:  # whatever the library makes of sizes that do not go together
        problem = " ".join(str(error).split())
        raise CheckpointError(
            f"{weights[0].parent}: no network of this config: {problem}"
        ) from error
    shapes = {name: tuple(tensor.shape) for name, tensor in skeleton.state_dict().items()}
    twins = _twins(skeleton, shapes, set(names.values()))
    check_fit(weights[0].parent, shapes, files, rename, spare=twins)
    if device.type == "meta":
        return nn.Module.to(skeleton, dtype).eval()
    tensors = {names[name]: tensor for name, tensor in files}
    tensors |= {name: tensors[other] for name, other in twins.items()}
    bar = library_logging.is_progress_bar_enabled()
    library_logging.disable_progress_bar()
    try:
        with device_memory_errors(device, "the model's weights"):
            network = kind.from_pretrained(
                None, config=config, state_dict=dict(tensors), dtype=dtype
            )
            for name, parameter in network.named_parameters():
                if any(part in name for part in float32):
                    parameter.data = tensors[name].float()
            nn.Module.to(network, device)
    finally:
        if bar:
            library_logging.enable_progress_bar()
    _check_finite(network, {new: files.headers[old].path for old, new in names.items()})
    return network.requires_grad_(False).eval()


def _twins(
    skeleton: PreTrainedModel, shapes: Mapping[str, tuple[int, ...]], given: set[str]
) -> dict[str, str]:
    """Embedding and head, where the files hold one for both: the missing one -> the other."""
    embedding = next((name for name in shapes if name.endswith("embed_tokens.weight")), "")
    pairs = {"lm_head.weight": embedding, embedding: "lm_head.weight"}
    return {name: other for name, other in pairs.items() if name not in given and other in given}


def _check_finite(network: PreTrainedModel, places: Mapping[str, Path]) -> None:
    parameters: Iterable[tuple[str, Tensor]] = network.named_parameters()
    for name, parameter in parameters:
        if not torch.stack(torch.aminmax(parameter.data)).isfinite().all():
            raise CheckpointError(
                f"{places.get(name, shown(name))}: {name} holds numbers that are not finite"
            )
