"""The VLA node around a policy that costs nothing, to measure the node itself: `heisd bench node`.

What is left is what every model pays: transport, conversion, resizing to the model's size, command.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from PIL import Image

from heisd_ros.control.policy import DEFAULT_RATE_HZ, Policy
from heisd_ros.decoding.types import Observation, Settled, Source, StepResult
from heisd_ros.nodes.process import run_node
from heisd_ros.nodes.vla_node import VlaNode, run
from heisd_ros.robot.parameters import VlaNodeParameters

SIDE = 224
"""Side of the pictures that a 7B model sees, pixels."""
STEP, CYCLE = 1e-7, 100_000
"""Each action differs from its neighbours by so little, so that commands can be told apart."""


class FreeDecoder:
    """Resizes the pictures as a model would and decides at once."""

    def __init__(self) -> None:
        self._count = 0

    def infer(self, observation: Observation) -> StepResult:
        """A step that is free but for the resizing."""
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

    def settle(self) -> Settled | None:
        """Nothing is left over."""
        return None

    def warning(self) -> str:
        """All is well."""
        return ""

    def reset(self, success: bool | None = None) -> None:
        """There is nothing to forget."""


def load_free(parameters: VlaNodeParameters) -> Policy:
    """A policy of one view that takes any instruction."""
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
