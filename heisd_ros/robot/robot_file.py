"""Reads a parameter file of the VLA node, and checks it as configure does. Imports no ROS."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from heisd_ros.files.bounded import shown
from heisd_ros.files.ros_yaml import parse_yaml, read_yaml
from heisd_ros.robot.cell_parameters import CellParameters
from heisd_ros.robot.declare import ONE_TYPE, from_values, parameters_of
from heisd_ros.robot.parameters import VlaNodeParameters

WILDCARD = "/**"
MEMBER = "ros__parameters"
UNDECLARED = ("qos_overrides.", "diagnostic_updater.")
"""Prefixes of parameters of every node besides the declared ones."""
_OF_EVERY_NODE = ("use_sim_time", "start_type_description_service")


def read_robot_file(path: Path) -> CellParameters:
    """Reads and validates a parameter file, as configure does.

    Args:
        path: A YAML file of ROS parameters, keyed `/**`.

    Raises:
        ValueError: One line that names key, value and what is accepted.
    """
    cell = read_cell_file(path)
    check_given(cell, flatten(_body(read_yaml(path))))
    return cell


def read_cell_file(path: Path) -> CellParameters:
    """Reads a parameter file that need not set all parameters of the robot.

    Raises:
        ValueError: One line that names key, value and what is accepted.
    """
    return _cell(_body(read_yaml(path)))


def read_cell_text(text: str) -> CellParameters:
    """Reads the text of such a file, as a recording holds it.

    Raises:
        ValueError: One line that names key, value and what is accepted.
    """
    return _cell(_body(parse_yaml(text)))


def check_given(settings: VlaNodeParameters, given: Container[str]) -> None:
    """Checks that a robot sets all of its own values: no other robot's limits may replace them.

    Args:
        settings: The settings.
        given: Names of the parameters that were set.

    Raises:
        ValueError: A parameter is missing; names the first one.
    """
    source = settings.robot.source
    for info in parameters_of(type(settings)):
        if source != "panda" and info.own and info.name not in given:
            raise ValueError(
                f"parameter '{info.name}' is missing; accepted: the robot's own value, as "
                f"'robot.source' is {source!r}"
            )


def _cell(body: dict[str, Any]) -> CellParameters:
    values = {
        name: _as_ros(name, value)
        for name, value in flatten(body).items()
        if name not in _OF_EVERY_NODE and not name.startswith(UNDECLARED)
    }
    return from_values(CellParameters, values)


def _body(content: Any) -> dict[str, Any]:
    """Returns the parameters in a file's content, nested as in the file."""
    if not isinstance(content, dict) or list(content) != [WILDCARD]:
        found = list(content) if isinstance(content, dict) else content
        raise ValueError(
            f"keys are {shown(found)}; accepted: '{WILDCARD}' alone (a node's name is without "
            "effect under a namespace)"
        )
    body = content[WILDCARD]
    if not isinstance(body, dict) or list(body) != [MEMBER] or not isinstance(body[MEMBER], dict):
        raise ValueError(f"'{WILDCARD}' is {shown(body)}; accepted: a mapping '{MEMBER}'")
    parameters: dict[str, Any] = body[MEMBER]
    return parameters


def flatten(tree: dict[str, Any]) -> dict[str, Any]:
    """Flattens nested mappings to names with dots, as ROS does.

    Raises:
        ValueError: A name stands twice, once nested and once with dots; or a group is empty, or
            has a dot in its name within another group, which ROS reads as other names.
    """
    found: dict[str, Any] = {}
    for name, value in _leaves(tree):
        if name in found:
            raise ValueError(f"parameter '{name}' stands twice; accepted: once")
        found[name] = value
    return found


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if not isinstance(value, dict):
            yield name, value
            continue
        if not value:
            raise ValueError(f"parameter '{name}' is {{}}; accepted: a value")
        if prefix and "." in key:
            raise ValueError(f"group '{name}' is written {key!r}; accepted: a level for each dot")
        yield from _leaves(value, f"{name}.")


def _as_ros(name: str, value: Any) -> Any:
    """Returns the value as a node reads it: lists as tuples.

    Raises:
        ValueError: ROS does not support the value.
    """
    if value is None:
        raise ValueError(f"parameter '{name}' has no value; accepted: one, '' for an empty text")
    if not isinstance(value, list):
        return value
    kinds = {type(item) for item in value}
    if len(kinds) != 1 or not kinds <= {bool, int, float, str}:
        raise ValueError(f"parameter '{name}' is {shown(value)}; accepted: {ONE_TYPE}")
    return tuple(value)
