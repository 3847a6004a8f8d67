"""A connection to a model server that reconnects in the background."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
import time
from typing import Any

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect

from heisd_ros.errors import (
    AnswerError,
    HeisdError,
    ImageError,
    MessageError,
    ProprioceptionError,
    RemoteModelError,
    UnknownInstructionError,
)
from heisd_ros.files.bounded import one_line
from heisd_ros.serving.address import TOKEN, Address
from heisd_ros.serving.layout import Layout
from heisd_ros.serving.messages import MAX_REPLY_BYTES, pack, unpack

OPEN_SEC, CLOSE_SEC = 3.0, 0.5
LOOK_SEC = 0.5
FIRST_PAUSE_SEC, LONGEST_PAUSE_SEC = 0.1, 5.0
"""Shortest and longest pause between two attempts to connect; each is twice the one before."""
_TOLD = (AnswerError, ImageError, MessageError, ProprioceptionError, UnknownInstructionError)
_NAMED = {error.__name__: error for error in _TOLD}
_MOST_WORDS = 500


class Link:
    """Sends requests to a server, one at a time.

    A request without a reply in time ends the connection, since a later reply would be to an old
    observation. Without a connection a request fails at once.

    Args:
        address: Of the server.
        token: Token that it requires; empty: none.
        assumed: What it serves if it does not say so; see `Layout.read`.

    Attributes:
        layout: The server's description of its model.

    Raises:
        RemoteModelError: It cannot be reached, or its model cannot be used.
    """

    def __init__(self, address: Address, token: str = "", assumed: Layout | None = None) -> None:
        self._address, self._token, self._assumed = address, token, assumed
        self._lock = threading.Lock()
        self._lost, self._closing = threading.Event(), threading.Event()
        self._problem, self._since = "", 0.0
        self.layout: Layout
        self._connection: ClientConnection | None = None
        self._connection, self.layout = self._open()
        self._thread = threading.Thread(target=self._keep, name="model link", daemon=True)
        self._thread.start()

    @property
    def uri(self) -> str:
        """Address of the server."""
        return self._address.uri

    @property
    def problem(self) -> str:
        """The reason why there is no connection; empty while there is one."""
        if not self._problem:
            return ""
        return f"{self.uri}: {self._problem}; away for {time.monotonic() - self._since:.0f} s"

    def ask(self, question: dict[str, Any], timeout_sec: float) -> dict[str, Any]:
        """Sends a request and returns the reply.

        Raises:
            RemoteModelError: There is no connection, or no usable reply in time.
            ImageError, ProprioceptionError, UnknownInstructionError: As the server reports.
        """
        with self._lock:
            connection = self._connection
            if connection is None:
                raise RemoteModelError(self.problem or f"{self.uri}: closed")
            try:
                answer = self._exchange(connection, pack(question), timeout_sec)
                if isinstance(answer, bytes):
                    return unpack(answer, MAX_REPLY_BYTES)
            except BaseException as error:
                problem = self._words(error, timeout_sec)
                self._drop(connection, problem)
                raise RemoteModelError(f"{self.uri}: {problem}") from error
        raise named_error(answer)

    def reject(self, problem: str) -> RemoteModelError:
        """Ends a connection after an invalid reply.

        Returns:
            The error to raise.
        """
        problem = one_line(problem, _MOST_WORDS)
        with self._lock:
            if self._connection is not None:
                self._drop(self._connection, problem)
        return RemoteModelError(f"{self.uri}: {problem}")

    def close(self) -> None:
        """Ends the connection for good; a pending request fails at once."""
        self._closing.set()
        connection, self._connection = self._connection, None
        if connection is not None:
            _abort(connection)
        self._lost.set()

    def _exchange(
        self, connection: ClientConnection, question: bytes, timeout_sec: float
    ) -> bytes | str:
        deadline = time.monotonic() + timeout_sec
        try:
            connection.recv(timeout=0)
        except TimeoutError:
            pass
        else:
            raise MessageError("it sent a message without a request")
        # The server may not read: a full buffer must not block this thread.
        limit = struct.pack("ll", int(timeout_sec), int(timeout_sec % 1 * 1e6))
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection.send(question)
        return connection.recv(timeout=max(deadline - time.monotonic(), 0.0))

    def _drop(self, connection: ClientConnection, problem: str) -> None:
        self._connection, self._problem, self._since = None, problem, time.monotonic()
        _abort(connection)
        self._lost.set()

    def _keep(self) -> None:
        """Reconnects, at growing intervals, whenever the connection was lost."""
        while True:
            if not self._lost.wait(LOOK_SEC):
                self._look()
                continue
            self._lost.clear()
            pause = FIRST_PAUSE_SEC
            while not self._closing.wait(pause):
                pause = min(2.0 * pause, LONGEST_PAUSE_SEC)
                try:
                    connection, layout = self._open()
                except RemoteModelError as error:
                    self._problem = str(error).removeprefix(f"{self.uri}: ")
                    continue
                if layout != self.layout:
                    self._problem = "it serves another model by now: configure the node again"
                    _abort(connection)
                    continue
                with self._lock:
                    if self._closing.is_set():
                        _abort(connection)
                    else:
                        self._connection, self._problem = connection, ""
                break
            if self._closing.is_set():
                return

    def _look(self) -> None:
        """Notices that an idle connection has ended."""
        connection = self._connection
        if connection is not None and connection.protocol.state is not State.OPEN:
            with self._lock:
                if self._connection is connection:
                    self._drop(connection, "the connection ended")

    def _open(self) -> tuple[ClientConnection, Layout]:
        headers = {"Authorization": f"Api-Key {self._token}"} if self._token else None
        connection = None
        try:
            connection = connect(
                self._address.uri,
                additional_headers=headers,
                compression=None,
                open_timeout=OPEN_SEC,
                close_timeout=CLOSE_SEC,
                ping_interval=None,  # each request has its deadline
                max_size=MAX_REPLY_BYTES,
                proxy=None,
            ).__enter__()  # open for longer than a block: websockets 17 connects nowhere else
            said = connection.recv(timeout=OPEN_SEC)
            if isinstance(said, str):
                raise MessageError(f"it begins with {said[:80]!r}")
            metadata = unpack(said, MAX_REPLY_BYTES)
            return connection, Layout.read(metadata, self._address.options, self._assumed)
        except Exception as error:
            if connection is not None:
                _abort(connection)
            problem = self._words(error, OPEN_SEC)
            raise RemoteModelError(f"{self.uri}: {problem}") from error

    def _words(self, error: BaseException, timeout_sec: float) -> str:
        """Says what is wrong in one line, whatever the server wrote into it."""
        return one_line(self._cause(error, timeout_sec), _MOST_WORDS)

    def _cause(self, error: BaseException, timeout_sec: float) -> str:
        if isinstance(error, TimeoutError | BlockingIOError):
            return f"no answer within {timeout_sec:g} s"
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            if status == 401:
                return f"it refuses the token: set {TOKEN} to the server's"
            return f"it answers with HTTP status {status}"
        if isinstance(error, InvalidHandshake | InvalidURI):
            return f"no model server: {error}"
        # The receiving thread may have closed the socket of a connection that ended.
        closed = isinstance(error, OSError) and error.errno == errno.EBADF
        if closed or isinstance(error, ConnectionClosed):
            return f"the connection ended: {error}"
        if isinstance(error, OSError | WebSocketException | HeisdError):
            return str(error) or type(error).__name__
        return f"{type(error).__name__}: {error}"


def named_error(text: str) -> HeisdError:
    """Converts a server's error to an exception: by name, or from a traceback of openpi's."""
    line = (text.strip().splitlines() or ["no words"])[-1][:_MOST_WORDS]
    name, _, words = line.partition(": ")
    return _NAMED.get(name, RemoteModelError)(words if name in _NAMED else f"the server: {line}")


def _abort(connection: ClientConnection) -> None:
    """Closes the socket without a closing handshake, which the server may not answer."""
    with contextlib.suppress(OSError):  # it had ended
        connection.socket.shutdown(socket.SHUT_RDWR)
