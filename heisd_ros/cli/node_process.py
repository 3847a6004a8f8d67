"""A ROS node as a child process that ends with its parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_PR_SET_PDEATHSIG = 1


class NodeProcess:
    """Runs a node's module with this interpreter; its output goes to a log file.

    Args:
        module: Module of the node below `heisd_ros.nodes`; its last part is the node's name.
        arguments: What follows `--ros-args`.
        domain_id: ROS domain.
        log: File for its output.
    """

    def __init__(self, module: str, arguments: list[str], domain_id: int, log: Path) -> None:
        self.name, self.log = module.split(".")[-1], log
        command = [sys.executable, "-m", f"heisd_ros.nodes.{module}", "--ros-args", *arguments]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(os.environ, domain_id),
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def stop(self, timeout_sec: float = 15.0) -> int:
        """Asks the node to stop what it drives and end; kills it if it does not.

        Returns:
            Its exit code.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(timeout_sec)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def last_lines(self, count: int = 15) -> str:
        """Returns the last lines of its output."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-count:])


def environment(base: Mapping[str, str], domain_id: int) -> dict[str, str]:
    """Returns an environment in which ROS stays on this machine and in this domain."""
    own = {
        "ROS_DOMAIN_ID": str(domain_id),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONUNBUFFERED": "1",
    }
    return {**base, **own}


def _die_with_parent() -> None:
    # Also if the parent is killed and cannot stop its children: the arm must not keep moving.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
