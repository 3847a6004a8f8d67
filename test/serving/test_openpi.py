"""The real thing on the other side: openpi's client at our server, our client at openpi's server.

openpi-client asks for NumPy 1, so it is no requirement of the tests: put it on PYTHONPATH, and for
its server openpi's `src` too.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from support.serving import LAYOUT, Counting, serving

from heisd_ros.decoding.types import Observation
from heisd_ros.errors import RemoteModelError
from heisd_ros.serving import messages
from heisd_ros.serving.address import Address
from heisd_ros.serving.link import Link
from heisd_ros.serving.remote import RemoteDecoder

msgpack_numpy = pytest.importorskip("openpi_client.msgpack_numpy")
client_module = pytest.importorskip("openpi_client.websocket_client_policy")

IMAGE = np.arange(224 * 224 * 3, dtype=np.uint8).reshape(224, 224, 3)
ELEMENT = {
    "observation/image": IMAGE,
    "observation/wrist_image": IMAGE[::-1],
    "observation/state": np.linspace(0.0, 1.0, 7),
    "prompt": "pick up the bowl",
}


def test_messages_are_the_same_bytes():
    message = {**ELEMENT, "n": np.float32(1.5), "list": [1, "a", None]}
    assert messages.pack(message) == msgpack_numpy.packb(message)
    ours, theirs = messages.unpack(msgpack_numpy.packb(message)), msgpack_numpy.unpackb
    assert all(
        (ours[key] == theirs(messages.pack(message))[key]).all() for key in list(ELEMENT)[:3]
    )


def test_openpis_client_drives_our_server():
    counting = Counting()
    with serving(counting) as server:
        client = client_module.WebsocketClientPolicy("127.0.0.1", server.port)
        said = client.get_server_metadata()["heisd"]
        assert list(said["views"].values()) == list(ELEMENT)[:2] and said["horizon"] == 1
        for number in (1.0, 2.0):
            answer = client.infer(ELEMENT)
            assert answer["actions"].tolist() == [[number] * 7]
            assert answer["server_timing"]["infer_ms"] == 1.0
        assert counting.settled >= 1  # of the step before: it does not ask for that
        seen = counting.observations[0]
        assert (seen.images[0] == IMAGE).all() and (seen.images[1] == IMAGE[::-1]).all()
        assert seen.instruction == ELEMENT["prompt"] and seen.proprio[-1] == 1.0
        with pytest.raises(RuntimeError, match="ImageError: 'observation/image'"):
            client.infer({"prompt": "x"})
        assert client.infer(ELEMENT)["actions"][0, 0] == 3.0
        counting.problem = "token 3 is none"
        with pytest.raises(RuntimeError, match="AnswerError: token 3 is none"):
            client.infer(ELEMENT)  # and no NaN
        client._ws.close()


def test_openpis_client_shows_its_key():
    with serving(Counting(), token="secret") as server:
        client = client_module.WebsocketClientPolicy("127.0.0.1", server.port, api_key="secret")
        assert client.infer(ELEMENT)["actions"].shape == (1, 7)
        client._ws.close()
        with pytest.raises(Exception, match="401"):
            client_module.WebsocketClientPolicy("127.0.0.1", server.port)


class Chunks:
    """A policy of openpi's that answers with chunks of 10 end-effector actions."""

    def __init__(self):
        self.seen, self.dimensions = [], 7

    def infer(self, observation):
        if observation["prompt"] == "fail":
            raise ValueError("no such task")
        self.seen.append(observation)
        rows = np.arange(10.0)[:, None] + 100.0 * len(self.seen)
        return {"actions": np.repeat(rows, self.dimensions, axis=1).astype(np.float32)}


@pytest.fixture
def openpi():
    module = pytest.importorskip("openpi.serving.websocket_policy_server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    chunks = Chunks()
    metadata = {"reset_pose": [0.0]}
    server = module.WebsocketPolicyServer(chunks, "127.0.0.1", port, metadata=metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return chunks, f"ws://127.0.0.1:{port}"
        time.sleep(0.05)
    pytest.fail("openpi's server does not listen")


def observation(instruction="go"):
    return Observation((IMAGE, IMAGE), instruction, np.linspace(0, 1, 7, dtype=np.float32))


def test_our_client_drives_openpis_server(openpi):
    chunks, uri = openpi
    link = Link(Address.parse(f"{uri}?rate_hz=10"))
    decoder = RemoteDecoder(link, 1.0)
    assert not link.layout.own and link.layout.rate_hz == 10.0
    for number in (1, 2):
        result = decoder.infer(observation())
        assert result.action.tolist() == [100.0 * number] * 7  # the first of the newest chunk
        assert decoder.settle() is None
    assert set(chunks.seen[0]) == set(ELEMENT)  # nothing that its transforms do not know
    with pytest.raises(RemoteModelError, match="ValueError: no such task"):
        decoder.infer(observation("fail"))
    for _ in range(200):
        try:
            assert decoder.infer(observation()).action[0] == 300.0
            break
        except RemoteModelError:  # it ends the connection after an error
            time.sleep(0.05)
    else:
        pytest.fail("it was not connected to again")
    chunks.dimensions = 8
    with pytest.raises(RemoteModelError, match=r"\(10, 8\).*accepted"):
        decoder.infer(observation())
    link.close()


def test_our_servers_words_are_read_by_the_real_unpacker():
    assert msgpack_numpy.unpackb(messages.pack(LAYOUT.metadata())) == LAYOUT.metadata()
