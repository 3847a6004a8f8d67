"""The VLA node as a process, with a policy that moves the arm steadily."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from heisd_ros.nodes.process import run_node
from heisd_ros.nodes.tools.bench_policy import load_free
from heisd_ros.nodes.vla_node import VlaNode, run

ACTION = np.array([0.1, 0.05, 0.0, 0.0, 0.0, 0.02, -1.0])


def load(parameters):
    """A policy that always wants the same motion."""
    policy = load_free(parameters)
    infer = policy.decoder.infer
    policy.decoder.infer = lambda observation: replace(infer(observation), action=ACTION)
    return policy


if __name__ == "__main__":
    raise SystemExit(run_node(lambda: VlaNode(load), run, None))
