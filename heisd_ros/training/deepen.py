"""More layers for a trained language model, without forgetting: new ones begin as the identity."""

from __future__ import annotations

import re
from dataclasses import replace

import torch

from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.families.openvla.vla import VLA

_LAYER = re.compile(r"(?<=\.layers\.)\d+(?=\.)")
_RESIDUAL = ("o_proj.weight", "down_proj.weight")
"""What a layer adds to the residual stream goes through these: zero, and the layer adds nothing."""


def deepened(vla: VLA, layers: int) -> VLA:
    """A VLA with more decoder layers that answers exactly as before, to be trained on.

    The old layers are spread evenly; a new one is a copy of the old one before it whose outputs
    are zero.

    Args:
        vla: A trained model.
        layers: Decoder layers wanted.

    Raises:
        ValueError: It has more layers than that already.
    """
    config = vla.config
    old = config.language.num_hidden_layers
    if layers < old:
        raise ValueError(f"layers is {layers}; accepted: at least the model's own {old}")
    language = replace(config.language, num_hidden_layers=layers)
    model = VLAModel(replace(config, language=language)).initialise()
    origins = [place * old // layers for place in range(layers)]
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
    return VLA(model, vla.prompts.tokenizer, vla.statistics, vla.statistics_key)
