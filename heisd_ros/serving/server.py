"""The server around a policy: openpi's websocket protocol, without ROS."""

from __future__ import annotations

import errno
import hmac
import http
import ipaddress
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from heisd_ros.decoding.types import Decoder
from heisd_ros.errors import AnswerError, MessageError
from heisd_ros.serving.address import TOKEN
from heisd_ros.serving.exchange import answer, read_question, read_request, settled_answer
from heisd_ros.serving.layout import OWN, Layout
from heisd_ros.serving.messages import MAX_BYTES, pack, unpack

SEAT_SEC = 1.0
"""Time that a client waits for the previous one to leave, s."""
PING_SEC, SEND_SEC, CLOSE_SEC = 5.0, 10, 1.0
"""A client that answers no ping, or takes no data, for so long is disconnected."""
PAUSE_SEC = 0.2
"""Pause after a connection could not be accepted, s."""
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
BUSY = 1013
"""WebSocket's code for `try again later`."""


class ModelServer:
    """Serves a decoder to one client at a time; it listens from construction on.

    An error in a request or in the model becomes a reply with its name and text; the server
    continues.

    Args:
        decoder: computes the steps.
        plain: plain decoding with the same model; None: the decoder itself.
        layout: description of the model.
        host: address to listen on.
        port: port; 0: a free one.
        token: token that clients must send; empty: none.
        tls: certificate and key; None: no TLS.
        clients: clients at a time. A decoder that keeps state between steps takes one.
        say: called with each line of the log.

    Raises:
        ValueError: it would listen to other machines without a token.
        OSError: the port is taken, or the host is not an address of this machine.
    """

    def __init__(
        self,
        decoder: Decoder,
        layout: Layout,
        *,
        plain: Decoder | None = None,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str = "",
        tls: ssl.SSLContext | None = None,
        clients: int = 1,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        if not token and not _is_loopback(host):
            raise ValueError(
                f"host is {host!r}, which other machines reach; accepted: 127.0.0.1, or a token "
                f"in the environment variable {TOKEN}"
            )
        self._decoder, self._plain, self._layout = decoder, plain or decoder, layout
        self._token, self._say = token, say
        self._model = threading.Lock()  # a model works on one step at a time
        self._clients, self._seats = clients, threading.BoundedSemaphore(clients)
        self._server = serve(
            self._serve,
            host,
            port,
            ssl=tls,
            origins=[None],  # no web page
            compression=None,
            process_request=self._check,
            open_timeout=10.0,
            ping_interval=PING_SEC,
            ping_timeout=PING_SEC,
            close_timeout=CLOSE_SEC,
            max_size=MAX_BYTES,
            max_queue=1,
        )
        self._server.socket = _Patient(self._server.socket, say)  # type: ignore[assignment]
        scheme, self.port = "ws" if tls is None else "wss", self._server.socket.getsockname()[1]
        self.uri = f"{scheme}://{host}:{self.port}"

    def run(self) -> None:
        """Serves until `close` is called by another thread."""
        self._server.serve_forever()

    def close(self) -> None:
        """Ends every connection after the running step."""
        self._server.shutdown()

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        shown = request.headers.get("Authorization", "").encode()
        if self._token and not hmac.compare_digest(shown, f"Api-Key {self._token}".encode()):
            self._say(f"{_name(connection)} refused: no token, or another")
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "the token is another\n")
        return None

    def _serve(self, connection: ServerConnection) -> None:
        name = _name(connection)
        if not self._seats.acquire(timeout=SEAT_SEC):
            problem = f"busy: clients at a time: {self._clients}"
            self._say(f"{name} refused: {problem}")
            connection.close(BUSY, problem)
            return
        try:
            self._say(f"{name} connected")
            limit = struct.pack("ll", SEND_SEC, 0)
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._talk(connection)
        except ConnectionClosed as error:
            self._say(f"{name} lost: {error}")
        else:
            self._say(f"{name} gone")
        finally:
            self._seats.release()

    def _talk(self, connection: ServerConnection) -> None:
        with self._model:
            self._decoder.reset()
        connection.send(pack(self._layout.metadata()))
        for data in connection:
            try:
                message = _message(data)
                reply: bytes | str = pack(self._work(message))
            except Exception as error:  # the next step may succeed, whatever the model raised
                reply = f"{type(error).__name__}: {error}"
                message = {OWN: None}
                self._say(reply)
            connection.send(reply)
            if OWN not in message:  # openpi's client does not request it
                with self._model:
                    self._decoder.settle()

    def _work(self, message: dict[str, Any]) -> dict[str, Any]:
        request = read_request(message)
        decoder = self._plain if request.plain else self._decoder
        with self._model:
            if request.reset:
                decoder.reset(request.success)
            if request.settle:
                return settled_answer(decoder.settle(), request, decoder.warning())
            result = decoder.infer(read_question(self._layout, message))
        if OWN not in message and (result.problem or not np.isfinite(result.actions).all()):
            # openpi's client knows no such answer, and would send NaN to an arm.
            raise AnswerError(result.problem or f"actions are {result.actions.tolist()}")
        return answer(result, request, decoder.warning())


class _Patient:
    """A listening socket that waits where a connection cannot be accepted.

    The library ends its loop then, for good.
    """

    def __init__(self, listener: socket.socket, say: Callable[[str], None]) -> None:
        self._listener, self._say = listener, say

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def accept(self) -> tuple[socket.socket, Any]:
        said = False
        while True:
            try:
                return self._listener.accept()
            except OSError as error:
                if error.errno not in _SHORT:
                    raise
                if not said:
                    self._say(f"a connection cannot be accepted ({error.strerror}); tried again")
                said = True
            time.sleep(PAUSE_SEC)


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """Creates the TLS context of a server.

    Raises:
        OSError: a file is missing, or is not a PEM certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key or None)
    return context


def _message(data: bytes | str) -> dict[str, Any]:
    if isinstance(data, str):
        raise MessageError("a message is a text; accepted: msgpack")
    return unpack(data)


def _name(connection: ServerConnection) -> str:
    try:
        host, port = connection.remote_address[:2]
    except OSError:
        return "a client that is gone"
    return f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
