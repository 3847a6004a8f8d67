"""Safetensors files: read tensor by tensor, their headers first, and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from heisd_ros.errors import CheckpointError
from heisd_ros.files.bounded import check_plain


class Header(NamedTuple):
    """The header of a tensor.

    Attributes:
        path: the file that holds it.
        shape: the tensor's shape.
        dtype: the tensor's type as safetensors names it, for instance ``BF16``.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: str


class TensorFiles:
    """Several safetensors files as one collection of tensors.

    Attributes:
        headers: headers by tensor name; no values have been read.

    Args:
        paths: the files.

    Raises:
        CheckpointError: a file is damaged, or two hold a tensor of the same name.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        self.headers: dict[str, Header] = {}
        for path in paths:
            check_plain(path, CheckpointError)
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118  # safe_open is no mapping
                        if name in self.headers:
                            raise CheckpointError(
                                f"{path} and {self.headers[name].path.name} both hold {name}"
                            )
                        part = file.get_slice(name)
                        self.headers[name] = Header(path, tuple(part.get_shape()), part.get_dtype())
            except (SafetensorError, OSError, ValueError) as error:
                raise CheckpointError(f"{path} cannot be read (truncated?): {error}") from error

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Iterates over names and tensors; only the current file is mapped."""
        for path in self.paths:
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118  # safe_open is no mapping
                        yield name, file.get_tensor(name)
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path} cannot be read: {error}") from error

    def read(self, name: str) -> Tensor:
        """Reads one tensor by its name, which must be in `headers`."""
        with safe_open(self.headers[name].path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors as a safetensors file with the permissions that new files have.

    `save_file` of the library lets none but the owner read what it writes.
    """
    # Cloned, because parts of fused weights share memory, which safetensors refuses.
    own = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    path.write_bytes(save(own, metadata={"format": "pt"}))
