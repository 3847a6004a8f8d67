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
from itertools import pairwise
from pathlib import Path
from typing import NoReturn, TypeVar

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from heisd_ros.files.ros_yaml import read_yaml
from heisd_ros.nodes.guard import GuardedNode, spin_once


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
        make: Makes the node; a ValueError of its says what cannot be accepted. So does one of a
            parameter file that ROS refuses, or takes although a key stands twice in it.
        loop: Runs it until the event is set; returns the exit code.
        arguments: Command line; None takes the process's.

    Returns:
        The loop's exit code, 0 after a signal; 1 where the node cannot be made.
    """
    arguments = sys.argv if arguments is None else arguments
    stopping = threading.Event()
    try:
        _init(arguments)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopping.set())
        node = make()
    except ValueError as error:
        rclpy.logging.get_logger("heisd_ros").error(str(error))
        rclpy.try_shutdown()
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


def realtime(priority: int) -> str:
    """Lets the calling thread run before all that are scheduled as usual; its children do not.

    Args:
        priority: Of SCHED_FIFO, 1 to 99.

    Returns:
        Why that is not done; empty where it is.
    """
    if not hasattr(os, "sched_setscheduler"):
        return "parameter 'executor.realtime_priority' has no effect: this system has no SCHED_FIFO"
    try:
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(priority))
    except OSError as error:
        return (
            f"parameter 'executor.realtime_priority' is {priority}, but the system does not permit "
            f"it ({error.strerror}); commands are sent with the usual scheduling"
        )
    return ""


def _init(arguments: list[str]) -> None:
    """Initialises rclpy, parameter files first: of a doubled key ROS says nothing.

    Raises:
        ValueError: A parameter file is missing, no YAML that ROS reads, or has a key twice; or the
            command line is none of ROS's.
    """
    for option, value in pairwise(arguments):
        if option == "--params-file":
            read_yaml(Path(value))
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())) from error


def spin(node: GuardedNode, executor: SingleThreadedExecutor, stopping: threading.Event) -> int:
    """The loop of a node that only reacts."""
    while not stopping.is_set():
        spin_once(node, executor, POLL_SEC)
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
