"""Who is connected to whom: addresses, layouts, tokens and TLS."""

from __future__ import annotations

import shutil
import subprocess
import time

import numpy as np
import pytest
from support.serving import (
    LAYOUT,
    Counting,
    observation,
    serving,
)
from websockets.sync.client import connect

from heisd_ros.control.policy import load_policy
from heisd_ros.errors import (
    RemoteModelError,
)
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.serving.address import TOKEN, Address, own_token
from heisd_ros.serving.layout import Layout
from heisd_ros.serving.link import Link
from heisd_ros.serving.server import ModelServer, tls_context


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
    with pytest.raises(RemoteModelError, match="the server gives this itself"):
        Layout.read(LAYOUT.metadata(), {"rate_hz": "10"})


@pytest.mark.parametrize(
    "change",
    [
        {"dimensions": 8},
        {"proprio_size": -1},
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


@pytest.mark.parametrize("token", [" padded ", "two\nlines", "gehéim", "a b"])
def test_a_token_that_no_header_carries_is_refused_and_not_shown(monkeypatch, token):
    monkeypatch.setenv(TOKEN, token)
    with pytest.raises(ValueError, match=f"{TOKEN} holds .*accepted: printable ASCII") as caught:
        load_policy(from_values(VlaNodeParameters, {"model.path": "ws://127.0.0.1:1"}))
    assert token not in str(caught.value)
    monkeypatch.setenv(TOKEN, "0123abcdef==")
    assert own_token() == "0123abcdef=="


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
