"""Servers of a model in a thread, and a network between them and their clients that can be cut."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
from support.tiny_vla import INSTRUCTIONS
from websockets.sync.server import serve

from heisd_ros.control.remote_policy import layout_of
from heisd_ros.decoding.types import Observation, Source, StepResult
from heisd_ros.errors import RemoteModelError
from heisd_ros.serving.layout import Layout, view_keys
from heisd_ros.serving.messages import pack, unpack
from heisd_ros.serving.server import ModelServer

VIEWS = ("agentview", "wrist")
LAYOUT = Layout(views=view_keys(VIEWS), image_size=32, model="counting", mode="ar")


class Counting:
    """A decoder whose action is the number of the step since the episode began."""

    def __init__(self):
        self.count, self.resets, self.settled, self.observations = 0, [], 0, []
        self.outcome = None  # of settling
        self.source, self.problem, self.reasoning = Source.AUTOREGRESSIVE, "", ""

    def infer(self, observation):
        self.count += 1
        self.observations.append(observation)
        action = np.full(7, float(self.count))
        return StepResult(
            np.full(7, np.nan) if self.problem else action,
            (5,) * 7,
            self.source,
            "counted",
            {"total": 1.0},
            passes=2,
            accepted=3,
            similarity=0.5,
            problem=self.problem,
            reasoning=self.reasoning,
        )

    def settle(self):
        self.settled += 1
        return self.outcome

    def warning(self):
        return "counting only"

    def reset(self, success=None):
        self.resets.append(success)
        self.count = 0


@contextmanager
def serving(decoder, layout=LAYOUT, **kwargs):
    """A server that runs; its `lines` are what it says."""
    lines = []
    server = ModelServer(decoder, layout, say=lines.append, **{"port": 0, **kwargs})
    server.lines = lines
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(10.0)


@contextmanager
def openpi_serving(answer):
    """A server that speaks openpi's protocol alone.

    Args:
        answer: the actions [H, D] to a question, as it came.
    """

    def handler(connection):
        connection.send(pack({"reset_pose": [0.0]}))
        for question in connection:
            timing = {"infer_ms": 1.0}
            connection.send(pack({"actions": answer(unpack(question)), "server_timing": timing}))

    with serve(handler, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"


def serving_policy(policy, decoder=None, mode="ar", **kwargs):
    """A server of a policy, whose decoder may be another."""
    layout = layout_of(policy, mode, "of the test")
    return serving(decoder or policy.decoder, layout, plain=policy.plain, **kwargs)


class Network:
    """Forwards bytes between clients and a server.

    Attributes:
        left: bytes that still pass from the server; None: all.
        stall: whether the rest is swallowed, or the connection ends.
        deaf: whether nothing is read of what clients send.
    """

    def __init__(self, port):
        self._to, self.left, self.stall, self.deaf = port, None, False, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                if self._listener.fileno() < 0:
                    return
                client.close()
                continue
            for pair in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _read(self, source, limited):
        while self.deaf and not limited:
            time.sleep(0.02)
        return source.recv(65536)

    def _forward(self, source, sink, limited):
        try:
            while data := self._read(source, limited):
                if limited and self.left is not None:
                    data, self.left = data[: self.left], max(self.left - len(data), 0)
                    sink.sendall(data)
                    if self.left == 0 and not self.stall:
                        break
                else:
                    sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def observation(shade=0, instruction=INSTRUCTIONS[0], motion=None, side=32):
    images = tuple(np.full((side, side, 3), shade + i, np.uint8) for i in range(len(VIEWS)))
    return Observation(images, instruction, np.linspace(0, 1, 7, dtype=np.float32), motion)


def answered(decoder, within_sec=10.0):
    """The first result that comes after a fault."""
    deadline = time.monotonic() + within_sec
    while True:
        try:
            return decoder.infer(observation())
        except RemoteModelError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
