"""Every fault of server and network has a name, and no answer is taken for another's."""

from __future__ import annotations

import errno
import socket
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from support.mischief import Hang, Mischief
from support.serving import (
    LAYOUT,
    Counting,
    Network,
    answered,
    observation,
    serving,
)
from websockets.sync.client import connect
from websockets.sync.server import serve

from heisd_ros.errors import (
    RemoteModelError,
)
from heisd_ros.serving import server as servers
from heisd_ros.serving.link import Link
from heisd_ros.serving.messages import MAX_BYTES, MAX_REPLY_BYTES, pack


def test_a_socket_closed_before_a_question_is_a_connection_that_ended(dial, monkeypatch):
    def closed(*_):
        raise OSError(errno.EBADF, "Bad file descriptor")

    with serving(Counting()) as server:
        decoder = dial(server.uri)
        monkeypatch.setattr(Link, "_exchange", closed)
        with pytest.raises(RemoteModelError, match="the connection ended: "):
            decoder.infer(observation())


def test_a_server_that_ends_and_comes_back(dial):
    with serving(Counting()) as server:
        decoder, port = dial(server.uri), server.port
        decoder.infer(observation())
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(RemoteModelError, match=r"ended|refused"):
            decoder.infer(observation())
    assert time.monotonic() - began < 1.0, "a question without a connection fails at once"
    assert "away for" in decoder.warning()
    with serving(Counting(), port=port):
        assert answered(decoder).action[0] == 1
    assert decoder.warning() == "counting only"


def test_the_end_of_a_server_is_noticed_without_a_question(dial):
    with serving(Counting()) as server:
        decoder, port = dial(server.uri), server.port
        assert decoder.warning() == ""
    deadline = time.monotonic() + 5.0
    while "away for" not in decoder.warning():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with serving(Counting(), port=port):
        while decoder.warning():
            assert time.monotonic() < deadline + 10.0
            time.sleep(0.02)


def test_a_server_that_hangs_is_left_and_its_late_answer_never_taken(dial):
    hang, mischief = Hang(30.0), Mischief(Counting())
    with serving(mischief) as server:
        decoder = dial(server.uri, budget_sec=0.2)
        decoder.infer(observation())
        mischief.before = hang
        began = time.monotonic()
        with pytest.raises(RemoteModelError, match="no answer within 1 s"):
            decoder.infer(observation())
        assert 0.9 < time.monotonic() - began < 3.0
        with pytest.raises(RemoteModelError):  # the seat is taken as long as it hangs
            decoder.infer(observation())
        mischief.before = lambda: None
        hang.release()
        assert answered(decoder).action[0] == 1  # of the new connection, not the 2 of the late one


@pytest.mark.parametrize("stall", [False, True])
@pytest.mark.parametrize("left", [0, 1, 60])
def test_a_network_that_is_cut_within_an_answer(dial, stall, left):
    with serving(Counting()) as server:
        network = Network(server.port)
        decoder = dial(network.uri, budget_sec=0.1)
        decoder.infer(observation())
        network.left, network.stall = left, stall
        words = "no answer within 1 s" if stall else "ended"
        with pytest.raises(RemoteModelError, match=words):
            decoder.infer(observation())
        network.left = None
        assert answered(decoder).action[0] == 1
        network.close()


def test_nobody_reads_what_is_sent(dial):
    with serving(Counting()) as server:
        network = Network(server.port)
        decoder = dial(network.uri, budget_sec=0.1)
        decoder.infer(observation())
        network.deaf = True
        began = time.monotonic()
        with pytest.raises(RemoteModelError):
            decoder.infer(observation(side=2000))  # more than the buffers of sockets hold
        assert 0.9 < time.monotonic() - began < 5.0
        network.deaf = False
        assert answered(decoder).action[0] == 1
        network.close()


def test_another_model_is_refused_until_the_right_one_is_back(dial):
    with serving(Counting()) as server:
        decoder, port = dial(server.uri), server.port
        decoder.infer(observation())
    with serving(Counting(), replace(LAYOUT, model="another"), port=port):
        deadline = time.monotonic() + 10.0
        while "another model" not in decoder.warning():
            assert time.monotonic() < deadline
            with pytest.raises(RemoteModelError):
                decoder.infer(observation())
            time.sleep(0.02)
    with serving(Counting(), port=port):
        assert answered(decoder).action[0] == 1


def test_a_second_client_is_told_that_it_is_the_second(dial):
    with serving(Counting()) as server:
        decoder = dial(server.uri)
        with pytest.raises(RemoteModelError, match="busy: clients at a time: 1"):
            dial(server.uri)
        assert decoder.infer(observation()).action[0] == 1
        decoder._link.close()
        assert dial(server.uri).infer(observation()).action[0] == 1
    with serving(Counting(), clients=2) as server:
        assert [dial(server.uri).infer(observation()) for _ in range(2)]


def test_the_seat_of_a_client_that_vanished_is_free_again(dial, monkeypatch):
    monkeypatch.setattr(servers, "PING_SEC", 0.3)
    with serving(Counting()) as server:
        network = Network(server.port)
        dial(network.uri).infer(observation())
        network.deaf = True  # nothing comes from there any more, not even an end
        deadline = time.monotonic() + 10.0
        while not any("lost" in line for line in server.lines):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert dial(server.uri).infer(observation()).action[0] == 1
        network.close()


def test_what_a_model_raises_is_told_and_the_server_goes_on(dial):
    mischief = Mischief(Counting())
    with serving(mischief) as server:
        decoder = dial(server.uri)
        mischief.before = lambda: 1 / 0
        with pytest.raises(RemoteModelError, match="ZeroDivisionError: division by zero"):
            decoder.infer(observation())
        mischief.before = lambda: None
        assert decoder.infer(observation()).action[0] == 1
        assert any("ZeroDivisionError" in line for line in server.lines)


BAD = [{"heisd": {"step": "x"}}, {"heisd": np.zeros(2)}, {"heisd": {"step": np.zeros(2)}}, {}]


@pytest.mark.parametrize("data", ["text", b"", b"\xc1", *map(pack, BAD)])
def test_bad_questions_do_not_end_the_server(dial, data):
    with serving(Counting()) as server:
        with connect(server.uri, proxy=None) as raw:
            raw.recv()
            raw.send(data)
            assert "Error" in raw.recv(timeout=5.0)
        assert dial(server.uri).infer(observation()).action[0] == 1


def test_a_message_that_is_too_large_ends_the_connection(dial):
    with serving(Counting()) as server:
        with connect(server.uri, proxy=None) as raw:
            raw.recv()
            with pytest.raises(Exception, match="1009"):
                raw.send(bytes(MAX_BYTES + 1))
                raw.recv(timeout=5.0)
        assert dial(server.uri).infer(observation()).action[0] == 1


ANSWERS = {
    "nothing": {},
    "other question": {"actions": np.zeros((1, 7)), "heisd": {"step": 99}},
    "joint velocities": {"actions": np.zeros((1, 8))},
    "one action": {"actions": np.zeros(7)},
    "no action": {"actions": np.zeros((0, 7))},
    "whole numbers": {"actions": np.zeros((1, 7), int)},
    "a list": {"actions": [[0.0] * 7]},
    "a long source": {"actions": np.zeros((1, 7)), "heisd": {"step": 1, "source": "x" * 10**5}},
    "unknown source": {"actions": np.zeros((1, 7)), "heisd": {"step": 1, "source": "hold"}},
    "array for a number": {"actions": np.zeros((1, 7)), "heisd": {"step": np.ones(1)}},
    "a long answer": {"actions": np.zeros((1, 7)), "pad": bytes(MAX_REPLY_BYTES)},
    "a token of no id": {"actions": np.zeros((1, 7)), "heisd": {"step": 1, "tokens": [-1]}},
    "passes": {"actions": np.zeros((1, 7)), "heisd": {"step": 1, "passes": 2**40}},
    "unknown key": {"actions": np.zeros((1, 7)), "heisd": {"step": 1, "evil": 1}},
}


OF_EITHER = [(name, own) for name in ANSWERS for own in (True, False)]
OF_EITHER.remove(("other question", False))  # openpi's servers do not number their answers


@pytest.mark.parametrize(("name", "own"), OF_EITHER)
def test_an_answer_that_cannot_be_used_is_none(dial, name, own):

    def handler(connection):
        connection.send(pack(LAYOUT.metadata() if own else {}))
        for _ in connection:
            connection.send(pack(ANSWERS[name]))

    with serve(handler, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        decoder = dial(f"ws://127.0.0.1:{server.socket.getsockname()[1]}")
        with pytest.raises(RemoteModelError) as caught:
            decoder.infer(observation())
        assert len(str(caught.value)) < 1000, "it is part of every step's telemetry"


def test_what_was_not_asked_for_is_never_an_answer(dial):
    """Two answers to a question: the second would be taken for that to the next one."""

    def handler(connection):
        connection.send(pack({}))
        for count, _ in enumerate(connection):
            for _ in range(2):
                connection.send(pack({"actions": np.full((1, 7), float(count))}))
            sent.set()

    sent = threading.Event()
    with serve(handler, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        decoder = dial(f"ws://127.0.0.1:{server.socket.getsockname()[1]}")
        assert decoder.infer(observation()).action[0] == 0
        assert sent.wait(30.0)
        time.sleep(0.3)
        with pytest.raises(RemoteModelError, match="a message without a request"):
            decoder.infer(observation())


def test_a_connection_that_cannot_be_accepted_does_not_end_the_server(dial, monkeypatch):
    """As without free descriptors."""
    whole, failed = socket.socket.accept, []

    def accept(listener):
        if len(failed) < 2:
            failed.append(listener)
            raise OSError(errno.EMFILE, "Too many open files")
        return whole(listener)

    monkeypatch.setattr(socket.socket, "accept", accept)
    with serving(Counting()) as server:
        assert answered(dial(server.uri)).action[0] == 1
    told = "a connection cannot be accepted (Too many open files); tried again"
    assert server.lines.count(told) == 1 and len(failed) == 2
