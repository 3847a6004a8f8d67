"""The VLA node as a process, with a model in pure Python, which never lets go of Python's lock."""

from __future__ import annotations

import time
from dataclasses import replace

from support.mischief import Mischief

from heisd_ros.nodes.process import run_node
from heisd_ros.nodes.tools.bench_policy import load_free
from heisd_ros.nodes.vla_node import VlaNode, run

BUSY_SEC = 0.25


def load(parameters):
    """A policy whose every answer is that long in the making."""
    policy = load_free(parameters)
    decoder = Mischief(policy.decoder)
    decoder.before = busy
    return replace(policy, decoder=decoder)


def busy():
    """Computes without a call that would let other threads run."""
    end = time.monotonic() + BUSY_SEC
    while time.monotonic() < end:
        pass


if __name__ == "__main__":
    raise SystemExit(run_node(lambda: VlaNode(load), run, None))
