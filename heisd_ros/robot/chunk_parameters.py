"""Parameters of chunks: answers of a model that are the actions of several control steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heisd_ros.robot.declare import Parameters, parameter

MOST_ACTIONS = 1000
"""Actions of the longest chunk."""


@dataclass(frozen=True)
class ChunkParameters(Parameters):
    """How much of a chunk is executed, and how the next one takes over."""

    execute: int = parameter(
        0,
        "How many of a chunk's first actions may be executed, one each control step, while the "
        "model decides the next chunk; 1: the first alone; 0: all.",
        low=0,
        high=MOST_ACTIONS,
    )
    blend: int = parameter(
        0,
        "Actions over which a new chunk is faded in while another one runs; never the gripper's "
        "number.",
        low=0,
        high=MOST_ACTIONS,
    )

    def _problems(self) -> Iterator[tuple[str, str]]:
        if 0 < self.execute < self.blend:
            yield "blend", f"up to 'chunk.execute', {self.execute}"
