"""What a model behind a server costs over one in this process: packing, loopback, unpacking."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from heisd_ros.decoding.types import Decoder, Observation, Source, StepResult
from heisd_ros.kinematics.proprio import PROPRIO_SIZE
from heisd_ros.serving.address import Address
from heisd_ros.serving.exchange import StepRequest, question
from heisd_ros.serving.layout import Layout, view_keys
from heisd_ros.serving.link import Link
from heisd_ros.serving.messages import pack
from heisd_ros.serving.remote import RemoteDecoder
from heisd_ros.serving.server import ModelServer

START_SEC = 60.0


class Free(Decoder):
    """A decoder that costs nothing."""

    def infer(self, observation: Observation) -> StepResult:
        """Returns a step without any work."""
        return StepResult(
            action=np.zeros(7),
            tokens=(0,) * 7,
            source=Source.AUTOREGRESSIVE,
            reason="free",
            timings_ms={"total": 0.0},
            passes=0,
        )


def measure(side: int, views: int, rounds: int) -> dict[str, Any]:
    """Times the same step here and behind a server in a process of its own, in turn.

    Args:
        side: of a picture, pixels.
        views: pictures of an observation.
        rounds: of each.

    Returns:
        ``over_local_ms`` with ``p50`` and ``p99``, ``kib`` of a question, and of the machine
        ``load`` (processes that wanted to run in the last minute) and ``cores``.
    """
    layout = Layout(views=view_keys(tuple(f"view{n}" for n in range(views))), image_size=side)
    draws = np.random.default_rng(0)
    images = tuple(draws.integers(0, 256, (side, side, 3), np.uint8) for _ in range(views))
    seen = Observation(images, "measure", np.zeros(PROPRIO_SIZE, np.float32))
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(layout, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(START_SEC):
            raise TimeoutError(f"the server did not start within {START_SEC:g} s")
        link = Link(Address.parse(ours.recv()))
        remote = RemoteDecoder(link)
        for _ in range(10):
            remote.infer(seen)
        over = [_ms(remote, seen) - _ms(Free(), seen) for _ in range(rounds)]
        link.close()
    finally:
        process.kill()
        process.join()
    p50, p99 = np.percentile(over, (50, 99))
    return {
        "over_local_ms": {"p50": float(p50), "p99": float(p99)},
        "kib": len(pack(question(layout, seen, StepRequest()))) / 1024,
        "load": os.getloadavg()[0],
        "cores": len(os.sched_getaffinity(0)),
    }


def _ms(decoder: Decoder, seen: Observation) -> float:
    began = time.perf_counter()
    decoder.infer(seen)
    return (time.perf_counter() - began) * 1e3


def _serve(layout: Layout, told: Connection) -> None:
    server = ModelServer(Free(), layout, port=0)
    told.send(server.uri)
    server.run()
