"""LoRA adapters as PEFT saves them, merged into a model's weights while these are loaded.

W' = W + scale B A with scale = alpha / r, or alpha / sqrt(r) for rank-stabilised ones (Hu et al.
2021, arXiv 2106.09685; Kalajdzievski 2023, arXiv 2312.03732).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heisd_ros.errors import CheckpointError
from heisd_ros.files.bounded import shown
from heisd_ros.files.typed import typed
from heisd_ros.vla.checkpoint_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_json
from heisd_ros.vla.tensor_files import TensorFiles

_PREFIX = "base_model.model."
_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<part>[AB])(\.default)?\.weight")
_WRAPPED = re.compile(r"\.(modules_to_save(\.default)?|base_layer)(?=\.)")

_TYPES: dict[str, Any] = {
    "r": float,
    "lora_alpha": float,
    "alpha_pattern": dict[str, float] | None,
    "use_rslora": bool | None,
    "target_modules": str | tuple[str, ...] | None,
    "exclude_modules": str | tuple[str, ...] | None,
    "modules_to_save": tuple[str, ...] | None,
    "layers_to_transform": int | tuple[int, ...] | None,
}
"""The keys of a config that are read, besides `_PLAIN`."""
_MOST_REPEATS = 4

# Variants whose merged weight is another formula, with the value that they have when they are off.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False,),
    "fan_in_fan_out": (False,),
    "bias": ("none",),
    "megatron_config": (None,),
}


class LoraAdapter:
    """An adapter, whose tensors are read when the weight that they change is loaded.

    Args:
        folder: holds adapter_config.json and adapter_model.safetensors.

    Raises:
        CheckpointError: a file is damaged, or the kind of adapter is not supported.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._config = config = read_json(folder / ADAPTER_CONFIG)
        for key, accepted in _PLAIN.items():
            if config.get(key, accepted[0]) not in accepted:
                raise CheckpointError(
                    f"{folder / ADAPTER_CONFIG}: {key} is {shown(config[key])}; only "
                    f"{accepted[0]!r}"
                )
        try:
            self._check_types()
        except ValueError as error:
            raise CheckpointError(f"{folder / ADAPTER_CONFIG}: {error}") from error
        self._tensors = TensorFiles((folder / ADAPTER_WEIGHTS,))
        self._pairs: dict[str, dict[str, str]] = {}
        self._replaced: dict[str, str] = {}
        for key in self._tensors.headers:
            name = key.removeprefix(_PREFIX)
            match = _LORA.fullmatch(name)
            if match:
                self._pairs.setdefault(match["module"], {})[match["part"]] = key
            else:
                self._replaced[_WRAPPED.sub("", name)] = key

    def _check_types(self) -> None:
        for key, hint in _TYPES.items():
            typed(hint, self._config.get(key), key)
        for key in ("r", "lora_alpha"):
            if self._config[key] <= 0:
                raise ValueError(f"{key} is {self._config[key]}; above 0 is needed")
        for pattern in self._config.get("alpha_pattern") or ():
            _check_expression("alpha_pattern", pattern)
        for key in ("target_modules", "exclude_modules"):
            if isinstance(self._config.get(key), str):
                _check_expression(key, self._config[key])

    def problems(self, shapes: Mapping[str, tuple[int, ...]], unused: tuple[str, ...]) -> list[str]:
        """Lists what does not fit a model, one line each.

        Args:
            shapes: of the model's tensors by name.
            unused: beginnings of names that a model may have and that are never read here.
        """
        found = []
        for module, pair in self._pairs.items():
            name = f"{module}.weight"
            found += [f"missing lora_{part} of {module}" for part in "AB" if part not in pair]
            if name.startswith(unused) or len(pair) < 2:
                continue
            if name not in shapes:
                found.append(f"unexpected adapter of {module}")
            else:
                found += self._misfit(module, shapes[name])
        for name, key in self._replaced.items():
            shape = self._tensors.headers[key].shape
            if name.startswith(unused):
                continue
            if name not in shapes:
                found.append(f"unexpected {key} in the adapter")
            elif shape != shapes[name]:
                found.append(f"{name} is {shape} in the adapter, the config says {shapes[name]}")
        return found + self._absent(shapes)

    def apply(self, name: str, weight: Tensor, device: torch.device) -> Tensor:
        """Returns a weight with the adapter applied: unchanged, merged in float32, or replaced.

        Args:
            name: name of the weight in the model.
            weight: the model's own weight.
            device: device on which it is merged.
        """
        if name in self._replaced:
            return self._tensors.read(self._replaced[name])
        module = name.removesuffix(".weight")
        if module not in self._pairs or not name.endswith(".weight"):
            return weight
        down, up = (
            self._tensors.read(self._pairs[module][part]).to(device, torch.float32) for part in "AB"
        )
        # A convolution's pair is one of r channels and one of 1 x 1: the same product.
        change = (up.flatten(1) @ down.flatten(1)).view(weight.shape)
        return weight.to(device, torch.float32).add_(change, alpha=self._scale(module, len(down)))

    def _scale(self, module: str, rank: int) -> float:
        alpha = self._config["lora_alpha"]
        for pattern, value in (self._config.get("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern})", module):
                alpha = value
                break
        return float(alpha / (math.sqrt(rank) if self._config.get("use_rslora") else rank))

    def _misfit(self, module: str, shape: tuple[int, ...]) -> Iterable[str]:
        down, up = (self._tensors.headers[self._pairs[module][part]].shape for part in "AB")
        if len(down) != len(shape) or down[0] == 0:
            yield f"adapter of {module} is {down} and {up}, its weight {shape}"
            return
        inside = (down[0], *shape[1:]), (shape[0], down[0], *(1 for _ in shape[2:]))
        if (down, up) != inside:
            yield f"adapter of {module} is {down} and {up}, its weight {shape}"

    def _absent(self, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
        """Lists modules that are adapted according to the config but were not saved."""
        modules = [name.removesuffix(".weight") for name in shapes if name.endswith(".weight")]
        saved = {*self._pairs, *(name.rpartition(".")[0] for name in self._replaced)}
        kept = self._config.get("modules_to_save") or ()
        wanted = {m for m in modules if any(m == k or m.endswith(f".{k}") for k in kept)}
        if not self._config.get("layers_to_transform"):
            wanted |= {module for module in modules if self._targets(module, shapes)}
        return [f"missing adapter of {module}" for module in sorted(wanted - saved)]

    def _targets(self, module: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        targets = self._config.get("target_modules") or ()
        excluded = self._config.get("exclude_modules") or ()
        if _matches(module, excluded):
            return False
        if targets == "all-linear":  # PEFT leaves the head out
            linear = len(shapes[f"{module}.weight"]) == 2
            return linear and not module.endswith(("lm_head", "embed_tokens"))
        return _matches(module, targets)


def _check_expression(key: str, pattern: str) -> None:
    """Raises ValueError for an invalid regular expression, or one that may never finish."""
    repeats = len(re.findall(r"[*+{]", pattern))
    if repeats > _MOST_REPEATS or re.search(r"\)[*+{]", pattern):
        raise ValueError(
            f"{key} has the expression {shown(pattern)}; accepted: up to {_MOST_REPEATS} of '*', "
            "'+' and '{', none of them behind a group"
        )
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{key} has {shown(pattern)}, which is no expression: {error}") from error


def _matches(module: str, targets: str | Iterable[str]) -> bool:
    """Whether PEFT would adapt a module: by a regular expression, or by the end of its name."""
    if isinstance(targets, str):
        return bool(targets) and re.fullmatch(targets, module) is not None
    return any(module == target or module.endswith(f".{target}") for target in targets)
