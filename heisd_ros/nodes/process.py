"""Runs a node as a process that stops its arm on SIGINT and SIGTERM before it ends.

rclpy's own signal handlers shut the context down at once, and nothing can be published after that.
So they are not installed: a signal only sets an event, the loop ends, the node sends its stop
command, and then the context shuts down.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
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
    """A node that can stop what it drives."""

    @property
    def owes_results(self) -> bool:
        """Whether a client still waits for a result of the node's."""
        return False

    def stop(self) -> None:
        """Stops what the node drives; it sends no command afterwards."""
        raise NotImplementedError


N = TypeVar("N", bound=StoppableNode)
POLL_SEC = 0.1
"""Longest time between two checks of the stop event, s."""
SWITCH_SEC = 0.0005
"""How long inference may keep Python's lock from the thread that sends commands, s: one command
takes the lock many times. Python's own 5 ms make it late by 0.2 s beside a model in pure Python."""
FAREWELL_SEC, FAREWELL_TURNS = 0.3, 10
"""How long a stopped node takes to send the results that clients wait for, s and turns at least."""


def run_node(
    make: Callable[[], N],
    loop: Callable[[N, SingleThreadedExecutor, threading.Event], int],
    arguments: list[str] | None,
) -> int:
    """Creates a node and runs its loop until that returns or a signal comes.

    Args:
        make: Creates the node; its ValueError is printed and ends the process. So is a parameter
            file that ROS refuses, or accepts although it has a key twice.
        loop: Runs it until the event is set; returns the exit code.
        arguments: Command line; None: that of the process.

    Returns:
        The loop's exit code, 0 after a signal; 1 if the node cannot be created.
    """
    arguments = sys.argv if arguments is None else arguments
    sys.setswitchinterval(SWITCH_SEC)
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
        _farewell(node, executor)
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.shutdown()


def _farewell(node: StoppableNode, executor: SingleThreadedExecutor) -> None:
    """Lets a stopped node send the results that clients wait for."""
    if not node.owes_results:
        return
    # To the end: rclpy sends a result after the node has made it. A stall must not eat all turns.
    deadline, turns = time.monotonic() + FAREWELL_SEC, 0
    try:
        while (left := deadline - time.monotonic()) > 0.0 or turns < FAREWELL_TURNS:
            executor.spin_once(timeout_sec=max(left, 0.0))
            turns += 1
    except Exception as error:
        node.get_logger().error(f"a last result was not sent: {error}")


def realtime(priority: int) -> str:
    """Gives the calling thread real-time priority (SCHED_FIFO); its children do not inherit it.

    Args:
        priority: Priority, 1 to 99.

    Returns:
        Why that failed; empty if it succeeded.
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
    """Initialises rclpy, after checking parameter files for duplicate keys, which ROS ignores.

    Raises:
        ValueError: A parameter file is missing, not YAML that ROS reads, or has a key twice; or ROS
            cannot parse the command line.
    """
    for option, value in pairwise(arguments):
        if option == "--params-file":
            read_yaml(Path(value))
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())) from error


def spin(node: GuardedNode, executor: SingleThreadedExecutor, stopping: threading.Event) -> int:
    """Spins a node that only has callbacks."""
    while not stopping.is_set():
        spin_once(node, executor, POLL_SEC)
    return 0


def leave(code: int) -> NoReturn:
    """Ends the process at once, without tearing the interpreter down.

    The teardown takes more than a second of CPU time with PyTorch loaded, and on a busy machine
    longer than `ros2 launch` waits. Call it from a program's entry point, after `run_node`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
