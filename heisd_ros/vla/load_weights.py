"""Loads weights from files into a model that was built without memory, shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from heisd_ros.errors import CheckpointError
from heisd_ros.vla.checkpoint_files import CheckpointFiles
from heisd_ros.vla.device_memory import device_memory_errors
from heisd_ros.vla.lora import LoraAdapter
from heisd_ros.vla.tensor_files import TensorFiles

_FLOATS = ("BF16", "F16", "F32", "F64")
_MOST_LISTED = 50


class _NoInitialValues(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


@contextmanager
def without_memory() -> Iterator[None]:
    """Modules that are built in here have shapes and types, and no memory: `load_weights`.

    No initial values are drawn: on the device "meta" that makes PyTorch import its compiler, which
    takes 2 s.
    """
    with torch.device("meta"), _NoInitialValues():
        yield


def load_weights(
    model: nn.Module, files: CheckpointFiles, device: torch.device, unused: tuple[str, ...] = ()
) -> None:
    """Allocates a model on its device and fills it.

    The files' headers are compared first, so nothing is allocated for a checkpoint that does not
    fit. Then each tensor is copied from the mapped file to its place: the host never holds more
    than a shard's pages and one tensor, whatever the model's size.

    Args:
        model: a model on the device "meta", with the desired type.
        files: the checkpoint's files.
        device: the model's device; ``meta`` only compares the headers and reads no values.
        unused: prefixes of names that the files may hold but the model never reads.

    Raises:
        CheckpointError: with a line for each tensor that is missing, unexpected or of another
            shape, up to fifty; or a file is damaged, or holds a number that is not finite.
        DeviceMemoryError: the device has no room.
    """
    tensors = TensorFiles(files.weights)
    adapter = LoraAdapter(files.adapter) if files.adapter is not None else None
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    problems = [] if adapter is None else adapter.problems(shapes, unused)
    check_fit(files.config.parent, shapes, tensors, unused=unused, problems=problems)
    with device_memory_errors(device, "the model's weights"):
        model.to_empty(device=device).requires_grad_(False)
        if device.type == "meta":  # only a check whether it fits
            return
        wanted: dict[str, Tensor] = model.state_dict()
        for name, tensor in tensors:
            if name in wanted:
                merged = tensor if adapter is None else adapter.apply(name, tensor, device)
                wanted[name].copy_(merged)
                if not torch.stack(wanted[name].aminmax()).isfinite().all():
                    place = tensors.headers[name].path
                    raise CheckpointError(f"{place}: {name} holds numbers that are not finite")


def check_fit(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    files: TensorFiles,
    rename: Callable[[str], str] = str,
    *,
    spare: Container[str] = (),
    unused: tuple[str, ...] = (),
    problems: Sequence[str] = (),
) -> None:
    """Compares the headers of a checkpoint's files with the tensors of a model.

    Args:
        folder: of the checkpoint, for the message.
        shapes: of the model's tensors.
        files: the checkpoint's tensors.
        rename: a tensor's name in the files -> its name in the model.
        spare: names of the model's tensors that the files need not hold.
        unused: prefixes of names that the files may hold but the model never reads.
        problems: found before.

    Raises:
        CheckpointError: with a line for each tensor that is missing, unexpected or of another
            shape, up to fifty.
    """
    found, seen = list(problems), dict[str, str]()
    for name, header in files.headers.items():
        new = rename(name)
        if new in seen:
            found.append(f"{name} and {seen[new]} are one tensor, {new}")
        seen[new] = name
        if new not in shapes:
            if not name.startswith(unused) and not name.endswith("rotary_emb.inv_freq"):
                found.append(f"unexpected {name}")
        elif header.shape != shapes[new]:
            found.append(f"{name} is {header.shape}, the config says {shapes[new]}")
        elif header.dtype not in _FLOATS:
            found.append(f"{name} is of type {header.dtype}; {', '.join(_FLOATS)} are read")
    found += [f"missing {name}" for name in shapes if name not in seen and name not in spare]
    if found:
        more = len(found) - _MOST_LISTED
        rest = [f"and {more} more"] if more > 0 else []
        listing = "\n  ".join([*sorted(found)[:_MOST_LISTED], *rest])
        raise CheckpointError(f"{folder}: {len(found)} tensors do not fit the config:\n  {listing}")
