"""Programs of fixed shape: run as they are, or captured once as a CUDA graph and replayed.

A program has no arguments: it reads fixed buffers and returns tensors. New inputs are written into
those buffers first. A GPU then runs a whole pass, hundreds of kernels, with one call; otherwise
launching the kernels takes longer than running them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Program = Callable[[], tuple[Tensor, ...]]
Capture = Callable[[Program], Program]

WARM_UPS = 3
"""Runs before a capture: in the first, libraries allocate workspaces and compilers compile."""


def rerun(program: Program) -> Program:
    """Returns a program as it is, without capture, for devices without graphs and for tests."""
    return program


class CudaGraphs:
    """Captures programs as CUDA graphs.

    All graphs share one memory pool. Results are kept as long as graphs may be replayed, so that no
    graph uses another's result as scratch space: they can be replayed in any order.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, program: Program) -> Program:
        """Captures a program; results are valid until the next replay of the same program."""
        with torch.cuda.device(self._device):
            here, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(here)
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    program()
            here.wait_stream(side)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Other threads of the node may allocate meanwhile, so only this one is monitored.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                results = program()

        def replay() -> tuple[Tensor, ...]:
            graph.replay()
            return results

        return replay


def capture_for(device: torch.device) -> Capture:
    """Returns CUDA graphs for a CUDA device, else `rerun`."""
    return CudaGraphs(device) if device.type == "cuda" else rerun
