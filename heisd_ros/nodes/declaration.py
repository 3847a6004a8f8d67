"""Declares a parameter dataclass as the parameters of a node, and reads them back validated."""

from __future__ import annotations

from collections.abc import Iterable

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException, ParameterUninitializedException
from rclpy.node import Node

from heisd_ros.robot.cell_parameters import OF_OTHERS
from heisd_ros.robot.declare import (
    ONE_TYPE,
    ParameterInfo,
    Parameters,
    T,
    from_values,
    parameters_of,
    unknown,
)
from heisd_ros.robot.robot_file import UNDECLARED


def descriptor(info: ParameterInfo) -> ParameterDescriptor:
    """Returns the ROS descriptor of a parameter."""
    message = ParameterDescriptor(
        name=info.name, description=info.description, read_only=info.read_only
    )
    if info.choices is not None:
        message.additional_constraints = info.accepted()
    if info.low is not None and info.high is not None:
        if isinstance(info.default, int):
            span = IntegerRange(from_value=int(info.low), to_value=int(info.high), step=1)
            message.integer_range = [span]
        else:
            limits = {"from_value": float(info.low), "to_value": float(info.high)}
            message.floating_point_range = [FloatingPointRange(**limits)]
    return message


def declare(node: Node, kind: type[Parameters]) -> dict[str, str]:
    """Declares every parameter of a parameter dataclass.

    A start-up value of the wrong type or outside its range does not end the process: the parameter
    keeps its default, and the message is returned, so that the configure transition can fail with
    it and the value can be corrected on the running node.

    Returns:
        Message by parameter name, for each value that was refused.
    """
    refused = {}
    for info in parameters_of(kind):
        default = list(info.default) if isinstance(info.default, tuple) else info.default
        about = descriptor(info)
        try:
            node.declare_parameter(info.name, default, about)
            node.get_parameter(info.name)
        except ParameterUninitializedException:
            node.undeclare_parameter(info.name)
            node.declare_parameter(info.name, default, about, ignore_override=True)
            refused[info.name] = f"parameter '{info.name}' is []; accepted: {ONE_TYPE}"
        except ParameterException as error:
            # rclpy leaves a wrongly typed parameter declared, one outside its range not.
            if not node.has_parameter(info.name):
                node.declare_parameter(info.name, default, about, ignore_override=True)
            accepted = info.accepted()
            hint = f"; accepted: {accepted}" if accepted else ""
            refused[info.name] = f"parameter '{info.name}': {error}{hint}"
    return refused


def given(node: Node) -> set[str]:
    """Returns the parameters that a file, a launch file or the command line set."""
    return set(node._parameter_overrides)  # rclpy has no public way to ask


def check_names(node: Node, kind: type[Parameters], names: Iterable[str]) -> None:
    """Checks that no parameter is misspelt, which would leave a limit at its default.

    Raises:
        ValueError: A parameter is neither the node's nor, in a robot's file, for another tool.
    """
    known = [info.name for info in parameters_of(kind)]
    own = {f"{name.partition('.')[0]}." for name in known}
    others = tuple(prefix for prefix in (*OF_OTHERS, *UNDECLARED) if prefix not in own)
    for name in sorted(names):
        elsewhere = name.startswith(others)
        if not elsewhere and not node.has_parameter(name):
            raise ValueError(unknown(name, known))


def read(node: Node, kind: type[T]) -> T:
    """Reads the node's parameters into the validated dataclass.

    Args:
        node: The node that declared them.
        kind: The dataclass.

    Raises:
        ValueError: A parameter is out of range; the message names it.
    """
    names = [info.name for info in parameters_of(kind)]
    return from_values(kind, {name: node.get_parameter(name).value for name in names})
