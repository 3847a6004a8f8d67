"""A decoder that does on request what a model must not."""

from __future__ import annotations

import threading


class Mischief:
    """Wraps a decoder.

    Attributes:
        before: Called before each inference; it may raise, or take its time.
        after: Called with each result, whose action it may spoil.
    """

    def __init__(self, decoder):
        self._decoder = decoder
        self.before, self.after = lambda: None, lambda result: None

    def __getattr__(self, name):
        return getattr(self._decoder, name)

    def infer(self, observation):
        self.before()
        result = self._decoder.infer(observation)
        self.after(result)
        return result


class Hang:
    """Makes an inference wait until it is released, or for some seconds."""

    def __init__(self, seconds):
        self._seconds = seconds
        self.begun, self._released = threading.Event(), threading.Event()

    def __call__(self):
        self.begun.set()
        self._released.wait(self._seconds)

    def release(self):
        self._released.set()
