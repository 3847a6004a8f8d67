"""Weight-only int8: half the bytes of a decode pass, for models whose tokens survive it.

A row of a weight is quantised in 255 steps between plus and minus its largest number (symmetric,
one scale per output channel, as in gpt-fast). Activations are not quantised. The product is written
so that a compiler reads the int8 numbers once; uncompiled it is correct but slower than before.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heisd_ros.vla.llama import LanguageModel


class Int8Linear(nn.Module):
    """A bias-free linear layer with int8 weights.

    Args:
        linear: the layer that it replaces; it is not changed.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantise(linear.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return F.linear(x, self.weight.to(x.dtype)) * self.scale


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantises [outputs, inputs] to int8; returns it and the scale [outputs]."""
    largest = weight.float().abs().amax(dim=1)
    scale = torch.where(largest > 0, largest / 127.0, 1.0)
    steps = (weight.float() / scale.unsqueeze(1)).round_().clamp_(-127, 127)
    return steps.to(torch.int8), scale.to(weight.dtype)


def use_int8(model: LanguageModel) -> None:
    """Replaces every projection of the decoder layers, one by one; embedding and LM head stay.

    The model can then neither be saved nor trained.
    """
    for layer in model.model.layers:
        for owner, name in (
            (layer.self_attn, "qkv_proj"),
            (layer.self_attn, "o_proj"),
            (layer.mlp, "gate_up_proj"),
            (layer.mlp, "down_proj"),
        ):
            setattr(owner, name, Int8Linear(getattr(owner, name)))
