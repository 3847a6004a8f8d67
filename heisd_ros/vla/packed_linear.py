"""Linear layers that are fast on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_PACKED_BYTES = 2**30
"""Largest model, by its packed layers in memory, whose weights are kept twice on a CPU."""


class PackedLinear(nn.Linear):
    """A linear layer that may keep its weight packed as well, in oneDNN's own order.

    PyTorch converts the weight into that order again at every product with several columns, which
    takes longer than the product itself if columns are few: 16 columns through the projections of
    an 18 x 192 model take 2.6 ms packed and 4.2 ms otherwise, 28 columns 3.4 and 6.0 (AMD EPYC with
    AVX-512, 1 thread). With one column the plain layout is faster and is used.
    """

    # Neither parameter nor buffer: it is a copy of the weight and is never saved.
    _packed: Tensor | None = None

    def pack(self) -> None:
        """Packs the weight, until it is loaded, trained or moved."""
        self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """[..., columns, inputs] -> [..., columns, outputs]."""
        if self._is_faster_plain(x):
            return F.linear(x, self.weight, self.bias)
        return self._product(x, "none")

    def gelu(self, x: Tensor) -> Tensor:
        """[..., columns, inputs] -> [..., columns, outputs], through an exact GELU.

        Of a packed weight oneDNN takes it while it writes the product.
        """
        if self._is_faster_plain(x):
            return F.gelu(self(x))
        return self._product(x, "gelu")

    def _is_faster_plain(self, x: Tensor) -> bool:
        # The packed product has no gradient, and a compiler cannot read it.
        unpacked = self._packed is None or torch.compiler.is_compiling()
        return unpacked or x.shape[-2] == 1 or x.requires_grad

    def _product(self, x: Tensor, then: str) -> Tensor:
        # The last argument says how GELU is computed: exactly.
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._packed, self.bias, then, [], "none"
        )
        return product

    def train(self, mode: bool = True) -> PackedLinear:
        """Sets the mode; in training the packed weight is dropped, as it would not be trained."""
        if mode:
            self._packed = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state without the packed weight; a copy is packed again on request."""
        return {**self.__dict__, "_packed": None}

    def _load_from_state_dict(self, *args: Any) -> None:
        self._packed = None
        super()._load_from_state_dict(*args)

    def _apply(self, fn: Any, recurse: bool = True) -> PackedLinear:
        self._packed = None
        return super()._apply(fn, recurse)


def pack(model: nn.Module) -> None:
    """Packs the layers of a model that runs on a CPU in single precision, if it is small enough."""
    layers = [module for module in model.modules() if isinstance(module, PackedLinear)]
    small = sum(layer.weight.nbytes for layer in layers) <= MOST_PACKED_BYTES
    single = all(layer.weight.dtype == torch.float32 for layer in layers)
    if small and single and can_pack():
        for layer in layers:
            layer.pack()


def can_pack() -> bool:
    """Whether this PyTorch has oneDNN's products with packed weights, which are not public."""
    operators = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in operators
    )
