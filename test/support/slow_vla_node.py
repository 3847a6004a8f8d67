"""The VLA node as a process, with a model that soon takes very long: for what comes meanwhile."""

from __future__ import annotations

import time
from dataclasses import replace

from support.mischief import Mischief

from heisd_ros.control.policy import load_policy
from heisd_ros.nodes.process import run_node
from heisd_ros.nodes.vla_node import VlaNode, run

QUICK_STEPS, SLOW_SEC = 12, 2.0


def load(parameters):
    """A policy that is quick at first, also while it is warmed up."""
    policy = load_policy(parameters)
    decoder, steps = Mischief(policy.decoder), iter(range(QUICK_STEPS))
    decoder.before = lambda: next(steps, None) is None and time.sleep(SLOW_SEC)
    return replace(policy, decoder=decoder)


if __name__ == "__main__":
    raise SystemExit(run_node(lambda: VlaNode(load), run, None))
