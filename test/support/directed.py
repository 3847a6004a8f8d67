"""Nodes whose model's answers a test directs."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace

from rclpy.lifecycle import TransitionCallbackReturn
from support.ros import Bench

from heisd_ros.control.policy import load_policy

PATIENT = {
    "command.max_action_age_sec": 5.0,
    "input.image_timeout_sec": 5.0,
    "input.joint_state_timeout_sec": 5.0,
}


class Directed:
    """Wraps a decoder; `answer` waits until the test lets it go."""

    def __init__(self, decoder):
        self._decoder = decoder
        self.go = threading.Event()
        self.go.set()

    def __getattr__(self, name):
        return getattr(self._decoder, name)

    def answer(self, observation):
        result = self._decoder.infer(observation)
        self.go.wait(20.0)
        return result


@contextmanager
def directing(world, checkpoint, kind, ready=lambda decoder: None, **policy):
    """Yields a function that starts a bench and an active node, and returns its decoder too.

    `ready` is called with the decoder, of a `kind`, before the node is activated; `policy` changes
    the fields of the policy.
    """
    made = []

    def load(settings):
        loaded = load_policy(settings)
        made.append(kind(loaded.decoder))
        return replace(loaded, decoder=made[-1], **policy)

    def begin(parameters=None):
        bench = world.add(Bench)
        given = {**PATIENT, **(parameters or {})}
        node = world.vla_node(checkpoint, given, [load], activate=False)
        ready(made[-1])
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        return bench, node, made[-1]

    yield begin
    for each in made:
        each.go.set()
