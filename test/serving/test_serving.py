"""A decoder behind a server decides as it does at home, and every fault has a name."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from support.mischief import Hang, Mischief
from support.serving import LAYOUT, VIEWS, Counting, Network, serving, serving_policy
from support.tiny_vla import INSTRUCTIONS
from websockets.sync.client import connect
from websockets.sync.server import serve

from heisd_ros.control.policy import load_policy
from heisd_ros.decoding.types import Observation, Settled, Source
from heisd_ros.errors import (
    ImageError,
    ProprioceptionError,
    RemoteModelError,
    UnknownInstructionError,
)
from heisd_ros.kinematics.metric import MetricBounds, MetricSample, MetricSettings
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.serving import server as servers
from heisd_ros.serving.address import Address
from heisd_ros.serving.layout import Layout
from heisd_ros.serving.link import Link
from heisd_ros.serving.messages import MAX_BYTES, pack
from heisd_ros.serving.remote import RemoteDecoder
from heisd_ros.serving.server import ModelServer, tls_context

METRIC = MetricSample(0.5, 0.1, 0.2, 0.3, "paper", True, "velocity")


def observation(shade=0, instruction=INSTRUCTIONS[0], motion=None, side=32):
    images = tuple(np.full((side, side, 3), shade + i, np.uint8) for i in range(len(VIEWS)))
    return Observation(images, instruction, np.linspace(0, 1, 7, dtype=np.float32), motion)


@pytest.fixture
def dial():
    """Connects to a URI; what was connected is closed at the end."""
    open_links = []

    def begin(uri, budget_sec=0.5, token=""):
        open_links.append(Link(Address.parse(uri), token))
        return RemoteDecoder(open_links[-1], budget_sec)

    yield begin
    for link in open_links:
        link.close()


def answered(decoder, within_sec=10.0):
    """The first result that comes after a fault."""
    deadline = time.monotonic() + within_sec
    while True:
        try:
            return decoder.infer(observation())
        except RemoteModelError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_policy_decides_behind_a_server_as_at_home(checkpoint):
    local = load_policy(
        from_values(VlaNodeParameters, {"model.path": str(checkpoint), "model.threads": 1})
    )
    with serving_policy(local) as server:
        remote = load_policy(from_values(VlaNodeParameters, {"model.path": server.uri}))
        for name in ("views", "image_size", "proprio_size", "rate_hz", "instructions", "robot"):
            assert getattr(remote, name) == getattr(local, name), name
        for shade in range(0, 250, 50):
            seen = observation(shade, INSTRUCTIONS[shade % 2])
            ours, theirs = remote.decoder.infer(seen), local.decoder.infer(seen)
            assert ours.tokens == theirs.tokens and (ours.action == theirs.action).all()
            assert ours.timings_ms["total"] >= ours.timings_ms["prefill"] > 0.0
            assert remote.plain.infer(seen).tokens == theirs.tokens
        with pytest.raises(UnknownInstructionError, match="fly"):
            remote.decoder.infer(observation(instruction="fly"))
        assert remote.decoder.infer(seen).tokens == theirs.tokens  # one bad question is not the end
        remote.close()


def test_heisd_decides_behind_a_server_as_at_home():
    """Retrieval, drafter and the metric that chooses between them, with the shipped model."""
    settings = {"decoding.mode": "heisd", "model.threads": 1}
    local, behind = (load_policy(from_values(VlaNodeParameters, settings)) for _ in range(2))
    with serving_policy(behind, mode="heisd") as server:
        settings["model.path"] = server.uri
        remote = load_policy(from_values(VlaNodeParameters, settings))
        assert remote.bounds == local.bounds and remote.robot == local.robot == "panda"
        sources = set()
        for step in range(12):
            seen = observation(20 * (step // 2), local.instructions[0], side=64)
            seen = replace(seen, motion=replace(METRIC, value=step / 12))
            ours, theirs = remote.decoder.infer(seen), local.decoder.infer(seen)
            assert (ours.tokens, ours.source, ours.reason) == (
                theirs.tokens,
                theirs.source,
                theirs.reason,
            )
            assert (remote.decoder.settle() is None) == (local.decoder.settle() is None)
            sources.add(ours.source)
        assert len(sources) > 1
        remote.close()


def test_everything_of_a_step_comes_through(dial):
    counting = Counting()
    bounds = MetricBounds(MetricSettings(), (0.0, 1.0), (0.0, 0.3), (0.0, 0.4), 0.25)
    layout = replace(LAYOUT, bounds=bounds, robot="panda", instructions=INSTRUCTIONS)
    with serving(counting, layout) as server:
        decoder = dial(server.uri)
        seen = observation(motion=METRIC)
        result = decoder.infer(seen)
        assert decoder._link.layout == layout
        got = counting.observations[0]
        assert got.instruction == seen.instruction and got.motion == METRIC
        assert all((a == b).all() for a, b in zip(got.images, seen.images, strict=True))
        assert (got.proprio == seen.proprio).all() and got.proprio.dtype == np.float32
        assert result.action.tolist() == [1.0] * 7 and result.tokens == (5,) * 7
        assert (result.reason, result.passes, result.accepted) == ("counted", 2, 3)
        assert result.similarity == 0.5 and decoder.warning() == "counting only"


def test_an_episode_ends_on_the_server_too(dial):
    counting = Counting()
    with serving(counting) as server:
        decoder = dial(server.uri)
        decoder.infer(observation())
        assert decoder.infer(observation()).action[0] == 2
        decoder.reset(True)
        assert decoder.infer(observation()).action[0] == 1
        assert counting.resets == [None, None, True]  # connected, began, ended


def test_a_step_that_was_not_looked_at_is_settled(dial):
    counting = Counting()
    counting.source, counting.outcome = Source.SKIP, Settled(4.0, False)
    with serving(counting) as server:
        decoder = dial(server.uri)
        decoder.infer(observation())
        assert decoder.settle() == Settled(4.0, False)
        assert decoder.settle() is None and counting.settled == 1


def test_an_answer_that_stands_for_no_action_says_so(dial):
    counting = Counting()
    counting.problem = "token 3 is none"
    with serving(counting) as server:
        result = dial(server.uri).infer(observation())
        assert result.problem == "token 3 is none" and np.isnan(result.action).all()


def test_what_a_question_lacks_is_named(dial):
    with serving(Counting()) as server:
        decoder = dial(server.uri)
        blank = observation()
        with pytest.raises(ImageError, match="observation/image"):
            decoder.infer(replace(blank, images=(np.zeros((4, 4), np.uint8), blank.images[1])))
        with pytest.raises(ProprioceptionError, match="state"):
            decoder.infer(replace(blank, proprio=None))
        assert decoder.infer(blank).action[0] == 1


# Faults


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
    assert decoder.warning() != ""


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
    "unknown source": {"actions": np.zeros((1, 7)), "heisd": {"step": 1, "source": "hold"}},
    "array for a number": {"actions": np.zeros((1, 7)), "heisd": {"step": np.ones(1)}},
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
        with pytest.raises(RemoteModelError):
            decoder.infer(observation())


def test_what_was_not_asked_for_is_never_an_answer(dial):
    """Two answers to a question: the second would be taken for that to the next one."""

    def handler(connection):
        connection.send(pack({}))
        for count, _ in enumerate(connection):
            for _ in range(2):
                connection.send(pack({"actions": np.full((1, 7), float(count))}))

    with serve(handler, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        decoder = dial(f"ws://127.0.0.1:{server.socket.getsockname()[1]}")
        assert decoder.infer(observation()).action[0] == 0
        time.sleep(0.3)
        with pytest.raises(RemoteModelError, match="nobody had asked"):
            decoder.infer(observation())


# Addresses, tokens


@pytest.mark.parametrize(
    "text", ["ws://", "http://a:1", "ws://a:x", "ws://a:99999", "ws://u@a", "ws://a:0", "ws://a b"]
)
def test_what_is_no_address_is_named(text):
    with pytest.raises(ValueError, match=r"'model\.path' is .*accepted: ws://HOST:PORT"):
        Address.parse(text)


def test_an_address_says_what_a_server_of_openpi_does_not():
    address = Address.parse("ws://gpu-box:8000?views=front:observation/image&state=&rate_hz=10")
    assert address.uri == "ws://gpu-box:8000"
    layout = Layout.read({}, address.options)
    assert layout.views == {"front": "observation/image"}
    assert (layout.proprio_size, layout.rate_hz, layout.own) == (0, 10.0, False)
    for wrong in ("rate_hz=x", "views=a", "colour=red", "image_size=0"):
        with pytest.raises(RemoteModelError, match=wrong.split("=")[0]):
            Layout.read({}, Address.parse(f"ws://a?{wrong}").options)
    with pytest.raises(RemoteModelError, match="the server says it itself"):
        Layout.read(LAYOUT.metadata(), {"rate_hz": "10"})


@pytest.mark.parametrize(
    "change",
    [
        {"dimensions": 8},
        {"proprio_size": 3},
        {"views": {}},
        {"rate_hz": 0.0},
        {"views": np.ones(2)},
    ],
)
def test_a_model_that_does_not_fit_is_named(change):
    said = {"heisd": LAYOUT.metadata()["heisd"] | change}
    with pytest.raises(RemoteModelError, match=rf"{next(iter(change))} is|ndarray"):
        Layout.read(said, {})


def test_a_token_is_asked_for(dial):
    with pytest.raises(ValueError, match=r"0\.0\.0\.0.*token"):
        ModelServer(Counting(), LAYOUT, host="0.0.0.0", port=0)
    with serving(Counting(), token="secret") as server:
        for wrong in ("", "Secret"):
            with pytest.raises(RemoteModelError, match="refuses the token: set HEISD_MODEL_TOKEN"):
                dial(server.uri, token=wrong)
        assert dial(server.uri, token="secret").infer(observation()).action[0] == 1


@pytest.fixture
def certificate(tmp_path):
    """Certificate and key of 127.0.0.1, signed by itself."""
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    names = ["-subj", "/CN=gpu-box", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(pem)]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    return pem, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_tls_and_who_is_trusted(dial, certificate, monkeypatch):
    pem, key = certificate
    with serving(Counting(), tls=tls_context(str(pem), str(key))) as server:
        with pytest.raises(RemoteModelError, match="certificate verify failed"):
            dial(server.uri)
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        decoder = dial(server.uri)
        assert server.uri.startswith("wss://") and decoder.infer(observation()).action[0] == 1
        with pytest.raises(RemoteModelError):
            dial(server.uri.replace("wss", "ws"))
        began = time.monotonic()
        decoder._link.close()
        assert time.monotonic() - began < 1.0


def test_a_page_in_a_browser_is_refused():
    with serving(Counting()) as server, pytest.raises(Exception, match="403"):
        connect(server.uri, origin="http://evil.example", proxy=None)


def test_nobody_there_is_named():
    with pytest.raises(RemoteModelError, match=r"ws://127\.0\.0\.1:1: .*refused"):
        Link(Address.parse("ws://127.0.0.1:1"))


@pytest.mark.parametrize(
    "parameters", [{"decoding.mode": "heisd"}, {"growth.mode": "record", "growth.folder": "x"}]
)
def test_what_the_node_asks_of_a_server_that_does_not_do_it(parameters):
    with serving(Counting()) as server, pytest.raises(ValueError, match="accepted"):
        load_policy(from_values(VlaNodeParameters, {"model.path": server.uri, **parameters}))
