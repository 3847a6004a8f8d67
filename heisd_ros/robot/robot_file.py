"""A parameter file of the VLA node, checked as configure would. Knows no ROS."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from heisd_ros.files.bounded import shown
from heisd_ros.files.ros_yaml import read_yaml
from heisd_ros.robot.cell_parameters import CellParameters
from heisd_ros.robot.declare import ONE_TYPE, from_values, parameters_of
from heisd_ros.robot.parameters import VlaNodeParameters

WILDCARD = "/**"
MEMBER = "ros__parameters"
UNDECLARED = ("use_sim_time", "qos_overrides.")
"""What every node takes besides its declared parameters: a name, and the beginning of names."""


def read_robot_file(path: Path) -> CellParameters:
    """Reads and validates a parameter file, as configure would.

    Args:
        path: A YAML file of ROS parameters, keyed `/**`.

    Raises:
        ValueError: One line that names key, value and what is accepted.
    """
    cell = read_cell_file(path)
    check_given(cell, flatten(_body(path)))
    return cell


def read_cell_file(path: Path) -> CellParameters:
    """Reads a parameter file that need not say all that is the robot's own.

    Raises:
        ValueError: One line that names key, value and what is accepted.
    """
    values = {
        name: _as_ros(name, value)
        for name, value in flatten(_body(path)).items()
        if name != UNDECLARED[0] and not name.startswith(UNDECLARED[1])
    }
    return from_values(CellParameters, values)


def check_given(settings: VlaNodeParameters, given: Container[str]) -> None:
    """Checks that a robot has given what is its own: no other one's limits may stand in for them.

    Args:
        settings: The settings.
        given: Names of the parameters that were given a value.

    Raises:
        ValueError: Names the first parameter that is missing.
    """
    source = settings.robot.source
    for info in parameters_of(type(settings)):
        if source != "panda" and info.own and info.name not in given:
            raise ValueError(
                f"parameter '{info.name}' is missing; accepted: the robot's own value, as "
                f"'robot.source' is {source!r}"
            )


def _body(path: Path) -> dict[str, Any]:
    """The parameters of a file, as they are nested there."""
    content = read_yaml(path)
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
    """Values of nested mappings by their names with dots, as ROS reads them.

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
    """The value as a node would read it: lists as tuples.

    Raises:
        ValueError: ROS has no such value.
    """
    if value is None:
        raise ValueError(f"parameter '{name}' has no value; accepted: one, '' for an empty text")
    if not isinstance(value, list):
        return value
    kinds = {type(item) for item in value}
    if len(kinds) != 1 or not kinds <= {bool, int, float, str}:
        raise ValueError(f"parameter '{name}' is {shown(value)}; accepted: {ONE_TYPE}")
    return tuple(value)
