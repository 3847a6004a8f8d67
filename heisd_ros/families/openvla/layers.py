"""Changes the number of decoder layers of a trained model, for further training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.vla import VLA

_VLA = TypeVar("_VLA", bound=VLA)
_LAYER = re.compile(r"(?<=\.layers\.)\d+(?=\.)")
_RESIDUAL = ("o_proj.weight", "down_proj.weight")
"""What a layer adds to the residual stream goes through these: zero, and the layer adds nothing."""


def resized(vla: _VLA, layers: int) -> _VLA:
    """Makes a VLA with another number of decoder layers: `deepened` or `shortened`."""
    deeper = layers >= vla.config.language.num_hidden_layers
    return deepened(vla, layers) if deeper else shortened(vla, layers)


def deepened(vla: _VLA, layers: int) -> _VLA:
    """Makes a VLA with more decoder layers that answers exactly as before, for further training.

    The old layers are spread evenly; a new one is a copy of the old one before it whose outputs
    are zero.

    Args:
        vla: A trained model.
        layers: Decoder layers wanted.

    Raises:
        ValueError: It has more layers than that already.
    """
    old = vla.config.language.num_hidden_layers
    if layers < old:
        raise ValueError(f"layers is {layers}; accepted: at least the model's own {old}")
    return _with_layers(vla, [place * old // layers for place in range(layers)])


def shortened(vla: _VLA, layers: int) -> _VLA:
    """Makes a VLA with some of the decoder layers, evenly chosen, the first and the last kept.

    It answers worse than before until it has been trained further.

    Args:
        vla: A trained model.
        layers: Decoder layers wanted.

    Raises:
        ValueError: It has fewer layers than that, or fewer than two are wanted.
    """
    old = vla.config.language.num_hidden_layers
    if not 2 <= layers <= old:
        raise ValueError(f"layers is {layers}; accepted: 2 to the model's own {old}")
    return _with_layers(vla, [round(place * (old - 1) / (layers - 1)) for place in range(layers)])


def _with_layers(vla: _VLA, origins: Sequence[int]) -> _VLA:
    """Makes each layer of one of the old ones; of equal ones all but the first add nothing."""
    language = replace(vla.config.language, num_hidden_layers=len(origins))
    model = VLAModel(replace(vla.config, language=language))
    trained, state = vla.model.state_dict(), {}
    for name in model.state_dict():
        found = _LAYER.search(name) if name.startswith("language_model.") else None
        if found is None:
            state[name] = trained[name]
            continue
        place = int(found[0])
        weight = trained[_LAYER.sub(str(origins[place]), name, count=1)]
        silent = place > 0 and origins[place] == origins[place - 1] and name.endswith(_RESIDUAL)
        state[name] = torch.zeros_like(weight) if silent else weight
    model.load_state_dict(state)
    return vla.around(model)
