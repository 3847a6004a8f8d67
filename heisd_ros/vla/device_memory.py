"""A device that has no memory left, named as what it is. Nothing is imported until that happens."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from heisd_ros.errors import DeviceMemoryError

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def device_memory_errors(device: str | torch.device, what: str) -> Iterator[None]:
    """Names the device and its memory where an allocation inside the block fails.

    Args:
        device: the one that is allocated on.
        what: what the memory is for.

    Raises:
        DeviceMemoryError: instead of PyTorch's error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_about_memory(error):
            raise
        raise DeviceMemoryError(
            f"{device} has no memory left for {what}{_memory_of(str(device))}: free some, take "
            "another device, or a smaller number format (bfloat16)"
        ) from error


def _is_about_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    if torch is None:  # another machine runs the model
        return isinstance(error, MemoryError)
    # Of the host's allocator PyTorch raises a bare RuntimeError.
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "DefaultCPUAllocator" in str(error)


def _memory_of(device: str) -> str:
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda") or not torch.cuda.is_available():
        return ""
    free, total = (size / 2**30 for size in torch.cuda.mem_get_info(device))
    return f" ({free:.1f} of {total:.1f} GiB are free)"
