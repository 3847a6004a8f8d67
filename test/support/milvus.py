"""A real Milvus server (milvus-lite) in a process of its own, which a test may kill."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from heisd_ros.errors import FleetError
from heisd_ros.fleet.milvus import MilvusStore


class MilvusServer:
    """Serves a folder on a port of this machine.

    Args:
        folder: what it keeps; another server may serve it after this one.
    """

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"
        self._process = None

    def start(self):
        """Starts it; it answers some seconds later."""
        program = Path(sys.executable).with_name("milvus-lite")
        command = [program, "server", "--data-dir", self.folder, "--port", str(self.port)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return self

    def kill(self):
        """Kills it as a power cut would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def connect(self, layout, collection="heisd"):
        """A store, as soon as the server answers."""
        deadline = time.monotonic() + 60.0
        while True:
            try:
                return MilvusStore(self.uri, layout, collection)
            except FleetError as error:
                if "unavailable" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
