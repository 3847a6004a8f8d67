"""Running a node as a process that ends well: on SIGINT and SIGTERM the node stops itself first.

rclpy's own signal handlers shut the context down at once, and nothing can be published after that.
So none of them is installed: a signal only sets an event, the loop ends, the node sends its stop
command, and then the context goes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions


class StoppableNode(Node):
    """A node that can bring what it drives to rest."""

    def stop(self) -> None:
        """Stops what the node drives; afterwards it commands nothing."""
        raise NotImplementedError


N = TypeVar("N", bound=StoppableNode)
POLL_SEC = 0.1
"""Longest time for which a loop does not look at the stop event."""


def run_node(
    make: Callable[[], N],
    loop: Callable[[N, SingleThreadedExecutor, threading.Event], int],
    arguments: list[str] | None,
) -> int:
    """Makes a node and runs its loop until it returns or a signal comes.

    Args:
        make: Makes the node; a ValueError of its says what cannot be accepted.
        loop: Runs it until the event is set; returns the exit code.
        arguments: Command line; None takes the process's.

    Returns:
        The loop's exit code, 0 after a signal; 1 where the node cannot be made.
    """
    rclpy.init(
        args=sys.argv if arguments is None else arguments,
        signal_handler_options=SignalHandlerOptions.NO,
    )
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        node = make()
    except ValueError as error:
        rclpy.logging.get_logger("heisd_ros").error(str(error))
        rclpy.shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        return loop(node, executor, stopping)
    finally:
        node.stop()
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.shutdown()


def spin(node: Node, executor: SingleThreadedExecutor, stopping: threading.Event) -> int:
    """The loop of a node that only reacts."""
    while not stopping.is_set():
        executor.spin_once(timeout_sec=POLL_SEC)
    return 0


def leave(code: int) -> NoReturn:
    """Ends the process at once, with nothing left to do but to tear the interpreter down.

    That alone takes more than a second of CPU time with PyTorch loaded, and on a busy machine
    longer than `ros2 launch` waits for an end. To be called from a program's entry, after
    `run_node`.

    Args:
        code: Exit code of the process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
