"""Rerun's server and the page of its viewer, on one address, for `heisd view`.

Rerun's own server listens on every interface unless told otherwise, and its page reports usage and
looks for updates on the internet. Here the address is always given, and the page is passed on with
a policy by which a browser connects to this server alone.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from heisd_ros.cli.node_process import ChildProcess
from heisd_ros.errors import MissingPackageError

PORT = 9090
"""The page's port; the data's is the next, and that of Rerun's own page the one after it."""
PAGE = "view: "
"""What the line begins with that says where the page is."""
START_SEC = 20.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
FILES = re.compile(r"/(re_viewer\.js|re_viewer_bg\.wasm|favicon\.(ico|svg)|apple-touch-icon\.png)")
_SIZE = re.compile(r"\d{1,6}([kMG]i?B|%)")
_HOST = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]")


class ViewServer:
    """Serves recordings to browsers until it is closed; use it as a context manager.

    Args:
        bind: Address to listen on; `0.0.0.0`: every interface.
        port: Port of the page.
        memory: What the server keeps for browsers that come later, such as `1GB`; then the oldest
            is dropped.

    Attributes:
        url: Address of the page.
        target: Address that recordings are sent to.

    Raises:
        MissingPackageError: Rerun is not installed.
        ValueError: The address or a port cannot be used, or the server does not start.
    """

    def __init__(self, bind: str, port: int, memory: str) -> None:
        if not 1 <= port <= 65533:
            raise ValueError(f"port is {port}; accepted: 1 to 65533, as the next two are used too")
        if not _SIZE.fullmatch(memory):
            raise ValueError(f"memory is {memory!r}; accepted: a size such as 500MB, 2GB or 20%")
        self._stack = contextlib.ExitStack()
        own = "127.0.0.1" if bind == "0.0.0.0" else f"[{bind}]" if ":" in bind else bind
        self.url = f"http://{own}:{port}/"
        self.target = f"rerun+http://{own}:{port + 1}/proxy"
        try:
            self._start(bind, port, memory)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> ViewServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server; browsers keep what they have."""
        self._stack.close()

    @property
    def problem(self) -> str:
        """Why the server has ended; empty while it runs."""
        return f"the viewer's server ended: {self._child.last_lines(1)}" if self._ended() else ""

    def _ended(self) -> bool:
        return self._child.ended()

    def _start(self, bind: str, port: int, memory: str) -> None:
        for number in range(port, port + 3):
            _check_free(bind, number)
        program = _program()
        home = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="heisd_view_")))
        env = {**os.environ, "HOME": str(home), "NO_COLOR": "1"}
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
            env.pop(name, None)
        quiet = [program, "analytics", "disable"]
        subprocess.run(quiet, env=env, timeout=START_SEC, check=False, capture_output=True)
        command = [program, "--serve-web", "--bind", bind, "--port", str(port + 1)]
        command += ["--web-viewer-port", str(port + 2), "--server-memory-limit", memory]
        if bind not in LOOPBACK:
            # Rerun answers pages of this machine alone, and ours has the name that a browser used.
            command += ["--cors-allow-origin", f"http://*:{port}"]
        self._child = ChildProcess("rerun", command, home / "rerun.log", env, apart=True)
        self._stack.callback(self._child.stop, 5.0)
        self._wait(bind, port + 1)
        self._wait(bind, port + 2)
        try:
            page = _PageServer(bind, port)
        except OSError as error:
            raise ValueError(f"port {port} on {bind}: {error.strerror}") from error
        self._stack.callback(page.close)

    def _wait(self, bind: str, port: int) -> None:
        deadline = time.monotonic() + START_SEC
        while not self._ended() and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((_own(bind), port), 1.0):
                return
            time.sleep(0.05)
        raise ValueError(f"the viewer's server does not start: {self._child.last_lines(1)}")


class _PageServer(ThreadingHTTPServer):
    """Passes Rerun's page on with a policy for browsers."""

    daemon_threads = True

    def __init__(self, bind: str, port: int) -> None:
        if ":" in bind:
            self.address_family = socket.AF_INET6
        super().__init__((bind, port), _Page)
        self.source = (_own(bind), port + 2)
        self.data_port = port + 1
        self._thread = threading.Thread(target=self.serve_forever, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: Any) -> None:
        """Says nothing of a browser that goes away."""


class _Page(BaseHTTPRequestHandler):
    server: _PageServer
    timeout = 30.0

    def do_GET(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        host = _HOST.match(self.headers.get("Host", ""))
        data = f"http://{host[0] if host else 'localhost'}:{self.server.data_port}"
        if parts.path == "/" and "url" not in urllib.parse.parse_qs(parts.query):
            query = urllib.parse.urlencode({"url": f"rerun+{data}/proxy", "hide_welcome_screen": 1})
            self.send_response(302)
            self.send_header("Location", f"/?{query}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif parts.path == "/" or FILES.fullmatch(parts.path):
            self._pass_on(parts.path, data)
        else:
            self.send_error(404)

    def _pass_on(self, path: str, data: str) -> None:
        connection = http.client.HTTPConnection(*self.server.source, timeout=self.timeout)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name in ("Content-Type", "Content-Length", "Content-Encoding"):
                if (value := answer.getheader(name)) is not None:
                    self.send_header(name, value)
            self.send_header("Content-Security-Policy", _policy(data))
            self.end_headers()
            shutil.copyfileobj(answer, self.wfile)

    def log_message(self, *_: Any) -> None:
        """Says nothing of requests."""


def _policy(data: str) -> str:
    """Returns a policy by which a page reads from itself and the server of the data alone."""
    return (
        f"default-src 'self' data: blob:; connect-src 'self' data: blob: {data}; "
        "script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:; "
        "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
    )


def _own(bind: str) -> str:
    return "127.0.0.1" if bind == "0.0.0.0" else bind


def _program() -> str:
    try:
        import rerun_cli
    except ImportError as error:
        from heisd_ros.view.sdk import missing

        raise missing(error) from error
    program = Path(rerun_cli.__file__).parent / "rerun"
    if not program.is_file():
        raise MissingPackageError(f"{program} is missing; install rerun-sdk again")
    return str(program)


def _check_free(bind: str, port: int) -> None:
    """Checks that a port can be listened on.

    Raises:
        ValueError: It is in use, or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            why = f"{bind}:{port} cannot be listened on ({error.strerror})"
            raise ValueError(f"{why}; choose others with --port and --bind") from error
