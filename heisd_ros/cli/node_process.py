"""Child processes that end with their parent, among them ROS nodes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_PR_SET_PDEATHSIG = 1


class ChildProcess:
    """A process whose output goes to a log file, and that ends with this one.

    Args:
        name: What it is called in messages.
        command: Program and arguments.
        log: File for its output.
        env: Its environment.
        apart: Whether Ctrl-C in a terminal reaches this process alone, which then ends it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str],
        apart: bool = False,
    ) -> None:
        self.name, self.log = name, log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=apart,
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
        """Asks it to end, a node to stop what it drives first; kills it if it does not.

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


class NodeProcess(ChildProcess):
    """Runs a node's module with this interpreter.

    Args:
        module: Module of the node below `heisd_ros.nodes`; its last part is the node's name.
        arguments: What follows `--ros-args`.
        domain_id: ROS domain.
        log: File for its output.
    """

    def __init__(self, module: str, arguments: list[str], domain_id: int, log: Path) -> None:
        command = [sys.executable, "-m", f"heisd_ros.nodes.{module}", "--ros-args", *arguments]
        name, env = module.split(".")[-1], environment(os.environ, domain_id)
        super().__init__(name, command, log, env)


def environment(base: Mapping[str, str], domain_id: int) -> dict[str, str]:
    """Returns an environment in which ROS stays on this machine and in this domain."""
    own = {
        "ROS_DOMAIN_ID": str(domain_id),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONUNBUFFERED": "1",
    }
    return {**base, **own}


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Makes SIGTERM end a command as Ctrl-C does, with its child processes stopped.

    SIGINT as well: a shell's background job starts with it ignored, and Python leaves that so.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _die_with_parent() -> None:
    # Also if the parent is killed and cannot stop its children: the arm must not keep moving.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
