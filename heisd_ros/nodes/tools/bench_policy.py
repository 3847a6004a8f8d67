"""Runs the VLA node with a policy that takes no time, for `heisd bench node`.

What remains is the cost with any model: transport, conversion, resizing and command.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from PIL import Image

from heisd_ros.control.policy import DEFAULT_RATE_HZ, Policy
from heisd_ros.decoding.types import Decoder, Observation, Source, StepResult
from heisd_ros.nodes.process import run_node
from heisd_ros.nodes.vla_node import VlaNode, run
from heisd_ros.robot.parameters import VlaNodeParameters

SIDE = 224
"""Height and width of the pictures for a 7B model, pixels."""
STEP, CYCLE = 1e-7, 100_000
"""Difference between consecutive actions, by which commands are identified."""


class FreeDecoder(Decoder):
    """Resizes the pictures as a model would, and returns an action at once."""

    def __init__(self) -> None:
        self._count = 0

    def infer(self, observation: Observation) -> StepResult:
        """Returns a step that takes only the time of resizing."""
        began = time.monotonic()
        for pixels in observation.images:
            Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        ms = (time.monotonic() - began) * 1e3
        self._count += 1
        action = np.zeros(7)
        action[0] = STEP * (1 + self._count % CYCLE)
        return StepResult(
            action=action,
            tokens=(0,) * 7,
            source=Source.AUTOREGRESSIVE,
            reason="free",
            timings_ms={"preprocess": ms, "total": ms},
            passes=0,
        )


def load_free(parameters: VlaNodeParameters) -> Policy:
    """Returns a policy of one view that accepts any instruction."""
    return Policy(
        decoder=FreeDecoder(),
        folder=Path(parameters.model.path),
        views=("image",),
        image_size=SIDE,
        proprio_size=0,
        rate_hz=DEFAULT_RATE_HZ,
        instructions=None,
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs the node as `vla_node` does."""
    return run_node(lambda: VlaNode(load_free), run, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
