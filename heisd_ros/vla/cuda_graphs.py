"""Programs of fixed shape: run as they are, or captured once as a CUDA graph and replayed.

A program takes nothing: it reads buffers that stay where they are, and returns tensors. Whoever has
new inputs writes them into those buffers first. A GPU then gets a whole pass, hundreds of kernels,
with one call; without that launching them takes longer than running them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Program = Callable[[], tuple[Tensor, ...]]
Capture = Callable[[Program], Program]

WARM_UPS = 3
"""Runs before a capture: libraries allocate their workspaces and compilers compile in the first."""


def rerun(program: Program) -> Program:
    """No capture: a replay is another run. For devices without graphs, and for tests."""
    return program


class CudaGraphs:
    """Captures programs as CUDA graphs.

    They share one pool of memory. Their results are held for as long as they may be replayed, so
    that none takes another's for its own scratch space: they can be replayed in any order.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, program: Program) -> Program:
        """Capture; results of a replay stay valid until the next replay of the same program."""
        with torch.cuda.device(self._device):
            here, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(here)
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    program()
            here.wait_stream(side)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Another thread of the node may allocate meanwhile: only this one is watched.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                results = program()

        def replay() -> tuple[Tensor, ...]:
            graph.replay()
            return results

        return replay


def capture_for(device: torch.device) -> Capture:
    """CUDA graphs on a CUDA device, else nothing but running."""
    return CudaGraphs(device) if device.type == "cuda" else rerun
