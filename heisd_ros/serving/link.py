"""A connection to a model's server that is made again, in the background, whenever it is lost."""

from __future__ import annotations

import contextlib
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
from heisd_ros.serving.address import TOKEN, Address
from heisd_ros.serving.layout import Layout
from heisd_ros.serving.messages import MAX_BYTES, pack, unpack

OPEN_SEC, CLOSE_SEC = 3.0, 0.5
LOOK_SEC = 0.5
FIRST_PAUSE_SEC, LONGEST_PAUSE_SEC = 0.1, 5.0
"""Between two tries to connect: it doubles from the one to the other."""
_TOLD = (AnswerError, ImageError, MessageError, ProprioceptionError, UnknownInstructionError)
_NAMED = {error.__name__: error for error in _TOLD}
_MOST_WORDS = 500


class Link:
    """Asks a server, one question at a time.

    A question that is not answered in time ends the connection: what would be said later answers an
    observation of then. While there is no connection a question fails at once.

    Args:
        address: Of the server.
        token: That it asks for; empty: none.

    Attributes:
        layout: What the server said of its model.

    Raises:
        RemoteModelError: It cannot be reached, or serves what cannot be used.
    """

    def __init__(self, address: Address, token: str = "") -> None:
        self._address, self._token = address, token
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
        """What it is connected to."""
        return self._address.uri

    @property
    def problem(self) -> str:
        """Why there is no connection; empty while there is one."""
        if not self._problem:
            return ""
        return f"{self.uri}: {self._problem}; away for {time.monotonic() - self._since:.0f} s"

    def ask(self, question: dict[str, Any], timeout_sec: float) -> dict[str, Any]:
        """The answer to a question.

        Raises:
            RemoteModelError: There is no connection, or no usable answer in time.
            ImageError, ProprioceptionError, UnknownInstructionError: The server names it.
        """
        with self._lock:
            connection = self._connection
            if connection is None:
                raise RemoteModelError(self.problem or f"{self.uri}: closed")
            try:
                answer = self._exchange(connection, pack(question), timeout_sec)
                if isinstance(answer, bytes):
                    return unpack(answer)
            except BaseException as error:
                problem = self._words(error, timeout_sec)
                self._drop(connection, problem)
                raise RemoteModelError(f"{self.uri}: {problem}") from error
        raise named_error(answer)

    def reject(self, problem: str) -> RemoteModelError:
        """Ends a connection whose answers cannot be trusted.

        Returns:
            What to raise.
        """
        with self._lock:
            if self._connection is not None:
                self._drop(self._connection, problem)
        return RemoteModelError(f"{self.uri}: {problem}")

    def close(self) -> None:
        """Ends the connection for good; whoever waits for an answer fails at once."""
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
            raise MessageError("it said what nobody had asked for")
        # Nobody may read there: what does not fit into the buffers must not hold us up.
        limit = struct.pack("ll", int(timeout_sec), int(timeout_sec % 1 * 1e6))
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection.send(question)
        return connection.recv(timeout=max(deadline - time.monotonic(), 0.0))

    def _drop(self, connection: ClientConnection, problem: str) -> None:
        self._connection, self._problem, self._since = None, problem, time.monotonic()
        _abort(connection)
        self._lost.set()

    def _keep(self) -> None:
        """Connects again, at growing intervals, whenever the connection was lost."""
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
        """Notices the end of a connection that nobody asks anything by."""
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
                ping_interval=None,  # each question has its deadline
                max_size=MAX_BYTES,
                proxy=None,
            ).__enter__()  # open for longer than a block: websockets 17 connects nowhere else
            said = connection.recv(timeout=OPEN_SEC)
            if isinstance(said, str):
                raise MessageError(f"it begins with {said[:80]!r}")
            return connection, Layout.read(unpack(said), self._address.options)
        except Exception as error:
            if connection is not None:
                _abort(connection)
            problem = self._words(error, OPEN_SEC)
            raise RemoteModelError(f"{self.uri}: {problem}") from error

    def _words(self, error: BaseException, timeout_sec: float) -> str:
        if isinstance(error, TimeoutError | BlockingIOError):
            return f"no answer within {timeout_sec:g} s"
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            if status == 401:
                return f"it refuses the token: set {TOKEN} to the server's"
            return f"it answers with HTTP status {status}"
        if isinstance(error, InvalidHandshake | InvalidURI):
            return f"no model server: {error}"
        if isinstance(error, ConnectionClosed):
            return f"the connection ended: {error}"
        if isinstance(error, OSError | WebSocketException | HeisdError):
            return str(error) or type(error).__name__
        return f"{type(error).__name__}: {error}"


def named_error(text: str) -> HeisdError:
    """The error that a server answered with: by its name, or, of openpi's, a traceback."""
    line = (text.strip().splitlines() or ["no words"])[-1][:_MOST_WORDS]
    name, _, words = line.partition(": ")
    return _NAMED.get(name, RemoteModelError)(words if name in _NAMED else f"the server: {line}")


def _abort(connection: ClientConnection) -> None:
    """Ends a connection without a word to the other side, who may not listen."""
    with contextlib.suppress(OSError):  # it had ended
        connection.socket.shutdown(socket.SHUT_RDWR)
